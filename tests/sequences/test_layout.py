"""Reading and writing labels and index files, sound and damaged ones."""

from __future__ import annotations

import numpy as np
import pytest

from leod.boxes.dtypes import IGNORED_CLASS_ID, LABEL_DTYPE, RECORDING_BOX_DTYPE
from leod.config.schema import SensorSize
from leod.errors import DataError
from leod.sequences.layout import (
    SequenceLabels,
    check_same_length,
    label_file,
    labelled_frames_file,
    list_sequences,
    read_labelled_frames,
    read_labels,
    read_timestamps,
    write_labelled_frames,
    write_labels,
    write_timestamps,
)

REPRESENTATION = "stacked_histogram_dt=50_nbins=10"
SENSOR = SensorSize(height=240, width=304)


def labels(count=5):
    rows = np.zeros(count, LABEL_DTYPE)
    rows["t"] = 250_000
    rows["x"], rows["y"], rows["w"], rows["h"] = 10, 20, 30, 40
    rows["class_confidence"], rows["objectness"] = 0.5, 0.75
    return rows


def save(folder, rows, index, **more):
    path = label_file(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, labels=rows, objframe_idx_2_label_idx=index, **more)
    return path


def published(dtype_of=None, rename=None, drop=()):
    """Labels as they occur in published sets, with other types, names or fields."""
    source = labels()
    fields = {name: np.dtype((dtype_of or {}).get(name, LABEL_DTYPE[name])) for name in LABEL_DTYPE.names}
    rows = np.zeros(
        len(source), [((rename or {}).get(name, name), kind) for name, kind in fields.items() if name not in drop]
    )
    for name in fields:
        if name not in drop:
            rows[(rename or {}).get(name, name)] = source[name]
    return rows


def test_round_trip(tmp_path):
    write_labels(tmp_path, labels(), [0, 2, 2])
    read = read_labels(tmp_path, class_count=2)
    np.testing.assert_array_equal(read.labels, labels())
    assert read.labels.dtype == LABEL_DTYPE
    assert read.first_label_index.dtype == np.int64
    assert [len(read.frame(k)) for k in range(3)] == read.counts.tolist() == [2, 0, 3]


def test_equal_labels_make_equal_files(tmp_path):
    noisy = np.frombuffer(np.random.default_rng(0).bytes(200), LABEL_DTYPE).copy()  # chance bytes in the padding
    noisy[:] = labels()
    for name, rows in (("a", noisy), ("b", labels())):
        write_labels(tmp_path / name, rows, [0, 3])
    assert label_file(tmp_path / "a").read_bytes() == label_file(tmp_path / "b").read_bytes()


def test_preprocessed_labels_keep_their_track_ids(tmp_path):
    rows = np.zeros(2, RECORDING_BOX_DTYPE)
    rows["t"], rows["track_id"], rows["class_confidence"] = 1, [7, 8], 0.25
    write_labels(tmp_path, rows, [0], frame_timestamps_us=[250_000])
    with np.load(label_file(tmp_path), allow_pickle=False) as file:
        assert file["labels"]["track_id"].tolist() == [7, 8]
    assert np.load(tmp_path / "labels_v2" / "timestamps_us.npy").tolist() == [250_000]
    assert read_labels(tmp_path).labels["objectness"].tolist() == [0.25, 0.25]


def test_unlabelled_sequence(tmp_path):
    write_labels(tmp_path, labels(0), [])
    write_labelled_frames(tmp_path, REPRESENTATION, [])
    assert len(read_labels(tmp_path)) == 0
    assert read_labelled_frames(tmp_path, REPRESENTATION, 10).dtype == np.int64
    save(tmp_path, labels(0), np.array([]))  # floats, as np.savez makes of an empty list
    assert len(read_labels(tmp_path)) == 0


@pytest.mark.parametrize(
    "rows",
    [
        published(drop=["objectness"]),  # preprocessed by RVT
        published(drop=["objectness"], rename={"t": "ts"}),  # old spelling of the time
        published(dtype_of=dict.fromkeys(LABEL_DTYPE.names, "f8")),  # all doubles
        published(dtype_of={"t": "u8", "class_id": "u1", "x": "i2"}),  # other integers
        published(dtype_of={"x": ">f4", "t": ">i8"}),  # other byte order
    ],
)
def test_published_types_are_converted(rows, tmp_path):
    save(tmp_path, rows, np.array([0, 3], np.int32))
    expected = labels()
    if "objectness" not in rows.dtype.names:
        expected["objectness"] = expected["class_confidence"]
    np.testing.assert_array_equal(read_labels(tmp_path).labels, expected)


@pytest.mark.parametrize(
    ("field", "value", "dtype", "message"),
    [
        ("x", np.nan, "f4", "row 3: x is nan"),  # NaN coordinate
        ("y", np.inf, "f8", "row 3: y is inf"),  # infinite coordinate
        ("w", -1, "f4", "row 3: w is -1.0, expected a finite size of at least 0"),  # negative size
        ("h", np.nan, "f4", "row 3: h is nan"),  # NaN size
        ("class_confidence", np.nan, "f4", "row 3: class_confidence is nan"),  # NaN score
        ("class_id", 2, "u4", "row 3: class id 2, but the data set has 2 classes"),  # unknown class
        ("class_id", -1, "i4", "row 3: class_id is -1"),  # negative class
        ("class_id", 0.5, "f4", "row 3: class_id is 0.5, expected a whole number"),  # half a class
        ("t", -5, "i8", "row 3: t is -5"),  # negative time
        ("t", np.nan, "f8", "row 3: t is nan"),  # NaN time
    ],
)
def test_impossible_rows_are_refused(field, value, dtype, message, tmp_path):
    rows = published(dtype_of={field: dtype})
    rows[field][3] = value
    path = save(tmp_path, rows, np.array([0]))
    with pytest.raises(DataError) as caught:
        read_labels(tmp_path, class_count=2)
    assert caught.value.path == path
    assert message in str(caught.value)


