"""Renderer of the `demo` data set: solids made of flat coloured faces, and a painter that draws them back to front.

World axes: x forward, y to the object's left, z up. Camera axes: x right, y down, z away from the viewer. A face is a
quadrilateral (a triangle repeats a corner), counter-clockwise seen from outside. F faces, K rings of a loft, S sides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import ImageDraw

Array = NDArray[np.float64]

WARM, COOL = np.array([1.06, 1.0, 0.92]), np.array([0.80, 0.90, 1.10])
"""RGB factors of a lit and of a shaded face"""


def vector(*xyz: float) -> Array:
    """Make a point or direction, (3,) float64."""
    return np.array(xyz, dtype=float)


def unit(vectors: ArrayLike) -> Array:
    """Scale vectors (..., 3) to length 1; zero stays zero."""
    values: Array = np.asarray(vectors, dtype=float)
    lengths: Array = np.maximum(np.sqrt((values * values).sum(-1, keepdims=True)), 1e-12)
    return values / lengths


def rotation(axis: int, angle: float) -> Array:
    """Make the (3, 3) rotation by `angle` radians about axis 0, 1 or 2, counter-clockwise seen from the axis's tip."""
    cos, sin = math.cos(angle), math.sin(angle)
    matrix = np.eye(3)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = cos, -sin, sin, cos
    return matrix


