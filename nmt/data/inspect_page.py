"""Write a page that shows a data set: sample pairs with keypoints and graphs, augmentations, histograms.

This module collects what the page shows; the template inspect_page.html lays it out. The page is one HTML file that
needs no other: photographs are embedded, and the rest is SVG over them, so that a keypoint can show its name.
"""

from __future__ import annotations

import dataclasses
import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nmt.batch import Side
from nmt.config import DataConfig
from nmt.data.augment.seeding import TRAIN, generator
from nmt.data.store.objects import SPLITS, ObjectStore
from nmt.data.stream.pair import Pair
from nmt.data.stream.pairs import PairStream
from nmt.data.stream.sampler import pair_sampler
from nmt.io.files import atomic_write
from nmt.io.page import embedded, render_page

NUM_PAIRS, NUM_AUGMENTED = 12, 6
SAMPLED_PAIRS = 2000
"""pairs whose keypoints the histogram counts"""
SIDE_PIXELS, GAP = 300, 8
"""size of an image on the page, and gap between the two of a pair"""
_OFF: dict[str, Any] = {"erasing": 0.0, "cutmix": 0.0, "mixup": 0.0, "rotation": 0.0, "mirror": 0.0, "scale": 0.0}
_SPLIT_COLOURS = ("#4f7cff", "#f2a541", "#3fb98f")


def write_page(directory: Path, config: DataConfig, path: Path, *, seed: int = 0) -> Path:
    """Write the page of the data set in `directory`.

    Args:
        config: the `data` branch that a training would use; the page shows its augmentation.
        path: the HTML file to write.
        seed: decides which pairs are shown.
    """
    store = ObjectStore.open(directory)
    partner = config.mix_partner if config.mode == "images" else "objects"  # as stored views are mixed
    images = dataclasses.replace(
        config, mode="images", image_size=store.info.image_size, pad_keypoints=0, mix_partner=partner
    )
    in_use = {name: getattr(config, name) for name in _OFF if getattr(config, name) > 0}
    page = render_page(
        Path(__file__).with_suffix(".html"),
        name=store.info.name,
        facts=_facts(store),
        left_out=", ".join(f"{num:,} {reason}" for reason, num in store.info.left_out.items()),
        notes=store.info.notes,
        totals=", ".join(f"{sum(store.info.counts[split].values()):,} {split}" for split in SPLITS),
        splits=dict(zip(SPLITS, _SPLIT_COLOURS, strict=True)),
        side_pixels=SIDE_PIXELS,
        objects=_objects_plot(store),
        keypoints=_keypoints_plot(store, config, seed),
        pairs=list(_of_each_category(PairStream(store, _without(images), split="train", seed=seed), NUM_PAIRS)),
        in_use=", ".join(f"{name} {value:g}" for name, value in in_use.items()),
        augmented=list(_augmented(store, images, in_use, seed)),
    )
    with atomic_write(path) as file:
        file.write(page)
    return path


def _facts(store: ObjectStore) -> dict[str, str]:
    info = store.info
    return {
        "objects": f"{len(store):,}",
        "photographs": f"{len(np.unique(store.photo)):,}",
        "categories": f"{len(info.categories)}",
        "keypoint names": f"{sum(map(len, info.keypoint_names.values())):,}",
        "pixels per side": f"{info.image_size}",
        "image coding": info.image_coding,
        "raw fingerprint": info.fingerprint,
    }


def _objects_plot(store: ObjectStore) -> dict[str, Any]:
    """Lay out the bars of the three splits, one line per category."""
    counts, categories = store.info.counts, store.info.categories
    most = max(sum(counts[split][c] for split in SPLITS) for c in categories) or 1
    left, width, line = 190, 1040, 24
    rows = []
    for k, category in enumerate(categories):
        x, bars = float(left), []
        for split in SPLITS:
            length = counts[split][category] / most * (width - left - 70)
            bars.append({"x": round(x, 1), "width": round(length, 1), "split": split, "count": counts[split][category]})
            x += length
        rows.append(
            {
                "category": category,
                "bars": bars,
                "total": f"{sum(counts[split][category] for split in SPLITS):,}",
                "label_x": left - 10,
                "total_x": round(x + 8, 1),
                "text_y": k * line + 16,
                "bar_y": k * line + 4,
                "height": line - 8,
            }
        )
    return {"width": width, "height": len(categories) * line, "rows": rows}


def _keypoints_plot(store: ObjectStore, config: DataConfig, seed: int) -> dict[str, Any]:
    """Lay out the histogram of the keypoints of sampled training pairs."""
    sampler = pair_sampler(store, "train", redraw=config.redraw, pairs=config.pairs)
    drawn = Counter(len(sampler.draw(generator(seed, TRAIN, 0, k)).keypoints0) for k in range(SAMPLED_PAIRS))
    low, high = max(min(drawn) - 2, 0), max(drawn) + 2
    width, base = 1040, 190
    step = min((width - 60) / (high - low + 1), 90)
    bars = []
    for k, num in enumerate(range(low, high + 1)):
        height, x = drawn[num] / max(drawn.values()) * (base - 30), 30 + k * step
        bars.append(
            {
                "keypoints": num,
                "count": drawn[num],
                "share": f"{drawn[num] / SAMPLED_PAIRS:.0%}",
                "x": round(x + 4, 1),
                "y": round(base - height, 1),
                "width": round(step - 8, 1),
                "height": round(height, 1),
                "middle": round(x + step / 2, 1),
            }
        )
    return {"width": width, "height": 220, "base": base, "sampled": f"{SAMPLED_PAIRS:,}", "bars": bars}


