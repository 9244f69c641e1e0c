"""Labels come back from tools: what a person drew, when and where, and nothing else."""

from __future__ import annotations

import errno
import json
import logging
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelling_export import CLASSES, HEIGHT, SCALE, TIMES, WIDTH, boxes_of, export, write_recording

from leod.boxes.box_files import read_boxes, write_boxes
from leod.boxes.dtypes import IGNORED_CLASS_ID
from leod.boxes.operations import is_empty_moment
from leod.cli import main
from leod.errors import ConfigError, DataError, ResourceError
from leod.labelling.manifest import read_manifest
from leod.stages.convert_boxes import convert_boxes
from leod.stages.import_labels import import_labels

FIRST, SECOND = TIMES["drive_a"]
(THIRD,) = TIMES["drive b"]

Region = tuple[float, float, float, float, str]
"""x, y, w, h in pixels of the sensor, and the label."""


def label_studio(folder: Path, drawn: dict[int, list[Region] | None], **changes: Any) -> Path:
    """What Label Studio exports after a person has drawn regions on some pictures; None: opened, not submitted.

    Args:
        folder: Of the export.
        drawn: Time of the picture → regions.
        changes: Values to put into each region.
    """
    tasks = json.loads((folder / "label-studio" / "tasks.json").read_text())
    for number, task in enumerate(tasks, start=1):
        task |= {"id": number, "annotations": []}
        regions = drawn.get(task["data"]["t_us"])
        if regions is not None:
            results = [
                {
                    "id": f"r{position}",
                    "type": "rectanglelabels",
                    "from_name": "label",
                    "to_name": "image",
                    "original_width": WIDTH * SCALE,
                    "original_height": HEIGHT * SCALE,
                    "image_rotation": 0,
                    "value": {
                        "x": 100 * x / WIDTH,
                        "y": 100 * y / HEIGHT,
                        "width": 100 * w / WIDTH,
                        "height": 100 * h / HEIGHT,
                        "rotation": 0,
                        "rectanglelabels": [name],
                    }
                    | changes,
                }
                for position, (x, y, w, h, name) in enumerate(regions)
            ]
            task["annotations"] = [
                {
                    "id": 10 * number,
                    "completed_by": {"id": 1, "email": "a@b.de"},
                    "was_cancelled": False,
                    "result": results,
                }
            ]
    path = folder.parent / "project-1.json"
    path.write_text(json.dumps(tasks))
    return path


