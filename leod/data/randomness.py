"""Random numbers that depend on what they are for, not on what was drawn before."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What random numbers are drawn for; different purposes are independent of each other."""

    RANDOM_ORDER = 1
    RANDOM_SAMPLE = 2
    STREAM_ORDER = 3
    STREAM_REVERSAL = 4
    STREAM_VISIT = 5


def generator_for(seed: int, purpose: Purpose, *key: int) -> np.random.Generator:
    """A fresh generator whose numbers follow from its arguments alone.

    Args:
        seed: Seed of the training, not negative.
        purpose: What is drawn.
        *key: Which of the draws of that purpose, not negative.
    """
    return np.random.default_rng([seed, int(purpose), *key])
