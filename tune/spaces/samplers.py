"""The names that `[search] sampler` may have. What makes a sampler is in tune.study.sampler, which imports Optuna."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nmt.errors import UserError
from nmt.extensions import Registry

SAMPLERS: Registry[Callable[..., Any]] = Registry("sampler")
"""Filled by tune.study.sampler and by extensions."""
BUILT_IN = ("tpe", "gp", "gp_curves", "cmaes", "nsga2", "random", "qmc", "grid")
"""Samplers that tune.study.sampler registers; known here so that a file is checked without Optuna."""


def check_sampler(name: str, source: str) -> None:
    """Check that a sampler is the project's or an extension's. Raises UserError."""
    if name not in BUILT_IN and SAMPLERS.find(name) is None:
        known = dict.fromkeys([*BUILT_IN, *SAMPLERS.names()])
        raise UserError(f'{source}: sampler must be one of {", ".join(known)}, but got "{name}"')