def edit(path: Path, change: Callable[[Any], None]) -> Path:
    """Change a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


DRAWN: dict[int, list[Region] | None] = {FIRST: [(3.0, 4.0, 10.0, 8.0, "car")], SECOND: [], THIRD: None}


def rows(folder: Path, name: str = "drive_a") -> list[tuple[float, ...]]:
    """Boxes of a recording: (t, x, y, w, h, class id)."""
    boxes = read_boxes(folder / "recordings" / f"{name}_bbox.csv", CLASSES)
    return [tuple(round(float(box[key]), 3) for key in ("t", "x", "y", "w", "h", "class_id")) for box in boxes]


def test_what_was_drawn_comes_back_where_and_when_it_belongs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = export(tmp_path, "label-studio")
    with caplog.at_level(logging.INFO):
        summary = import_labels(label_studio(folder, DRAWN), folder)
    assert rows(tmp_path) == [(FIRST, 3, 4, 10, 8, 0), (SECOND, 0, 0, 0, 0, IGNORED_CLASS_ID)]
    boxes = read_boxes(tmp_path / "recordings" / "drive_a_bbox.csv", CLASSES)
    assert is_empty_moment(boxes).tolist() == [False, True]
    # The third picture was opened, but nobody submitted it: it is not an empty one.
    assert not (tmp_path / "recordings" / "drive b_bbox.csv").exists()
    assert (summary.labelled, summary.empty, summary.not_labelled, summary.missing) == (2, 1, 1, 0)
    assert summary.boxes == {"car": 1}
    assert "2 pictures are labelled, 1 of them empty; 1 came back unfinished, 0 did not come back" in caplog.text
    assert "label moments: 2 new, 0 there already, 0 replaced, 0 kept" in caplog.text


def test_again_changes_nothing_not_even_the_file(tmp_path: Path) -> None:
    folder = export(tmp_path, "label-studio")
    returned = label_studio(folder, DRAWN)
    import_labels(returned, folder)
    path = tmp_path / "recordings" / "drive_a_bbox.csv"
    before = path.stat().st_mtime_ns, path.read_bytes()
    summary = import_labels(returned, folder)
    assert (path.stat().st_mtime_ns, path.read_bytes()) == before
    assert summary.written == []
    assert summary.moments.present == 2


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    folder = export(tmp_path, "label-studio")
    summary = import_labels(label_studio(folder, DRAWN), folder, dry_run=True)
    assert [path.name for path in summary.written] == ["drive_a_bbox.csv"]
    assert not list((tmp_path / "recordings").glob("*_bbox*"))


def test_boxes_go_into_another_folder(tmp_path: Path) -> None:
    folder = export(tmp_path, "label-studio")
    shutil.rmtree(tmp_path / "recordings")
    import_labels(label_studio(folder, DRAWN), folder, output=tmp_path / "boxes")
    assert len(read_boxes(tmp_path / "boxes" / "drive_a_bbox.csv", CLASSES)) == 2


# ------------------------------------------------------------------------------------------------- merging


@pytest.mark.parametrize("suffix", [".csv", ".npy", ".json"])
def test_boxes_that_are_there_stay_as_they_are(tmp_path: Path, suffix: str) -> None:
    folder = export(tmp_path, "label-studio")
    path = tmp_path / "recordings" / f"drive_a_bbox{suffix}"
    mine = boxes_of((200_000, 1.123456, 2, 3, 4, 1), (600_000, 5, 6, 7, 8, 0, 0.5))
    mine["track_id"] = 7, 8
    write_boxes(path, mine, CLASSES)
    import_labels(label_studio(folder, DRAWN), folder)
    merged = read_boxes(path, CLASSES)
    assert merged["t"].tolist() == [200_000, FIRST, 600_000, SECOND]
    np.testing.assert_array_equal(merged[[0, 2]], mine)
    assert [entry.name for entry in path.parent.glob("*_bbox*")] == [path.name]


@pytest.mark.parametrize("theirs", [(FIRST, 3, 4, 10, 12, 0), (FIRST, 3, 4, 10, 8, 1), (FIRST + 3, 3, 4, 10, 8, 0)])
def test_conflicts_are_named_and_resolved_as_told(tmp_path: Path, theirs: tuple) -> None:
    folder = export(tmp_path, "label-studio")
    path = tmp_path / "recordings" / "drive_a_bbox.csv"
    write_boxes(path, boxes_of(theirs), CLASSES)
    before, returned = path.read_bytes(), label_studio(folder, DRAWN)
    away = r" \(\+3 µs away\)" if theirs[0] != FIRST else ""
    said = rf"has other boxes for 1 of 2 moments: t = {FIRST} µs, 1 boxes in the file{away}, 1 new ones.*--on-conflict"
    with pytest.raises(DataError, match=said):
        import_labels(returned, folder)
    assert path.read_bytes() == before
    summary = import_labels(returned, folder, on_conflict="keep")
    assert (summary.moments.kept, summary.moments.added) == (1, 1)
    assert rows(tmp_path) == [theirs, (SECOND, 0, 0, 0, 0, IGNORED_CLASS_ID)]
    summary = import_labels(returned, folder, on_conflict="replace")
    assert (summary.moments.replaced, summary.moments.present) == (1, 1)
    assert rows(tmp_path) == [(FIRST, 3, 4, 10, 8, 0), (SECOND, 0, 0, 0, 0, IGNORED_CLASS_ID)]


def test_an_empty_moment_and_boxes_for_it_are_a_conflict(tmp_path: Path) -> None:
    folder = export(tmp_path, "label-studio")
    import_labels(label_studio(folder, DRAWN), folder)
    other = label_studio(folder, {SECOND: [(1, 1, 5, 5, "car")]})
    with pytest.raises(DataError, match=f"t = {SECOND} µs, 0 boxes in the file, 1 new ones"):
        import_labels(other, folder)


def test_no_file_is_written_if_one_of_them_cannot_be(tmp_path: Path) -> None:
    folder = export(tmp_path, "label-studio")
    write_boxes(tmp_path / "recordings" / "drive b_bbox.csv", boxes_of((THIRD, 1, 1, 2, 2, 0)), CLASSES)
    returned = label_studio(folder, DRAWN | {THIRD: [(9, 9, 5, 5, "car")]})
    with pytest.raises(DataError, match=r"drive b_bbox\.csv: has other boxes"):
        import_labels(returned, folder)
    assert not (tmp_path / "recordings" / "drive_a_bbox.csv").exists()


# ------------------------------------------------------------------------------------------------- classes


@pytest.mark.parametrize(
    ("drawn", "mapping", "expected"),
    [
        ("truck", ["truck,bus=car"], 0),
        ("Person ", ["Person =pedestrian"], None),
        ("rider", ["rider=ignored"], IGNORED_CLASS_ID),
        ("ignored", [], IGNORED_CLASS_ID),
    ],
)
def test_classes_are_merged_and_renamed(tmp_path: Path, drawn: str, mapping: list[str], expected: int | None) -> None:
    folder = export(tmp_path, "label-studio")
    name = drawn.strip()
    import_labels(label_studio(folder, {FIRST: [(3, 4, 10, 8, name)]}), folder, mapping=mapping)
    assert rows(tmp_path) == [(FIRST, 3, 4, 10, 8, 1 if expected is None else expected)]


def test_a_class_that_is_left_out_leaves_a_labelled_moment(tmp_path: Path) -> None:
    folder = export(tmp_path, "label-studio")
    drawn = {FIRST: [(3, 4, 10, 8, "sign")], SECOND: [(3, 4, 10, 8, "sign"), (5, 5, 5, 5, "car")]}
    summary = import_labels(label_studio(folder, drawn), folder, mapping=["sign=null"])
    assert rows(tmp_path) == [(FIRST, 0, 0, 0, 0, IGNORED_CLASS_ID), (SECOND, 5, 5, 5, 5, 0)]
    assert summary.left_out == 2


def test_the_mapping_holds_for_the_file_that_is_there(tmp_path: Path) -> None:
    folder = export(tmp_path, "label-studio")
    path = tmp_path / "recordings" / "drive_a_bbox.csv"
    write_boxes(path, boxes_of((200_000, 1, 2, 3, 4, 1), (FIRST, 3, 4, 10, 8, 0)), ("truck", "pedestrian"))
    returned = label_studio(folder, {FIRST: [(3, 4, 10, 8, "car")]})
    with pytest.raises(DataError, match=r"drive_a_bbox.csv: line 3: class 'truck' is not one of"):
        import_labels(returned, folder)
    import_labels(returned, folder, mapping=["truck=car"])
    assert rows(tmp_path) == [(200_000, 1, 2, 3, 4, 1), (FIRST, 3, 4, 10, 8, 0)]


def test_more_classes_than_were_exported(tmp_path: Path) -> None:
    folder = export(tmp_path, "label-studio")
    returned = label_studio(folder, {FIRST: [(3, 4, 10, 8, "bicycle")]})
    import_labels(returned, folder, classes="car,pedestrian,bicycle")
    (box,) = read_boxes(tmp_path / "recordings" / "drive_a_bbox.csv", (*CLASSES, "bicycle"))
    assert box["class_id"] == 2


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        (["truck"], "expected NAME.*truck,bus=car"),
        (["truck="], "expected NAME"),
        (["=car"], "expected NAME"),
        (
            ["truck=Car"],
            r"'Car' is not one of the classes \['car', 'pedestrian'\] \(did you mean 'car'\? Case counts.\)",
        ),
        (["truck=car", "truck=pedestrian"], "'truck' is mapped twice"),
    ],
)
def test_mappings_that_cannot_be(tmp_path: Path, mapping: list[str], said: str) -> None:
    folder = export(tmp_path, "label-studio")
    with pytest.raises(ConfigError, match=said):
        import_labels(label_studio(folder, DRAWN), folder, mapping=mapping)


def test_eight_classes_become_three_in_box_files(tmp_path: Path) -> None:
    eight = ("pedestrian", "rider", "car", "bus", "truck", "bicycle", "motorcycle", "train")
    boxes = boxes_of(*((1_000 * (number + 1), 1, 2, 3, 4, number) for number in range(8)))
    three = ("car", "cyclist", "pedestrian")
    mapping = ["bus,truck=car", "rider=ignored", "bicycle,motorcycle=cyclist", "train=null"]
    write_boxes(tmp_path / "a.csv", boxes, eight)
    convert_boxes(tmp_path / "a.csv", tmp_path / "b.csv", ",".join(three), mapping)
    ids = read_boxes(tmp_path / "b.csv", three)["class_id"].tolist()
    assert ids == [2, IGNORED_CLASS_ID, 0, 0, 0, 1, 1, IGNORED_CLASS_ID]
    assert is_empty_moment(read_boxes(tmp_path / "b.csv", three)).tolist() == [False] * 7 + [True]
    write_boxes(tmp_path / "a.npy", boxes, eight)
    by_id = ["0=pedestrian", "2,3,4=car", "1=ignored", "5,6=cyclist", "7=null"]
    convert_boxes(tmp_path / "a.npy", tmp_path / "c.csv", ",".join(three), by_id)
    assert (tmp_path / "c.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


# ------------------------------------------------------------- pictures whose fate the format does not tell


@pytest.mark.parametrize("name", ["coco", "cvat", "yolo", "voc"])
def test_pictures_that_came_back_as_they_went_out_are_asked_about(tmp_path: Path, name: str) -> None:
    folder = export(tmp_path, name)
    with pytest.raises(
        DataError, match=r"3 of 3 pictures came back as they went out.*--unchanged labelled.*unlabelled"
    ):
        import_labels(folder / name, folder)
    with pytest.raises(DataError, match="3 of 3 pictures came back"):
        import_labels(folder / name, folder, classes="pedestrian,car", mapping=["car=ignored"])
    with pytest.raises(DataError, match="no picture is labelled"):
        import_labels(folder / name, folder, unchanged="unlabelled")
    summary = import_labels(folder / name, folder, unchanged="labelled")
    assert (summary.labelled, summary.empty) == (3, 1)
    assert [row[0] for row in rows(tmp_path)] == [FIRST, FIRST, SECOND]


def test_only_pictures_that_a_person_changed_count(tmp_path: Path) -> None:
    folder = export(tmp_path, "coco")

    def correct(content: dict) -> None:
        # The box of the third picture was deleted, one of the first moved; the second was not looked at.
        content["annotations"] = content["annotations"][:2]
        content["annotations"][0]["bbox"][0] += 16

    edit(folder / "coco" / "instances.json", correct)
    import_labels(folder / "coco", folder, unchanged="unlabelled")
    assert rows(tmp_path)[0] == (FIRST, 5.25, 4.5, 10.125, 8, 0)
    assert rows(tmp_path, "drive b") == [(THIRD, 0, 0, 0, 0, IGNORED_CLASS_ID)]
    assert SECOND not in [row[0] for row in rows(tmp_path)]


# ------------------------------------------------------------------------------------------------ bad input


def refused(folder: Path, returned: Path, said: str, **options: Any) -> None:
    """Assert that an import is refused with a message, and nothing is written."""
    with pytest.raises(DataError, match=said):
        import_labels(returned, folder, **options)
    assert not list(folder.parent.glob("recordings/*_bbox*"))


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: f"3f2a9c1b-{name}",
        lambda name: name.upper().replace(".PNG", ".JPG"),
        lambda name: f"C:\\labels\\{name}",
        lambda name: f"/data/local-files/?d=batch%201/{name}",
        lambda name: f"https://server/upload/{name}?token=a.b",
        lambda name: name.replace(".png", "_png.rf.0123456789.jpg"),
    ],
)
def test_names_that_tools_change_are_known_again(tmp_path: Path, rename: Callable[[str], str]) -> None:
    folder = export(tmp_path, "coco", proposed=False)

    def change(content: dict) -> None:
        for image in content["images"]:
            image["file_name"] = rename(image["file_name"])
        content["annotations"] = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [24, 32, 80, 64]}]

    edit(folder / "coco" / "instances.json", change)
    import_labels(folder / "coco", folder, unchanged="unlabelled")
    assert rows(tmp_path) == [(FIRST, 3, 4, 10, 8, 0)]


def test_names_that_are_lost_are_refused(tmp_path: Path) -> None:
    folder = export(tmp_path, "coco")
    edit(folder / "coco" / "instances.json", lambda content: content["images"][1].update(file_name="frame_000001.png"))
    refused(
        folder,
        folder / "coco",
        r"instances.json: images\[1\]: the picture 'frame_000001.png' is not in the manifest.*leave their end",
    )


def test_a_picture_of_another_export_is_refused(tmp_path: Path) -> None:
    folder = export(tmp_path, "voc")
    write_recording(tmp_path / "other" / "recordings" / "c.dat", seed=9)
    other = export(tmp_path / "other", "voc", count=1)
    stranger = next((other / "voc" / "Annotations").iterdir())
    text = stranger.read_text().replace("_t300123_", "_t300124_")
    (folder / "voc" / "Annotations" / "x.xml").write_text(text)
    refused(folder, folder / "voc", "x.xml: picture .* is not in the manifest .*; it belongs to another export")


@pytest.mark.parametrize("name", ["label-studio", "coco"])
def test_an_export_of_another_project_is_refused(tmp_path: Path, name: str) -> None:
    folder = export(tmp_path, name)
    other = export(tmp_path / "other", name, count=1)
    refused(folder, other / name, "belongs to the export [0-9a-f]{16}, the manifest .* to [0-9a-f]{16}.*--manifest")


def test_another_size_of_a_picture_is_refused(tmp_path: Path) -> None:
    folder = export(tmp_path, "coco")
    edit(
        folder / "coco" / "instances.json",
        lambda content: content["images"][0].update(width=WIDTH * 4, height=HEIGHT * 4),
    )
    refused(folder, folder / "coco", r"images\[0\]: .* is 192 x 96 pixels .*, the exported picture 384 x 192.*unscaled")


@pytest.mark.parametrize(
    ("region", "said"),
    [
        ((60, 4, 5, 5, "car"), "region 1.*: the box lies outside the picture"),
        ((-20, 4, 5, 5, "car"), "region 1.*: the box lies outside the picture"),
        ((3, 4, 0, 5, "car"), "region 1.*: the box is 0 x 40 pixels, it has no area.*stray click"),
        ((3, 4, 5, 5, "Car"), r"region 1.*: class 'Car' .*\(did you mean 'car'\? Case counts.\).*--map 'Car=car'"),
        (
            (3, 4, 5, 5, "pedestrain"),
            r"region 1.*: class 'pedestrain' .*did you mean 'pedestrian'.*--map 'pedestrain=pe",
        ),
        ((3, 4, 5, 5, "zebra"), "region 1.*: class 'zebra' .*--map 'zebra=CLASS', or --map 'zebra=null'"),
    ],
)
def test_boxes_that_do_not_fit_are_named(tmp_path: Path, region: Region, said: str) -> None:
    folder = export(tmp_path, "label-studio")
    refused(folder, label_studio(folder, {FIRST: [region]}), rf"project-1.json: task 1, annotation 10, {said}")


def test_boxes_that_reach_beyond_the_picture_are_cut_and_counted(tmp_path: Path) -> None:
    folder = export(tmp_path, "label-studio")
    drawn = {FIRST: [(-2, 4, 10, 8, "car"), (40, 20, 10, 8, "car")]}
    summary = import_labels(label_studio(folder, drawn), folder)
    assert rows(tmp_path) == [(FIRST, 0, 4, 8, 8, 0), (FIRST, 40, 20, 8, 4, 0)]
    assert summary.cut == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rotation": 12.5}, "the box is rotated by 12.5 degrees.*upright"),
        ({"width": 384.0}, "is 384 wide .*counts in percent of the picture. Are these pixels"),
        ({"x": None}, "x is None, expected a number"),
        ({"rectanglelabels": ["car", "pedestrian"]}, "has 2 labels, expected one class"),
    ],
)
def test_regions_of_label_studio_that_are_no_upright_boxes_in_percent(tmp_path: Path, changes: dict, said: str) -> None:
    folder = export(tmp_path, "label-studio")
    refused(folder, label_studio(folder, DRAWN, **changes), f"task 1, annotation 10, region 1: .*{said}")


def test_shares_in_place_of_percent_are_refused(tmp_path: Path) -> None:
    folder = export(tmp_path, "label-studio")
    regions = [(0.2 * WIDTH / 100, 0.3 * HEIGHT / 100, 0.1 * WIDTH / 100, 0.1 * HEIGHT / 100, "car")] * 2
    refused(
        folder, label_studio(folder, {FIRST: regions}), "look like shares of the picture; this format counts in percent"
    )


def test_shapes_that_are_no_boxes_are_refused(tmp_path: Path) -> None:
    folder = export(tmp_path, "label-studio")
    returned = edit(
        label_studio(folder, DRAWN),
        lambda tasks: tasks[0]["annotations"][0]["result"][0].update(type="polygonlabels", value={"points": []}),
    )
    refused(folder, returned, "region 1: is a polygonlabels; only rectangles are read")


def two_annotators(tasks: list[dict]) -> None:
    """Another person annotates the first task, too."""
    second = json.loads(json.dumps(tasks[0]["annotations"][0]))
    second |= {"id": 99, "completed_by": {"id": 2, "email": "c@d.de"}}
    second["result"][0]["value"]["x"] += 10
    tasks[0]["annotations"].append(second)


def test_two_annotators_of_one_picture(tmp_path: Path) -> None:
    folder = export(tmp_path, "label-studio")
    returned = edit(label_studio(folder, DRAWN), two_annotators)
    refused(
        folder,
        returned,
        r"annotation 99: .* also annotated at task 1, annotation 10, in another way \(by a@b.de.*--annotator",
    )
    import_labels(returned, folder, annotator="c@d.de")
    assert rows(tmp_path) == [(FIRST, 7.8, 4, 10, 8, 0)]


def test_two_annotators_who_agree_are_one(tmp_path: Path) -> None:
    folder = export(tmp_path, "label-studio")
    returned = edit(label_studio(folder, DRAWN), two_annotators)
    edit(returned, lambda tasks: tasks[0]["annotations"][1]["result"][0]["value"].update(x=100 * 3.01 / WIDTH))
    import_labels(returned, folder)
    assert len(rows(tmp_path)) == 2


def test_skipped_tasks_and_drafts_are_not_labelled(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = export(tmp_path, "label-studio")

    def skip(tasks: list[dict]) -> None:
        tasks[1]["annotations"][0]["was_cancelled"] = True
        tasks[2]["drafts"] = [{"result": []}]

    summary = import_labels(edit(label_studio(folder, DRAWN), skip), folder)
    assert rows(tmp_path) == [(FIRST, 3, 4, 10, 8, 0)]
    assert summary.not_labelled == 2
    assert "1 tasks have a draft that was never submitted" in caplog.text


def test_an_empty_export_is_refused(tmp_path: Path) -> None:
    folder = export(tmp_path, "label-studio")
    refused(folder, label_studio(folder, {}), r"no picture is labelled \(3 are there, none of them finished\).*submit")
    (tmp_path / "nothing.json").write_text("[]")
    refused(folder, tmp_path / "nothing.json", "holds no picture. Was it the right project")


@pytest.mark.parametrize("name", ["coco/instances.json", "cvat/annotations.xml", "label-studio/tasks.json"])
def test_an_export_that_was_cut_off_is_refused(tmp_path: Path, name: str) -> None:
    folder = export(tmp_path, name.split("/")[0])
    (folder / name).write_text((folder / name).read_text()[:-9])
    refused(folder, folder / name, rf"{Path(name).name}: is damaged \(.*Export it again")


def test_a_manifest_edited_by_hand_is_refused(tmp_path: Path) -> None:
    folder = export(tmp_path, "label-studio")
    returned = label_studio(folder, DRAWN)
    edit(folder / "manifest.json", lambda content: content["pictures"][0].update(t_us=FIRST + 1))
    refused(folder, returned, "manifest.json: was edited after it was written.*--recordings.*--map")
    edit(folder / "manifest.json", lambda content: content.update(version=2))
    refused(folder, returned, "has version 2, this program reads 1")
    (folder / "manifest.json").write_text('{"a": 1}')
    refused(folder, returned, "is no manifest of an export")
    (folder / "manifest.json").unlink()
    refused(folder, returned, "the manifest does not exist")


def test_a_recording_that_was_moved_is_found_where_told(tmp_path: Path) -> None:
    folder = export(tmp_path, "label-studio")
    returned = label_studio(folder, DRAWN)
    shutil.move(tmp_path / "recordings", tmp_path / "archive" / "recordings")
    refused(folder, returned, "the recording 'drive_a' is not where it was.*--recordings FOLDER")
    with pytest.raises(DataError, match=r"export: holds no drive_a_td\.dat"):
        import_labels(returned, folder, recordings=folder)
    import_labels(returned, folder, recordings=tmp_path / "archive")
    assert (tmp_path / "archive" / "recordings" / "drive_a_bbox.csv").is_file()


def test_an_export_moves_with_its_recordings(tmp_path: Path) -> None:
    export(tmp_path / "one", "label-studio")
    shutil.move(tmp_path / "one", tmp_path / "other")
    folder = tmp_path / "other" / "export"
    import_labels(label_studio(folder, DRAWN), folder)
    assert len(rows(tmp_path / "other")) == 2


def test_another_recording_of_the_same_name_is_refused(tmp_path: Path) -> None:
    folder = export(tmp_path, "label-studio")
    write_recording(tmp_path / "recordings" / "drive_a_td.dat", seed=5, height=HEIGHT * 2)
    refused(folder, label_studio(folder, DRAWN), r"drive_a_td.dat: is not the recording 'drive_a' that was exported")


def test_a_full_disk_keeps_the_old_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = export(tmp_path, "label-studio")
    path = tmp_path / "recordings" / "drive_a_bbox.csv"
    write_boxes(path, boxes_of((200_000, 1, 2, 3, 4, 1)), CLASSES)
    before, returned = path.read_bytes(), label_studio(folder, DRAWN)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("leod.files.os.fsync", full)
        with pytest.raises(ResourceError, match=r"drive_a_bbox\.csv: no space left on the disk"):
            import_labels(returned, folder)
    assert path.read_bytes() == before
    assert not list(path.parent.glob(".incomplete*"))
    import_labels(returned, folder)
    assert len(rows(tmp_path)) == 3


CVAT_SHAPE = '<{} label="car" xtl="1" ytl="1" xbr="9" ybr="9" {}/>'


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (CVAT_SHAPE.format("box", 'rotation="30.0"'), "shape 1: the box is rotated by 30 degrees"),
        (CVAT_SHAPE.format("polygon", 'points="1,1;2,2"'), "shape 1: is a polygon; only rectangles are read"),
        (CVAT_SHAPE.format("box", "").replace('xbr="9"', 'xbr="wide"'), "shape 1: xbr is 'wide', expected a number"),
        (CVAT_SHAPE.format("box", "").replace("9", "0.4").replace('"1"', '"0.1"'), "look like shares of the picture"),
        (CVAT_SHAPE.format("box", "").replace('xbr="9"', 'xbr="0"'), "it has no area"),
    ],
)
def test_shapes_of_cvat_that_are_no_upright_boxes(tmp_path: Path, shape: str, said: str) -> None:
    folder = export(tmp_path, "cvat", proposed=False)
    tree = ElementTree.parse(folder / "cvat" / "annotations.xml")
    tree.getroot().find("image").append(ElementTree.fromstring(shape))
    tree.write(folder / "cvat" / "annotations.xml")
    refused(folder, folder / "cvat" / "annotations.xml", f"annotations.xml: image 'drive.*{said}")


def test_tracks_of_cvat_are_refused(tmp_path: Path) -> None:
    folder = export(tmp_path, "cvat")
    (tmp_path / "annotations.xml").write_text("<annotations><track id='0'/></annotations>")
    refused(folder, tmp_path / "annotations.xml", "CVAT for images 1.1")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("0 100 50 20 20", r"line 1: .*does not lie within 0..1; YOLO counts in shares.*pixels"),
        ("0 0.5 0.5 0.1 0.1\n7 0.5 0.5 0.1 0.1", "line 2: class 7 does not exist; 3 classes are named"),
        ("0 0.5 0.5", "line 1: expected class, centre x, centre y, width, height"),
        ("0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2", "line 1: is a rotated box or outline; only rectangles"),
        ("0 0.5 nan 0.1 0.1", "line 1: y is 'nan', expected a number"),
    ],
)
def test_lines_of_yolo_that_are_no_boxes(tmp_path: Path, lines: str, said: str) -> None:
    folder = export(tmp_path, "yolo")
    path = sorted((folder / "yolo" / "labels" / "train").iterdir())[0]
    path.write_text(lines)
    refused(folder, folder / "yolo", f"{path.name}: {said}")


def test_yolo_without_the_names_of_its_classes_is_refused(tmp_path: Path) -> None:
    folder = export(tmp_path, "yolo")
    refused(
        folder, folder / "yolo" / "labels", "nothing that names the classes. Put data.yaml, obj.names or classes.txt"
    )
    (folder / "yolo" / "classes.txt").write_text("pedestrian\ncar\nignored\n")
    refused(
        folder, folder / "yolo", r"data.yaml: names the classes \['car', 'pedestrian', 'ignored'\], classes.txt names"
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["annotations"][0].update(category_id=9), r"annotations\[0\]: there is no category with the id 9"),
        (lambda c: c["annotations"][0].update(image_id=9), r"annotations\[0\]: there is no image with the id 9"),
        (lambda c: c["annotations"][0].pop("bbox"), r"annotations\[0\]: bbox is None, expected \[x, y, w, h\]"),
        (lambda c: c["annotations"][0].update(attributes={"rotation": 45.0}), "the box is rotated by 45 degrees"),
        (lambda c: [a.update(bbox=[0.1, 0.1, 0.2, 0.3]) for a in c["annotations"]], "look like shares of the picture"),
        (lambda c: c["images"][0].update(id=2), r"images\[1\]: the id 2 is not a number or name of its own"),
        (lambda c: c["images"][0].pop("file_name"), r"images\[0\]: has no file_name"),
        (lambda c: c["images"][1].update(file_name=c["images"][0]["file_name"]), "is also annotated at"),
    ],
)
def test_entries_of_coco_that_do_not_fit(tmp_path: Path, change: Callable[[dict], None], said: str) -> None:
    folder = export(tmp_path, "coco")
    edit(folder / "coco" / "instances.json", change)
    refused(folder, folder / "coco" / "instances.json", f"instances.json: .*{said}")


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    export(tmp_path, "coco")  # the recordings and the list of moments
    arguments = ["export-frames", str(tmp_path / "moments.csv"), "--output", str(tmp_path / "again"), "--format", "voc"]
    arguments += ["--classes", "car,pedestrian", "--boxes", str(tmp_path / "proposals"), "--windows-ms", "100"]
    monkeypatch.setattr(sys, "argv", ["leod", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    assert read_manifest(tmp_path / "again").pictures[0].windows_us == (100_000,)
    arguments = ["import-labels", str(tmp_path / "again" / "voc"), "--manifest", str(tmp_path / "again")]
    arguments += ["--unchanged", "labelled", "--map", "car=ignored", "--map", "pedestrian=car"]
    monkeypatch.setattr(sys, "argv", ["leod", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    assert [row[5] for row in rows(tmp_path)] == [IGNORED_CLASS_ID, 0, IGNORED_CLASS_ID]
