"""Extensions: readers, backbones, loss terms, loggers and samplers of a user, registered by name from outside.

The environment variable NMT_EXTENSIONS names the modules that register them, separated by commas. A process imports
them when it looks up a name that the project does not have. Ray sends the variable to the processes of trials. So one
mechanism serves the command line, the Python API and every worker. docs/extend.md has an example of each kind.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from nmt.errors import UserError, nearest

VARIABLE = "NMT_EXTENSIONS"

T = TypeVar("T")


class Registry(Generic[T]):
    """Functions and classes of one kind by name: the project's own, and those of extensions."""

    def __init__(self, kind: str) -> None:
        """Make an empty registry.

        Args:
            kind: name of one item in error messages, "loss term".
        """
        self._kind = kind
        self._items: dict[str, T] = {}

    def add(self, name: str, item: T) -> None:
        """Register `item` under `name`. Raises UserError for a name that is taken."""
        taken = self._items.get(name, item)
        if taken is not item and _path(taken) != _path(item):  # equal paths: the module was reloaded
            raise UserError(f"{self._kind} {name!r} is registered twice: by {_path(taken)} and by {_path(item)}")
        self._items[name] = item

    def find(self, name: str) -> T | None:
        """Return the item of that name; None if neither the project nor an extension has it. Raises UserError."""
        if name not in self._items:
            load_extensions()
        return self._items.get(name)

    def get(self, name: str, *, source: str) -> T:
        """Return the item of that name. Raises UserError that begins with `source` and names the nearest name."""
        found = self.find(name)
        if found is None:
            raise UserError(
                f"{source}: no {self._kind} {name!r}; {nearest(name, self._items)} (those of your own are registered "
                f"by a module that {VARIABLE} names, see docs/extend.md)"
            )
        return found

    def names(self) -> list[str]:
        """Return every name, the project's own first."""
        load_extensions()
        return list(self._items)


LOSS_TERMS: Registry[Callable[..., Any]] = Registry("loss term")
"""terms that `loss.extra` may name; here and not in nmt.losses, so that a configuration is checked without torch"""


def _path(item: object) -> str:
    """Return the full name of a function or class: "module.name"."""
    if isinstance(item, str):
        return item.replace(":", ".")
    return f"{getattr(item, '__module__', '?')}.{getattr(item, '__qualname__', repr(item))}"


def load_extensions() -> None:
    """Import the modules that NMT_EXTENSIONS names. Raises UserError if one cannot be imported."""
    for name in filter(None, map(str.strip, os.environ.get(VARIABLE, "").split(","))):
        try:
            importlib.import_module(name)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"{VARIABLE}: {name!r} cannot be imported ({type(error).__name__}: {error}); "
                f"it must be a module on PYTHONPATH"
            ) from error


LOGGERS: Registry[Callable[..., Any] | str] = Registry("logger")
"""loggers that `train.loggers` may name; the project's own as "module:class", which is imported by who opens it"""
LOGGERS.add("tensorboard", "nmt.training.tensorboard:open_tensorboard")
LOGGERS.add("csv", "nmt.training.loggers.csv_log:CsvLog")
LOGGERS.add("wandb", "nmt.training.loggers.wandb_log:WandbLog")
LOGGERS.add("mlflow", "nmt.training.loggers.mlflow_log:MlflowLog")
