"""Requests to stop."""

from __future__ import annotations

import os
import signal

import pytest

from leod.training.interruption import TIME_LIMIT, StopRequests


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_is_noted_and_the_old_handler_comes_back(number):
    before = signal.getsignal(number)
    with StopRequests() as requests:
        assert requests.request == 0
        os.kill(os.getpid(), number)
        assert requests.request == number
    assert signal.getsignal(number) is before


def test_second_interrupt_ends_at_once_but_terminate_may_be_repeated():
    with StopRequests() as requests:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert requests.request == signal.SIGTERM


def test_handlers_survive_another_library():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequests() as requests:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        requests.install()
        os.kill(os.getpid(), signal.SIGTERM)
        assert requests.request == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("limit", "margin", "expected"),
    [(None, 60.0, 0), (100.0, 60.0, 0), (100.0, 100.0, TIME_LIMIT), (100.0, 500.0, TIME_LIMIT)],
)
def test_time_limit(limit, margin, expected):
    assert StopRequests(limit, margin).request == expected
