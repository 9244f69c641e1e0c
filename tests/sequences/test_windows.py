import numpy as np
import pytest
from event_samples import make_events
from hypothesis import given, settings
from hypothesis import strategies as st

from leod.boxes.dtypes import RECORDING_BOX_DTYPE
from leod.config.schema import LabelTimesConfig
from leod.errors import DataError
from leod.recordings.chunk import EventChunk, Recording
from leod.sequences import writing as preprocess
from leod.sequences.label_times import LabelledFrames, select_frames
from leod.sequences.window_grid import WindowGrid
from leod.sequences.writing import CountedEvents, read_windows


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


def grid_of(ends, window, first_us, **options):
    """A grid with labels at all of ``ends`` and no window between them."""
    times, ones = np.sort(np.array(ends, np.int64)), np.ones(len(ends) - 1, np.int64)
    frames = LabelledFrames(np.zeros(0, RECORDING_BOX_DTYPE), times, np.zeros(len(ends), np.int64), ones)
    return WindowGrid(frames, window, first_us, **options)


@settings(max_examples=150, deadline=None)
@given(
    times=st.lists(st.integers(0, 300), min_size=1, max_size=60),
    ends=st.lists(st.integers(1, 400), min_size=1, max_size=12, unique=True),
    window=st.integers(1, 120),
    chunk=st.integers(1, 61),
    origin=st.sampled_from(["clock_zero", "first_event"]),
    until=st.sampled_from(["last_label", "last_event"]),
)
def test_windows_overlapping_or_apart_hold_their_events(times, ends, window, chunk, origin, until):
    t = np.sort(np.array(times))
    numbers = np.arange(len(t))
    ends = [end for end in ends if origin == "clock_zero" or end >= t[0]] or [int(t[0])]
    recording = Events(EventChunk(t, numbers, numbers, numbers), chunk)
    grid = grid_of(ends, window, int(t[0]), origin=origin, until=until)
    windows = list(read_windows(recording.chunks(), grid, window))
    got = [end for end, _ in windows]
    assert got == sorted(set(got))
    assert len(windows) == grid.count
    for end, events in windows:
        inside = (t >= end - window) & (t <= end)
        assert events.x.tolist() == numbers[inside].tolist()
        assert events.t.tolist() == t[inside].tolist()
    labelled = [got[frame] for frame in grid.labelled_frames]
    assert labelled == sorted(ends)[: len(labelled)]
    if origin == "clock_zero":
        assert len(labelled) == len(ends)
    else:
        # Only label moments that no event precedes by less than a window are without a frame.
        assert all(end >= t[-1] + window for end in sorted(ends)[len(labelled) :])
        assert got[0] - window <= t[0] <= got[0]
    if until == "last_event":
        assert got[-1] >= t[-1]


@settings(max_examples=100, deadline=None)
@given(
    times=st.lists(st.integers(0, 3000), min_size=1, max_size=60),
    labels=st.lists(st.integers(0, 3000), min_size=1, max_size=12, unique=True),
    window=st.integers(1, 120),
    offset=st.integers(0, 2**60),
    mode=st.sampled_from(["any", "fixed_step", "median_step"]),
)
def test_any_clock_gives_the_same_windows(times, labels, window, offset, mode):
    t = np.sort(np.array(times))
    config = LabelTimesConfig(mode=mode, step_us=250, first_us=100, tolerance_us=3)

    def ends(shift):
        boxes = np.zeros(len(labels), RECORDING_BOX_DTYPE)
        boxes["t"] = np.sort(labels) + shift
        first = int(t[0]) + shift
        frames = (
            select_frames(boxes[boxes["t"] >= first], config, window, first) if (boxes["t"] >= first).any() else None
        )
        grid = WindowGrid(frames or LabelledFrames.none(), window, first)
        parts = [grid.take(int(t[len(t) // 2]) + shift), grid.finish(int(t[-1]) + shift)]
        return (np.concatenate(parts) - shift).tolist(), grid.labelled_frames

    # A label at zero of the clock could not be told from a pseudo-label: the first clock begins at 1.
    assert ends(1) == ends(1 + offset)


def test_windows_end_with_the_recording_wherever_the_labels_are():
    # Label times in another unit would make millions of windows.
    grid = grid_of([250_000_000_000, 1_600_000_000_000_000], 50_000, 10)
    assert grid.take(3_000_000)[[0, -1]].tolist() == [50_000, 2_950_000]
    assert len(grid.finish(3_000_000)) == 1
    assert grid.labelled_frames == []


def test_events_after_the_last_window_are_not_read():
    recording = Events(make_events(1000, 1_000_000), 10)
    list(read_windows(recording.chunks(), grid_of([100_000], 50_000, 0, until="last_label"), 50_000))
    assert recording.read < 20


def test_recording_without_events_and_labels_after_its_end():
    with pytest.raises(DataError, match="holds no events"):
        CountedEvents(Events(make_events(0, 1), 10))
    asked = []
    grid = grid_of([50, 100, 500], 50, 0, origin="clock_zero", until="last_label")
    windows = list(read_windows(Events(make_events(10, 100), 10).chunks(), grid, 50, lambda: asked.append(True)))
    assert [end for end, _ in windows] == [50, 100, 500]
    assert len(windows[2][1]) == 0
    assert asked == [True]


def test_results_come_in_order_and_errors_come_through():
    assert list(preprocess._in_order(lambda n: n * n, range(100), 3)) == [n * n for n in range(100)]

    def fail_at_20(n):
        if n == 20:
            raise OSError("disk")
        return n

    with pytest.raises(OSError, match="disk"):
        list(preprocess._in_order(fail_at_20, range(100), 2))
