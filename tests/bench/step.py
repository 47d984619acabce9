"""What a whole training step costs: time and memory by stage, beside the published execution of the same step.

    python tests/bench/step.py [--device cuda|cpu] [--steps 20]     # measured, with the loader
    python tests/bench/step.py --estimate --card h200               # traced on fake tensors; needs no GPU

The recipe is --recipe (by default the published one on images: SwinV2-B at 384 pixels, 8 pairs), changed by --set. The
data are made up, in the store of a prepared data set and through its loader. Every object has --points keypoints.

Four executions of the same step, same weights and same results up to rounding:

    published   timm's attention, which writes its matrix; one backbone call an image of the pair; float32
    before      the same with autocast to bf16
    now         fused attention, both images in one call; what `run.py --train` does
    compiled    the same with train.compile; measured on a GPU alone, estimated by nmt/training/fused.py

Measured on a CPU, the stages are seconds that a processor was busy, which other processes hardly change; the step and
the wait for the loader are times of the clock. Memory on a CPU is that of a trace.

An estimate has the assumptions of nmt/training/cards.py. A run is that of the recipe `voc`: 24,000 steps, and 12
validations of 20,000 pairs, in which `now` reads each of 1,800 objects once and the others read both images of every
pair. The sweep over decodings and the files are not in it.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import record
from torch._subclasses.fake_tensor import unset_fake_temporarily

from nmt.config import Config, with_overrides
from nmt.data.store.objects import OBJECTS_FILE, StoreInfo
from nmt.data.store.writer import ObjectWriter, RawObject
from nmt.data.stream.collate import collate
from nmt.data.stream.pairs import eval_pairs
from nmt.decoding import model_score
from nmt.device import pick_device
from nmt.io.table import aligned
from nmt.recipes import recipe
from nmt.seen_objects import encoder, head_pairs
from nmt.training.cards import Card, find_card, gpu_seconds, host_seconds, step_seconds
from nmt.training.fused import fused
from nmt.training.stages import COPY, STAGES, stages
from nmt.training.step_trace import Kernel, Recorder, StepTrace, fake_trainer, trace_step
from nmt.training.trainer import Trainer
from tune.cli.configuration import parse_assignment

OBJECTS = {"train": 32, "val": 4, "test": 4}
RUN_STEPS, VALIDATIONS, VAL_PAIRS, VAL_OBJECTS = 24_000, 12, 20_000, 1_800
"""of a run of voc"""
LOADER, REST, BUSY = "wait for the loader", "between stages", "processor busy"
WARM_UP = 2
"""steps that are not counted: the first one makes the optimizer's state, and chooses kernels"""


def make_data(folder: Path, config: Config, points: int) -> None:
    """Write a prepared data set of noise, of one category."""
    names, rng, size = {"made": [f"k{k}" for k in range(points)]}, np.random.default_rng(0), config.data.image_size
    writer = ObjectWriter(folder / OBJECTS_FILE, names, image_size=size, image_coding="raw")
    splits = [split for split, number in OBJECTS.items() for _ in range(number)]
    for k, split in enumerate(splits):
        image = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
        where = {name: tuple(point) for name, point in zip(names["made"], rng.random((points, 2)) * size, strict=True)}
        writer.add(RawObject(f"{k}", "made", split, f"photograph{k}", image, where))
    info = {"name": "made", "keypoint_names": names, "image_size": size, "image_coding": "raw", "options": {}}
    writer.finish(StoreInfo(**info, seed=0, fingerprint="0", counts=writer.counts, left_out={}))
    writer.close()


def as_before(trainer: Trainer) -> None:
    """Let the backbone write its attention matrices, and read the two images of a pair one after the other."""
    from timm.models.swin_transformer_v2 import WindowAttention

    matcher: Any = trainer.matcher
    for module in matcher.modules():
        if isinstance(module, WindowAttention):
            module.__class__ = WindowAttention
    matcher.both_features = lambda batch: (matcher.features(batch.source), matcher.features(batch.target))


COMPILED = "compiled"
EXECUTIONS: Mapping[str, tuple[Callable[[Trainer], None] | None, dict[str, str]]] = {
    "published": (as_before, {"train.precision": "fp32"}),
    "before": (as_before, {}),
    "now": (None, {}),
    COMPILED: (None, {"train.compile": True}),
}
"""name -> what changes a trainer, and a configuration"""


# --- estimated ---


