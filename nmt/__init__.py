"""The Normalized Matching Transformer (arXiv 2503.17715): model, data, training. Plain PyTorch, without Ray.

The names of `__all__` are the Python API; each is imported when it is first used, so `import nmt` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nmt.api import evaluate, export, load_matcher, prepare, train
    from nmt.config import Config, with_overrides
    from nmt.errors import FailedError, UserError
    from nmt.inference.image_matcher import ImageMatcher
    from nmt.inference.match import match_images
    from nmt.inference.matches import Matches
    from nmt.recipes import recipe

__all__ = [
    "Config",
    "FailedError",
    "ImageMatcher",
    "Matches",
    "UserError",
    "evaluate",
    "export",
    "load_matcher",
    "match_images",
    "prepare",
    "recipe",
    "train",
    "with_overrides",
]

_MODULES = {
    "nmt.api": ("evaluate", "export", "load_matcher", "prepare", "train"),
    "nmt.config": ("Config", "with_overrides"),
    "nmt.errors": ("FailedError", "UserError"),
    "nmt.inference.image_matcher": ("ImageMatcher",),
    "nmt.inference.match": ("match_images",),
    "nmt.inference.matches": ("Matches",),
    "nmt.recipes": ("recipe",),
}
"""Module -> the names of the API that it defines."""


def __getattr__(name: str) -> Any:
    """Import a name of the API when it is first used (PEP 562)."""
    for module, names in _MODULES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(module), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the names of the API beside those of the module."""
    return sorted({*globals(), *__all__})
