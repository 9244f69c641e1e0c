"""The plan of a training: what every batch slot reads in every step, as a function of settings, seed and step.

Differences from LEOD (whose loader workers each keep their own random state):

* There are no epochs. Streams and random samples each go on with another permutation of their own, instead of both
  starting anew when the shorter one ends; the last, incomplete batch of a permutation is not dropped.
* The data do not depend on the number of loader workers, and training resumes at any step.
* Segments read backwards are the mirror image of those read forwards, so that each window has a label here too. In
  LEOD some windows have none, and labels that stand alone vanish.
* A stream that zooms in (off in all published settings) keeps one zoom window for a whole segment.
* A random sample that has no kept label is replaced by one that has, in one draw; LEOD draws again until it fits.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import numpy as np

from leod.config.schema import TrainingConfig
from leod.errors import ConfigError
from leod.randomness import Purpose, generator_for
from leod.sampling.augmentation import SpatialAugmentation, draw_augmentation
from leod.sampling.event_augmentation import EventAugmentation, draw_event_augmentation
from leod.sampling.random_access import LabelledItems, RandomPlan
from leod.sampling.slots import divide_batch
from leod.sampling.streaming import StreamPlan, training_segments
from leod.sampling.windows import Window
from leod.sequences.sequence import Sequence


@dataclass(frozen=True)
class PlannedSample:
    """What one batch slot reads in one step.

    Attributes:
        sequence: Position of the sequence in the list of training sequences.
        window: The frames.
        is_first: Whether the recurrent state is reset before.
        augmentation: What is done to frames and boxes.
        events: What is done to the events after that; None = nothing.
    """

    sequence: int
    window: Window
    is_first: bool
    augmentation: SpatialAugmentation
    events: EventAugmentation | None = None


class TrainingPlan:
    """What every batch slot reads in every step.

    Args:
        sequences: Training sequences.
        kept: bool [K] for each sequence, labelled frames that may be learned from.
        training: Settings of the training.
        time_reversal_label_offset: See `Window.label_frames`.
        seed: Seed of the training.

    Attributes:
        slots: Division of the batch.

    Raises:
        ConfigError: The batch cannot be divided, or no sequence has a sample.
    """

    def __init__(
        self,
        sequences: SequenceOf[Sequence],
        kept: SequenceOf[np.ndarray],
        training: TrainingConfig,
        time_reversal_label_offset: int,
        seed: int,
    ) -> None:
        length = training.sequence_length
        time_reversal = training.augmentation.time_reversal
        self._augmentation = training.augmentation
        self._seed = seed
        self._frame_size = sequences[0].frame_shape[1:]
        self.slots = divide_batch(training)
        if self.slots.random:
            items = [
                LabelledItems(sequence.num_frames, sequence.labelled_frames, mask, length, time_reversal_label_offset)
                for sequence, mask in zip(sequences, kept, strict=True)
            ]
            self._random = RandomPlan(items, time_reversal, seed)
            if len(self._random) == 0:
                raise ConfigError(
                    f"no sequence has a kept labelled frame with {length - 1} frames before it. Shorten the "
                    "training's sequence_length or keep more labels."
                )
        if self.slots.stream:
            segments = [
                segment
                for position, (sequence, mask) in enumerate(zip(sequences, kept, strict=True))
                for segment in training_segments(
                    position,
                    sequence.num_frames,
                    sequence.labelled_frames,
                    mask,
                    length,
                    time_reversal_label_offset,
                )
            ]
            if not segments:
                raise ConfigError("no sequence keeps a labelled frame, so there is nothing to stream.")
            self._stream = StreamPlan(segments, length, time_reversal, seed)

    def sample(self, step: int, slot: int) -> PlannedSample:
        """What ``slot`` of the whole batch reads in ``step``, both counted from 0."""
        return self._streamed(step, slot) if slot < self.slots.stream else self._drawn(step, slot - self.slots.stream)

    def _streamed(self, step: int, slot: int) -> PlannedSample:
        position = self._stream.position(slot, step)
        generator = generator_for(self._seed, Purpose.STREAM_VISIT, slot, *position.visit)
        augmentation = draw_augmentation(
            self._augmentation, self._augmentation.stream_zoom, self._frame_size, generator, follow_boxes=False
        )
        sequence = self._stream.segments[position.segment].sequence
        events = self._draw_events(Purpose.STREAM_EVENTS, (slot, *position.visit), step, slot)
        return PlannedSample(sequence, position.window, position.is_first, augmentation, events)

    def _drawn(self, step: int, random_slot: int) -> PlannedSample:
        index = step * self.slots.random + random_slot
        item = self._random.sample(index)
        augmentation = draw_augmentation(
            self._augmentation, self._augmentation.random_zoom, self._frame_size, item.generator, follow_boxes=True
        )
        events = self._draw_events(Purpose.RANDOM_EVENTS, (index,), step, self.slots.stream + random_slot)
        return PlannedSample(item.sequence, item.window, True, augmentation, events)

    def _draw_events(self, purpose: Purpose, key: tuple[int, ...], step: int, slot: int) -> EventAugmentation | None:
        # Generators of their own: the draws of mirror, rotation and zoom do not depend on these settings.
        if not self._augmentation.changes_events:
            return None
        return draw_event_augmentation(
            self._augmentation,
            self._frame_size,
            generator_for(self._seed, purpose, *key),
            noise=generator_for(self._seed, Purpose.EVENT_NOISE, step, slot),
        )
