"""What a logger is: a small class that takes the metrics and pictures of a training, registered under a name.

`train.loggers` names the loggers of a training; nmt.training.loggers.chosen opens them.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import re
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from nmt.config import Config
from nmt.errors import UserError, one_line
from nmt.extensions import LOGGERS
from nmt.io.files import write_json
from nmt.io.user_files import read_json
from nmt.training.files import LOGGER

if TYPE_CHECKING:
    import numpy as np

PACKAGES = {"wandb": "wandb", "mlflow": "mlflow"}
"""logger -> the package that it imports, and the extra of this project that installs it"""
ATTEMPTS = 3
"""times that a value is offered to a logger before it is left out"""
MOST_WAITING = 1000
"""values and pictures that wait for a logger that fails"""
SECRET = re.compile(r"KEY|TOKEN|PASSWORD|SECRET", re.IGNORECASE)
"""environment variables whose values no message shows"""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training, as its loggers see it before the first value."""

    directory: Path
    """folder of the training"""
    root: Path
    """folder of the search, confirmation or ablation that it is part of; its own otherwise"""
    config: Mapping[str, Any]
    """dotted key -> value, of the whole configuration"""
    history: tuple[Mapping[str, Any], ...] = ()
    """metrics of the epochs that a resumed training has behind it"""

    @property
    def group(self) -> str:
        """Name of the search, or of the training where it is part of none."""
        return self.root.name

    @property
    def name(self) -> str:
        """Name of the training within its group: trials/007."""
        inside = self.directory.relative_to(self.root).as_posix() if self.directory != self.root else "."
        return self.directory.name if inside == "." else inside

    def identity(self, logger: str) -> tuple[str | None, Callable[[str], None]]:
        """Return the name that a service has for this training, and a function that keeps it in the folder.

        The name is None for a training that the service does not know, or that has begun anew since.
        """
        path = self.directory / f"{LOGGER}{logger}.json"
        known = None
        if self.history and path.is_file():
            with contextlib.suppress(UserError, AttributeError):
                known = read_json(path).get("id")
        return known, lambda name: write_json(path, {"id": name})


class Logger(Protocol):
    """A place for the metrics and pictures of one training. The step of every value is the epoch."""

    def scalars(self, values: Mapping[str, Any], epoch: int) -> None:
        """Log the metrics of an epoch: name -> number or short text."""

    def picture(self, name: str, image_HW3: np.ndarray, epoch: int, caption: str) -> None:
        """Log a picture, uint8."""

    def close(self) -> None:
        """Write what is left. The training is over, or is resumed later by another process."""


def register_logger(name: str) -> Callable[[Callable[[Run], Any]], Callable[[Run], Any]]:
    """Register the decorated class, or function of a `Run`, as the logger `name`, for `train.loggers`.

    Raises UserError for a name that is taken.
    """

    def register(item: Callable[[Run], Any]) -> Callable[[Run], Any]:
        LOGGERS.add(name, item)
        return item

    return register


def open_logger(name: str, run: Run) -> Logger:
    """Open a logger by name, in this process. May raise whatever its package raises."""
    require_package(name)
    found = LOGGERS.get(name, source="train.loggers")
    if isinstance(found, str):
        module, _, function = found.partition(":")
        found = getattr(importlib.import_module(module), function)
    logger: Logger = found(run)
    return logger


def check_loggers(config: Config) -> None:
    """Check that the loggers of a training exist, and that their packages are installed here. Raises UserError."""
    for name in config.train.loggers:
        LOGGERS.get(name, source="train.loggers")
        require_package(name)


def require_package(name: str) -> None:
    """Raise UserError if the package of a logger is not installed."""
    package = PACKAGES.get(name)
    if package is not None and importlib.util.find_spec(package) is None:
        raise UserError(
            f"train.loggers: {name} needs a package that is not installed: "
            f"pip install 'normalized-matching-transformer[{name}]', or leave {name} out"
        )


def redacted(text: str) -> str:
    """Remove secrets from a message: values of environment variables that hold one, and passwords in addresses."""
    secrets = {value for name, value in os.environ.items() if SECRET.search(name) and len(value) >= 6}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return re.sub(r"//[^/\s@]+@", "//***@", text)


class Guarded:
    """A logger whose errors are reported once, and end nothing.

    What a logger does not take is offered again with the next value: a full disk or a server may come back.

    Args:
        open_it: opens the logger.
        report: called with the first error, in one line.
    """

    def __init__(self, open_it: Callable[[], Logger], report: Callable[[str], None]) -> None:
        self._open, self._report = open_it, report
        self._logger: Logger | None = None
        self._waiting: deque[tuple[str, tuple[Any, ...]]] = deque(maxlen=MOST_WAITING)
        self._attempts, self._reported = 0, False
        self._catch_up()  # a logger that cannot begin is known before the first epoch

    def scalars(self, values: Mapping[str, Any], epoch: int) -> None:
        """Log the metrics of an epoch."""
        self._call("scalars", values, epoch)

    def picture(self, name: str, image_HW3: np.ndarray, epoch: int, caption: str) -> None:
        """Log a picture."""
        self._call("picture", name, image_HW3, epoch, caption)

    def close(self) -> None:
        """Offer what is left, and close."""
        for _ in range(ATTEMPTS):
            self._catch_up()
        if self._logger is not None:
            self._call("close")

    def _call(self, method: str, *arguments: Any) -> None:
        self._waiting.append((method, arguments))
        self._catch_up()

    def _catch_up(self) -> None:
        try:
            self._logger = self._logger or self._open()
            while self._waiting:
                method, arguments = self._waiting[0]
                self._attempts += 1
                getattr(self._logger, method)(*arguments)
                self._done()
        except (Exception, SystemExit) as error:
            if not self._reported:
                self._report(redacted(one_line(error) or type(error).__name__))
            self._reported = True
            if self._attempts >= ATTEMPTS:
                self._done()

    def _done(self) -> None:
        self._waiting.popleft()
        self._attempts = 0


def new_id() -> str:
    """Return a new name for a training at a service."""
    return uuid.uuid4().hex[:12]
