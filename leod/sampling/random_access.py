"""Random access: single labelled frames with the L - 1 frames before them.

Published counterparts in Wuziyi616/LEOD: data/genx_utils/sequence_rnd.py and data/genx_utils/dataset_rnd.py.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import numpy as np

from leod.randomness import Purpose, generator_for
from leod.sampling.windows import Window


class LabelledItems:
    """The random-access items of one sequence: one for each labelled frame with enough history.

    Item i has labelled frame ``i + first_item`` as the last of its L frames. Read backwards, item i uses labelled
    frame i and lets it come as late as the end of the sequence allows.

    Args:
        num_frames: Frames of the sequence.
        labelled_frames: int64 [K], strictly increasing.
        kept: bool [K], labelled frames that may be learned from.
        length: Frames L of a sample.
        time_reversal_label_offset: See `Window.label_frames`.

    Attributes:
        first_item: First labelled frame that L - 1 frames precede; K if there is none.
    """

    def __init__(
        self,
        num_frames: int,
        labelled_frames: np.ndarray,
        kept: np.ndarray,
        length: int,
        time_reversal_label_offset: int,
    ) -> None:
        self._length = length
        self._kept = kept
        self.first_item = int(np.searchsorted(labelled_frames, length - 1))
        self._forward_stops = labelled_frames[self.first_item :] + 1
        self._backward_stops = np.minimum(num_frames, labelled_frames - time_reversal_label_offset + length)
        kept_frames = labelled_frames[kept]
        self._forward_valid = _holds_any(kept_frames, self._forward_stops - length, self._forward_stops)
        self._backward_valid = _holds_any(
            kept_frames,
            self._backward_stops - length + time_reversal_label_offset,
            self._backward_stops + time_reversal_label_offset,
        )
        # No events follow the last label (as a rule), so it cannot be shown backwards. A sequence of fewer than L
        # frames has no items at all.
        self._backward_valid[-1:] = False
        self._backward_valid &= self._backward_stops >= length

    def __len__(self) -> int:
        """Number of items."""
        return len(self._forward_stops)

    @property
    def usable(self) -> bool:
        """Whether any item can be read forwards."""
        return bool(self._forward_valid.any())

    def window(self, item: int, time_reversed: bool) -> Window | None:
        """Frames of an item; None if it shows no kept label (or is the last one, read backwards)."""
        valid = self._backward_valid if time_reversed else self._forward_valid
        if not valid[item]:
            return None
        stop = int((self._backward_stops if time_reversed else self._forward_stops)[item])
        return Window(stop - self._length, stop, time_reversed)

    def draw(self, generator: np.random.Generator, time_reversed: bool) -> Window | None:
        """Frames of a random item that shows a kept label: that of a kept labelled frame where possible.

        Returns:
            None if no item can be read in that direction.
        """
        valid = self._backward_valid if time_reversed else self._forward_valid
        own = self._kept if time_reversed else self._kept[self.first_item :]
        candidates = np.flatnonzero(valid & own)
        if len(candidates) == 0:
            candidates = np.flatnonzero(valid)
        if len(candidates) == 0:
            return None
        return self.window(int(generator.choice(candidates)), time_reversed)


def _holds_any(kept_frames: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Whether each interval [start, stop) holds a kept frame, bool."""
    return np.searchsorted(kept_frames, stops) > np.searchsorted(kept_frames, starts)


@dataclass(frozen=True)
class RandomItem:
    """One sample of the random part.

    Attributes:
        sequence: Position of the sequence in the list of training sequences.
        window: The frames.
        generator: Where the sample's augmentation is drawn from.
    """

    sequence: int
    window: Window
    generator: np.random.Generator


class RandomPlan:
    """Endless random samples: one random permutation of all items after the other.

    Sequences of which no item shows a kept label are left out. An item of another sequence that shows none is
    replaced by a random one of the same sequence, as published.

    Args:
        items: Items of each sequence.
        time_reversal: Probability of reading a sample backwards.
        seed: Seed of the training.
    """

    def __init__(self, items: SequenceOf[LabelledItems], time_reversal: float, seed: int) -> None:
        self._items = list(items)
        self._time_reversal = time_reversal
        self._seed = seed
        counts = [len(sequence_items) if sequence_items.usable else 0 for sequence_items in items]
        self._stops = np.cumsum(counts, dtype=np.int64)
        self._epoch = -1
        self._order = np.zeros(0, np.int64)

    def __len__(self) -> int:
        """Items of one permutation."""
        return int(self._stops[-1]) if len(self._stops) else 0

    def sample(self, index: int) -> RandomItem:
        """The ``index``-th sample of the training, counted over all slots and steps from 0."""
        epoch, place = divmod(index, len(self))
        if epoch != self._epoch:
            self._order = generator_for(self._seed, Purpose.RANDOM_ORDER, epoch).permutation(len(self))
            self._epoch = epoch
        position = int(self._order[place])
        sequence = int(np.searchsorted(self._stops, position, side="right"))
        items = self._items[sequence]
        item = position - (int(self._stops[sequence]) - len(items))
        generator = generator_for(self._seed, Purpose.RANDOM_SAMPLE, index)
        time_reversed = bool(generator.random() < self._time_reversal)
        window = items.window(item, time_reversed) or items.draw(generator, time_reversed)
        if window is None:
            # Only labels at the very end of the sequence: they can be shown forwards.
            window = items.window(item, False) or items.draw(generator, False)
        return RandomItem(sequence, window, generator)