def validation(trainer: Trainer, *, once: bool) -> list[tuple[float, list[Kernel]]]:
    """Trace the passes of a validation of voc: how often each comes, and its kernels.

    Args:
        once: read each object once; otherwise both images of every pair, in batches of a training step.
    """
    size, matcher = trainer.config.data.pairs_per_step, trainer.matcher.eval()
    score, encode = (make(matcher, autocast=trainer.autocast) for make in (model_score, encoder))

    def traced(run: Callable[[], Any]) -> list[Kernel]:
        recorder = Recorder(trainer.device, stage="validation")
        with recorder, torch.no_grad():
            run()
        return recorder.kernels

    pairs = eval_pairs(trainer.store, trainer.config.data, split="val")
    with unset_fake_temporarily():
        images = trainer.stream.batch(0, range(size))
        at_once = head_pairs(size, trainer.device)
        width = trainer.config.data.pad_keypoints
        many = collate(trainer.store, [pairs[k % len(pairs)] for k in range(at_once)], width=width)
    if not once:
        return [(VAL_PAIRS / size, traced(lambda: score(images.to(trainer.device))))]
    some = images.to(trainer.device)
    with torch.no_grad():
        seen = [encode(side) for side in (some.source, some.target)]
    reading = [(VAL_OBJECTS / size, traced(lambda: encode(images.source.to(trainer.device))))]
    batch = many.to(trainer.device)
    sides = (
        replace(side, nodes_BNC=nodes.new_empty(at_once, *nodes.shape[1:]), global_BG=g.new_empty(at_once, g.shape[1]))
        for side, (nodes, g) in zip((batch.source, batch.target), seen, strict=True)
    )
    batch = replace(batch, **dict(zip(("source", "target"), sides, strict=True)))
    return [*reading, (VAL_PAIRS / at_once, traced(lambda: score(batch)))]


@dataclass(frozen=True)
class Estimate:
    """What is estimated of an execution."""

    trace: StepTrace
    kernels: Sequence[Kernel]
    """of the trace; joined where the step is compiled"""
    passes: Sequence[tuple[float, list[Kernel]]]
    """of a validation, see `validation`"""
    tf32: bool

    def row(self, name: str, card: Card) -> list[str]:
        """Return a row of the table."""
        kernels = self.kernels
        step = step_seconds(kernels, card, tf32=self.tf32)
        validating = sum(times * step_seconds(found, card, tf32=self.tf32) for times, found in self.passes)
        return [
            name,
            f"{sum(k.launches for k in kernels):,}",
            f"{sum(k.flops for k in kernels) / 1e12:.2f}",
            f"{sum(k.bytes for k in kernels) / 1e9:.0f}",
            f"{self.trace.peak / 1e9:.1f}",
            f"{1e3 * gpu_seconds(kernels, card, tf32=self.tf32):.0f}",
            f"{1e3 * host_seconds(kernels):.0f}",
            f"{1e3 * step:.0f}",
            f"{validating:.0f}",
            f"{(RUN_STEPS * step + VALIDATIONS * validating) / 60:.0f}",
        ]


HEAD = ["execution", "launches", "TFLOP", "GB", "peak GB", "GPU ms", "CPU ms", "step ms", "validation s", "voc min"]


def estimate(config: Config, data: Path, name: str) -> Estimate:
    """Trace an execution and a validation."""
    change, keys = EXECUTIONS[name]
    changed = with_overrides(config, keys, source=name)
    trace = trace_step(changed, data=data, change=change)
    with fake_trainer(changed, data=data) as trainer:
        if change is not None:
            change(trainer)
        passes = validation(trainer, once=change is None)
    return Estimate(trace, trace.kernels, passes, change is None and torch.get_float32_matmul_precision() != "highest")


def show_estimate(config: Config, data: Path, card: Card) -> dict[str, str]:
    """Print the estimates, and the stages of the step; return the figures to record."""
    found = {name: estimate(config, data, name) for name in EXECUTIONS if name != COMPILED}
    found[COMPILED] = replace(found["now"], kernels=fused(found["now"].trace.kernels))
    rows = [one.row(name, card) for name, one in found.items()]
    print(f"Estimated on {card.name} (assumptions: nmt/training/cards.py; of {COMPILED}: nmt/training/fused.py)")
    print(aligned([HEAD, *rows], left=1))
    now, compiled = found["now"], found[COMPILED]
    print("\nNow, by stage")
    parts = [
        [
            stage,
            f"{sum(k.launches for k in kernels):,}",
            f"{sum(k.flops for k in kernels) / 1e12:.2f}",
            f"{sum(k.bytes for k in kernels) / 1e9:.1f}",
            f"{now.trace.peaks[stage] / 1e9:.1f}",
            f"{1e3 * gpu_seconds(kernels, card):.1f}",
            f"{1e3 * gpu_seconds([k for k in compiled.kernels if k.stage == stage], card):.1f}",
        ]
        for stage, kernels in now.trace.by_stage().items()
    ]
    print(aligned([["stage", *HEAD[1:6], COMPILED], *parts], left=1))
    print(
        f"\nkept between steps: {now.trace.resident / 1e9:.1f} GB; places that wait for the GPU: {len(now.trace.waits)}"
    )
    return {f"estimated on {card.name}, {row[0]}": f"{row[7]} ms, {row[4]} GB, voc {row[9]} min" for row in rows}


# --- measured ---


