"""How much of its usual memory a recurrent detector has at a moment, from the time since the first event."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

LEAST_MEMORY_US = 500_000
"""Moments earlier than this are never worth a person's time."""
_FULL_MEMORY_US = 1_000_000


def settled(since_first_event_us: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Share of the usual memory, and whether it is enough.

    Args:
        since_first_event_us: int64 [N].

    Returns:
        float32 [N], 0..1, and bool [N].
    """
    share = np.clip(since_first_event_us / _FULL_MEMORY_US, 0.0, 1.0).astype(np.float32)
    return share, since_first_event_us >= LEAST_MEMORY_US
