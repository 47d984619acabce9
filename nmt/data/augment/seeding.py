"""Generators of the data path: a draw depends on seed, purpose and counter alone, not on who makes it or when."""

from __future__ import annotations

import numpy as np

TRAIN, EVAL, VIEWS = 0, 1, 2
"""keep the draws for different purposes apart under one seed"""


def generator(seed: int, purpose: int, *counter: int) -> np.random.Generator:
    """The generator of one draw; `counter` up to two numbers."""
    return np.random.Generator(
        np.random.Philox(key=[seed, purpose], counter=[0, 0, *counter, *[0] * (2 - len(counter))])
    )
