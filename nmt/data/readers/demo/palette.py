"""TODO docstring of nmt.data.readers.demo.palette."""

from __future__ import annotations

import colorsys
import math

import numpy as np

from nmt.data.readers.demo.mesh import Array, vector

LEFT_RIGHT = (("left", 1.0), ("right", -1.0))
"""Names of the twins and the sign of their y."""

HUE_SPREAD, HUE_JITTER, TONE_JITTER = 0.07, 0.03, 0.1
"""Standard deviations: hue of a whole individual, hue of one part, saturation and value of one part."""


class Palette:
    """The paints of one individual."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._shift = rng.normal(0, HUE_SPREAD)

    def colour(self, hue: float, saturation: float, value: float) -> Array:
        """RGB near the given one (hue in turns): shifted with the individual, jittered by itself."""
        jitter = self._rng.normal(0, 1, 3)
        turned = (hue + self._shift + HUE_JITTER * jitter[0]) % 1.0
        strong = float(np.clip(saturation + TONE_JITTER * jitter[1], 0, 1))
        bright = float(np.clip(value + TONE_JITTER * jitter[2], 0.12, 1))
        return np.array(colorsys.hsv_to_rgb(turned, strong, bright))

    def mark(self, sign: float) -> Array:
        """The paint of small paired parts: warm on the left (sign 1), cool on the right (sign -1)."""
        hue = (0.03 if sign > 0 else 0.55) + 0.03 * self._rng.normal()
        return np.array(colorsys.hsv_to_rgb(hue % 1.0, self._rng.uniform(0.65, 0.95), self._rng.uniform(0.75, 1.0)))

    def skin(self) -> Array:
        """A human skin tone, light to dark."""
        depth = self._rng.random()
        return np.array(colorsys.hsv_to_rgb(0.07 - 0.02 * depth, 0.35 + 0.3 * depth, 0.95 - 0.55 * depth))

    def bands(self, first: Array, second: Array, count: int) -> Array:
        """(count, 3): plain, or striped with the second paint."""
        if self._rng.random() < 0.5:
            return np.tile(first, (count, 1))
        width = int(self._rng.integers(1, 3))
        return np.where((np.arange(count) // width % 2 == 0)[:, None], first, second)


def swing(length: float, forward: float, outward: float, sign: float) -> Array:
    """A hanging limb of `length` raised by `forward` radians to the front and `outward` away from the body's middle."""
    sideways = sign * math.sin(outward)
    return length * vector(math.sin(forward) * math.cos(outward), sideways, -math.cos(forward) * math.cos(outward))