def _without(config: DataConfig, **changes: Any) -> DataConfig:
    """Turn every augmentation off but those in `changes`."""
    return dataclasses.replace(config, **{**_OFF, **changes})


def _of_each_category(stream: PairStream, num: int) -> Iterator[dict[str, Any]]:
    """Yield cards of the first pairs of the stream, as many of one category as of another."""
    most = -(-num // len(stream.sampler.categories))
    taken: Counter[int] = Counter()
    for index in range(100 * num):
        category = stream.pair(0, index).category
        if taken[category] < most and taken.total() < num:
            taken[category] += 1
            yield _card(stream, index)


def _augmented(store: ObjectStore, config: DataConfig, in_use: dict[str, float], seed: int) -> Iterator[dict[str, Any]]:
    """Yield cards of each augmentation alone, at full probability, then of pairs as training sees them."""

    def stream(config: DataConfig) -> PairStream:
        return PairStream(store, config, split="train", seed=seed)

    for name, value in in_use.items():
        alone = _without(config, **{name: 1.0 if name in ("erasing", "cutmix", "mixup", "mirror") else value})
        # Images that are all alike stay as they are when mixed.
        changed = (k for k in range(100) if _changes(stream(_without(config)), stream(alone), k))
        index = next(changed, None)
        title = f"{name} alone" if index is not None else f"{name} alone: no image changes"
        yield _card(stream(alone), index or 0, title)
    if in_use:
        yield from (_card(stream(config), k, "as trained") for k in range(NUM_AUGMENTED))


def _changes(plain: PairStream, augmented: PairStream, index: int) -> bool:
    """True if the source image of the pair is another one when augmented."""
    images = [stream.batch(0, [index]).source.image_B3HW for stream in (plain, augmented)]
    return images[0] is not None and images[1] is not None and not bool((images[0] == images[1]).all())


def _card(stream: PairStream, index: int, title: str = "") -> dict[str, Any]:
    """Lay out pair `index` of epoch 0 as training sees it; the category is the default title."""
    store, batch, pair = stream.store, stream.batch(0, [index]), stream.pair(0, index)
    offsets = (0, SIDE_PIXELS + GAP)
    points = [_points(side, x) for side, x in zip((batch.source, batch.target), offsets, strict=True)]
    matches = _matches(store, pair, points)
    sides = [{"x": x, "jpeg": _jpeg(side)} for side, x in zip((batch.source, batch.target), offsets, strict=True)]
    return {
        "title": title or store.info.categories[pair.category],
        "note": f"{store.id(pair.row0)} and {store.id(pair.row1)}, {len(matches)} keypoints",
        "width": 2 * SIDE_PIXELS + GAP,
        "sides": sides,
        "edges": [*_edges(batch.source, points[0]), *_edges(batch.target, points[1])],
        "matches": matches,
    }


def _matches(store: ObjectStore, pair: Pair, points: list[list[tuple[float, float]]]) -> list[dict[str, Any]]:
    """Lay out the keypoints of a pair: both ends of each match, and the one end of what has no partner."""
    names0, names1 = (
        [list(store.info.keypoint_names.values())[store.category[row]][k] for k in keypoints]
        for row, keypoints in ((pair.row0, pair.keypoints0), (pair.row1, pair.keypoints1))
    )
    partners = pair.match_N.tolist()
    shown = [
        (name, [points[0][n], *([points[1][m]] if m >= 0 else [])])
        for n, (name, m) in enumerate(zip(names0, partners, strict=True))
    ]
    shown += [(name, [points[1][m]]) for m, name in enumerate(names1) if m not in partners]
    return [
        # The golden angle: neighbours differ.
        {"name": name, "ends": ends, "colour": f"hsl({(n * 137.508) % 360:.0f} 85% 58%)"}
        for n, (name, ends) in enumerate(shown)
    ]


def _points(side: Side, offset: float) -> list[tuple[float, float]]:
    """Scale the keypoints of one side to the page, in pixels."""
    assert side.image_B3HW is not None
    points_N2 = side.points_BN2[0].numpy() * (SIDE_PIXELS / side.image_B3HW.shape[-1]) + (offset, 0)
    return [(round(float(x), 1), round(float(y), 1)) for x, y in points_N2]


def _edges(side: Side, points: list[tuple[float, float]]) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    return [(points[i], points[j]) for i, j in side.edge_index_2E.T.tolist() if i < j]


def _jpeg(side: Side) -> str:
    """Return the image of one side, embedded."""
    assert side.image_B3HW is not None
    image = Image.fromarray(side.image_B3HW[0].permute(1, 2, 0).numpy())
    if image.width > 2 * SIDE_PIXELS:
        image = image.resize((2 * SIDE_PIXELS, 2 * SIDE_PIXELS), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return embedded(buffer.getvalue(), "jpeg")
