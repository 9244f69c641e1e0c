"""Box files of own recordings: every format, there and back, and its typical mistakes."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leod.boxes.box_files import BOX_FILE_SUFFIXES, read_boxes, read_label_moments, write_boxes
from leod.boxes.dtypes import IGNORED_CLASS_ID, LABEL_DTYPE, RECORDING_BOX_DTYPE
from leod.config.schema import SensorSize
from leod.errors import DataError

CLASSES = ("car", "pedestrian")
CSV_HEADER = "t_us,x,y,w,h,class"


@st.composite
def recording_boxes(draw):
    coordinates = st.floats(-100, 2000, width=32, allow_subnormal=False)
    sides = st.floats(0, 2000, width=32, allow_subnormal=False)
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(0, 2**50),
                coordinates,
                coordinates,
                sides,
                sides,
                st.sampled_from([0, 1, IGNORED_CLASS_ID]),
                st.integers(0, 2**32 - 1),
                st.floats(0, 1, width=32, allow_subnormal=False),
            ),
            max_size=8,
        )
    )
    boxes = np.array(rows, RECORDING_BOX_DTYPE)
    return boxes[np.argsort(boxes["t"], kind="stable")]


def write(path: Path, content) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize("suffix", BOX_FILE_SUFFIXES)
@given(boxes=recording_boxes())
@settings(max_examples=40, deadline=None)
def test_round_trip(suffix, boxes):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"boxes{suffix}"
        write_boxes(path, boxes, CLASSES, SensorSize(height=240, width=304))
        read = read_boxes(path, CLASSES)
    assert read.dtype == RECORDING_BOX_DTYPE
    np.testing.assert_array_equal(read, boxes)


@pytest.mark.parametrize("suffix", BOX_FILE_SUFFIXES)
def test_moments_found_empty_come_back(suffix, tmp_path):
    boxes = np.array([(100, 1, 2, 3, 4, 1, 7, 1), (200, 0, 0, 0, 0, IGNORED_CLASS_ID, 0, 1)], RECORDING_BOX_DTYPE)
    path = tmp_path / f"boxes{suffix}"
    write_boxes(path, boxes, CLASSES)
    np.testing.assert_array_equal(read_boxes(path, CLASSES), boxes)
    if suffix == ".csv":
        assert path.read_text().splitlines()[-1].strip(",") == "200"
    if suffix == ".json":
        assert len(json.loads(path.read_text())["annotations"]) == 1


@pytest.mark.parametrize("suffix", BOX_FILE_SUFFIXES)
def test_detections_carry_both_scores(suffix, tmp_path):
    detections = np.array([(100, 1, 2, 3, 4, 1, 0.25, 0.75)], LABEL_DTYPE)
    path = tmp_path / f"detections{suffix}"
    write_boxes(path, detections, CLASSES)
    read = read_boxes(path, CLASSES)
    assert read["class_confidence"].tolist() == [0.25]
    assert read["class_id"].tolist() == [1]
    if suffix == ".npy":
        np.testing.assert_array_equal(np.load(path, allow_pickle=False), detections)
    else:
        assert "0.75" in path.read_text()


@pytest.mark.parametrize("time_name", ["t", "ts"])
def test_both_spellings_of_time(time_name, tmp_path):
    rows = np.zeros(
        2, [(time_name, "u8"), *((name, "f8") for name in "xywh"), ("class_id", "u1"), ("confidence", "f4")]
    )
    rows[time_name], rows["class_id"], rows["confidence"] = [200, 100], [5, 0], [0.5, 1]
    np.save(tmp_path / "a_bbox.npy", rows)
    read = read_boxes(tmp_path / "a_bbox.npy", CLASSES)
    assert read["t"].tolist() == [100, 200]  # sorted
    assert read["class_id"].tolist() == [0, 5]  # unknown ids are for preprocessing to drop or to refuse
    assert read["class_confidence"].tolist() == [1, 0.5]


def test_csv_by_hand(tmp_path):
    text = "\ufeffclass, h, w, y, x, t_us, confidence\npedestrian, 40, 30, 20.5, 10, 250000, 0.5\n\n0,4,3,2,1,1e5,1\n"
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    read = read_boxes(tmp_path / "a.csv", CLASSES)
    assert read.tolist() == [(100_000, 1, 2, 3, 4, 0, 0, 1), (250_000, 10, 20.5, 30, 40, 1, 0, 0.5)]


def test_csv_without_boxes(tmp_path):
    assert len(read_boxes(write(tmp_path / "a.csv", CSV_HEADER + "\n"), CLASSES)) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "first line must name the columns"),  # empty file
        ("1,2,3,4,5,car\n", "first line must name the columns"),  # no header
        ("t_us,x,y,w,class\n", r"missing: \['h'\]"),  # column missing
        ("t_us,x,y,w,h,class,score\n", r"unknown: \['score'\]"),  # column misnamed
        ("t_us,x,y,w,h,class,x\n", "each once"),  # column twice
        (f"{CSV_HEADER}\n1,2,3,4,5\n", "line 2: 5 values, but the header names 6"),  # value missing
        (f"{CSV_HEADER}\n1,2,3,4,5,car\n1,2,x,4,5,car\n", "line 3: y is 'x'"),  # not a number
        (f"{CSV_HEADER}\n1,2,3,4,5,truck\n", "line 2: class 'truck' is not one of"),  # unknown class
        (f"{CSV_HEADER}\n1,2,3,4,5,-1\n", "line 2: class '-1' is not one of"),  # negative class
        (f"{CSV_HEADER}\n1.5,2,3,4,5,car\n", "line 2: t is 1.5, expected a whole number"),  # half a microsecond
        (f"{CSV_HEADER}\n\n1,2,3,-4,5,car\n", "line 3: w is -4.0, expected a finite size"),  # negative width
        (f"{CSV_HEADER}\n1,nan,3,4,5,car\n", "line 2: x is nan"),  # NaN
        (f"{CSV_HEADER}\ninf,2,3,4,5,car\n", "line 2: t is inf"),  # infinite time
        (f"{CSV_HEADER}\n-7,2,3,4,5,car\n", "line 2: t is -7"),  # negative time
    ],
)
def test_csv_mistakes(text, message, tmp_path):
    with pytest.raises(DataError, match=message) as caught:
        read_boxes(write(tmp_path / "a.csv", text), CLASSES)
    assert "a.csv" in str(caught.value)


def coco(**changes):
    annotation = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4]}
    content = {
        "images": [{"id": 7, "timestamp_us": 250_000}],
        "categories": [{"id": 3, "name": "pedestrian"}],
        "annotations": [annotation | changes.pop("annotation", {})],
    }
    return content | changes


def test_coco_by_hand(tmp_path):
    read = read_boxes(write(tmp_path / "a.json", coco()), CLASSES)
    assert read.tolist() == [(250_000, 1, 2, 3, 4, 1, 0, 1)]
    with_t = coco(images=[{"id": 7, "t": 5}], annotation={"score": 0.5, "track_id": 9})
    assert read_boxes(write(tmp_path / "a.json", with_t), CLASSES).tolist() == [(5, 1, 2, 3, 4, 1, 9, 0.5)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),  # cut off
        ([], "expected an object whose 'images'"),  # detections without images
        (coco(annotations=None), "'annotations' is a list"),  # no annotations
        (coco(images=[{"id": 7}]), "has no 'timestamp_us' or 't'"),  # an image data set without times
        (coco(images=[{"id": 7, "t": 1}] * 2), r"images\[1\]: the id 7"),  # ids twice
        (coco(annotation={"image_id": 8}), r"annotations\[0\]: there is no image with the id 8"),  # foreign image
        (coco(annotation={"category_id": [3]}), "there is no category"),  # impossible id
        (coco(annotation={"bbox": [1, 2, 3]}), r"expected \[x, y, w, h\]"),  # three numbers
        (coco(annotation={"bbox": [1, 2, 3, "4"]}), "h is '4', expected a number"),  # text
        (coco(annotation={"bbox": [1, 2, -3, 4]}), r"annotations\[0\]: w is -3.0"),  # negative width
        (coco(categories=[{"id": 3, "name": "tram"}]), "class 'tram' is not one of"),  # unknown class
    ],
)
def test_coco_mistakes(content, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read_boxes(write(tmp_path / "a.json", content), CLASSES)


def test_npy_mistakes(tmp_path):
    path = tmp_path / "a_bbox.npy"
    np.save(path, np.zeros((3, 8)))
    with pytest.raises(DataError, match="structured array with the fields"):
        read_boxes(path, CLASSES)
    rows = np.zeros(3, RECORDING_BOX_DTYPE)
    rows["y"][1] = np.nan
    np.save(path, rows)
    with pytest.raises(DataError, match="row 1: y is nan"):
        read_boxes(path, CLASSES)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match="truncated or damaged"):
        read_boxes(path, CLASSES)


def test_unknown_kinds_are_refused(tmp_path):
    boxes = np.zeros(1, RECORDING_BOX_DTYPE)
    with pytest.raises(DataError, match="not a known kind"):
        read_boxes(tmp_path / "a.xml", CLASSES)
    with pytest.raises(DataError, match="not a known kind"):
        write_boxes(tmp_path / "a.xml", boxes, CLASSES)
    boxes["class_id"] = 2
    with pytest.raises(DataError, match="cannot name class id 2"):
        write_boxes(tmp_path / "a.csv", boxes, CLASSES)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="does not exist"):
        read_boxes(tmp_path / "absent.csv", CLASSES)


@pytest.mark.parametrize("suffix", BOX_FILE_SUFFIXES)
def test_label_moments_are_read_whatever_the_classes_are_called(suffix, tmp_path):
    boxes = np.zeros(4, RECORDING_BOX_DTYPE)
    boxes["t"] = [5_000, 3_000, 5_000, 9_000]
    boxes["w"] = boxes["h"] = [4, 4, 4, 0]
    boxes["class_id"] = [0, 1, 1, IGNORED_CLASS_ID]
    boxes["class_confidence"] = 1
    write_boxes(tmp_path / f"a{suffix}", boxes, ("truck", "rider"))
    assert read_label_moments(tmp_path / f"a{suffix}").tolist() == [3_000, 5_000, 9_000]
