import h5py
import numpy as np
import pytest

from leod.config.schema import RecordingTimesConfig, SensorSize
from leod.errors import DataError
from leod.recordings.hdf5 import Hdf5Recording

COLUMNS = {
    "t": np.array([3, 9, 7, 20], np.int32),
    "x": np.array([0, 31, 5, 6], np.uint16),
    "y": np.array([0, 23, 5, 6], np.uint16),
    "p": np.array([-1, 1, 0, 1], np.int8),
}


def write(path, columns=COLUMNS, size=(24, 32)):
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file[f"events/{name}"] = values
        if size is not None:
            file["events/height"], file["events/width"] = size
    return path


def read(path, sensor=None, **times):
    with Hdf5Recording(path, sensor, RecordingTimesConfig(**times)) as recording:
        chunks = list(recording.chunks(3))
    return {name: np.concatenate([getattr(chunk, name) for chunk in chunks]) for name in "txyp"}


def test_reads_published_layout(tmp_path):
    events = read(write(tmp_path / "a.h5"))
    assert events["t"].tolist() == [3, 9, 9, 20]  # the late event gets the latest time
    assert events["x"].tolist() == [0, 31, 5, 6]
    assert events["p"].tolist() == [0, 1, 0, 1]  # -1 means darker
    assert [events[name].dtype.name for name in "txyp"] == ["int64", "uint16", "uint16", "uint8"]


def test_size_of_a_silent_file_comes_from_the_caller(tmp_path):
    path = write(tmp_path / "a.h5", size=None)
    with Hdf5Recording(path, SensorSize(height=24, width=32)) as recording:
        assert (recording.height, recording.width) == (24, 32)
    with pytest.raises(DataError, match="does not tell the size"):
        Hdf5Recording(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t": np.array([3, 9, 7])}, "differ in length"),
        ({"t": np.array([3, 9, 7, 20.5])}, r"'t' are fractional numbers \(float64\), from 3.0 to 20.5.*{unit: s}"),
        (
            {"t": np.array([b"3", b"9", b"7", b"2"])},
            r"'events/t' \(\|S1, shape \[4\]\) must be one list of numbers",
        ),
        ({"x": np.array([0.0, 1, 2, 3])}, r"'events/x' \(float64, shape \[4\]\) must be one list of whole"),
        ({"y": np.zeros((4, 1), int)}, r"'events/y' \(int64, shape \[4, 1\]\) must be one list"),
        ({"t": np.array([-3, 9, 7, 20])}, r"event 0 has the time -3 us;.*{offset_us: 3}.*{start_us: 0}"),
        ({"ts": COLUMNS["t"]}, "several lists that could be t: t, ts"),
        ({"height": np.array([24, 24])}, "'height' must be a single whole number"),
        ({"t_offset": np.array([1.5])}, r"'/events/t_offset' \(float64, shape \[1\]\) must be a single whole number"),
        (
            {"t_offset": np.uint64(2**64 - 1)},
            r"'/events/t_offset' \(uint64, shape \[\]\) is 18446744073709551615, which",
        ),
        ({"t_offset": np.array([1, 2])}, r"'/events/t_offset' .* must be a single whole number"),
        ({"t": np.array([3, 9, 5_000_000, 20])}, "runs backwards at event 3"),
        ({"x": np.array([0, 32, 5, 6])}, "event 1 lies at x = 32"),
        ({"y": np.array([0, 1, 5, 24])}, "event 3 lies at x = 6, y = 24"),
        ({"p": np.array([0, 1, 2, 1])}, "event 2 has polarity 2"),
    ],
)
def test_damaged_files_are_refused(tmp_path, change, message):
    path = write(tmp_path / "a.h5", COLUMNS | change, size=None if "height" in change else (24, 32))
    with pytest.raises(DataError, match=message):
        read(path)


def test_missing_group_column_and_truncation(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = np.zeros(3)
    with pytest.raises(DataError, match=r"no events were found.*It holds 'data' \(float64, shape \[3\]\)"):
        Hdf5Recording(tmp_path / "a.h5")
    with pytest.raises(DataError, match=r"'events' has no p; it may be called p, ps, .*'events/t' \(int32, shape"):
        Hdf5Recording(write(tmp_path / "b.h5", {name: COLUMNS[name] for name in "txy"}))
    path = write(tmp_path / "c.h5")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="damaged or cut off"):
        Hdf5Recording(path)


