"""Random generators of the data path, each a pure function of seed, purpose and counter.

So the stream of pairs is the same for any number of loader processes, workers or restarts.
"""

from __future__ import annotations

import numpy as np

TRAIN, EVAL, VIEWS, DROP_PATH, KEYPOINTS, OUTLIERS, LOSING = 0, 1, 2, 3, 4, 5, 6
"""purposes; they keep draws under one seed independent of each other"""


def generator(seed: int, purpose: int, *counter: int) -> np.random.Generator:
    """Make the generator of one draw.

    Args:
        seed: seed of the data.
        purpose: one of the constants above.
        counter: at most two numbers, such as epoch and index.
    """
    # Philox is counter-based: making a generator for any counter costs the same and needs no earlier draws.
    return np.random.Generator(
        np.random.Philox(key=[seed, purpose], counter=[0, 0, *counter, *[0] * (2 - len(counter))])
    )
