"""The `demo` data set: pictures of solid, jointed objects that the project renders itself, no download needed.

`render_object` is a pure function of (category, index, size, seed), so any process may render any part of the set.
"""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Iterator, Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from numpy.typing import NDArray

from nmt.data.demo_mesh import Array, Camera, Solid, looking, paint, rotation, silhouette, unit, vector
from nmt.data.demo_objects import KINDS, Palette
from nmt.data.store import RawObject

CATEGORIES: Mapping[str, tuple[str, ...]] = {name: kind.keypoints for name, kind in KINDS.items()}
"""Category -> names of its keypoints."""

OBJECTS_PER_CATEGORY = 100
SPLIT_CYCLE = ("train",) * 14 + ("val",) * 3 + ("test",) * 3
"""Split of the objects 0, 1, 2, ... of a category, over and over: 70, 15 and 15 %."""

OVERSAMPLING = 2
"""Shapes are drawn at this multiple of the size and averaged down."""

ROLL, PITCH = 0.3, (0.05, 0.45)
"""Largest in-plane rotation; range of the look from above. Radians."""


def object_list() -> list[tuple[str, int, str]]:
    """(category, index, split) of every object of the data set."""
    return [
        (category, index, SPLIT_CYCLE[index % len(SPLIT_CYCLE)])
        for category in CATEGORIES
        for index in range(OBJECTS_PER_CATEGORY)
    ]


def render(*, size: int, seed: int) -> Iterator[RawObject]:
    """Every object of the data set, in the order of `object_list`."""
    for category, index, _ in object_list():
        yield render_object(category, index, size=size, seed=seed)


def render_object(category: str, index: int, *, size: int, seed: int) -> RawObject:
    """The picture of one object, `size` pixels square; keypoints outside the picture are left out."""
    rng = np.random.default_rng([seed, zlib.crc32(category.encode()), index])
    kind = KINDS[category]
    solid = kind.build(rng, Palette(rng))
    yaw = kind.yaw[0] + rng.uniform(-1, 1) * kind.yaw[1]
    yaw *= rng.choice([-1, 1]) if kind.mirrored_yaw else 1
    roll = rng.uniform(-ROLL, ROLL)
    camera = looking(yaw=yaw, pitch=rng.uniform(*PITCH), roll=roll, distance=rng.uniform(4, 7))
    camera = _fit(camera, solid, size, rng)
    image = _picture(solid, camera, roll, size, rng, grounded=kind.grounded)
    pixels = {name: camera.project(point).tolist() for name, point in solid.points.items()}
    inside = {name: (x, y) for name, (x, y) in pixels.items() if 0 <= x < size and 0 <= y < size}
    name = f"{category}_{index:04d}"
    split = SPLIT_CYCLE[index % len(SPLIT_CYCLE)]
    return RawObject(id=name, category=category, split=split, photo=name, image=image, points=inside)


def _fit(camera: Camera, solid: Solid, size: int, rng: np.random.Generator) -> Camera:
    """The camera with the scale and offset that fill the picture, a few times a little beyond its edge."""
    corners = camera.project(solid.faces_F43).reshape(-1, 2)
    low, high = corners.min(0), corners.max(0)
    scale = size * rng.uniform(0.72, 1.02) / (high - low).max()
    middle = size * (0.5 + rng.uniform(-0.05, 0.05, 2)) - scale * (low + high) / 2
    return dataclasses.replace(camera, scale=scale, offset_2=(float(middle[0]), float(middle[1])))


