"""Worker processes that read ahead."""

import multiprocessing
import os
import signal
import time

import pytest
from torch.utils.data import Dataset

from leod.sampling.loader import BatchLoader


class Slow(Dataset):
    """Numbers that take their time."""

    def __getitem__(self, step):
        time.sleep(0.05)
        return step


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_to_the_whole_group_leave_the_workers_alive(number):
    steps = range(30)
    others = set(multiprocessing.active_children())
    read = []
    for item in BatchLoader(Slow(), steps, num_workers=2, pin_memory=False):
        read.append(item)
        if item % 10 == 0:
            workers = set(multiprocessing.active_children()) - others
            assert len(workers) == 2
            for worker in workers:
                os.kill(worker.pid, number)
    assert read == list(steps)
