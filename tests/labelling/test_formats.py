"""Boxes go out and come back in every format, and no box moves, whatever the sensor and the enlargement."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from leod.boxes.dtypes import IGNORED_CLASS_ID, LABEL_DTYPE
from leod.errors import ConfigError, DataError
from leod.labelling.annotations import Export
from leod.labelling.class_names import ClassNames
from leod.labelling.formats import FORMAT_NAMES, parse_formats, read_export, write_formats
from leod.labelling.manifest import (
    ExportedPicture,
    ExportedRecording,
    drawable_classes,
    picture_name,
    read_manifest,
    write_manifest,
)
from leod.labelling.returning import return_boxes
from leod.stages.export_frames import _to_label

CLASSES = ("car", "two-wheeler & rider", "Fußgänger")


@st.composite
def exported_pictures(draw: st.DrawFn) -> list[ExportedPicture]:
    """Pictures of any sensor and enlargement, with upright boxes inside of them."""
    pictures = []
    for number in range(draw(st.integers(1, 3))):
        height, width = draw(st.integers(8, 800)), draw(st.integers(8, 1300))
        scale = draw(st.integers(1, 8))
        boxes = np.zeros(draw(st.integers(0, 4)), LABEL_DTYPE)
        for row in boxes:
            left, right = sorted(draw(st.lists(st.floats(0, width), min_size=2, max_size=2)))
            top, bottom = sorted(draw(st.lists(st.floats(0, height), min_size=2, max_size=2)))
            # Two pixels at least; all boxes in the outermost corner look like shares of the picture, see below.
            row["x"], row["y"] = min(left, width - 2), min(top, height - 2)
            row["w"], row["h"] = max(right - row["x"], 2), max(bottom - row["y"], 2)
            row["class_id"] = draw(st.sampled_from([0, 1, 2, IGNORED_CLASS_ID]))
            row["class_confidence"], row["objectness"] = draw(st.floats(0, 1)), 1
        t_us = draw(st.integers(1, 2**60))
        boxes["t"] = t_us
        recording = ExportedRecording(f"drive {number}", Path(f"/drive {number}.dat"), f"{number:016x}", height, width)
        name = picture_name(recording, t_us, scale, (50_000,))
        size = height * scale, width * scale
        pictures.append(ExportedPicture(name, recording, t_us, scale, 0, 0, size, (50_000,), "why <&>", boxes))
        corner = [max((box["x"] + box["w"]) / width, (box["y"] + box["h"]) / height) < 0.02 for box in boxes]
        assume(not corner or not all(corner))
    return pictures


def write(folder: Path, pictures: list[ExportedPicture], name: str) -> None:
    """An export of ``pictures`` in one format."""
    for part in ("images", "context"):
        (folder / part).mkdir()
    for picture in pictures:
        (folder / "images" / picture.file).write_bytes(b"PNG")
        (folder / "context" / picture.file).write_bytes(b"PNG")
    manifest = write_manifest(folder / "manifest.json", CLASSES, pictures)
    labelled = tuple(_to_label(picture, picture.file, CLASSES) for picture in pictures)
    write_formats(
        folder,
        Export(manifest.export_id, tuple(drawable_classes(CLASSES)), labelled, folder / "images", folder / "context"),
        [name],
    )


def submit_predictions(path: Path) -> None:
    """Make annotations of Label Studio's predictions, as a person does who finds them right."""
    tasks = json.loads(path.read_text())
    for number, task in enumerate(tasks):
        task["id"] = number
        results = [prediction["result"] for prediction in task.pop("predictions", [])] or [[]]
        task["annotations"] = [{"id": number, "completed_by": 1, "was_cancelled": False, "result": results[0]}]
    path.write_text(json.dumps(tasks))


@pytest.mark.parametrize("name", FORMAT_NAMES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pictures=exported_pictures())
def test_no_box_moves_and_no_time(tmp_path_factory: pytest.TempPathFactory, name: str, pictures: list) -> None:
    folder = tmp_path_factory.mktemp("export")
    write(folder, pictures, name)
    if name == "label-studio":
        submit_predictions(folder / name / "tasks.json")
    drawn, ids = read_export(folder / name)
    manifest = read_manifest(folder)
    returned, counts = return_boxes(manifest, drawn, ids, ClassNames(CLASSES, {}), unchanged="labelled")
    assert [entry.picture.file for entry in returned] == [picture.file for picture in pictures]
    assert counts.cut == 0
    for entry, picture in zip(returned, pictures, strict=True):
        assert entry.picture.t_us == picture.t_us
        assert len(entry.boxes) == len(picture.boxes)
        for mine, theirs in zip(entry.boxes, picture.boxes, strict=True):
            assert mine["t"] == picture.t_us
            assert mine["class_id"] == theirs["class_id"]
            for edge in ("x", "y", "w", "h"):
                # Half a pixel is asked for; formats keep decimals, so a hundredth is what is left.
                assert abs(float(mine[edge]) - float(theirs[edge])) < 0.01


@pytest.mark.parametrize("name", [name for name in FORMAT_NAMES if name != "label-studio"])
def test_archives_are_read_as_they_are(tmp_path: Path, name: str) -> None:
    recording = ExportedRecording("a", Path("/a.dat"), "0" * 16, 100, 200)
    boxes = np.zeros(1, LABEL_DTYPE)
    boxes["w"] = boxes["h"] = 20
    pictures = [
        ExportedPicture(picture_name(recording, t, 2, (1,)), recording, t, 2, 0, 0, (200, 400), (1,), "", boxes)
        for t in (5, 6)
    ]
    write(tmp_path, pictures, name)
    with zipfile.ZipFile(tmp_path / "task.zip", "w") as archive:
        for path in sorted((tmp_path / name).rglob("*")):
            if "data/" not in path.as_posix():
                archive.write(path, path.relative_to(tmp_path / name))
        archive.write(tmp_path / "images" / pictures[0].file, "images/a.png")
    from_archive, _ = read_export(tmp_path / "task.zip")
    from_folder, _ = read_export(tmp_path / name)
    assert [(each.name, each.boxes) for each in from_archive] == [(each.name, each.boxes) for each in from_folder]
    assert len(from_archive) == 2


def test_several_formats_at_once_are_asked_about(tmp_path: Path) -> None:
    recording = ExportedRecording("a", Path("/a.dat"), "0" * 16, 100, 200)
    picture = ExportedPicture(picture_name(recording, 5, 2, (1,)), recording, 5, 2, 0, 0, (200, 400), (1,))
    write(tmp_path, [picture], "coco")
    write_formats(tmp_path, Export("0", CLASSES, (), tmp_path, tmp_path), ["yolo"])
    (tmp_path / "yolo" / "labels" / "train" / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(DataError, match=r"several formats \(coco, yolo\).*--format"):
        read_export(tmp_path)
    assert [each.name for each in read_export(tmp_path, "yolo")[0]] == ["a.txt"]


def test_what_is_no_export_is_said(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text('{"a": 1}')
    with pytest.raises(DataError, match=r"holds no annotations in a known format.*CVAT for images 1.1"):
        read_export(tmp_path)
    with pytest.raises(DataError, match=r"does not exist. Give the file, folder or archive"):
        read_export(tmp_path / "nothing.zip")
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(DataError, match="not a readable archive"):
        read_export(tmp_path / "cut.zip")
    with pytest.raises(ConfigError, match="'labelme' does not exist; possible are label-studio, coco"):
        parse_formats("coco,labelme")