class Clock:
    """Seconds and memory of the stages of steps, without waiting for the GPU within a step."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._marks: list[tuple[str, Any]] = []
        self.seconds: dict[str, list[float]] = {}
        self.peaks: dict[str, int] = {}

    def begins(self, stage: str) -> None:
        """Note that a stage begins, and what the one before has taken of the memory."""
        if self._cuda:
            if self._marks:
                before = self._marks[-1][0]
                self.peaks[before] = max(self.peaks.get(before, 0), torch.cuda.max_memory_allocated())
            torch.cuda.reset_peak_memory_stats()
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks.append((stage, event))
        else:
            self._marks.append((stage, (time.perf_counter(), time.process_time())))

    def ends(self) -> None:
        """Add up the stages of a step."""
        self.begins("end")
        if self._cuda:
            torch.cuda.synchronize()
        taken: dict[str, float] = {}
        for (stage, start), (_, end) in itertools.pairwise(self._marks):
            kind = 0 if stage == LOADER else 1
            seconds = start.elapsed_time(end) / 1e3 if self._cuda else end[kind] - start[kind]
            taken[stage] = taken.get(stage, 0.0) + seconds
        for stage, seconds in taken.items():
            self.seconds.setdefault(stage, []).append(seconds)
        self._marks = []


def measure(config: Config, data: Path, device: torch.device, name: str, steps: int) -> tuple[dict[str, float], Clock]:
    """Take steps of an execution; return the median seconds of each stage and of a step, and the clock."""
    change, keys = EXECUTIONS[name]
    needed = {"train.steps_per_epoch": steps + WARM_UP}
    changed = with_overrides(config, keys | needed, source=name)
    trainer = Trainer(changed, data=data, device=device)
    if change is not None:
        change(trainer)
    trainer.model.train()
    clock, walls, busy = Clock(device), [], []
    told = contextlib.nullcontext() if changed.train.compile else stages(trainer, clock.begins)
    with told:
        batches = trainer.batches()
        for _ in range(WARM_UP + steps):
            started, used = time.perf_counter(), time.process_time()
            clock.begins(LOADER)
            parts = next(batches)
            clock.begins(COPY)
            parts = [part.to(device) for part in parts]
            clock.begins(REST)
            trainer.train_step(parts)
            clock.ends()
            walls.append(time.perf_counter() - started)
            busy.append(time.process_time() - used)
    if device.type == "cpu":
        clock.peaks |= trace_step(changed, data=data, device=device, change=change).peaks
    medians = {stage: statistics.median(seconds[WARM_UP:]) for stage, seconds in clock.seconds.items()}
    return medians | {"step": statistics.median(walls[WARM_UP:]), BUSY: statistics.median(busy[WARM_UP:])}, clock


def show_measured(config: Config, data: Path, device: torch.device, steps: int) -> dict[str, str]:
    """Print what each execution takes, by stage; return the figures to record."""
    # A CPU computes in float32, and compiles for minutes.
    names = [name for name in EXECUTIONS if device.type == "cuda" or name not in ("before", COMPILED)]
    found = {name: measure(config, data, device, name, steps) for name in names}
    order = [stage for stage in (LOADER, *STAGES, REST, "step", BUSY) if any(stage in found[n][0] for n in names)]
    rows = []
    for stage in order:
        cells = [f"{1e3 * found[name][0].get(stage, 0.0):.1f}" for name in names]
        peaks = (found[name][1].peaks for name in names)
        memory = [f"{some[stage] / 1e9:.2f}" if stage in some else "" for some in peaks]
        rows.append([stage, *cells, *memory])
    head = ["stage", *(f"{name} {unit}" for unit in ("ms", "GB") for name in names)]
    print(f"Measured on {device}, medians of {steps} steps")
    print(aligned([head, *rows], left=1))
    figures = {f"{name} step": f"{1e3 * found[name][0]['step']:.1f} ms" for name in names}
    return figures | {f"{name} processor": f"{1e3 * found[name][0][BUSY]:.1f} ms" for name in names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="voc", help="a recipe on images")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a configuration key")
    parser.add_argument("--pairs", type=int, help="of a step, instead of the recipe's")
    parser.add_argument("--points", type=int, default=12, help="keypoints of every object")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), help="train.precision of before and now")
    parser.add_argument("--device", choices=("cuda", "cpu"), help="by default the GPU, where there is one")
    parser.add_argument("--steps", type=int, default=10, help="to measure")
    parser.add_argument("--estimate", action="store_true", help="trace the step on fake tensors instead")
    parser.add_argument("--card", default="h200", help="GPU of the estimate, as --dry-run knows it")
    parser.add_argument("--record", action="store_true", help="add the figures to tests/bench/RESULTS.md")
    args = parser.parse_args()
    keys = dict(parse_assignment(text) for text in args.set)
    keys |= {"data.pairs_per_step": args.pairs} if args.pairs else {}
    keys |= {"train.precision": args.precision} if args.precision else {}
    made = {"data.name": "made", "data.mode": "images", "model.weights": "random"}
    config = with_overrides(recipe(args.recipe), keys | made, source="the command line")
    size = f"{config.data.pairs_per_step} pairs x {args.points} keypoints, {config.data.image_size} pixels"
    print(f"{config.model.backbone}, {size}; load of the machine {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        make_data(Path(folder), config, args.points)
        if args.estimate:
            figures = show_estimate(config, Path(folder), find_card(args.card))
        else:
            device = torch.device(args.device) if args.device else pick_device()
            figures = show_measured(config, Path(folder), device, args.steps)
    if args.record:
        record(figures)


if __name__ == "__main__":
    main()
