"""Reading ahead with worker processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Generic, TypeVar

from torch.utils.data import DataLoader, Dataset

from leod.errors import LeodError

Item = TypeVar("Item")


_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def _ignore_signals(_worker_id: int) -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class _Guarded(Dataset[Item | LeodError]):
    """Hands errors over as values: raised in a worker, they would arrive as a RuntimeError with two tracebacks."""

    def __init__(self, dataset: Dataset[Item]) -> None:
        self._dataset = dataset

    def __getitem__(self, step: int) -> Item | LeodError:
        try:
            return self._dataset[step]
        except LeodError as error:
            return error


class BatchLoader(Generic[Item]):
    """Yields the items of a data set in the order of ``steps``, whatever the number of workers.

    SIGTERM and SIGINT do not end the workers: sent to the whole group, as SLURM and terminals do, they must not take
    the data from under a process that saves what it has. Workers end with their parent.

    It is not a `DataLoader` by type, so that Lightning leaves the order alone in distributed training.

    Args:
        dataset: A map from step to complete batch.
        steps: Which batches.
        num_workers: Processes that read ahead; 0 reads in this process.
        pin_memory: Hand over page-locked memory, for a GPU.
    """

    def __init__(self, dataset: Dataset[Item], steps: range, num_workers: int, pin_memory: bool) -> None:
        self._dataset = _Guarded(dataset)
        self._steps = steps
        self._num_workers = num_workers
        self._pin_memory = pin_memory

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._steps)

    def __iter__(self) -> Iterator[Item]:
        """Read the batches.

        Raises:
            LeodError: What a batch could not be read for, also if it happened in a worker.
        """
        loader = DataLoader(
            self._dataset,
            batch_size=None,
            sampler=self._steps,
            num_workers=self._num_workers,
            pin_memory=self._pin_memory,
            worker_init_fn=_ignore_signals,
        )
        # Also in the moment before a worker has come to that.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            items = iter(loader)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for item in items:
            if isinstance(item, LeodError):
                raise item
            yield item
