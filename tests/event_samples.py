"""Random events for tests."""

import numpy as np

from leod.recordings.chunk import EventChunk


def make_events(count, duration_us, height=24, width=32, seed=0, start_us=0):
    """Random events of a small sensor, sorted by time."""
    rng = np.random.default_rng(seed)
    return EventChunk(
        t=np.sort(rng.integers(start_us, start_us + duration_us, count)),
        x=rng.integers(0, width, count).astype(np.uint16),
        y=rng.integers(0, height, count).astype(np.uint16),
        p=rng.integers(0, 2, count).astype(np.uint8),
    )
