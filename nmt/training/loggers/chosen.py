"""Open the loggers that a configuration chooses, so that none of them ends a training or holds it up.

TensorBoard and CSV write files, in the training's process. Every other logger works in a process of its own
(nmt.training.loggers.separate), which is killed if it does not answer.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nmt.config import Config, to_flat
from nmt.training.logger import Guarded, Logger, Run, open_logger
from nmt.training.loggers.separate import SeparateLogger

log = logging.getLogger(__name__)

LOCAL = ("tensorboard", "csv")
"""loggers that write files alone, in the training's process"""


class Loggers:
    """All loggers of one training, which their errors and delays do not reach.

    Args:
        config: the configuration; `train.loggers` names the loggers.
        run: the training.
    """

    def __init__(self, config: Config, run: Run) -> None:
        self._loggers: list[Logger] = []
        for name in dict.fromkeys(config.train.loggers):
            report = _reporter(name, run.directory)
            if name in LOCAL:
                self._loggers.append(Guarded(functools.partial(open_logger, name, run), report))
            else:
                self._loggers.append(SeparateLogger(name, run, report))

    def scalars(self, values: Mapping[str, Any], epoch: int) -> None:
        """Log the metrics of an epoch."""
        for logger in self._loggers:
            logger.scalars(values, epoch)

    def picture(self, name: str, image_HW3: np.ndarray, epoch: int, caption: str) -> None:
        """Log a picture."""
        for logger in self._loggers:
            logger.picture(name, image_HW3, epoch, caption)

    def close(self) -> None:
        """Close all; each takes a bounded time."""
        for logger in self._loggers:
            logger.close()


def _reporter(name: str, directory: Path) -> Callable[[str], None]:
    def report(reason: str) -> None:
        log.warning("%s: no %s log for now (%s); the training continues", directory, name, reason)

    return report


def open_loggers(
    config: Config, directory: Path, *, root: Path | None, history: Sequence[Mapping[str, Any]]
) -> Loggers:
    """Open the loggers that a configuration names.

    Args:
        root: folder of the search that the training is part of; None if it is part of none.
        history: metrics of the completed epochs.
    """
    here = directory.resolve()
    run = Run(directory=here, root=(root or here).resolve(), config=to_flat(config), history=tuple(history))
    return Loggers(config, run)
