"""HTML page that shows a data set: pairs with keypoints, graphs and correspondences, augmentations, histograms.

The page is a single file. Photographs are embedded, and keypoints are SVG drawn over them: pointing at one shows its
name.
"""

from __future__ import annotations

import base64
import dataclasses
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nmt.batch import PairBatch, Side
from nmt.config import DataConfig
from nmt.data.augment.seeding import TRAIN, generator
from nmt.data.store.objects import SPLITS, ObjectStore
from nmt.data.stream.pairs import PairStream
from nmt.data.stream.sampler import pair_sampler
from nmt.io.files import atomic_write

NUM_PAIRS, NUM_AUGMENTED = 12, 6
"""plain pairs, and pairs augmented as in training, on the page"""
SAMPLED_PAIRS = 2000
"""pairs that the histogram of keypoints is made from"""
SIDE, GAP = 300, 8
"""side of an image on the page, and gap between the two of a pair, pixels"""
_OFF: dict[str, Any] = {"erasing": 0.0, "cutmix": 0.0, "mixup": 0.0, "rotation": 0.0, "mirror": 0.0, "scale": 0.0}
_SPLIT_COLOURS = ("#4f7cff", "#f2a541", "#3fb98f")

_STYLE = """
:root { color-scheme: light dark; --paper: #f6f7f9; --card: #fff; --ink: #1b2130; --soft: #667085; --line: #e3e6ec; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171d; --card: #1d212a; --ink: #e8eaf0; --soft: #98a1b3; --line: #2e3440; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1340px; margin: 0 auto; padding: 40px 28px 72px; }
h1 { margin: 0; font-size: 30px; letter-spacing: -0.02em; } h2 { margin: 44px 0 6px; font-size: 19px; }
p { margin: 0 0 16px; color: var(--soft); max-width: 78ch; }
.facts { display: flex; flex-wrap: wrap; gap: 10px; margin: 18px 0 0; padding: 0; list-style: none; }
.facts li { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 8px 14px; }
.facts b { display: block; font-size: 19px; font-variant-numeric: tabular-nums; } .facts span { color: var(--soft); }
.grid { display: grid; gap: 18px; grid-template-columns: repeat(auto-fill, minmax(560px, 1fr)); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; overflow: hidden; margin: 0; }
.card > svg { display: block; width: 100%; height: auto; } .plot { padding: 18px 20px 12px; }
figcaption { display: flex; gap: 10px; align-items: baseline; padding: 9px 14px 11px; font-size: 13px; }
figcaption b { font-weight: 600; } figcaption span { color: var(--soft); }
.legend { display: flex; gap: 18px; color: var(--soft); font-size: 13px; margin-bottom: 10px; }
.legend i { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 6px; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; } svg .soft { fill: var(--soft); }
.edge { stroke: #fff; stroke-width: 1.1; stroke-opacity: .6; mix-blend-mode: difference; }
.link { stroke-width: 1.3; stroke-opacity: .75; }
.dot { stroke: #fff; stroke-width: 1.6; } svg g.pair:hover .link { stroke-opacity: .15; }
svg g.pair .match:hover .link { stroke-opacity: 1; stroke-width: 2.6; } .match { cursor: default; }
"""


@dataclass(frozen=True)
class Shown:
    """One pair on the page."""

    title: str
    note: str
    batch: PairBatch
    """batch of this one pair, with images"""
    names: Sequence[str]
    """names of the source keypoints"""


def write_page(directory: Path, config: DataConfig, path: Path, *, seed: int = 0) -> Path:
    """Write the page of the data set in `directory`.

    Args:
        directory: folder of the Arrow data set.
        config: configuration of the data; its augmentation is shown.
        path: the HTML file.
        seed: seed of the sampled pairs.

    Returns:
        `path`.
    """
    store = ObjectStore.open(directory)
    images = dataclasses.replace(config, mode="images", image_size=store.info.image_size, pad_keypoints=0)
    content = "".join(
        [
            _header(store),
            _section("Objects per category", _objects_note(store), _card(_objects_plot(store))),
            _section("Keypoints per pair", _keypoints_note(), _card(_keypoints_plot(store, seed))),
            _pairs_section(store, images, seed),
            _augmentations_section(store, images, seed),
        ]
    )
    title = escape(f"{store.info.name}: data set")
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    page = f"<!doctype html><html lang=en><head>{head}<style>{_STYLE}</style></head><body><main>{content}</main></body>"
    with atomic_write(path) as file:
        file.write(page.encode())
    return path


