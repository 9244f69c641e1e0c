import numpy as np
import pytest
from ecf_writer import TABLE, encode_ecf, write_ecf
from hypothesis import given, settings
from hypothesis import strategies as st

from leod.errors import DataError
from leod.recordings.ecf import decode_chunk
from leod.recordings.recording import open_recording

MODES = ["runs", "columns packed", "all packed"]
steps = st.sampled_from([0, 0, 0, 1, 2, 13, 14, 15, 16, 255, 4096, 10**6, 2**40])
some_events = st.lists(
    st.tuples(steps, st.integers(0, 1279), st.integers(0, 719), st.integers(0, 1), st.integers(1, 40)), min_size=1
)


def read(path, max_events=1_000_000):
    with open_recording(path) as recording:
        chunks = list(recording.chunks(max_events))
        assert recording.fraction_read == 1
    assert all(0 < len(chunk) <= max_events for chunk in chunks)
    return [event for chunk in chunks for event in zip(*(getattr(chunk, n).tolist() for n in "txyp"), strict=True)]


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=60, deadline=None)
@given(recipe=some_events, start=st.integers(0, 2**50))
def test_what_is_encoded_is_decoded(mode, recipe, start):
    events, time = [], start
    for step, x, y, p, repeats in recipe:
        time += step
        # Runs of equal times, rows and polarities, with neighbouring columns.
        events += [(time, (x + i) % 2048, y, p) for i in range(repeats)]
    columns = decode_chunk(encode_ecf(events, mode))
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == events
    assert [column.dtype.name for column in columns] == ["int64", "uint16", "uint16", "uint8"]


@pytest.mark.parametrize("mode", MODES)
def test_damaged_chunks_are_refused_or_give_other_events(mode):
    rng = np.random.default_rng(0)
    events = [(1000 + i // 3, i % 7 + i % 2 * 9, i // 40, i // 50 % 2) for i in range(500)]
    content = encode_ecf(events, mode)
    for length in range(len(content)):
        assert decode_chunk(content[:length]) is None
    for _ in range(2_000):
        damaged = bytearray(content)
        damaged[rng.integers(4, len(content))] ^= int(rng.integers(1, 256))
        columns = decode_chunk(bytes(damaged))
        assert columns is None or {len(column) for column in columns} == {500}
    assert decode_chunk((65_536 << 2).to_bytes(4, "little") + content[4:]) is None


@pytest.mark.parametrize("max_events", [3, 5, 1_000])
def test_files_are_read_chunk_by_chunk(tmp_path, max_events):
    events = [(7 + i * i, i % 32, i % 24, i % 2) for i in range(18)]
    plain = np.zeros(5, TABLE)
    for row, event in zip(plain, events[10:15], strict=True):
        row["t"], row["x"], row["y"], row["p"] = event
    # The last chunk is full on disk, whatever the number of events.
    chunks = [
        encode_ecf(events[:5], "runs"),
        encode_ecf(events[5:10], "all packed"),
        plain,
        encode_ecf([*events[15:], (0, 0, 0, 0), (0, 0, 0, 0)][:3] + [events[-1]] * 2, "columns packed"),
    ]
    assert read(write_ecf(tmp_path / "a.hdf5", chunks, 18, 5), max_events) == events


def test_damaged_files_are_refused(tmp_path):
    good = encode_ecf([(i, 1, 1, 1) for i in range(5)], "runs")
    path = write_ecf(tmp_path / "a.hdf5", [good, good[:-3]], 10, 5)
    with pytest.raises(DataError, match=r"events from 5 on cannot be decoded \(ECF\): the file is damaged"):
        read(path)
    path = write_ecf(tmp_path / "b.hdf5", [good, encode_ecf([(9, 1, 1, 1)], "runs")], 10, 5)
    with pytest.raises(DataError, match="events from 5 on cannot be decoded"):
        read(path)
    path = write_ecf(tmp_path / "c.hdf5", [good], 10, 5)
    with pytest.raises(DataError, match="events from 5 on cannot be read"):
        read(path)
    path = write_ecf(tmp_path / "d.hdf5", [good], 5, 5, shuffled=True)
    with pytest.raises(DataError, match=r"unusual way \(HDF5 filters \[2, 36559\].*metavision_file_to_dat"):
        open_recording(path)
