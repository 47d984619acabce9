"""Solids made of flat coloured faces, and the painter that draws them: what the `demo` data set is rendered with.

World axes: x forward, y to the object's left, z up. Camera axes: x right, y down, z away from the viewer. A face is a
quadrilateral (a triangle repeats a corner), counter-clockwise seen from outside. F faces, K rings of a loft, S sides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import ImageDraw

Array = NDArray[np.float64]

WARM, COOL = np.array([1.06, 1.0, 0.92]), np.array([0.80, 0.90, 1.10])
"""Tint of a lit and of a shaded face."""


def vector(*xyz: float) -> Array:
    """A point or direction."""
    return np.array(xyz, dtype=float)


def unit(vectors: ArrayLike) -> Array:
    """Vectors (..., 3) at length 1; zero stays zero."""
    values = np.asarray(vectors, dtype=float)
    return values / np.maximum(np.sqrt((values * values).sum(-1, keepdims=True)), 1e-12)


def rotation(axis: int, angle: float) -> Array:
    """Rotation matrix (3, 3) by `angle` radians about axis 0, 1 or 2, counter-clockwise seen from its tip."""
    cos, sin = math.cos(angle), math.sin(angle)
    matrix = np.eye(3)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = cos, -sin, sin, cos
    return matrix


class Solid:
    """A body that grows by primitives, and the named points on it."""

    def __init__(self) -> None:
        self.points: dict[str, Array] = {}
        self._faces: list[Array] = []
        self._colours: list[Array] = []

    @property
    def faces_F43(self) -> Array:
        """Corners of all faces."""
        return np.concatenate(self._faces)

    @property
    def colours_F3(self) -> Array:
        """RGB of all faces, 0 to 1."""
        return np.concatenate(self._colours)

    def loft(
        self,
        centres_K3: ArrayLike,
        radii_K2: ArrayLike,
        colour: ArrayLike,
        *,
        side: ArrayLike = (0.0, 1.0, 0.0),
        sides: int = 8,
        closed: bool = False,
    ) -> None:
        """The skin through K elliptical rings; `closed` joins the last to the first.

        `radii_K2` holds the radius towards `side` and the one across it (or one for both, K). `colour` is one RGB or
        one for each of the K - 1 bands (K if closed).
        """
        centres = np.asarray(centres_K3, dtype=float)
        radii = np.asarray(radii_K2, dtype=float)
        radii = np.stack([radii, radii], axis=1) if radii.ndim == 1 else radii
        along = np.roll(centres, -1, 0) - np.roll(centres, 1, 0) if closed else np.gradient(centres, axis=0)
        along = unit(along)
        side = np.asarray(side, dtype=float)
        first = unit(side - (along @ side)[:, None] * along)
        second = np.cross(along, first)
        turn = (np.arange(sides) + 0.5) * (2 * math.pi / sides)
        spread = first[:, None] * np.cos(turn)[:, None] * radii[:, None, :1]
        rings = centres[:, None] + spread + second[:, None] * np.sin(turn)[:, None] * radii[:, None, 1:]
        after = np.roll(rings, -1, 0) if closed else rings[1:]
        rings = rings if closed else rings[:-1]
        quads = np.stack([rings, np.roll(rings, -1, 1), np.roll(after, -1, 1), after], axis=2)
        colours = np.broadcast_to(np.reshape(colour, (-1, 1, 3)), (len(rings), sides, 3))
        self._faces.append(quads.reshape(-1, 4, 3))
        self._colours.append(colours.reshape(-1, 3))

    def limb(self, start: Array, end: Array, radii: tuple[float, float], colour: ArrayLike, *, sides: int = 7) -> None:
        """A tapering rod with round ends from `start` to `end`."""
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
        """An ellipsoid; `radii` is one number or three along the columns of `frame` (the world's axes)."""
        radius = np.broadcast_to(np.asarray(radii, dtype=float), (3,))
        frame = np.eye(3) if frame is None else frame
        polar = np.linspace(0, math.pi, 6)
        centres = centre - (np.cos(polar) * radius[0])[:, None] * frame[:, 0]
        self.loft(centres, np.sin(polar)[:, None] * radius[1:], colour, side=frame[:, 1], sides=sides)

    def disc(
        self, centre: Array, axis: Array, radius: float, half_width: float, colour: ArrayLike, sides: int = 12
    ) -> None:
        """A flat cylinder around `axis`, such as a tyre."""
        t = np.array([-1.0, -1.0, 1.0, 1.0])
        side = (1.0, 0.0, 0.0) if abs(axis[0]) < 0.7 else (0.0, 1.0, 0.0)
        centres = centre + t[:, None] * half_width * unit(axis) * (1 + 1e-6 * np.array([1.0, 0.0, 0.0, 1.0])[:, None])
        self.loft(centres, np.array([0.0, radius, radius, 0.0]), colour, side=side, sides=sides)

    def box(
        self, centre: Array, half: ArrayLike, colour: ArrayLike, *, frame: Array | None = None, cells: int = 3
    ) -> None:
        """A cuboid with half sizes `half` along the columns of `frame`; every side is cut in cells x cells faces,
        small enough to be sorted by depth."""
        frame = np.eye(3) if frame is None else frame
        axes = frame * np.asarray(half, dtype=float)
        ticks = np.linspace(-1, 1, cells + 1)
        low, high = np.meshgrid(ticks[:-1], ticks[:-1], indexing="ij"), np.meshgrid(ticks[1:], ticks[1:], indexing="ij")
        corners = [(low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1])]
        grid = np.stack([np.stack(c, -1).reshape(-1, 2) for c in corners], axis=1)
        for k in range(3):
            i, j = (k + 1) % 3, (k + 2) % 3
            plane = grid[..., :1] * axes[:, i] + grid[..., 1:] * axes[:, j]
            self._faces += [centre + axes[:, k] + plane, (centre - axes[:, k] + plane)[:, ::-1]]
            self._colours += [np.broadcast_to(np.asarray(colour, dtype=float), (len(grid), 3))] * 2


