import h5py
import numpy as np
import pytest

from leod.config.schema import SensorSize
from leod.errors import DataError
from leod.events.hdf5 import Hdf5Recording

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


def read(path, sensor=None):
    with Hdf5Recording(path, sensor) as recording:
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
        ({"t": np.array([3, 9, 7, 2.0])}, "'events/t' is missing or is not a list of whole numbers"),
        ({"t": np.array([-3, 9, 7, 20])}, "event 0"),
        ({"t": np.array([3, 9, 5_000_000, 20])}, "runs backwards at event 3"),
        ({"x": np.array([0, 32, 5, 6])}, "event 1 lies at x = 32"),
        ({"y": np.array([0, 1, 5, 24])}, "event 3 lies at x = 6, y = 24"),
        ({"p": np.array([0, 1, 2, 1])}, "event 2 has polarity 2"),
    ],
)
def test_damaged_files_are_refused(tmp_path, change, message):
    path = write(tmp_path / "a.h5", COLUMNS | change)
    with pytest.raises(DataError, match=message):
        read(path)


def test_missing_group_column_and_truncation(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = np.zeros(3)
    with pytest.raises(DataError, match=r"no group 'events'; it holds \['data'\]"):
        Hdf5Recording(tmp_path / "a.h5")
    with pytest.raises(DataError, match="'events/p' is missing"):
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


def test_names_the_codec_that_is_missing(tmp_path):
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk((2,))
        creation.set_filter(0x8ECF, h5py.h5z.FLAG_OPTIONAL)
        kind = h5py.h5t.py_create(np.dtype([("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")]))
        h5py.h5d.create(file.create_group("CD").id, b"events", kind, h5py.h5s.create_simple((4,)), creation)
    with pytest.raises(DataError, match=r"ECF codec.*metavision_file_to_dat"):
        Hdf5Recording(path)