def write_metavision(path, geometry="32x24", **options):
    rows = np.zeros(4, [("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
    for name, values in COLUMNS.items():
        rows[name] = np.maximum(values, 0)
    with h5py.File(path, "w") as file:
        file.create_dataset("CD/events", data=rows, **options)
        if geometry:
            file.attrs["geometry"] = geometry
    return path


def test_reads_the_table_of_metavision(tmp_path):
    path = write_metavision(tmp_path / "a.hdf5", chunks=(2,), compression="gzip")
    with Hdf5Recording(path) as recording:
        assert (recording.height, recording.width) == (24, 32)
        chunks = list(recording.chunks(3))
        assert recording.fraction_read == 1
    assert np.concatenate([chunk.t for chunk in chunks]).tolist() == [3, 9, 9, 20]
    with pytest.raises(DataError, match="does not tell the size"):
        Hdf5Recording(write_metavision(tmp_path / "b.hdf5", geometry=None))


OTHER_NAMES = [("ts", "xs", "ys", "ps"), ("timestamps", "x_pos", "y_pos", "pol"), ("timestamp", "x", "y", "polarity")]


@pytest.mark.parametrize("names", [*OTHER_NAMES, ("time", "x", "y", "on")])
@pytest.mark.parametrize("place", ["events", "CD/events", "/"])
def test_usual_names_and_places(tmp_path, names, place):
    lists, table = tmp_path / "a.h5", tmp_path / "b.h5"
    with h5py.File(lists, "w") as file:
        for name, column in zip(names, COLUMNS, strict=True):
            file.require_group(place)[name] = COLUMNS[column]
        file["height"], file.attrs["width"] = 24, 32
    assert read(lists)["t"].tolist() == [3, 9, 9, 20]
    if place == "/":
        return
    rows = np.zeros(4, [(name, COLUMNS[column].dtype) for name, column in zip(names, COLUMNS, strict=True)])
    for name, column in zip(names, COLUMNS, strict=True):
        rows[name] = COLUMNS[column]
    with h5py.File(table, "w") as file:
        file[place] = rows
        file[place].attrs["height"], file[place].attrs["width"] = 24, 32
    for name, values in read(table).items():
        np.testing.assert_array_equal(values, read(lists)[name])


@pytest.mark.parametrize("value", [49_599_300_523, [49_599_300_523], np.uint64(49_599_300_523)])
@pytest.mark.parametrize("place", ["t_offset", "events/t_offset"])
def test_offset_in_the_file_is_added(tmp_path, value, place):
    path = write(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        file[place] = value
    assert read(path)["t"].tolist() == [49_599_300_523 + t for t in (3, 9, 9, 20)]
    assert read(path, offset_us=-49_599_300_523, end_us=9)["t"].tolist() == [3, 9, 9]


def test_offsets_that_contradict_each_other_are_refused(tmp_path):
    path = write(tmp_path / "a.h5", COLUMNS | {"t_offset": 5})
    with h5py.File(path, "a") as file:
        file["t_offset"] = 6
    with pytest.raises(DataError, match=r"/events/t_offset and /t_offset contradict each other: \[5, 6\]"):
        read(path)


@pytest.mark.parametrize(
    ("unit", "times", "expected"),
    [
        ("s", [0.000001, 0.0000014, 1.5, 1.500002], [1, 1, 1_500_000, 1_500_002]),
        ("s", [1, 2, 3, 4], [1_000_000, 2_000_000, 3_000_000, 4_000_000]),
        ("ms", [0.001, 0.5, 2.0, 2.0016], [1, 500, 2000, 2002]),
        ("us", [0.4, 0.6, 7, 8.9], [0, 1, 7, 9]),
        ("ns", [499, 500, 1_499, 1_600_000_000_000_000_700], [0, 1, 1, 1_600_000_000_000_001]),
        ("ns", [499.0, 501.0, 1_499.0, 20_000.0], [0, 1, 1, 20]),
        (None, [1, 2, 3, 4], [1, 2, 3, 4]),
    ],
)
def test_units(tmp_path, unit, times, expected):
    kept = {"start_us": expected[-1]} if expected[-1] > 1e12 else {}
    path = write(tmp_path / "a.h5", COLUMNS | {"t": np.array(times)})
    events = read(path, unit=unit, **kept)
    assert events["t"].tolist() == expected[-len(events["t"]) :]
    assert len(events["t"]) == (1 if kept else 4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_times_that_are_no_times_are_refused(tmp_path, bad):
    path = write(tmp_path / "a.h5", COLUMNS | {"t": np.array([0.0, 0.1, 0.2, bad])})
    with pytest.raises(DataError, match=r"event 3 has the time (nan|inf|1e\+300) s, which is not a time"):
        read(path, unit="s")


def test_warns_of_times_with_too_few_digits(tmp_path, caplog):
    times = np.array([1_000.0, 1_000.5, 1_001.0, 1_002.0])
    read(write(tmp_path / "a.h5", COLUMNS | {"t": times.astype(np.float32)}), unit="s")
    assert "of the type float32, which cannot tell apart what lies closer than 61 us around 1002.0" in caplog.text
    caplog.clear()
    read(write(tmp_path / "a.h5", COLUMNS | {"t": times}), unit="s")
    assert not caplog.records


def test_an_array_without_names_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["events"] = np.zeros((5, 4))
    with pytest.raises(DataError, match=r"'events' \(float64, shape \[5, 4\]\) is a plain array.*array\[:, 0\]"):
        Hdf5Recording(tmp_path / "a.h5")