@dataclass(frozen=True)
class Camera:
    """Where a scene is seen from and where it lands in the picture."""

    rotation_33: Array
    """world to camera axes"""
    distance: float
    """from the viewer to the world's origin, world units"""
    scale: float = 1.0
    """pixels a world unit, at the origin"""
    offset_2: tuple[float, float] = (0.0, 0.0)
    """pixel of the origin"""

    def view(self, points: Array) -> Array:
        """World points (..., 3) in camera axes."""
        return points @ self.rotation_33.T

    def project(self, points: Array) -> Array:
        """World points (..., 3) -> pixels (..., 2), with perspective."""
        seen = self.view(points)
        near = self.scale * self.distance / (self.distance + seen[..., 2:])
        return seen[..., :2] * near + np.asarray(self.offset_2)


def looking(*, yaw: float, pitch: float, roll: float, distance: float) -> Camera:
    """A camera in front of the object (yaw 0: it faces the viewer), looking down by `pitch`, turned by `roll`."""
    front = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]])
    return Camera(rotation(2, roll) @ rotation(0, pitch) @ front @ rotation(2, yaw), distance)


def shade(colours_F3: Array, normals_F3: Array, light: Array, *, gloss: float) -> Array:
    """Face colours under a sun from `light` and a bluish sky; `gloss` is the strength of the highlight. RGB 0 to 1."""
    sun = np.maximum(normals_F3 @ light, 0)
    highlight = unit(light + vector(0.0, 0.0, -1.0))
    glint = gloss * np.maximum(normals_F3 @ highlight, 0) ** 16
    lit = (0.42 + 0.66 * sun)[:, None] * (COOL + (WARM - COOL) * sun[:, None])
    return np.clip(colours_F3 * lit + glint[:, None], 0, 1)


def paint(draw: ImageDraw.ImageDraw, solid: Solid, camera: Camera, light: Array, *, gloss: float = 0.2) -> None:
    """Draws the faces that look at the viewer, farthest first. `light` is the direction to the sun in camera axes."""
    faces, colours = solid.faces_F43, solid.colours_F3
    corners = camera.project(faces)
    across, down = corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
    front = across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0] < 0
    seen = camera.view(faces[front])
    order = np.argsort(-seen[..., 2].mean(1), kind="stable")
    normals = unit(np.cross(seen[:, 2] - seen[:, 0], seen[:, 3] - seen[:, 1]))
    rgb = np.round(255 * shade(colours[front], normals, light, gloss=gloss)).astype(int)
    outlines = corners[front].reshape(-1, 8)[order].tolist()
    for outline, fill in zip(outlines, map(tuple, rgb[order].tolist()), strict=True):
        draw.polygon(outline, fill=fill, outline=fill)


def silhouette(draw: ImageDraw.ImageDraw, solid: Solid, camera: Camera, drop: Array, ground: float) -> None:
    """Fills (255) the shadow that the solid throws along the world direction `drop` on the plane z = `ground`."""
    faces = solid.faces_F43
    landed = faces + (ground - faces[..., 2:]) / drop[2] * drop
    outlines: Sequence[list[float]] = camera.project(landed).reshape(-1, 8).tolist()
    for outline in outlines:
        draw.polygon(outline, fill=255)