def _picture(
    solid: Solid, camera: Camera, roll: float, size: int, rng: np.random.Generator, *, grounded: bool
) -> NDArray[np.uint8]:
    """Background, things behind, shadow, object, things in front, grain: (size, size, 3)."""
    light = rotation(2, roll) @ unit(vector(rng.uniform(-0.9, 0.9), -1.0, -rng.uniform(0.4, 1.2)))
    canvas = _backdrop(size, roll, rng).resize((OVERSAMPLING * size,) * 2, Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(canvas)
    for _ in range(int(rng.integers(2, 6))):
        _clutter(draw, size, light, rng, side=rng.uniform(0.06, 0.16))
    near = dataclasses.replace(
        camera,
        scale=OVERSAMPLING * camera.scale,
        offset_2=(OVERSAMPLING * camera.offset_2[0], OVERSAMPLING * camera.offset_2[1]),
    )
    if grounded:
        _shadow(canvas, solid, camera, light, size)
    paint(draw, solid, near, light, gloss=rng.uniform(0.0, 0.35))
    for _ in range(int(rng.integers(0, 2))):
        _clutter(draw, size, light, rng, side=rng.uniform(0.05, 0.1))
    pixels = np.asarray(canvas.reduce(OVERSAMPLING), dtype=np.float32)
    grain = rng.normal(0, rng.uniform(2, 6), (size, size, 1)).astype(np.float32)
    return np.clip(pixels + grain, 0, 255).astype(np.uint8)


def _backdrop(size: int, roll: float, rng: np.random.Generator) -> Image.Image:
    """A wall that runs into a floor, both softly mottled."""
    hue = rng.random()
    wall, floor = (Palette(rng).colour(hue + turn, 0.28, value) for turn, value in ((0, 0.72), (0.08, 0.55)))
    steps = (np.arange(size) + 0.5) / size - 0.5
    down = math.cos(roll) * steps[:, None] - math.sin(roll) * steps[None, :]
    mix = 1 / (1 + np.exp(-(down - rng.uniform(-0.1, 0.2)) * rng.uniform(5, 25)))
    blotches = rng.normal(0, 1, (9, 9)).astype(np.float32)
    mottle = np.asarray(Image.fromarray(blotches).resize((size, size), Image.Resampling.BICUBIC))
    plain = wall + mix[..., None] * (floor - wall)
    tone = 1.08 - 0.45 * (steps[:, None] ** 2 + steps[None, :] ** 2) + rng.uniform(0.01, 0.06) * mottle
    return Image.fromarray(np.clip(255 * plain * tone[..., None], 0, 255).astype(np.uint8))


def _clutter(draw: ImageDraw.ImageDraw, size: int, light: Array, rng: np.random.Generator, *, side: float) -> None:
    """A ball, a block, a cone or a rod, somewhere, `side` of the picture large."""
    thing, colour = Solid(), Palette(rng).colour(rng.random(), 0.55, 0.7)
    turned = rotation(0, rng.uniform(0, 6)) @ rotation(1, rng.uniform(0, 6))
    shape = rng.integers(4)
    if shape == 0:
        thing.ball(vector(0, 0, 0), 1.0, colour, frame=turned)
    elif shape == 1:
        thing.box(vector(0, 0, 0), rng.uniform(0.5, 1.0, 3), colour, frame=turned, cells=2)
    elif shape == 2:
        tip = turned @ vector(0, 0, 1.2)
        thing.loft(np.stack([-tip, -0.99 * tip, tip]), np.array([0, 0.9, 0.02]), colour, side=turned[:, 0])
    else:
        end = turned @ vector(0, 0, rng.uniform(1.5, 4.0))
        thing.limb(-end, end, (0.22, 0.22), colour)
    place = OVERSAMPLING * size * rng.uniform(0, 1, 2)
    where = (float(place[0]), float(place[1]))
    camera = Camera(np.eye(3), distance=8.0, scale=OVERSAMPLING * size * side, offset_2=where)
    paint(draw, thing, camera, light)


def _shadow(canvas: Image.Image, solid: Solid, camera: Camera, light: Array, size: int) -> None:
    """Darkens the ground under the object, softly."""
    drop = camera.rotation_33.T @ -light
    if drop[2] > -0.25:
        return
    mask = Image.new("L", (size, size))
    silhouette(ImageDraw.Draw(mask), solid, camera, drop, float(solid.faces_F43[..., 2].min()))
    soft = mask.filter(ImageFilter.GaussianBlur(size / 60)).resize(canvas.size, Image.Resampling.BILINEAR)
    canvas.paste((24, 22, 34), mask=soft.point(lambda value: int(0.45 * value)))
