"""The clock of recordings, in every format: shift, part, jumps."""

import itertools
import re

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_writer import HEADERS, encode_evt2, encode_evt3, encode_evt21

from leod.config.schema import RecordingTimesConfig, SensorSize
from leod.errors import DataError
from leod.recordings.chunk import EventChunk
from leod.recordings.dat import write_dat
from leod.recordings.recording import open_recording


def write_raw(encoding, encode):
    def write(folder, events):
        path = folder / f"{encoding}.raw"
        # A jump of the clock, without the time words that cameras write during a pause.
        jumps = [i for i in range(1, len(events)) if events[i][0] - events[i - 1][0] > 10**9]
        parts = [events[start:stop] for start, stop in itertools.pairwise([0, *jumps, len(events)])]
        path.write_bytes(HEADERS[encoding] + b"".join(map(encode, parts)))
        return path

    return write


def write_dat_file(folder, events):
    columns = zip(np.array(events, np.int64).T, (np.int64, np.uint16, np.uint16, np.uint8), strict=True)
    write_dat(folder / "a.dat", [EventChunk(*(column.astype(dtype) for column, dtype in columns))], 24, 32)
    return folder / "a.dat"


def write_hdf5(folder, events):
    with h5py.File(folder / "a.h5", "w") as file:
        for name, column in zip("txyp", np.array(events, np.int64).T, strict=True):
            file[f"events/{name}"] = column
        file["events/height"], file["events/width"] = 24, 32
    return folder / "a.h5"


def write_aedat4(folder, events):
    faery = pytest.importorskip("faery")
    rows = np.zeros(len(events), faery.EVENTS_DTYPE)
    for name, column in zip(("t", "x", "y", "on"), np.array(events, np.int64).T, strict=True):
        rows[name] = column
    faery.events_stream_from_array(rows, (32, 24)).to_file(folder / "a.aedat4")
    return folder / "a.aedat4"


WRITERS = {
    "EVT2": write_raw("EVT2", encode_evt2),
    "EVT21": write_raw("EVT21", encode_evt21),
    "EVT3": write_raw("EVT3", encode_evt3),
    "DAT": write_dat_file,
    "HDF5": write_hdf5,
    "AEDAT4": write_aedat4,
}
every_format = pytest.mark.parametrize("name", WRITERS)


def read_chunks(path, max_events=1_000_000, **times):
    with open_recording(path, SensorSize(height=24, width=32), RecordingTimesConfig(**times)) as recording:
        chunks = list(recording.chunks(max_events))
    assert all(0 < len(chunk) <= max_events for chunk in chunks)
    return [list(zip(*(getattr(chunk, name).tolist() for name in "txyp"), strict=True)) for chunk in chunks]


def read(path, max_events=1_000_000, **times):
    return [event for chunk in read_chunks(path, max_events, **times) for event in chunk]


FIRST_US, LAST_US = 10_000, 19_000
some_events = st.lists(
    st.tuples(st.integers(FIRST_US, LAST_US), st.integers(0, 31), st.integers(0, 23), st.integers(0, 1)),
    min_size=2,
    max_size=60,
)


@every_format
@settings(max_examples=25, deadline=None)
@given(
    events=some_events,
    offset=st.integers(-FIRST_US, 2**50),
    part=st.tuples(st.integers(FIRST_US, LAST_US), st.integers(FIRST_US, LAST_US)),
    size=st.integers(1, 60),
)
def test_a_shift_moves_all_events_and_nothing_else(tmp_path_factory, name, events, offset, part, size):
    events = sorted([(FIRST_US, 0, 0, 0), (LAST_US, 1, 1, 1), *events])
    path = WRITERS[name](tmp_path_factory.mktemp("times"), events)
    chunks = [[(t + offset, *rest) for t, *rest in chunk] for chunk in read_chunks(path, size)]
    assert read_chunks(path, size, offset_us=offset) == chunks
    shifted = [event for chunk in chunks for event in chunk]
    begin, end = sorted(part)
    expected = [event for event in shifted if begin <= event[0] - offset <= end]
    cut = {"offset_us": offset, "start_us": begin + offset, "end_us": end + offset}
    if expected:
        assert read(path, size, **cut) == expected
    else:
        reach = f"from {offset + FIRST_US} us to {offset + LAST_US} us"
        message = f"none of its {len(events)} events lies in the part.*{reach}"
        with pytest.raises(DataError, match=message):
            read(path, **cut)


