"""The `demo` data set: pictures of solid, jointed objects that the project renders itself, without a download.

`render_object` is a pure function of (category, index, size, seed), so any process can render any part of the set.
"""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from nmt.data.readers.demo.kinds import KINDS
from nmt.data.readers.demo.mesh import Array, Camera, Solid, looking, paint, rotation, silhouette, unit, vector
from nmt.data.readers.demo.palette import Palette
from nmt.data.store.writer import RawObject

CATEGORIES: Mapping[str, tuple[str, ...]] = {name: kind.keypoints() for name, kind in KINDS.items()}
"""category -> names of its keypoints"""

OBJECTS_PER_CATEGORY = 112
SPLIT_CYCLE = ("train",) * 6 + ("val", "test")
"""split of object k of a category, k modulo the length: 75, 12.5 and 12.5 %"""

OVERSAMPLING = 2
"""factor at which shapes are drawn before they are averaged down: Pillow draws polygons without anti-aliasing"""

ROLL, PITCH = 0.35, (0.0, 0.5)
"""largest in-plane rotation, and range of the camera's elevation, radians"""


def object_list() -> list[tuple[str, int, str]]:
    """List (category, index, split) of every object of the data set."""
    return [
        (category, index, SPLIT_CYCLE[index % len(SPLIT_CYCLE)])
        for category in CATEGORIES
        for index in range(OBJECTS_PER_CATEGORY)
    ]


def render_object(category: str, index: int, *, size: int, seed: int) -> RawObject:
    """Render one object.

    Args:
        category: a key of CATEGORIES.
        index: number of the object in its category.
        size: side of the square picture, pixels.
        seed: seed of the data set.

    Returns:
        The picture and its keypoints; keypoints outside the picture are left out.
    """
    rng = np.random.default_rng([seed, zlib.crc32(category.encode()), index])
    kind = KINDS[category]
    solid = kind.build(rng, Palette(rng))
    solid.texture(rng, rng.uniform(0.0, 0.1))
    yaw = kind.yaw[0] + rng.uniform(-1, 1) * kind.yaw[1]
    yaw *= rng.choice([-1, 1]) if kind.both_sides else 1
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
    """Scale and shift the camera so that the object fills the picture; some objects reach a little beyond its edge."""
    corners = camera.project(solid.faces).reshape(-1, 2)
    low, high = corners.min(0), corners.max(0)
    scale = size * rng.uniform(0.72, 1.02) / (high - low).max()
    middle = size * (0.5 + rng.uniform(-0.05, 0.05, 2)) - scale * (low + high) / 2
    return dataclasses.replace(camera, scale=scale, offset_2=(float(middle[0]), float(middle[1])))


def _picture(
    solid: Solid, camera: Camera, roll: float, size: int, rng: np.random.Generator, *, grounded: bool
) -> NDArray[np.uint8]:
    """Paint background, clutter behind, shadow, object, clutter in front and grain: (size, size, 3).

    Clutter may cover keypoints. Annotated photographs have occluded keypoints as well, and a matcher must cope.
    """
    light = rotation(2, roll) @ unit(vector(rng.uniform(-0.9, 0.9), -1.0, -rng.uniform(0.4, 1.2)))
    canvas = _backdrop(size, roll, rng)
    draw = ImageDraw.Draw(canvas)
    for _ in range(int(rng.integers(2, 6))):
        _clutter(draw, size, light, rng, side=rng.uniform(0.06, 0.16))
    if grounded:
        _shadow(canvas, solid, _magnified(camera, 0.5), light)
    paint(draw, solid, _magnified(camera, OVERSAMPLING), light, gloss=rng.uniform(0.0, 0.35))
    for _ in range(int(rng.integers(0, 3))):
        _clutter(draw, size, light, rng, side=rng.uniform(0.05, 0.1))
    pixels = np.asarray(canvas.reduce(OVERSAMPLING), dtype=np.float32)
    grain = rng.standard_normal((size, size, 1), dtype=np.float32) * rng.uniform(2, 6)
    return np.clip(pixels + grain, 0, 255).astype(np.uint8)


