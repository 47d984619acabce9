"""Paints of the `demo` objects, and helpers for their left and right parts."""

from __future__ import annotations

import colorsys
import math

import numpy as np

from nmt.data.readers.demo.mesh import Array, vector

LEFT_RIGHT = (("left", 1.0), ("right", -1.0))
"""prefix of a paired part's name, and the sign of its y (y points to the object's left)"""

HUE_SPREAD, HUE_JITTER, TONE_JITTER = 0.07, 0.03, 0.1
"""standard deviations: hue of a whole individual, hue of one part, saturation and value of one part"""


class Palette:
    """Generator of the colours of one individual.

    Args:
        rng: generator of all random choices of the object.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._shift = rng.normal(0, HUE_SPREAD)

    def colour(self, hue: float, saturation: float, value: float) -> Array:
        """Draw a colour near the given one: hue shifted with the individual, all three jittered per part.

        Args:
            hue: in turns, 0 to 1.
            saturation, value: 0 to 1.

        Returns:
            (3,) RGB, 0 to 1.
        """
        jitter = self._rng.normal(0, 1, 3)
        turned = (hue + self._shift + HUE_JITTER * jitter[0]) % 1.0
        strong = float(np.clip(saturation + TONE_JITTER * jitter[1], 0, 1))
        bright = float(np.clip(value + TONE_JITTER * jitter[2], 0.12, 1))
        return np.array(colorsys.hsv_to_rgb(turned, strong, bright))

    def mark(self, sign: float) -> Array:
        """Draw the RGB colour of a small paired part: warm on the left (sign 1), cool on the right (sign -1)."""
        hue = (0.03 if sign > 0 else 0.55) + 0.03 * self._rng.normal()
        return np.array(colorsys.hsv_to_rgb(hue % 1.0, self._rng.uniform(0.65, 0.95), self._rng.uniform(0.75, 1.0)))

    def skin(self) -> Array:
        """Draw the RGB colour of human skin, light to dark."""
        depth = self._rng.random()
        return np.array(colorsys.hsv_to_rgb(0.07 - 0.02 * depth, 0.35 + 0.3 * depth, 0.95 - 0.55 * depth))

    def bands(self, first: Array, second: Array, count: int) -> Array:
        """Draw the colours of `count` bands, (count, 3): all of the first paint, or striped with the second."""
        if self._rng.random() < 0.5:
            return np.tile(first, (count, 1))
        width = int(self._rng.integers(1, 3))
        return np.where((np.arange(count) // width % 2 == 0)[:, None], first, second)


def swing(length: float, forward: float, outward: float, sign: float) -> Array:
    """Return the vector of a hanging limb that is raised.

    Args:
        length: its length.
        forward: angle to the front, radians.
        outward: angle away from the body's middle, radians.
        sign: 1 on the left, -1 on the right.
    """
    sideways = sign * math.sin(outward)
    return length * vector(math.sin(forward) * math.cos(outward), sideways, -math.cos(forward) * math.cos(outward))
