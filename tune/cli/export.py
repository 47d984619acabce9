"""`--export NAME`: write a trained matcher for other programs, with a model card."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nmt.errors import UserError
from nmt.io.user_files import is_file, shown_path
from tune.cli.flags import JSON, RESULTS, STORAGE, flag, one_of
from tune.cli.job import Job
from tune.cli.runs import find_checkpoint
from tune.results.layout import EXPORT

FORMATS = ("onnx", "torch")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Write the files, check them against the matcher, and print what they are."""
    if args.hub is not None and (args.format is not None or args.out is not None):
        raise UserError("--hub writes a repository of its own; leave out --format and --out")
    checkpoint = find_checkpoint(args)
    kind = "hub" if args.hub else args.format or FORMATS[0]
    folder: Path = args.hub or args.out or checkpoint.parent / EXPORT
    if is_file(folder):
        raise UserError(f"{shown_path(folder)}: is a file; give a folder to write to")
    from nmt.inference.export.card import write_card
    from nmt.inference.export.hub import write_hub
    from nmt.inference.export.write import write_programs
    from nmt.inference.load import load_trained
    from tune.evidence.known import known_of

    trained = load_trained(checkpoint)
    known = known_of(checkpoint, trained.metrics)
    written: list[dict[str, Any]]
    if kind == "hub":
        written = [{"file": str(path)} for path in write_hub(trained, folder)]
    else:
        programs = write_programs(trained, folder, format=kind)
        written = [{"file": str(p.path), "inputs": p.inputs, "difference": p.difference} for p in programs]
    card = write_card(
        trained, folder, name=known.name, description=known.description, accuracies=known.accuracies, kind=kind
    )
    for entry in written:
        path, note = Path(entry["file"]), ""
        if "difference" in entry:
            note = f", equal to the matcher within {entry['difference']:.0e}"
        print(f"{shown_path(path)}: {path.stat().st_size / 1e6:.1f} MB{note}")
    print(f"{shown_path(card)}: what it is, its accuracy and licence, and how to use it")
    return {"files": written, "card": str(card)}


JOB = Job(
    flag="--export",
    argument="a search or training below --results, or the path of a best.pt",
    summary="write a trained matcher as ONNX, for torch alone, or for a model hub",
    description=(
        "Write the winner of a search, a training or a best.pt for other programs: the whole matcher, and its head "
        "alone, for any number of keypoints. Both are run and compared with the matcher before they are kept. A model "
        "card is written beside them."
    ),
    examples=("--export willow --format torch --out exported", "--export willow --hub my-repository"),
    flags=(
        flag("--format", "onnx or torch (default onnx)", metavar="FORMAT", type=one_of(*FORMATS)),
        flag("--out", f"folder to write to (default {EXPORT}/ beside the weights)", metavar="DIR", type=Path),
        flag(
            "--hub",
            "write a Hugging Face repository into this folder instead: safetensors, config.json, model card",
            metavar="DIR",
            type=Path,
        ),
        RESULTS,
        STORAGE,
        JSON,
    ),
    run=run,
)
