"""Requests to stop: signals of the system or the user, and the end of the job's time.

Training asks at every step boundary, saves, and then ends or waits as the configuration says.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from types import FrameType
from typing import Any, Self

logger = logging.getLogger(__name__)

TIME_LIMIT = 1
"""A request to stop because the job's time ends; no number of a signal that is noted here."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class TrainingStopped(Exception):  # noqa: N818  (nothing went wrong: progress was saved as asked)
    """Training was asked to stop and has saved its progress.

    Args:
        request: The signal's number, or None at the end of the job's time.
        step: Finished optimiser steps that were saved.
    """

    def __init__(self, request: int | None, step: int) -> None:
        super().__init__(f"stopped at step {step}")
        self.request = request
        self.step = step

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.request, self.step)


class StopRequests:
    """Notes requests to stop, from the moment it is entered until it is left.

    The first SIGINT asks to stop at the next step; a second one raises KeyboardInterrupt at once. SIGTERM may come
    several times.

    Args:
        time_limit_s: Seconds after which the job ends, counted from now; None = no limit.
        save_before_s: How many seconds before the limit to stop.
    """

    def __init__(self, time_limit_s: float | None = None, save_before_s: float = 0.0) -> None:
        self._deadline = None if time_limit_s is None else time.monotonic() + max(time_limit_s - save_before_s, 0.0)
        self._previous: dict[int, Any] = {}
        self.signal: int | None = None

    def install(self) -> None:
        """Take over the signals; again after another library has taken them. Does nothing outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            previous = signal.signal(number, self._note)
            self._previous.setdefault(number, previous)

    def __enter__(self) -> Self:
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _note(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        # SIGTERM decides over SIGINT: whoever sent it may be about to requeue the job.
        self.signal = number if self.signal != signal.SIGTERM else signal.SIGTERM

    @property
    def request(self) -> int:
        """Why training should save and stop: a signal's number, `TIME_LIMIT`, or 0 if it should not."""
        if self.signal is not None:
            return self.signal
        return TIME_LIMIT if self._deadline is not None and time.monotonic() >= self._deadline else 0


def wait_to_be_killed() -> None:
    """Do nothing until the process is killed, so that a scheduler requeues the job instead of calling it failed."""
    logger.warning("everything is saved; waiting to be killed")
    while True:
        time.sleep(60.0)