class Solid:
    """A body built from primitives, and the named points on it (its keypoints)."""

    def __init__(self) -> None:
        self.points: dict[str, Array] = {}
        self._lift = 0.0
        self._faces: list[Array] = []
        self._colours: list[Array] = []
        self._lifts: list[Array] = []

    @property
    def faces(self) -> Array:
        """Corners of all faces, (F, 4, 3), world units."""
        return np.concatenate(self._faces)

    @property
    def colours(self) -> Array:
        """Colours of all faces, (F, 3) RGB, 0 to 1."""
        return np.concatenate(self._colours)

    @property
    def lifts(self) -> Array:
        """Distance by which each face is moved towards the viewer when faces are sorted, (F,), world units."""
        return np.concatenate(self._lifts)

    def loft(
        self,
        centres_K3: ArrayLike,
        radii_K2: ArrayLike,
        colour: ArrayLike,
        *,
        side: ArrayLike = (0.0, 1.0, 0.0),
        axis: ArrayLike | None = None,
        sides: int = 8,
        closed: bool = False,
    ) -> None:
        """Add the skin through K elliptical rings; all other primitives are made of it.

        Args:
            centres_K3: centres of the rings.
            radii_K2: radius towards `side` and radius across it; shape (K,) for circles.
            colour: one RGB colour, or one for each of the K - 1 bands (K if closed).
            side: direction of the first radius.
            axis: normal of all rings; by default each ring is normal to the line of centres.
            sides: corners of a ring.
            closed: join the last ring to the first.
        """
        centres, radii = np.asarray(centres_K3, dtype=float), np.asarray(radii_K2, dtype=float)
        radii = np.stack([radii, radii], axis=1) if radii.ndim == 1 else radii
        colours = np.asarray(colour, dtype=float).reshape(-1, 1, 3)
        if closed:
            along = unit(np.roll(centres, -1, 0) - np.roll(centres, 1, 0))
        else:
            ends = int(radii[0].any()), int(radii[-1].any())  # an open end gets a lid: one more ring, of radius 0
            ring = np.arange(-ends[0], len(centres) + ends[1])
            lid = (ring < 0) | (ring >= len(centres))
            colours = colours[ring[:-1].clip(0, len(colours) - 1)]
            ring = ring.clip(0, len(centres) - 1)
            centres, radii = centres[ring], np.where(lid[:, None], 0, radii[ring])
            along = unit(np.concatenate([centres[1:], centres[-1:]]) - np.concatenate([centres[:1], centres[:-1]]))
        along = along if axis is None else np.broadcast_to(unit(axis), along.shape)
        side = np.asarray(side, dtype=float)
        first = unit(side - (along @ side)[:, None] * along)
        second = np.cross(along, first)
        turn = (np.arange(sides) + 0.5) * (2 * math.pi / sides)
        spread = first[:, None] * np.cos(turn)[:, None] * radii[:, None, :1]
        rings = centres[:, None] + spread + second[:, None] * np.sin(turn)[:, None] * radii[:, None, 1:]
        after = np.roll(rings, -1, 0) if closed else rings[1:]
        rings = rings if closed else rings[:-1]
        quads = np.stack([rings, np.roll(rings, -1, 1), np.roll(after, -1, 1), after], axis=2)
        self._add(quads.reshape(-1, 4, 3), np.broadcast_to(colours, (len(rings), sides, 3)).reshape(-1, 3))

    def limb(self, start: Array, end: Array, radii: tuple[float, float], colour: ArrayLike, *, sides: int = 7) -> None:
        """Add a tapering rod with round ends from `start` to `end`; `radii` are those at the two ends."""
        length = float(np.linalg.norm(end - start))
        steps, sizes = [0.0, 0.0, 0.5, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0, 0.0]
        caps = np.array([-0.8, -0.1, 0.0, 0.1, 0.8])
        radius = np.interp(steps, [0, 1], radii)
        t = (np.array(steps) * length + caps * radius) / max(length, 1e-9)
        centres = start + t[:, None] * (end - start)
        side = (1.0, 0.2, 0.1) if abs(end[1] - start[1]) > 0.7 * length else (0.1, 1.0, 0.2)
        self.loft(centres, radius * sizes, colour, sides=sides, side=side)

    def ball(
        self, centre: Array, radii: ArrayLike, colour: ArrayLike, *, frame: Array | None = None, sides: int = 8
    ) -> None:
        """Add an ellipsoid; `radii` is one number, or three along the columns of `frame` (default: world axes)."""
        radius = np.broadcast_to(np.asarray(radii, dtype=float), (3,))
        frame = np.eye(3) if frame is None else frame
        polar = np.linspace(0, math.pi, 6)
        centres = centre - (np.cos(polar) * radius[0])[:, None] * frame[:, 0]
        self.loft(centres, np.sin(polar)[:, None] * radius[1:], colour, side=frame[:, 1], sides=sides)

    def disc(
        self, centre: Array, axis: Array, radius: float, half_width: float, colour: ArrayLike, sides: int = 12
    ) -> None:
        """Add a flat cylinder around `axis`, such as a tyre."""
        side = (1.0, 0.0, 0.0) if abs(axis[0]) < 0.7 else (0.0, 1.0, 0.0)
        half = half_width * unit(axis)
        self.loft([centre - half, centre + half], [radius, radius], colour, side=side, sides=sides)

    def box(
        self, centre: Array, half: ArrayLike, colour: ArrayLike, *, frame: Array | None = None, cells: int = 3
    ) -> None:
        """Add a cuboid with half sizes `half` along the columns of `frame`.

        Each side is cut into cells x cells faces: the painter sorts faces by the depth of their centres, which fails
        for large ones.
        """
        frame = np.eye(3) if frame is None else frame
        axes = frame * np.asarray(half, dtype=float)
        ticks = np.linspace(-1, 1, cells + 1)
        low = np.stack(np.meshgrid(ticks[:-1], ticks[:-1]), axis=-1).reshape(-1, 1, 2)
        grid = low + (ticks[1] - ticks[0]) * np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
        for k in range(3):
            plane = grid @ np.stack([axes[:, (k + 1) % 3], axes[:, (k + 2) % 3]])
            self._add(centre + axes[:, k] + plane, colour)
            self._add((centre - axes[:, k] + plane)[:, ::-1], colour)

    @contextmanager
    def raised(self, lift: float) -> Iterator[None]:
        """Draw what the block adds as if it were nearer by `lift`, so that details on a larger face stay visible."""
        self._lift = lift
        yield
        self._lift = 0.0

    def texture(self, rng: np.random.Generator, strength: float) -> None:
        """Lighten or darken every face a little, at random and in waves through the body; `strength` 0 is none."""
        self._faces, colours = [self.faces], self.colours
        middle = self._faces[0].mean(1)
        waves = np.sin(middle @ (rng.uniform(4, 20) * unit(rng.normal(size=3))) + rng.uniform(0, 6))
        tone = 1 + strength * (rng.normal(0, 0.6, len(middle)) + waves)
        self._colours = [np.clip(colours * tone[:, None], 0, 1)]

    def _add(self, faces_F43: Array, colours: ArrayLike) -> None:
        """Append faces with one colour for all, or with one each."""
        self._faces.append(faces_F43)
        self._colours.append(np.broadcast_to(np.asarray(colours, dtype=float), (len(faces_F43), 3)))
        self._lifts.append(np.full(len(faces_F43), self._lift))


