"""Recurrent states: one (hidden, cell) pair per backbone stage, each float [B, C_s, H_s, W_s].

Slot b of every tensor belongs to sample b of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

from torch import Tensor

LstmState = tuple[Tensor, Tensor]
"""Hidden and cell state of one stage, both [B, C_s, H_s, W_s]."""


def detach_states(states: SequenceOf[LstmState]) -> list[LstmState]:
    """Cut the states off the graph that made them, for truncated back-propagation through time.

    Args:
        states: One pair per stage, [B, C_s, H_s, W_s].

    Returns:
        The same values without history.
    """
    return [(hidden.detach(), cell.detach()) for hidden, cell in states]


def reset_states(states: SequenceOf[LstmState], is_first: Tensor) -> list[LstmState]:
    """Zero the states of the batch slots that start a new sequence.

    Selecting instead of multiplying keeps a NaN of the previous sequence from leaking into the next.

    Args:
        states: One pair per stage, [B, C_s, H_s, W_s].
        is_first: bool [B], on any device; True where a slot begins a sequence.

    Returns:
        New states; the given ones are left alone.
    """
    if not states:
        return []
    mask = is_first.to(device=states[0][0].device).view(-1, 1, 1, 1)
    return [(hidden.masked_fill(mask, 0.0), cell.masked_fill(mask, 0.0)) for hidden, cell in states]
