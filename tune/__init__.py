"""Hyperparameter search for NMT on Ray Tune and Optuna: spaces, studies, results, and the verdict over seeds.

The names of `__all__` are the Python API; each is imported when it is first used, so `import tune` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tune.driver.run import open_study, run_search
    from tune.evidence.ablation import load_ablation, run_ablation
    from tune.evidence.confirm import run_confirm
    from tune.results.summary import Summary, best_checkpoint, load_summary
    from tune.spaces.read import load_space
    from tune.spaces.space import Space

__all__ = [
    "Space",
    "Summary",
    "best_checkpoint",
    "load_ablation",
    "load_space",
    "load_summary",
    "open_study",
    "run_ablation",
    "run_confirm",
    "run_search",
]

_MODULES = {
    "tune.driver.run": ("open_study", "run_search"),
    "tune.evidence.ablation": ("load_ablation", "run_ablation"),
    "tune.evidence.confirm": ("run_confirm",),
    "tune.results.summary": ("Summary", "best_checkpoint", "load_summary"),
    "tune.spaces.read": ("load_space",),
    "tune.spaces.space": ("Space",),
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
