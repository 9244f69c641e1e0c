"""Means of few paired differences, and how sure they are."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

LEAST_PAIRS = 3
"""With fewer pairs there is no interval: the spread of two says next to nothing about the next one."""
_LEVEL = 0.95


@dataclass(frozen=True)
class PairedDifference:
    """Mean of paired differences.

    Attributes:
        count: Number of pairs.
        risen: Pairs whose difference is positive.
        mean: Mean difference.
        interval: 95 % confidence interval of the mean by Student's t; None with fewer than `LEAST_PAIRS` pairs.
    """

    count: int
    risen: int
    mean: float
    interval: tuple[float, float] | None

    @classmethod
    def of(cls, differences: Iterable[float]) -> PairedDifference:
        """Of at least one difference; NaN is left out."""
        values = np.array([value for value in differences if not math.isnan(value)])
        interval = None
        if len(values) >= LEAST_PAIRS:
            half = student_quantile(_LEVEL, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
            interval = float(values.mean() - half), float(values.mean() + half)
        return cls(len(values), int((values > 0).sum()), float(values.mean()), interval)

    @property
    def is_noise(self) -> bool:
        """Whether the interval includes 0."""
        return self.interval is not None and self.interval[0] <= 0 <= self.interval[1]


def student_quantile(level: float, degrees: int) -> float:
    """The t that a variable of Student's distribution stays between -t and t of with probability ``level``.

    Args:
        level: Probability, in 0..1 without its ends.
        degrees: Degrees of freedom, at least 1.
    """
    low, high = 0.0, 1.0
    while _within(high, degrees) < level:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, degrees) < level else (low, middle)
    return high


def _within(t: float, degrees: int) -> float:
    """P(-t <= T <= t), Abramowitz & Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(degrees))
    odd = degrees % 2
    term, total = (math.cos(angle), 0.0) if odd else (1.0, 0.0)
    for power in range(1 + odd, degrees, 2):
        total += term
        term *= power / (power + 1) * math.cos(angle) ** 2
    if odd:
        return 2 / math.pi * (angle + math.sin(angle) * total)
    return math.sin(angle) * total
