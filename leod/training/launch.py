"""Starting the processes of a training on this machine, and ending them together."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from leod.errors import LeodError, ResourceError
from leod.training.interruption import StopRequests, TrainingStopped

Argument = TypeVar("Argument")


def run_in_processes(
    function: Callable[[Argument], None], argument: Argument, count: int, requests: StopRequests
) -> None:
    """Run ``function(argument)`` in new processes on this machine and wait for them.

    Signals to this process are passed on. When one process fails the others are ended. When this process dies the
    others end themselves, for they no longer hold the lock of the results.

    Args:
        function: A function of a module.
        argument: Something that can be pickled.
        count: Number of processes.
        requests: Notes this process's signals.

    Raises:
        LeodError: What a process raised.
        TrainingStopped: The processes have saved and stopped.
    """
    context = multiprocessing.get_context("spawn")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes, connections = [], []
    for rank in range(count):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_run_one, args=(function, argument, rank, port, os.getpid(), sender))
        process.start()
        sender.close()
        processes.append(process)
        connections.append(receiver)
    try:
        _wait_for(processes, connections, requests)
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
            process.join()


def _wait_for(processes: list[Any], connections: list[Connection], requests: StopRequests) -> None:
    passed_on: int | None = None
    waiting = dict(zip(connections, processes, strict=True))
    stopped: TrainingStopped | None = None
    while waiting:
        for connection in wait(list(waiting), timeout=0.2):
            process = waiting.pop(connection)
            try:
                error = connection.recv()
            except EOFError:
                process.join()
                raise ResourceError(
                    f"a training process ended with status {process.exitcode}; see above. If the machine ran out of "
                    "memory, lower batch_size, sequence_length or hardware.num_workers."
                ) from None
            if isinstance(error, TrainingStopped):
                stopped = error
            elif error is not None:
                raise error
        if requests.signal is not None and requests.signal != passed_on:
            passed_on = requests.signal
            for process in waiting.values():
                os.kill(process.pid, passed_on)
    if stopped is not None:
        raise stopped


def _run_one(
    function: Callable[[Argument], None], argument: Argument, rank: int, port: int, parent: int, sender: Connection
) -> None:
    """Body of one process."""

    def end_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=end_with_parent, daemon=True).start()
    os.environ.update({"LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)})
    level = logging.INFO if rank == 0 else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%H:%M:%S")
    try:
        function(argument)
    except (LeodError, TrainingStopped) as error:
        sender.send(error)
    else:
        sender.send(None)