def _magnified(camera: Camera, factor: float) -> Camera:
    """Return the camera for a picture `factor` times as large."""
    x, y = camera.offset_2
    return dataclasses.replace(camera, scale=factor * camera.scale, offset_2=(factor * x, factor * y))


def _backdrop(size: int, roll: float, rng: np.random.Generator) -> Image.Image:
    """Paint a wall that fades into a floor, both softly mottled. It is smooth, so it is painted small and enlarged."""
    cells = max(size // 4, 8)
    hue, palette = rng.random(), Palette(rng)
    wall, floor = palette.colour(hue, 0.28, 0.72), palette.colour(hue + 0.08, 0.28, 0.55)
    steps = (np.arange(cells) + 0.5) / cells - 0.5
    down = math.cos(roll) * steps[:, None] - math.sin(roll) * steps[None, :]
    mix = 1 / (1 + np.exp(-(down - rng.uniform(-0.1, 0.2)) * rng.uniform(5, 25)))
    blotches = Image.fromarray(rng.standard_normal((9, 9), dtype=np.float32))
    mottle = np.asarray(blotches.resize((cells, cells), Image.Resampling.BICUBIC))
    tone = 1.08 - 0.45 * (steps[:, None] ** 2 + steps[None, :] ** 2) + rng.uniform(0.01, 0.06) * mottle
    plain = (wall + mix[..., None] * (floor - wall)) * tone[..., None]
    small = Image.fromarray(np.clip(255 * plain, 0, 255).astype(np.uint8))
    return small.resize((OVERSAMPLING * size,) * 2, Image.Resampling.BILINEAR)


def _clutter(draw: ImageDraw.ImageDraw, size: int, light: Array, rng: np.random.Generator, *, side: float) -> None:
    """Paint a ball, block, cone or rod at a random place; `side` is its size as a share of the picture."""
    thing, colour = Solid(), Palette(rng).colour(rng.random(), 0.55, 0.7)
    turned = rotation(0, rng.uniform(0, 6)) @ rotation(1, rng.uniform(0, 6))
    middle, along = vector(0, 0, 0), turned[:, 2]
    match int(rng.integers(4)):
        case 0:
            thing.ball(middle, 1.0, colour, frame=turned)
        case 1:
            thing.box(middle, rng.uniform(0.5, 1.0, 3), colour, frame=turned, cells=1)
        case 2:
            thing.loft([-along, 1.3 * along], [0.9, 0.02], colour, side=turned[:, 0])
        case _:
            half = rng.uniform(1.5, 4.0) * along
            thing.limb(-half, half, (0.22, 0.22), colour)
    x, y = (OVERSAMPLING * size * rng.uniform(0, 1, 2)).tolist()
    paint(draw, thing, Camera(np.eye(3), distance=8.0, scale=OVERSAMPLING * size * side, offset_2=(x, y)), light)


def _shadow(canvas: Image.Image, solid: Solid, camera: Camera, light: Array) -> None:
    """Darken the ground under the object, with soft edges. `camera` sees the picture at a fraction of the canvas."""
    drop = camera.rotation_33.T @ -light
    if drop[2] > -0.25:  # the sun is too low: the shadow would run out of the picture
        return
    mask = Image.new("L", (canvas.width // (2 * OVERSAMPLING), canvas.height // (2 * OVERSAMPLING)))
    silhouette(ImageDraw.Draw(mask), solid, camera, drop, float(solid.faces[..., 2].min()))
    soft = mask.filter(ImageFilter.GaussianBlur(mask.width / 60)).point(lambda value: int(0.45 * value))
    canvas.paste((24, 22, 34), mask=soft.resize(canvas.size, Image.Resampling.BILINEAR))