@every_format
def test_what_lies_before_or_after_a_jump_can_be_read(tmp_path, name):
    if name == "EVT3":
        pytest.skip("the clock of 16.8 s knows no pauses of minutes")
    strays, later = [(t, 31, 1, 0) for t in (3, 5, 48)], [(3_100_000_040 + t, 2, 3, 1) for t in range(4)]
    path = WRITERS[name](tmp_path, strays + later)
    with pytest.raises(DataError, match="jumps ahead at event 3: from 48 us to 3100000040 us; 3 events") as caught:
        read(path)
    advice = str(caught.value)
    start, end = (int(re.search(rf"--{option}-us (\d+)", advice)[1]) for option in ("start", "end"))
    assert f"{{start_us: {start}}}" in advice
    assert f"{{end_us: {end}}}" in advice
    assert read(path, start_us=start) == later
    assert read(path, end_us=end) == strays
    # Where the strays lie does not matter either.
    assert read(path, start_us=0, offset_us=-3_100_000_000) == [(t - 3_100_000_000, *rest) for t, *rest in later]
    with pytest.raises(DataError, match=r"event 0 has the time -3099999997 us \(offset_us = -3100000000 included\)"):
        read(path, offset_us=-3_100_000_000)


@pytest.mark.parametrize("name", ["EVT2", "DAT", "HDF5"])
def test_a_clock_that_runs_back_can_be_cut(tmp_path, name):
    events = [(t, 1, 1, 1) for t in (5_000_000, 9_000_000, 2_000_000, 9_500_000)]
    if name == "DAT":
        path = WRITERS[name](tmp_path, sorted(events))
        head, rows = path.read_bytes()[:-32], np.frombuffer(path.read_bytes()[-32:], "<u8")
        path.write_bytes(head + rows[[1, 2, 0, 3]].tobytes())
    elif name == "EVT2":
        path = tmp_path / "a.raw"
        path.write_bytes(HEADERS[name] + b"".join(encode_evt2([event]) for event in events))
    else:
        path = WRITERS[name](tmp_path, events)
    with pytest.raises(DataError, match="runs backwards at event 2: from 9000000 us to 2000000 us; 2 events") as caught:
        read(path)
    start = int(re.search(r"--start-us (\d+)", str(caught.value))[1])
    assert [t for t, *_ in read(path, start_us=start)] == [9_500_000]
    assert [t for t, *_ in read(path, end_us=5_000_000, start_us=3_000_000)] == [5_000_000]


def test_the_counter_of_dat_goes_on_through_what_is_left_out(tmp_path):
    period = 2**32
    path = write_dat_file(tmp_path, [(t, 1, 1, 0) for t in (5, 6, 7, 8, 9)])
    head, rows = path.read_bytes()[:-40], np.frombuffer(path.read_bytes()[-40:], "<u4").reshape(-1, 2).copy()
    rows[:, 0] = (period - 20, 30, 2_000_000_000, 4_000_000_000, 40)
    path.write_bytes(head + rows.tobytes())
    assert [t for t, *_ in read(path, start_us=2 * period)] == [2 * period + 40]
    assert [t for t, *_ in read(path, end_us=period + 30)] == [period - 20, period + 30]


@pytest.mark.parametrize("name", ["EVT2", "EVT21", "EVT3", "DAT", "AEDAT4"])
def test_formats_that_define_their_unit_take_no_other(tmp_path, name):
    path = WRITERS[name](tmp_path, [(1, 2, 3, 0), (2, 2, 3, 0)])
    assert read(path, unit="us") == read(path)
    with pytest.raises(DataError, match=r"defines itself what times count.*the unit is 'ns'"):
        read(path, unit="ns")


def test_what_is_left_out_is_not_checked(tmp_path):
    path = write_hdf5(tmp_path, [(5, 99, 99, 7), (10, 1, 1, 1), (20, 99, 99, 9)])
    assert read(path, start_us=6, end_us=15) == [(10, 1, 1, 1)]


@pytest.mark.parametrize("name", ["offset_us", "start_us", "end_us"])
def test_times_beyond_any_clock_are_refused(name):
    with pytest.raises(ValueError, match="less than or equal to 4611686018427387904"):
        RecordingTimesConfig(**{name: 2**63})


def test_start_after_end_is_refused():
    with pytest.raises(ValueError, match="start_us 5 must not lie after end_us 4"):
        RecordingTimesConfig(start_us=5, end_us=4)
