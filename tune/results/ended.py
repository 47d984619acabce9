"""The record that a trial's folder keeps of its end, once its checkpoints are deleted: `[search] keep = "best"`.

The study knows the end too. But a study that is restored from an older copy does not, and would train the trial again,
from the start. The record also holds the metrics, which a checkpoint can no longer replace.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nmt.errors import UserError, one_line
from nmt.io.files import write_json
from tune.results.layout import ENDED


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a trial ended."""

    state: str
    """COMPLETE, PRUNED or FAIL"""
    reason: str | None
    """why it failed"""
    history: Sequence[Mapping[str, Any]]
    """the metrics of its epochs"""


def write_ended(directory: Path, ended: Ended) -> None:
    """Write the record into the folder of a trial. Raises UserError."""
    write_json(directory / ENDED, {"version": 1, **asdict(ended)})


def read_ended(directory: Path) -> Ended | None:
    """Read the record in the folder of a trial; None if it has none. Raises UserError if it is damaged."""
    path = directory / ENDED
    try:
        content = json.loads(path.read_text())
        return Ended(**{key: content[key] for key in ("state", "reason", "history")})
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: not the record of an ended trial ({one_line(error)}); remove it, and the trial may train again"
        ) from error
