"""From planned samples to a batch of tensors."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

import numpy as np
import torch

from leod.boxes import operations as boxes
from leod.boxes.dtypes import LABEL_DTYPE
from leod.sampling.augmentation import augment
from leod.sampling.batch import Batch
from leod.sampling.event_augmentation import augment_events
from leod.sampling.plan import PlannedSample
from leod.sequences.sequence import Sequence


def shown_labels(sequence: Sequence, kept: np.ndarray, label_frames: np.ndarray) -> dict[int, np.ndarray]:
    """Collect the kept labels that a sample shows.

    Args:
        sequence: Where the sample comes from.
        kept: bool [K], labelled frames that may be learned from.
        label_frames: int64 [L], frame whose label belongs to each step, -1 = none.

    Returns:
        Labelled step, in order → its `LABEL_DTYPE` rows in frame pixels; without rows there is nothing but background.
    """
    labelled_frames = sequence.labelled_frames
    candidates = np.searchsorted(labelled_frames, label_frames)
    return {
        step: sequence.frame_labels(k)
        for step, (k, frame) in enumerate(zip(candidates.tolist(), label_frames.tolist(), strict=True))
        if k < len(labelled_frames) and labelled_frames[k] == frame and kept[k]
    }


def load_batch(
    samples: SequenceOf[PlannedSample],
    sequences: SequenceOf[Sequence],
    kept: SequenceOf[np.ndarray],
    length: int,
    time_reversal_label_offset: int,
    count_limit: int,
) -> Batch:
    """Read, augment and stack samples.

    A labelled frame whose boxes all left the view by augmentation counts as not labelled, as published. One that never
    had any counts as labelled: everything in it is background.

    Args:
        samples: What to read, one for each slot.
        sequences: Training sequences.
        kept: bool [K] for each sequence, labelled frames that may be learned from.
        length: Frames L of a sample.
        time_reversal_label_offset: See `Window.label_frames`.
        count_limit: Largest count of a stacked histogram.
    """
    first = sequences[0]
    frames = np.zeros((length, len(samples), *first.frame_shape), dtype=first.frame_dtype)
    frame_indices = np.empty((length, len(samples)), dtype=np.int64)
    rows: list[list[np.ndarray]] = [[] for _ in range(length)]
    nothing = np.zeros(0, LABEL_DTYPE)
    labelled = np.zeros((length, len(samples)), dtype=bool)
    for slot, sample in enumerate(samples):
        sequence, window = sequences[sample.sequence], sample.window
        label_frames = window.label_frames(length, time_reversal_label_offset)
        shown = shown_labels(sequence, kept[sample.sequence], label_frames)
        read = sequence.read_frames(window.start, window.stop)
        if window.time_reversed:
            # Reversing the channels swaps the polarities and the time bins of a histogram.
            read = read[::-1, ::-1]
        moved = augment(sample.augmentation, read, shown, out=frames[: len(read), slot])
        if sample.events is not None:
            moved = augment_events(sample.events, frames[: len(read), slot], moved, count_limit)
        frame_indices[:, slot] = window.frame_indices(length)
        for step in range(length):
            rows[step].append(boxes.to_yolox(moved.get(step, nothing)))
            labelled[step, slot] = step in shown and (len(moved[step]) > 0 or len(shown[step]) == 0)
    targets = boxes.pad_rows([frame for step_rows in rows for frame in step_rows], minimum_rows=1)
    return Batch(
        frames=torch.from_numpy(frames),
        is_first=torch.tensor([sample.is_first for sample in samples]),
        targets=torch.from_numpy(targets.reshape(length, len(samples), *targets.shape[1:])),
        labelled=torch.from_numpy(labelled),
        frame_indices=torch.from_numpy(frame_indices),
        sequence_ids=torch.tensor([sample.sequence for sample in samples]),
    )
