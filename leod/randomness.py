"""Random numbers of a training: they depend on what they are for, not on what was drawn before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """What random numbers are drawn for; different purposes are independent of each other."""

    RANDOM_ORDER = 1
    RANDOM_SAMPLE = 2
    STREAM_ORDER = 3
    STREAM_REVERSAL = 4
    STREAM_VISIT = 5
    RANDOM_EVENTS = 6
    STREAM_EVENTS = 7
    EVENT_NOISE = 8
    NETWORK = 0x7EA1


def generator_for(seed: int, purpose: Purpose, *key: int) -> np.random.Generator:
    """A fresh generator whose numbers follow from its arguments alone.

    Args:
        seed: Seed of the training, not negative.
        purpose: What is drawn.
        *key: Which of the draws of that purpose, not negative.
    """
    return np.random.default_rng([seed, int(purpose), *key])


def set_network_generators(seed: int, batch: int, rank: int) -> None:
    """Set PyTorch's generators for one batch of one process, all counted from 0."""
    entropy = np.random.SeedSequence([seed, int(Purpose.NETWORK), batch, rank])
    torch.manual_seed(int(entropy.generate_state(1, np.uint64)[0]))


@contextmanager
def seeded_weights(seed: int) -> Iterator[None]:
    """Inside, fresh weights follow from ``seed``; afterwards PyTorch's generator stands where it stood."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
