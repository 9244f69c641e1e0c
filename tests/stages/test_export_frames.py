"""Pictures to label go out, with what brings the labels back."""

from __future__ import annotations

import errno
import json
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from labelling_export import CLASSES, HEIGHT, SCALE, TIMES, WIDTH, export, write_recording
from PIL import Image
from tiny_sequences import CONFIG, random_detector

from leod.boxes.box_files import read_boxes
from leod.config.schema import SensorSize
from leod.errors import ConfigError, DataError, ResourceError
from leod.labelling.formats import FORMAT_NAMES
from leod.labelling.manifest import find_recording, read_manifest
from leod.labelling.moments import Moment, write_moments
from leod.models.checkpoint import save_detector
from leod.stages.detect import detect
from leod.stages.export_frames import export_frames


def test_pictures_manifest_and_proposals(tmp_path: Path) -> None:
    folder = export(tmp_path, ",".join(FORMAT_NAMES))
    manifest = read_manifest(folder)
    assert manifest.classes == CLASSES
    assert [(entry.recording.name, entry.t_us) for entry in manifest.pictures] == [
        ("drive_a", 300_123),
        ("drive_a", 777_777),
        ("drive b", 500_001),
    ]
    for entry in manifest.pictures:
        with Image.open(folder / "images" / entry.file) as picture:
            assert picture.size == (WIDTH * SCALE, HEIGHT * SCALE) == entry.size[::-1]
        assert (folder / "context" / entry.file).is_file()
        assert (
            find_recording(manifest, entry.recording).events
            == tmp_path / "recordings" / f"{entry.recording.name}_td.dat"
        )
    assert [len(entry.boxes) for entry in manifest.pictures] == [2, 0, 1]
    tasks = json.loads((folder / "label-studio" / "tasks.json").read_text())
    assert [len(task.get("predictions", [])) for task in tasks] == [1, 0, 1]
    assert tasks[0]["data"]["recording"] == "drive_a"
    assert tasks[0]["data"]["t_us"] == 300_123
    assert tasks[0]["data"]["image"].startswith("data:image/png;base64,")
    assert tasks[0]["predictions"][0]["result"][0]["score"] == pytest.approx(0.9)
    value = tasks[0]["predictions"][0]["result"][0]["value"]
    assert (value["x"], value["width"]) == pytest.approx((100 * 3.25 / WIDTH, 100 * 10.125 / WIDTH))
    labels = ElementTree.parse(folder / "label-studio" / "config.xml").getroot().iter("Label")
    assert [label.get("value") for label in labels] == ["car", "pedestrian", "ignored"]
    for entry in manifest.pictures:
        beside = folder / "cvat" / "data" / "related_images" / entry.file.replace(".", "_") / entry.file
        assert beside.read_bytes() == (folder / "context" / entry.file).read_bytes()


def test_the_same_export_twice_is_the_same(tmp_path: Path) -> None:
    one, other = (export(tmp_path / name, "coco,yolo") for name in "ab")
    files = [
        sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file()) for folder in (one, other)
    ]
    assert files[0] == files[1]
    for path in files[0]:
        assert (one / path).read_bytes() == (other / path).read_bytes()


def test_pictures_can_come_from_a_server(tmp_path: Path) -> None:
    folder = export(tmp_path, "label-studio", picture_url="http://pictures:8000")
    data = json.loads((folder / "label-studio" / "tasks.json").read_text())[0]["data"]
    assert data["image"] == f"http://pictures:8000/images/{data['picture']}"
    assert data["context"] == f"http://pictures:8000/context/{data['picture']}"


def test_a_detector_proposes_what_it_finds(tmp_path: Path) -> None:
    save_detector(tmp_path / "model.ckpt", random_detector())
    write_recording(tmp_path / "a.dat")
    detect(tmp_path / "a.dat", tmp_path / "model.ckpt", boxes=tmp_path / "found.npy", confidence_threshold=0.4)
    found = read_boxes(tmp_path / "found.npy", CONFIG.classes)
    ends = np.unique(found["t"])
    moments = [
        Moment(tmp_path / "a.dat", int(ends[3]) + 1_000, "", 0.0),
        Moment(tmp_path / "a.dat", int(ends[5]), "", 0.0),
    ]
    write_moments(tmp_path / "moments.csv", moments)
    export_frames(
        tmp_path / "moments.csv",
        tmp_path / "out",
        formats="coco",
        checkpoint=tmp_path / "model.ckpt",
        confidence_threshold=0.4,
    )
    manifest = read_manifest(tmp_path / "out")
    assert manifest.classes == tuple(CONFIG.classes)
    for picture, end in zip(manifest.pictures, (ends[3], ends[5]), strict=True):
        theirs = found[found["t"] == end]
        assert len(picture.boxes) == len(theirs) > 0
        assert (picture.boxes["t"] == picture.t_us).all()
        np.testing.assert_allclose(np.sort(picture.boxes["x"]), np.sort(theirs["x"]), atol=1e-3)