@dataclass(frozen=True)
class Camera:
    """Position of the viewer, and position of the scene in the picture."""

    rotation_33: Array
    """rotation from world to camera axes"""
    distance: float
    """distance from the viewer to the world's origin, world units"""
    scale: float = 1.0
    """pixels per world unit, at the origin"""
    offset_2: tuple[float, float] = (0.0, 0.0)
    """position of the origin in the picture, pixels"""

    def view(self, points: Array) -> Array:
        """Rotate world points (..., 3) to camera axes."""
        seen: Array = points @ self.rotation_33.T
        return seen

    def project(self, points: Array) -> Array:
        """Project world points (..., 3) to pixels (..., 2), with perspective."""
        seen = self.view(points)
        near = self.scale * self.distance / (self.distance + seen[..., 2:])
        pixels: Array = seen[..., :2] * near + np.asarray(self.offset_2)
        return pixels


def looking(*, yaw: float, pitch: float, roll: float, distance: float) -> Camera:
    """Make a camera in front of the object.

    Args:
        yaw: turn of the object about its vertical axis, radians; at 0 it faces the viewer.
        pitch: elevation of the camera, radians.
        roll: rotation of the picture, radians.
        distance: distance from the object, world units.
    """
    front = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]])
    return Camera(rotation(2, roll) @ rotation(0, pitch) @ front @ rotation(2, yaw), distance)


def shade(colours_F3: Array, normals_F3: Array, light: Array, *, gloss: float) -> Array:
    """Light the faces by a sun and a bluish sky.

    Args:
        colours_F3: RGB, 0 to 1.
        normals_F3: outward unit normals, camera axes.
        light: unit direction to the sun, camera axes.
        gloss: strength of the highlight (0 = none).

    Returns:
        (F, 3) RGB, 0 to 1.
    """
    sun = np.maximum(normals_F3 @ light, 0)
    highlight = unit(light + vector(0.0, 0.0, -1.0))
    glint = gloss * np.maximum(normals_F3 @ highlight, 0) ** 16
    lit = (0.42 + 0.66 * sun)[:, None] * (COOL + (WARM - COOL) * sun[:, None])
    seen: Array = np.clip(colours_F3 * lit + glint[:, None], 0, 1)
    return seen


def paint(draw: ImageDraw.ImageDraw, solid: Solid, camera: Camera, light: Array, *, gloss: float = 0.2) -> None:
    """Draw the faces that look at the viewer, farthest first (painter's algorithm).

    Args:
        draw: picture to draw on.
        solid: the body.
        camera: the viewer.
        light: unit direction to the sun, camera axes.
        gloss: strength of the highlight.
    """
    faces, colours = solid.faces, solid.colours
    corners = camera.project(faces)
    across, down = corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
    # Faces seen from behind are clockwise in the picture; others of the solid hide them.
    front = across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0] < 0
    seen = camera.view(faces[front])
    order = np.argsort(solid.lifts[front] - seen[..., 2].mean(1), kind="stable")
    normals = unit(np.cross(seen[:, 2] - seen[:, 0], seen[:, 3] - seen[:, 1]))
    rgb = np.round(255 * shade(colours[front], normals, light, gloss=gloss)).astype(int)
    outlines = corners[front].reshape(-1, 8)[order].tolist()
    for outline, fill in zip(outlines, map(tuple, rgb[order].tolist()), strict=True):
        draw.polygon(outline, fill=fill)


def silhouette(draw: ImageDraw.ImageDraw, solid: Solid, camera: Camera, drop: Array, ground: float) -> None:
    """Fill with 255 the shadow that the solid casts along world direction `drop` onto the plane z = `ground`."""
    faces = solid.faces
    lit = np.cross(faces[:, 2] - faces[:, 0], faces[:, 3] - faces[:, 1]) @ drop < 0
    faces = faces[lit]
    landed = faces + (ground - faces[..., 2:]) / drop[2] * drop
    for outline in camera.project(landed).reshape(-1, 8).tolist():
        draw.polygon(outline, fill=255)
