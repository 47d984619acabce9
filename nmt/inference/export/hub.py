"""A trained matcher as the files of a model hub's repository: safetensors, config.json and a model card.

The weights are complete, the backbone's included, so that the files need no other.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from torch import Tensor

from nmt.config import Config, to_dict
from nmt.errors import UserError
from nmt.inference.load import Trained
from nmt.inference.repository import CONFIG, MODEL_TYPE, VERSION, WEIGHTS, repository_config
from nmt.io.files import atomic_output, write_json


def write_hub(trained: Trained, folder: Path) -> tuple[Path, Path]:
    """Write model.safetensors and config.json into a folder, which is made.

    Raises:
        UserError: the folder holds a training, whose config.json is another.
    """
    from safetensors.torch import save_file

    config = folder / CONFIG
    if config.is_file() and repository_config(config) is None:
        raise UserError(f"{folder}: holds a training, whose {CONFIG} is needed; give another folder")
    weights = _weights(trained)
    path = folder / WEIGHTS
    with atomic_output(path) as part:
        save_file(weights, part, metadata={"format": "pt"})
    calibration = trained.calibration
    write_json(
        config,
        {
            "model_type": MODEL_TYPE,
            "version": VERSION,
            "config": to_dict(shareable(trained.config)),
            "categories": trained.categories,
            "keypoint_names": trained.keypoint_names,
            "calibration": None if calibration is None else calibration.to_dict(),
            "metrics": trained.metrics,
            "data_set": trained.data_set,
        },
    )
    return path, config


def shareable(config: Config) -> Config:
    """Return the configuration without the folder of a file of weights: it is of this machine alone."""
    weights = Path(config.model.weights).name
    return dataclasses.replace(config, model=dataclasses.replace(config.model, weights=weights))


def _weights(trained: Trained) -> dict[str, Tensor]:
    """Return all weights by the names that a checkpoint has."""
    from nmt.model.backbone import build_backbone

    config = trained.config
    backbone = trained.matcher.backbone or build_backbone(config.model, config.data.image_size)
    parts = {"head": trained.matcher.head, "backbone": backbone}
    return {
        f"{name}.{key}": value.contiguous() for name, part in parts.items() for key, value in part.state_dict().items()
    }
