"""Searches made of numbers, as their folders look: summary, metrics of every trial, lines of the log."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from nmt.config import Config, to_dict, with_overrides
from nmt.io.files import write_json
from tests.tune_tests.results.summaries import record, summary
from tune.results.summary import Summary

RUNGS, EPOCHS = (1, 3, 9), 9
SPACE = {
    "optim.lr": "0.0001 to 0.1 (log)",
    "loss.layer_weighting": "flat, linear",
    "loss.hyperspherical": "0 to 2",
    "decode.epsilon": "0.01, 0.05",
}


def epochs_of(number: int, trials: int) -> int:
    """The default and one in nine train in full, a third of the rest to the second rung."""
    return 9 if number % 9 == 0 else 3 if number % 3 == 0 else 1


def write_search(directory: Path, *, trials: int = 24, running: bool = False, name: str = "toy") -> Summary:
    """Write a search whose accuracy falls with the distance of log10(lr) from -2.5; lr above 0.06 fails."""
    rng, records, lines, clock = np.random.default_rng(0), [], [], 0.0
    for number in range(trials):
        lr = 0.001 if number == 0 else float(10 ** rng.uniform(-4, -1))
        searched = {
            "optim.lr": lr,
            "loss.layer_weighting": ("flat", "linear")[number % 2],
            "loss.hyperspherical": float(rng.uniform(0, 2)),
        }
        last, failed = epochs_of(number, trials), lr > 0.06
        top = 0.9 - 0.15 * (math.log10(lr) + 2.5) ** 2
        history = [] if failed else [epoch(k, top * (0.7 + 0.3 * k / EPOCHS)) for k in range(1, last + 1)]
        write_history(directory, number, history)
        records.append(trial(number, searched, history, failed=failed))
        before = 0
        for rung in (r for r in ((EPOCHS,) if number == 0 else RUNGS) if history and r <= last):
            clock += 2.0 * (rung - before) + 1.0
            how = "COMPLETE " if rung == EPOCHS else "paused at"
            lines.append(f"2026-11-29 00:05:54  {clock:7.1f} s  {number:03d}  {how} {rung} of {EPOCHS} epochs  50.0 %")
            before = rung
    made = dataclasses.replace(
        summary(*records), name=name, space=SPACE, epochs=EPOCHS, finished=not running, seconds=clock
    )
    made.save(directory)
    (directory / "search.log").write_text("\n".join([*lines, "2026-11-29 00:05:59  Search toy"]) + "\n")
    if running:
        write_history(directory, trials, [epoch(1, 0.6)])
        config = with_overrides(Config(), {"optim.lr": 0.004, "loss.layer_weighting": "linear"}, source="test")
        write_json(directory / f"trials/{trials:03d}/config.json", to_dict(config))
    return made


def epoch(number: int, accuracy: float) -> dict[str, Any]:
    decode = {"decode/sinkhorn_iterations": 10, "decode/epsilon": 0.05, "decode/assignment": "argmax"}
    categories = {"val/accuracy/cup": accuracy + 0.05, "val/accuracy/<fish>": accuracy - 0.05}
    fixed = {"val/accuracy_fixed_decode": accuracy - 0.01}
    return {"epoch": number, "val/accuracy": accuracy, **categories, **fixed, **decode, "seconds": 2.0 * number}


def write_history(directory: Path, number: int, history: Sequence[Mapping[str, Any]]) -> None:
    folder = directory / f"trials/{number:03d}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(metrics) + "\n" for metrics in history))


def trial(number: int, searched: dict[str, Any], history: Sequence[dict[str, Any]], *, failed: bool) -> Any:
    best = max(history, key=lambda metrics: metrics["val/accuracy"], default={})
    return record(
        number,
        None,
        state="FAIL" if failed else "COMPLETE" if len(history) == EPOCHS else "PRUNED",
        searched=searched,
        configuration=to_dict(with_overrides(Config(), searched, source="test")),
        best=best,
        last=history[-1] if history else {},
        accuracy_fixed_decode=best.get("val/accuracy_fixed_decode"),
        epochs=len(history),
        seconds=2.0 * len(history),
        reason="the loss is no longer finite" if failed else None,
    )


VOID = {"meta", "img", "br", "wbr", "link", "input", "hr"}
"""elements that are never closed"""


class Page(HTMLParser):
    """A page as a reader takes it in: its text, its tables by section, and whatever it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.open == [], f"not closed: {self.open}"

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def row(self, text: str, *, at: int = 0, cells: int | None = None) -> list[str]:
        """The only row whose cell `at` is this text, of the tables with so many cells in a row."""
        (found,) = (row for row in self.rows if len(row) > at and row[at] == text and cells in (None, len(row)))
        return found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "action", "srcset") and not (value or "").startswith(
                ("data:", "#")
            ):
                self.loads.append(value or "")
            if name == "id" and "svg" not in self.open:
                self.ids.append(value or "")
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open or "script" in self.open:
            return
        self.words.append(data)
        if self.rows and ("td" in self.open or "th" in self.open):
            self.rows[-1][-1] += data.strip()