def test_only_the_first_moments(tmp_path: Path) -> None:
    folder = export(tmp_path, "coco", count=1)
    assert [entry.t_us for entry in read_manifest(folder).pictures] == [TIMES["drive_a"][0]]


def test_a_recording_as_a_folder(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    events = write_recording(tmp_path / "a.dat")
    (tmp_path / "drive" / "events" / "left").mkdir(parents=True)
    with h5py.File(tmp_path / "drive" / "events" / "left" / "events.h5", "w") as file:
        for name in "txyp":
            file[f"events/{name}"] = getattr(events, name)
    write_moments(tmp_path / "moments.csv", [Moment(tmp_path / "drive", 400_000, "", 0.0)])
    export_frames(
        tmp_path / "moments.csv",
        tmp_path / "out",
        formats="coco",
        classes="car",
        sensor=SensorSize(height=HEIGHT, width=WIDTH),
    )
    (picture,) = read_manifest(tmp_path / "out").pictures
    assert picture.recording.name == "drive"
    assert picture.recording.path == tmp_path / "drive"


def test_labels_of_a_folder_are_never_overwritten(tmp_path: Path) -> None:
    folder = export(tmp_path, "coco")
    with pytest.raises(ConfigError, match="exists already, and labels may lie in it"):
        export_frames(tmp_path / "moments.csv", folder, classes="car")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"classes": None}, "give the names of the classes: --classes"),
        ({"classes": "car,,bus"}, "expected names separated by commas"),
        ({"classes": "car,ignored"}, "'ignored' is always there"),
        ({"formats": "coco,kitti"}, "'kitti' does not exist; possible are label-studio, coco, cvat, yolo, voc"),
        ({"windows_ms": "50,long"}, "expected lengths in milliseconds"),
        ({"windows_ms": "0"}, "expected lengths in milliseconds"),
        ({"scale": 99}, "--scale must lie in 0..32"),
        ({"neighbours": -1}, "--neighbours must lie in 0..10"),
        ({"theme": "grey"}, "theme 'grey' does not exist"),
        ({"count": 0}, "--count must be at least 1"),
    ],
)
def test_options_out_of_range(tmp_path: Path, options: dict, said: str) -> None:
    write_recording(tmp_path / "a.dat")
    write_moments(tmp_path / "moments.csv", [Moment(tmp_path / "a.dat", 400_000, "", 0.0)])
    with pytest.raises(ConfigError, match=said):
        export_frames(tmp_path / "moments.csv", tmp_path / "out", **{"classes": "car"} | options)
    assert not (tmp_path / "out").exists()


def test_what_does_not_fit_together_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    export(tmp_path, "coco")
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"48 wide.*configuration says 240 and 304|sensor is 24 pixels high"):
        export_frames(tmp_path / "moments.csv", out, classes="car", sensor=SensorSize(height=240, width=304))
    with pytest.raises(DataError, match="line 3: class 'pedestrian' is not one of the data set's classes"):
        export_frames(tmp_path / "moments.csv", out, classes="car", boxes=[tmp_path / "proposals"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no boxes of the recordings; expected drive b_bbox.csv"):
        export_frames(tmp_path / "moments.csv", out, classes="car", boxes=[tmp_path / "empty"])
    shutil.move(tmp_path / "recordings" / "drive b_td.dat", tmp_path / "gone_td.dat")
    with pytest.raises(DataError, match=r"drive b_td.dat: the recording does not exist"):
        export_frames(tmp_path / "moments.csv", out, classes="car")
    assert not out.exists()
    assert not list(tmp_path.glob(".incomplete*"))


def test_the_same_recording_twice_is_refused(tmp_path: Path) -> None:
    for name in "ab":
        write_recording(tmp_path / name / "drive.dat")
    write_moments(tmp_path / "moments.csv", [Moment(tmp_path / name / "drive.dat", 400_000, "", 0.0) for name in "ab"])
    with pytest.raises(DataError, match=r"b/drive.dat: is the same recording as .*a/drive.dat"):
        export_frames(tmp_path / "moments.csv", tmp_path / "out", classes="car")


def test_weak_boxes_of_files_are_proposed_unless_told_otherwise(tmp_path: Path) -> None:
    assert len(read_manifest(export(tmp_path / "all", "coco")).pictures[0].boxes) == 2
    assert len(read_manifest(export(tmp_path / "few", "coco", confidence_threshold=0.5)).pictures[0].boxes) == 1


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_recording(tmp_path / "a.dat")
    write_moments(tmp_path / "moments.csv", [Moment(tmp_path / "a.dat", 400_000, "", 0.0)])

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(ResourceError, match="out: no space left on the disk"):
        export_frames(tmp_path / "moments.csv", tmp_path / "out", classes="car")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".incomplete*"))
