"""Which labelled frames an experiment keeps: the weakly and the semi-supervised setting, and frames at random.

Source: LEOD (Wuziyi616/LEOD, `data/genx_utils/sequence_base.py`, `sequence_rnd.py`, `utils/helpers.py`), whose released
splits all have split offset 0. How an offset enters is LEOD's list slicing ``[offset::step]``.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

import numpy as np

from leod.errors import ConfigError


def _check_offset(split_offset: int, step: int, unit: str) -> None:
    if not 0 <= split_offset < step:
        raise ConfigError(
            f"split_offset {split_offset}: this ratio keeps every {step}. {unit}, so only the split offsets "
            f"0..{step - 1} give different splits. Choose one of them, or a smaller ratio."
        )


def weakly_supervised_step(ratio: float) -> int:
    """Distance between kept labelled frames: ``round(1 / ratio)``.

    Args:
        ratio: Share of the labelled frames that is kept, in (0, 1].

    Raises:
        ConfigError: The ratio lies between 0.5 and 1, where every n-th frame cannot approximate it, or out of range.
    """
    if not 0 < ratio <= 1:
        raise ConfigError(f"label ratio {ratio:g}: expected a share in (0, 1].")
    if 0.5 < ratio < 1:
        raise ConfigError(
            f"label ratio {ratio:g}: the weakly supervised setting keeps every n-th labelled frame, so the ratio is at "
            "most 0.5, or 1 for all of them."
        )
    return round(1 / ratio)


def weakly_supervised(labelled_frames: np.ndarray, ratio: float, split_offset: int, history: int) -> np.ndarray:
    """Keep every n-th labelled frame of one sequence.

    The first kept one is ``split_offset`` labelled frames behind the first that has enough history; where none has,
    behind the sequence's first. A sequence that is too short for the offset keeps its last labelled frame, so every
    sequence with labels keeps at least one.

    Args:
        labelled_frames: int [K], frame index of each labelled frame, increasing.
        ratio: Share of the labelled frames that is kept, at most 0.5; 1 keeps all.
        split_offset: Which of the ``round(1 / ratio)`` possible splits.
        history: Number of frames that must be available up to and including the first kept labelled frame.

    Returns:
        int64 [n], indices of the kept labelled frames (counted among labelled frames), increasing.

    Raises:
        ConfigError: The ratio or the offset is impossible.
    """
    step = weakly_supervised_step(ratio)
    if step == 1:
        return np.arange(len(labelled_frames), dtype=np.int64)
    _check_offset(split_offset, step, "labelled frame")
    if len(labelled_frames) == 0:
        return np.zeros(0, np.int64)
    with_history = np.flatnonzero(np.asarray(labelled_frames) >= history - 1)
    start = int(with_history[0]) if len(with_history) else 0
    first = min(start + split_offset, len(labelled_frames) - 1)
    return np.arange(first, len(labelled_frames), step, dtype=np.int64)


def semi_supervised(sequence_count: int, ratio: float, split_offset: int) -> np.ndarray:
    """Choose the sequences that keep all their labels.

    ``n = round(sequence_count * ratio)`` (halves to even) of them, every ``sequence_count // n``-th, beginning with
    number ``split_offset``.

    Args:
        sequence_count: Number of sequences, sorted by name, to choose from.
        ratio: Share of the sequences that is kept, in (0, 1].
        split_offset: Which of the ``sequence_count // n`` possible splits.

    Returns:
        int64 [n], numbers of the chosen sequences, increasing.

    Raises:
        ConfigError: The ratio keeps no sequence, or the offset is impossible.
    """
    if not 0 < ratio <= 1:
        raise ConfigError(f"label ratio {ratio:g}: expected a share in (0, 1].")
    count = round(sequence_count * ratio)
    if count == 0:
        raise ConfigError(
            f"label ratio {ratio:g}: keeps none of {sequence_count} sequences in the semi-supervised setting. "
            + (f"Choose at least {1 / sequence_count:.3g}." if sequence_count else "There are none with labels.")
        )
    if count == sequence_count:
        return np.arange(sequence_count, dtype=np.int64)
    step = sequence_count // count
    _check_offset(split_offset, step, "sequence")
    return np.arange(split_offset, sequence_count, step, dtype=np.int64)[:count]


def random_frames(
    labelled_frames: SequenceOf[np.ndarray], frames: int, split_offset: int, seed: int, history: int
) -> list[np.ndarray]:
    """Choose labelled frames of all sequences at random, each as likely as any other.

    Args:
        labelled_frames: For each sequence int [K], frame index of each labelled frame, increasing.
        frames: How many are wanted.
        split_offset: Another one gives another choice, as does another seed.
        seed: Seed of the experiment.
        history: Number of frames that must be available up to and including a chosen labelled frame.

    Returns:
        For each sequence int64 [n], indices of the chosen labelled frames (counted among its labelled frames),
        increasing. A smaller number of frames gives a part of them.

    Raises:
        ConfigError: There are not as many labelled frames with that history.
    """
    candidates = [np.flatnonzero(np.asarray(found) >= history - 1) for found in labelled_frames]
    counts = [len(found) for found in candidates]
    if frames > sum(counts):
        raise ConfigError(
            f"frames: {frames} are wanted, but only {sum(counts)} labelled frames have the {history} frames of history "
            "that a training sample needs. Choose fewer."
        )
    order = np.random.default_rng([seed, split_offset]).permutation(sum(counts))
    chosen = np.split(np.isin(np.arange(sum(counts)), order[:frames]), np.cumsum(counts)[:-1])
    return [found[keep].astype(np.int64) for found, keep in zip(candidates, chosen, strict=True)]
