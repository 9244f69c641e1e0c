"""Training data: a map from step to batch, and the loader that reads it in order."""

from __future__ import annotations

import logging
from collections.abc import Sequence as SequenceOf

import numpy as np
from torch.utils.data import Dataset

from leod.boxes.kept_labels import KeptLabels
from leod.config.schema import SequenceConfig, TrainingConfig
from leod.errors import ConfigError, DataError
from leod.sampling.batch import Batch
from leod.sampling.loader import BatchLoader
from leod.sampling.plan import TrainingPlan
from leod.sampling.samples import load_batch
from leod.sequences.sequence import Sequence

logger = logging.getLogger(__name__)


class TrainingData(Dataset[Batch]):
    """The batches of a training: batch ``step`` follows from settings, seed and step alone.

    With accumulation a step is one batch, several of which make one step of the optimiser.

    Args:
        sequences: Training sequences; those without kept labels contribute nothing.
        kept: Labels that may be learned from; None = all.
        training: Settings of the training; ``batch_size`` counts the samples of all processes.
        config: What the data set's frames and classes look like.
        seed: Seed of the training, not negative.
        rank: This process, 0 .. world_size - 1. The processes' batches together are those of a single process.
        world_size: Processes of distributed training.

    Raises:
        DataError: There is no label to learn from, or ``kept`` does not belong to the sequences.
        ConfigError: The batch cannot be divided, or no label has enough history.
    """

    def __init__(
        self,
        sequences: SequenceOf[Sequence],
        kept: KeptLabels | None,
        training: TrainingConfig,
        config: SequenceConfig,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not sequences:
            raise ConfigError("there are no training sequences")
        self.sequences = list(sequences)
        self._kept = [_kept_mask(sequence, kept) for sequence in self.sequences]
        if not any(mask.any() for mask in self._kept):
            if kept is None:
                raise DataError(
                    self.sequences[0].path.parent,
                    f"none of the {len(self.sequences)} sequences has a labelled frame, so there is nothing to learn.",
                )
            raise DataError(
                kept.path,
                f"keeps no labelled frame ({kept.setting}, ratio {kept.ratio}, split offset {kept.split_offset}), so "
                "there is nothing to learn. Choose a larger ratio.",
            )
        self._length = training.sequence_length
        self._label_offset = config.time_reversal_label_offset
        self._count_limit = config.representation.count_limit
        self.plan = TrainingPlan(self.sequences, self._kept, training, self._label_offset, seed)
        self.slots = self.plan.slots.of_rank(rank, world_size)
        logger.info(
            "training on %d kept labelled frames of %d sequences; batch of %d streams and %d random samples",
            sum(int(mask.sum()) for mask in self._kept),
            len(self.sequences),
            self.plan.slots.stream,
            self.plan.slots.random,
        )

    def __getitem__(self, step: int) -> Batch:
        """Read the batch of this process in ``step``, counted from 0 without end."""
        return load_batch(
            [self.plan.sample(step, slot) for slot in self.slots],
            self.sequences,
            self._kept,
            self._length,
            self._label_offset,
            self._count_limit,
        )


def _kept_mask(sequence: Sequence, kept: KeptLabels | None) -> np.ndarray:
    """Which labelled frames of a sequence may be learned from, bool [K]."""
    count = len(sequence.labelled_frames)
    if kept is None:
        return np.ones(count, dtype=bool)
    mask = np.zeros(count, dtype=bool)
    mask[kept.indices_within(sequence.name, count)] = True
    return mask


def training_loader(
    data: TrainingData, start_step: int, total_steps: int, num_workers: int, pin_memory: bool = False
) -> BatchLoader[Batch]:
    """Load the batches ``start_step`` to ``total_steps`` (exclusive) in order.

    Args:
        data: What to load.
        start_step: First batch; more than 0 when training is resumed.
        total_steps: Batches of the whole training.
        num_workers: Processes that read ahead; 0 reads in this process. The batches do not depend on it.
        pin_memory: Hand over page-locked memory, for a GPU.
    """
    return BatchLoader(data, range(start_step, total_steps), num_workers, pin_memory)
