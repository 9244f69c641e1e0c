"""Batch slots: which of them stream, which are random, and which process owns them."""

from __future__ import annotations

from dataclasses import dataclass

from leod.config.schema import TrainingConfig
from leod.errors import ConfigError


@dataclass(frozen=True)
class Slots:
    """Division of a batch. Slots 0 .. stream-1 are streams, the others random samples.

    Attributes:
        stream: Streamed slots.
        random: Random slots.
    """

    stream: int
    random: int

    @property
    def total(self) -> int:
        """Size of the batch over all processes."""
        return self.stream + self.random

    def of_rank(self, rank: int, world_size: int) -> list[int]:
        """Slots of one process, streams first.

        Slots are dealt out one by one, so that every process has its share of streams and of random samples (to
        within one) and a stream stays with its process for good.

        Raises:
            ConfigError: The batch cannot be divided evenly.
        """
        if self.total % world_size:
            raise ConfigError(
                f"batch_size {self.total} cannot be divided among {world_size} processes; "
                "choose a multiple of hardware.devices"
            )
        return list(range(rank, self.total, world_size))


def divide_batch(training: TrainingConfig) -> Slots:
    """Divide the batch by ``sampling``, ``stream_weight`` and ``random_weight``.

    Mixed batches have at least one slot of each kind.

    Raises:
        ConfigError: A mixed batch has only one slot.
    """
    size = training.batch_size
    if training.sampling == "random":
        return Slots(stream=0, random=size)
    if training.sampling == "stream":
        return Slots(stream=size, random=0)
    if size < 2:
        raise ConfigError(
            "sampling 'mixed' needs a batch_size of at least 2, one sample of each kind; raise batch_size (and lower "
            "accumulate) or choose sampling 'random' or 'stream'"
        )
    share = training.random_weight / (training.stream_weight + training.random_weight)
    random = min(max(round(size * share), 1), size - 1)
    return Slots(stream=size - random, random=random)
