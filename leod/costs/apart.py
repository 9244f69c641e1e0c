"""Measuring in processes of their own: memory is that of one measurement, and several can run at the same time."""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import resource
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.synchronize import Barrier
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

import numpy as np

from leod.costs.figures import MB, Clock
from leod.errors import LeodError, ResourceError

T = TypeVar("T")
_STATUS = Path("/proc/self/status")
_CLOCKS: dict[Clock, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


def measure_apart(measurement: Callable[[Any], T], argument: Any, copies: int = 1, clock: Clock = "wall") -> list[T]:
    """Call ``measurement(argument)`` in new processes, all at the same time.

    Args:
        measurement: A function of a module. It may call `start_together` where the time begins to count.
        argument: Something that can be pickled.
        copies: Number of processes.
        clock: What `now` tells there.

    Returns:
        The result of each process.

    Raises:
        LeodError: What a process raised.
        ResourceError: A process was killed.
    """
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(copies)
    processes, connections = [], []
    for _ in range(copies):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_run, args=(measurement, argument, barrier, clock, sender))
        process.start()
        sender.close()
        processes.append(process)
        connections.append(receiver)
    results = []
    try:
        for process, connection in zip(processes, connections, strict=True):
            try:
                found = connection.recv()
            except EOFError:
                process.join()
                raise ResourceError(
                    f"a measurement ended with status {process.exitcode}; see above. If memory ran out: a smaller "
                    "batch_size or sequence_length, or fewer processes side by side."
                ) from None
            if isinstance(found, LeodError):
                raise found
            results.append(found)
    finally:
        for process in processes:
            if process.is_alive() and len(results) < copies:
                process.kill()
            process.join()
    return results


_together: Barrier | None = None
_clock: Clock = "wall"
_START_WAIT_S = 600.0


def start_together() -> None:
    """Wait until the other copies have come so far; does nothing outside of `measure_apart`."""
    if _together is not None:
        _together.wait(_START_WAIT_S)


def now() -> float:
    """Seconds of the clock that is measured with: wall time, or CPU time of this process."""
    return _CLOCKS[_clock]()


def _run(measurement: Callable[[Any], Any], argument: Any, barrier: Barrier, clock: Clock, sender: Connection) -> None:
    global _together, _clock
    _together, _clock = barrier, clock
    Thread(target=_end_with_parent, daemon=True).start()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        sender.send(measurement(argument))
    except LeodError as error:
        barrier.abort()
        sender.send(error)


def _end_with_parent() -> None:
    """End this process as soon as the one that wants its figures is gone, however that ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def repeat(
    call: Callable[[], object], seconds: float, warm_up: int = 2, minimum: int = 3, maximum: int = 100_000
) -> np.ndarray:
    """Call something again and again.

    Args:
        call: What is measured.
        seconds: For how long.
        warm_up: Calls before that do not count.
        minimum: Calls at least, however long they take.
        maximum: Calls at most.

    Returns:
        Seconds of each call, float64 [n].
    """
    for _ in range(warm_up):
        call()
    start_together()
    times: list[float] = []
    begun = now()
    while len(times) < minimum or (now() - begun < seconds and len(times) < maximum):
        started = now()
        call()
        times.append(now() - started)
    return np.array(times)


def own_folder(folder: Path) -> Path:
    """A new folder of this process alone."""
    own = folder / f"process-{os.getpid()}"
    own.mkdir(parents=True, exist_ok=True)
    return own


def peak_memory_mb() -> float:
    """Most memory that this process has held so far."""
    if _STATUS.exists():
        # The general figure begins with what the process that started this one held.
        found = re.search(r"^VmHWM:\s+(\d+) kB", _STATUS.read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            return int(found[1]) * 1024 / MB
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MB
