import logging

import numpy as np
import pytest
from event_samples import make_events
from hypothesis import given, settings
from hypothesis import strategies as st

from leod.errors import DataError
from leod.events import preprocess
from leod.events.chunk import EventChunk, Recording
from leod.events.preprocess import read_windows


class Events(Recording):
    """A recording in memory, handed out in chunks of a given size."""

    def __init__(self, events, chunk_events):
        self.path, self.height, self.width = "memory", 24, 32
        self._events, self._chunk_events = events, chunk_events
        self.read = 0

    def chunks(self, max_events=0):
        for start in range(0, len(self._events), self._chunk_events):
            part = slice(start, start + self._chunk_events)
            self.read += 1
            yield EventChunk(*(getattr(self._events, name)[part] for name in "txyp"))

    def close(self):
        pass


@settings(max_examples=150, deadline=None)
@given(
    times=st.lists(st.integers(0, 300), min_size=1, max_size=60),
    ends=st.lists(st.integers(1, 400), min_size=1, max_size=12, unique=True),
    window=st.integers(1, 120),
    chunk=st.integers(1, 61),
)
def test_windows_overlapping_or_apart_hold_their_events(times, ends, window, chunk):
    t = np.sort(np.array(times))
    numbers = np.arange(len(t))
    recording = Events(EventChunk(t, numbers, numbers, numbers), chunk)
    windows = list(read_windows(recording, np.sort(ends), window))
    assert len(windows) == len(ends)
    for end, events in zip(sorted(ends), windows, strict=True):
        inside = (t >= end - window) & (t <= end)
        assert events.x.tolist() == numbers[inside].tolist()
        assert events.t.tolist() == t[inside].tolist()


def test_events_after_the_last_window_are_not_read():
    recording = Events(make_events(1000, 1_000_000), 10)
    list(read_windows(recording, np.array([100_000]), 50_000))
    assert recording.read < 20


def test_recording_without_events_and_recording_that_ends_early(caplog):
    with pytest.raises(DataError, match="holds no events"):
        list(read_windows(Events(make_events(0, 1), 10), np.array([50]), 50))
    with caplog.at_level(logging.WARNING):
        windows = list(read_windows(Events(make_events(10, 100), 10), np.array([50, 100, 500]), 50))
    assert len(windows[2]) == 0
    assert "ends at" in caplog.text


def test_results_come_in_order_and_errors_come_through():
    assert list(preprocess._in_order(lambda n: n * n, range(100), 3)) == [n * n for n in range(100)]

    def fail_at_20(n):
        if n == 20:
            raise OSError("disk")
        return n

    with pytest.raises(OSError, match="disk"):
        list(preprocess._in_order(fail_at_20, range(100), 2))
