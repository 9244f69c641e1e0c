"""Whole sequences side by side, window after window, for evaluation and pseudo-labels.

Published counterpart: `ShardedStreamingDataPipe` in Wuziyi616/LEOD, data/utils/stream_sharded_datapipe.py. There, the
plan depends on the number of loader workers; here workers only share the reading of one plan.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from itertools import cycle

import numpy as np
import torch
from torch.utils.data import Dataset

from leod.errors import ConfigError
from leod.sampling.batch import InferenceBatch
from leod.sampling.loader import BatchLoader
from leod.sampling.streaming import whole_range
from leod.sequences.sequence import Sequence


def deal_out(lengths: SequenceOf[int], hands: int) -> list[list[int]]:
    """Divide sequences among batch slots (or workers) so that all have about as much to do.

    Sequences are sorted by length, longest first (equal ones keep their order), and dealt in the order
    0 .. hands-1, hands-1 .. 0, 0 ..

    Args:
        lengths: Windows of each sequence.
        hands: Number of slots.

    Returns:
        For each slot the positions in ``lengths``, in the order in which the slot runs through them.
    """
    dealt: list[list[int]] = [[] for _ in range(hands)]
    order = sorted(range(len(lengths)), key=lambda position: -lengths[position])
    turns = cycle([*range(hands), *reversed(range(hands))])
    for position, hand in zip(order, turns, strict=False):
        dealt[hand].append(position)
    return dealt


class InferenceStream(Dataset[InferenceBatch]):
    """All sequences once, as a map from step to batch: the plan is the same for any number of loader workers.

    Every batch slot runs through its own sequences, one after the other; a slot that has nothing left is padding.

    Args:
        sequences: What to run through. At least one.
        sequence_length: Frames L of a window.
        batch_size: Slots; reduced to the number of sequences if there are fewer.
        time_reversed: Read every sequence from its end backwards, with the channel axis reversed (which swaps
            polarities and time bins). ``frame_indices`` tell the frames whose events are seen.
        start_at_first_label: Begin at max(first labelled frame - L + 1, 0), as the published evaluation does, instead
            of at frame 0. Sequences without labelled frames are then left out.

    Raises:
        ConfigError: There is nothing to run through.
    """

    def __init__(
        self,
        sequences: SequenceOf[Sequence],
        sequence_length: int,
        batch_size: int,
        time_reversed: bool = False,
        start_at_first_label: bool = False,
    ) -> None:
        self.sequences = list(sequences)
        self.sequence_length = sequence_length
        self.time_reversed = time_reversed
        self._ranges = [
            whole_range(sequence.num_frames, sequence.labelled_frames, sequence_length, start_at_first_label)
            for sequence in self.sequences
        ]
        used = [position for position, frames in enumerate(self._ranges) if frames is not None]
        if not used:
            raise ConfigError("there is no sequence to run through; pass at least one (with a labelled frame)")
        self.batch_size = min(batch_size, len(used))
        windows = [self._ranges[position].num_windows(sequence_length) for position in used]
        self._slots: list[list[tuple[int, int]]] = [
            [(used[i], window) for i in hand for window in range(windows[i])]
            for hand in deal_out(windows, self.batch_size)
        ]

    def __len__(self) -> int:
        """Number of batches."""
        return max(len(slot) for slot in self._slots)

    def schedule(self, step: int) -> list[tuple[int, int]]:
        """(position of the sequence, window) that each slot shows in batch ``step``; (-1, -1) = nothing left."""
        return [slot[step] if step < len(slot) else (-1, -1) for slot in self._slots]

    def __getitem__(self, step: int) -> InferenceBatch:
        """Read batch ``step``."""
        if not 0 <= step < len(self):
            raise IndexError(f"batch {step} of {len(self)}")
        length, first = self.sequence_length, self.sequences[0]
        frames = np.zeros((length, self.batch_size, *first.frame_shape), dtype=first.frame_dtype)
        frame_indices = np.full((length, self.batch_size), -1, dtype=np.int64)
        schedule = self.schedule(step)
        for slot, (position, index) in enumerate(schedule):
            if position < 0:
                continue
            window = self._ranges[position].window(index, length, self.time_reversed)
            read = self.sequences[position].read_frames(window.start, window.stop)
            frames[: len(read), slot] = read[::-1, ::-1] if self.time_reversed else read
            frame_indices[:, slot] = window.frame_indices(length)
        return InferenceBatch(
            frames=torch.from_numpy(frames),
            is_first=torch.tensor([index == 0 for _, index in schedule]),
            frame_indices=torch.from_numpy(frame_indices),
            sequence_ids=torch.tensor([position for position, _ in schedule]),
        )


def inference_loader(
    stream: InferenceStream, num_workers: int = 0, pin_memory: bool = False
) -> BatchLoader[InferenceBatch]:
    """Load the batches of ``stream`` in order.

    Args:
        stream: What to load.
        num_workers: Processes that read ahead; 0 reads in this process. The batches do not depend on it.
        pin_memory: Hand over page-locked memory, for a GPU.
    """
    return BatchLoader(stream, range(len(stream)), num_workers, pin_memory)