def test_ignored_class_is_known(tmp_path):
    rows = labels()
    rows["class_id"][1] = IGNORED_CLASS_ID
    save(tmp_path, rows, np.array([0]))
    assert read_labels(tmp_path, class_count=2).labels["class_id"][1] == IGNORED_CLASS_ID


@pytest.mark.parametrize(
    ("rows", "index", "message"),
    [
        (labels(), [0, 3, 2], "not sorted: entry 2"),  # unsorted
        (labels(), [0, 6], "out of range"),  # beyond the last row
        (labels(), [-1, 2], "out of range"),  # negative
        (labels(), [1, 2], "the first 1 rows"),  # rows before the first frame
        (labels(), np.zeros(0, np.int64), "the first 5 rows"),  # rows without frames
        (labels(), [0.0, 2.0], "array of integers"),  # floats
        (labels(), [[0, 2]], "array of integers"),  # wrong shape
        (np.zeros((5, 8), np.float32), [0], "structured array with the fields"),  # not structured
        (published(drop=["w", "t"]), [0], r"\['t', 'w'\] are missing"),  # fields missing
        (published(dtype_of={"x": "S4"}), [0], "field 'x' must hold one number"),  # text
    ],
)
def test_contradictions_are_refused(rows, index, message, tmp_path):
    save(tmp_path, rows, np.array(index))
    with pytest.raises(DataError, match=message):
        read_labels(tmp_path)


def test_damaged_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_labels(tmp_path)
    path = save(tmp_path, labels(), np.array([0]))
    content = path.read_bytes()
    for size in (0, 10, 100, len(content) // 2, len(content) - 5):
        path.write_bytes(content[:size])
        with pytest.raises(DataError, match="truncated or damaged"):
            read_labels(tmp_path)
    np.savez(path, labels=labels())
    with pytest.raises(DataError, match=r"lacks the array\(s\) \['objframe_idx_2_label_idx'\]"):
        read_labels(tmp_path)
    np.savez(path, labels=np.array([{"t": 1}], object), objframe_idx_2_label_idx=np.array([0]))
    with pytest.raises(DataError, match="cannot be read"):  # a pickled object is never loaded
        read_labels(tmp_path)
    path.unlink()
    path.symlink_to(tmp_path / "gone.npz")
    with pytest.raises(DataError, match=r"is a link to .*gone\.npz"):
        read_labels(tmp_path)


def test_index_files(tmp_path):
    write_labelled_frames(tmp_path, REPRESENTATION, [3, 5, 9])
    write_timestamps(tmp_path, REPRESENTATION, np.arange(10) * 50_000)
    assert read_labelled_frames(tmp_path, REPRESENTATION, 10).tolist() == [3, 5, 9]
    assert len(read_timestamps(tmp_path, REPRESENTATION)) == 10
    with pytest.raises(DataError, match=r"run from 3 to 9, expected 0\.\.8"):
        read_labelled_frames(tmp_path, REPRESENTATION, 9)
    write_labelled_frames(tmp_path, REPRESENTATION, [3, 3])
    with pytest.raises(DataError, match="not sorted"):
        read_labelled_frames(tmp_path, REPRESENTATION)
    labelled_frames_file(tmp_path, REPRESENTATION).write_bytes(b"")
    with pytest.raises(DataError, match="truncated or damaged"):
        read_labelled_frames(tmp_path, REPRESENTATION)


def test_different_lengths_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"describes 2 labelled frames, but .* 3"):
        check_same_length(tmp_path, SequenceLabels(labels(), np.array([0, 2])), np.array([1, 2, 3]))


def test_frame_pixels(tmp_path):
    rows = labels(3)
    rows["x"] = [-5, 100, 302.5]
    rows["w"] = [20, 50, 5]
    sequence = SequenceLabels(rows, np.array([0, 1, 2]))
    full = sequence.to_frame_pixels(tmp_path, SENSOR, downsample_by_2=False)
    assert full.labels["x"].tolist() == [0, 100, 302.5]
    assert full.labels["w"].tolist() == [15, 50, 0.5]
    half = sequence.to_frame_pixels(tmp_path, SENSOR, downsample_by_2=True)
    assert half.labels["w"].tolist() == [7.5, 25]  # the last one lies beyond pixel 151
    assert half.counts.tolist() == [1, 1, 0]
    rows["x"][1] = 400
    with pytest.raises(DataError, match=r"1 of 3 boxes have no area .* row 1 with x=400"):
        sequence.to_frame_pixels(tmp_path, SENSOR, downsample_by_2=False)


def test_boxes_of_a_frame():
    joined = SequenceLabels(labels(3), np.array([0, 2, 2]))
    assert [len(joined.frame(k)) for k in range(3)] == [2, 0, 1]
    with pytest.raises(IndexError):
        joined.frame(3)


def test_listing_sequences(tmp_path):
    for name in ("b", "a", ".incomplete-1234-c"):
        (tmp_path / "train" / name).mkdir(parents=True)
    (tmp_path / "train" / "notes.txt").write_text("")
    (tmp_path / "train" / "linked").symlink_to(tmp_path / "train" / "a")
    assert [path.name for path in list_sequences(tmp_path, "train")] == ["a", "b", "linked"]
    with pytest.raises(DataError, match="does not exist"):
        list_sequences(tmp_path, "val")
    (tmp_path / "test").mkdir()
    with pytest.raises(DataError, match="holds no sequences"):
        list_sequences(tmp_path, "test")