def _header(store: ObjectStore) -> str:
    info = store.info
    facts = {
        "objects": f"{len(store):,}",
        "photographs": f"{len(np.unique(store.photo)):,}",
        "categories": f"{len(info.categories)}",
        "keypoint names": f"{sum(map(len, info.keypoint_names.values())):,}",
        "pixels a side": f"{info.image_size}",
        "image coding": info.image_coding,
        "raw fingerprint": info.fingerprint,
    }
    items = "".join(f"<li><b>{escape(value)}</b><span>{name}</span></li>" for name, value in facts.items())
    left_out = ", ".join(f"{num:,} {reason}" for reason, num in info.left_out.items())
    note = f"<p style='margin-top:14px'>Left out: {escape(left_out)}.</p>" if left_out else ""
    return f"<h1>{escape(info.name)}</h1><ul class=facts>{items}</ul>{note}"


def _section(title: str, note: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2><p>{note}</p>{body}</section>"


def _card(body: str) -> str:
    return f"<div class='card plot'>{body}</div>"


def _objects_note(store: ObjectStore) -> str:
    totals = [f"{sum(store.info.counts[split].values()):,} {split}" for split in SPLITS]
    return "Every category is drawn equally often, however many objects it has. " + ", ".join(totals) + "."


def _keypoints_note() -> str:
    return f"Common keypoints of the two objects, in {SAMPLED_PAIRS:,} training pairs before augmentation."


def _objects_plot(store: ObjectStore) -> str:
    """Draw one bar per category, divided by split."""
    counts, categories = store.info.counts, store.info.categories
    most = max(sum(counts[split][c] for split in SPLITS) for c in categories) or 1
    left, width, line = 190, 1040, 24
    parts = []
    for k, category in enumerate(categories):
        x, y = float(left), k * line
        parts.append(f"<text x={left - 10} y={y + 16} text-anchor=end>{escape(category)}</text>")
        for split, colour in zip(SPLITS, _SPLIT_COLOURS, strict=True):
            w = counts[split][category] / most * (width - left - 70)
            tip = f"<title>{counts[split][category]} {split}</title>"
            parts.append(f"<rect x={x:.1f} y={y + 4} width={w:.1f} height={line - 8} fill='{colour}' rx=2>{tip}</rect>")
            x += w
        total = sum(counts[split][category] for split in SPLITS)
        parts.append(f"<text class=soft x={x + 8:.1f} y={y + 16}>{total:,}</text>")
    legend = "".join(
        f"<span><i style='background:{colour}'></i>{split}</span>"
        for split, colour in zip(SPLITS, _SPLIT_COLOURS, strict=True)
    )
    return f"<div class=legend>{legend}</div>{_svg(width, len(categories) * line, ''.join(parts))}"


def _keypoints_plot(store: ObjectStore, seed: int) -> str:
    """Draw the histogram of common keypoints in sampled training pairs."""
    sampler = pair_sampler(store, "train")
    drawn = Counter(len(sampler.draw(generator(seed, TRAIN, 0, k)).keypoints0) for k in range(SAMPLED_PAIRS))
    low, high = max(min(drawn) - 2, 0), max(drawn) + 2
    width, height, base = 1040, 220, 190
    step = min((width - 60) / (high - low + 1), 90)
    parts = [f"<line x1=30 y1={base} x2={width - 30} y2={base} stroke='var(--line)'/>"]
    for k, num in enumerate(range(low, high + 1)):
        h, x = drawn[num] / max(drawn.values()) * (base - 30), 30 + k * step
        share = f"<title>{drawn[num]} of {SAMPLED_PAIRS} pairs</title>"
        parts.append(
            f"<rect x={x + 4:.1f} y={base - h:.1f} width={step - 8:.1f} height={h:.1f} fill='{_SPLIT_COLOURS[0]}' rx=3>"
            f"{share}</rect><text x={x + step / 2:.1f} y={base + 18} text-anchor=middle>{num}</text>"
        )
        if drawn[num]:
            text = f"{drawn[num] / SAMPLED_PAIRS:.0%}"
            parts.append(f"<text class=soft x={x + step / 2:.1f} y={base - h - 6:.1f} text-anchor=middle>{text}</text>")
    return _svg(width, height, "".join(parts))


def _svg(width: float, height: float, body: str) -> str:
    return f"<svg viewBox='0 0 {width:g} {height:g}' width='100%' role=img>{body}</svg>"


def _pairs_section(store: ObjectStore, config: DataConfig, seed: int) -> str:
    plain = PairStream(store, dataclasses.replace(config, **_OFF), split="train", seed=seed)
    cards = [_pair_card(shown) for shown in _of_each_category(plain, NUM_PAIRS)]
    note = "Two photographs of one category, their common keypoints, the graph of each, and the correspondences. "
    return _section("Pairs", f"{note}Point at a keypoint for its name.", f"<div class=grid>{''.join(cards)}</div>")


def _of_each_category(stream: PairStream, num: int) -> Iterator[Shown]:
    """Yield the first pairs of the stream, equally many of each category."""
    most = -(-num // len(stream.sampler.categories))
    taken: Counter[int] = Counter()
    for index in range(100 * num):
        shown, category = _drawn(stream, index)
        if taken[category] < most and taken.total() < num:
            taken[category] += 1
            yield shown


def _drawn(stream: PairStream, index: int, title: str = "") -> tuple[Shown, int]:
    """Draw pair `index` of epoch 0 as training sees it; return it and its category."""
    store, batch, pair = stream.store, stream.batch(0, [index]), stream.pair_ids(0, index)
    category = store.info.categories[pair.category]
    names = [store.info.keypoint_names[category][k] for k in pair.keypoints0]
    note = f"{store.id(pair.row0)} and {store.id(pair.row1)}, {len(names)} keypoints"
    return Shown(title or category, note, batch, names), pair.category


def _augmentations_section(store: ObjectStore, config: DataConfig, seed: int) -> str:
    def stream(**changes: Any) -> PairStream:
        return PairStream(store, dataclasses.replace(config, **changes), split="train", seed=seed)

    settings: Mapping[str, float] = {name: getattr(config, name) for name in _OFF}
    in_use = [name for name, value in settings.items() if value > 0]
    if not in_use:
        return _section("Augmentation", "None: every probability is 0.", "")
    cards = []
    for name in in_use:
        value = 1.0 if name in ("erasing", "cutmix", "mixup", "mirror") else settings[name]
        # The augmentation's draws differ between pairs; the first pair that it changes shows it best.
        index = next(k for k in range(100) if _changes(stream(**_OFF), stream(**{**_OFF, name: value}), k))
        cards.append(_pair_card(_drawn(stream(**{**_OFF, name: value}), index, f"{name} alone")[0]))
    cards += [_pair_card(_drawn(stream(), k, "as trained")[0]) for k in range(NUM_AUGMENTED)]
    used = ", ".join(f"{name} {settings[name]:g}" for name in in_use)
    note = f"Images mode trains with {escape(used)}. Each one alone, then pairs as training sees them."
    return _section("Augmentation", note, f"<div class=grid>{''.join(cards)}</div>")


def _changes(plain: PairStream, augmented: PairStream, index: int) -> bool:
    """Return True when augmentation changes the source image of the pair."""
    images = [stream.batch(0, [index]).source.image_B3HW for stream in (plain, augmented)]
    return images[0] is not None and images[1] is not None and not bool((images[0] == images[1]).all())


def _pair_card(shown: Shown) -> str:
    source, target = shown.batch.source, shown.batch.target
    num = int(source.num_B[0])
    points0, points1 = _points(source, 0.0), _points(target, SIDE + GAP)
    body = _image(source, 0) + _image(target, SIDE + GAP) + _edges(source, points0) + _edges(target, points1)
    for n in range(num):
        (x0, y0), (x1, y1) = points0[n], points1[int(shown.batch.match_BN[0, n])]
        # Steps of the golden angle give neighbouring numbers distant hues, for any number of keypoints.
        colour = f"hsl({(n * 137.508) % 360:.0f} 85% 58%)"
        body += (
            f"<g class=match><title>{escape(shown.names[n])}</title>"
            f"<line class=link x1={x0:.1f} y1={y0:.1f} x2={x1:.1f} y2={y1:.1f} stroke='{colour}'/>"
            f"<circle class=dot cx={x0:.1f} cy={y0:.1f} r=4.5 fill='{colour}'/>"
            f"<circle class=dot cx={x1:.1f} cy={y1:.1f} r=4.5 fill='{colour}'/></g>"
        )
    caption = f"<b>{escape(shown.title)}</b><span>{escape(shown.note)}</span>"
    svg = _svg(2 * SIDE + GAP, SIDE, f"<g class=pair>{body}</g>")
    return f"<figure class=card>{svg}<figcaption>{caption}</figcaption></figure>"


def _points(view: Side, offset: float) -> np.ndarray:
    assert view.image_B3HW is not None
    points_N2: np.ndarray = view.points_BN2[0].numpy() * (SIDE / view.image_B3HW.shape[-1]) + (offset, 0)
    return points_N2


def _edges(view: Side, points_N2: np.ndarray) -> str:
    ends = ((points_N2[i], points_N2[j]) for i, j in view.edge_index_2E.T.tolist() if i < j)
    lines = (f"<line class=edge x1={a[0]:.1f} y1={a[1]:.1f} x2={b[0]:.1f} y2={b[1]:.1f} />" for a, b in ends)
    return "".join(lines)


def _image(view: Side, x: float) -> str:
    assert view.image_B3HW is not None
    image = Image.fromarray(view.image_B3HW[0].permute(1, 2, 0).numpy())
    if image.width > 2 * SIDE:
        image = image.resize((2 * SIDE, 2 * SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f"<image x={x:g} y=0 width={SIDE} height={SIDE} href='data:image/jpeg;base64,{data}'/>"
