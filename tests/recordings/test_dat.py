import struct

import numpy as np
import pytest
from event_samples import make_events

from leod.config.schema import SensorSize
from leod.errors import DataError
from leod.recordings.chunk import EventChunk
from leod.recordings.dat import DatRecording, write_dat

HEADER = b"% Version 2\n% Height 24\n% Width 32\n"
KIND = bytes((0x0C, 8))


def pack(*events):
    """Bytes of (t, x, y, p) events, written out by hand from the format's description."""
    return b"".join(struct.pack("<II", t, x | y << 14 | p << 28) for t, x, y, p in events)


def read(path, **options):
    with DatRecording(path, **options) as recording:
        chunks = list(recording.chunks(3))
    return [np.concatenate([getattr(chunk, name) for chunk in chunks]).tolist() for name in "txyp"]


def test_reads_hand_made_bytes_across_chunks(tmp_path):
    path = tmp_path / "a.dat"
    events = [(1, 0, 0, 0), (5, 31, 23, 1), (5, 3, 2, 0), (9, 7, 8, 1)]
    path.write_bytes(HEADER + KIND + pack(*events))
    assert read(path) == [list(column) for column in zip(*events, strict=True)]


def test_what_is_written_is_read(tmp_path, events):
    path = tmp_path / "a.dat"
    halves = [EventChunk(*(getattr(events, name)[part] for name in "txyp")) for part in (slice(700), slice(700, None))]
    assert write_dat(path, halves, 24, 32) == len(events)
    with DatRecording(path) as recording:
        assert (recording.height, recording.width) == (24, 32)
        (chunk,) = recording.chunks()
    for name in "txyp":
        np.testing.assert_array_equal(getattr(chunk, name), getattr(events, name))
        assert getattr(chunk, name).dtype == getattr(events, name).dtype


def test_late_events_get_the_latest_time(tmp_path):
    path = tmp_path / "a.dat"
    path.write_bytes(HEADER + KIND + pack(*((t, 1, 1, 0) for t in (10, 50, 30, 20, 60, 55))))
    assert read(path)[0] == [10, 50, 50, 50, 60, 60]


def test_clock_wraps_even_with_late_events(tmp_path):
    path = tmp_path / "a.dat"
    period = 2**32
    stored = (period - 20, period - 10, 5, period - 5, 8, 30)
    path.write_bytes(HEADER + KIND + pack(*((t, 1, 1, 0) for t in stored)))
    assert read(path)[0] == [period - 20, period - 10, period + 5, period + 5, period + 8, period + 30]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must begin with comment lines"),
        (KIND + pack((1, 1, 1, 0)), "must begin with comment lines"),
        (HEADER, "ends after its header"),
        (HEADER[:-4], "header does not end"),
        (b"% Version 1\n" + KIND, "version 1"),
        (b"% Height 24\n" + KIND, "version unknown"),
        (b"% Version 2\n% Height many\n" + KIND, "'many'"),
        (HEADER + bytes((14, 8)), "type 14"),
        (HEADER + bytes((12, 16)), "16 bytes"),
        (HEADER + KIND + pack((1, 1, 1, 0), (2, 1, 1, 0))[:-3], "cut off: 13 bytes"),
        (HEADER + KIND + pack((1, 1, 1, 0), (2, 32, 1, 0)), "event 1 lies at x = 32, y = 1"),
        (HEADER + KIND + pack((1, 1, 1, 0), (2, 1, 24, 0)), "event 1 lies at x = 1, y = 24"),
        (HEADER + KIND + pack(*((t, 1, 1, 0) for t in (1, 2, 3, 5_000_000, 10))), "runs backwards at event 4"),
        (HEADER + KIND + pack(*((t, 1, 1, 0) for t in (1, 2, 3, 4, 2_000_000_000))), "jumps ahead at event 4"),
        (b"% Version 2\n" + KIND, "does not tell the size"),
    ],
)
def test_damaged_files_are_refused(tmp_path, content, message):
    path = tmp_path / "a.dat"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_size_comes_from_header_or_caller_and_must_agree(tmp_path):
    path = tmp_path / "a.dat"
    path.write_bytes(b"% Version 2\n" + KIND + pack((1, 1, 1, 0)))
    with DatRecording(path, SensorSize(height=10, width=20)) as recording:
        assert (recording.height, recording.width) == (10, 20)
    path.write_bytes(HEADER + KIND)
    with pytest.raises(DataError, match="24 pixels high and 32 wide"):
        DatRecording(path, SensorSize(height=10, width=20))


@pytest.mark.parametrize("change", [{"t": [5, 4]}, {"t": [0, 2**32]}, {"x": [0, 32]}, {"y": [0, 24]}, {"p": [0, 2]}])
def test_writer_refuses_impossible_events_and_leaves_nothing(tmp_path, change):
    columns = {"t": [1, 2], "x": [0, 1], "y": [0, 1], "p": [0, 1]} | change
    with pytest.raises(ValueError):
        write_dat(tmp_path / "a.dat", [EventChunk(**{k: np.array(v) for k, v in columns.items()})], 24, 32)
    assert list(tmp_path.iterdir()) == []


def test_chunks_are_bounded(tmp_path):
    path = tmp_path / "a.dat"
    write_dat(path, [make_events(1000, 1000)], 24, 32)
    with DatRecording(path) as recording:
        assert [len(chunk) for chunk in recording.chunks(300)] == [300, 300, 300, 100]
        assert sum(map(len, recording.chunks(300))) == 1000  # a second pass begins at the start again
