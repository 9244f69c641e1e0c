"""The guide for own data works as it is written."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from leod.boxes.box_files import read_boxes
from leod.config.load import resolve_study
from leod.config.schema import DatasetConfig
from leod.config.settings import PreprocessSettings
from leod.sequences.sequence import Sequence
from leod.stages.export_labels import export_labels
from leod.stages.preprocess import preprocess

REPOSITORY = Path(__file__).resolve().parents[2]
LABEL_TIMES_US = (1_250_000, 1_730_000)


def evt3_recording(path, duration_us, height, width):
    """A RAW file with an event every 500 us."""
    words = []
    for time in range(0, duration_us, 500):
        words += [0x8000 | time >> 12 & 0xFFF, 0x6000 | time & 0xFFF, time % height, 0x2000 | time % width]
    header = f"% evt 3.0\n% format EVT3;height={height};width={width}\n% end\n"
    path.write_bytes(header.encode() + np.array(words, "<u2").tobytes())


@pytest.fixture(scope="module")
def guide():
    text = (REPOSITORY / "docs" / "own-data.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(csv|yaml)\n(.*?)```", text, flags=re.DOTALL)
    assert [kind for kind, _ in blocks] == ["csv", "yaml", "yaml", "yaml"]
    boxes, dataset, times, study = (content for _, content in blocks)
    # Times that are put right are a part of a data set file.
    DatasetConfig.model_validate(yaml.safe_load(dataset) | yaml.safe_load(times))
    return boxes, dataset, study


@pytest.fixture(scope="module")
def study(guide, tmp_path_factory):
    folder = tmp_path_factory.mktemp("configs")
    (folder / "datasets").mkdir()
    (folder / "datasets" / "my_camera.yaml").write_text(guide[1])
    return resolve_study(yaml.safe_load(guide[2]), [folder, REPOSITORY / "configs"], "guide")


@pytest.fixture(scope="module")
def sequences(guide, study, tmp_path_factory):
    """What the stage preprocess makes of a recording with the guide's boxes and one without any."""
    root = tmp_path_factory.mktemp("own")
    (root / "recordings" / "train").mkdir(parents=True)
    sensor = study.dataset.sensor
    for name, duration_us in (("drive-01", 2_000_000), ("drive-02", 330_000)):
        evt3_recording(root / "recordings" / "train" / f"{name}.raw", duration_us, sensor.height, sensor.width)
    (root / "recordings" / "train" / "drive-01_bbox.csv").write_text(guide[0])
    settings = PreprocessSettings.from_study(study)
    preprocess(root / "recordings", root / "sequences", "train", root / "train.json", settings)
    return root / "sequences"


def test_irregular_labels_and_unlabelled_recordings_become_sequences(study, sequences):
    labelled, unlabelled = (Sequence(sequences / "train" / name, study.dataset) for name in ("drive-01", "drive-02"))
    assert labelled.timestamps_us[labelled.labelled_frames].tolist() == list(LABEL_TIMES_US)
    assert np.diff(labelled.timestamps_us).max() <= study.dataset.window_us
    assert [len(labelled.frame_labels(k)) for k in (0, 1)] == [2, 1]
    assert labelled.frame_labels(0)["class_id"].tolist() == [0, 2]
    assert (unlabelled.num_frames, len(unlabelled.labels)) == (7, 0)
    assert (unlabelled.read_frames(0, 7).sum(axis=(1, 2, 3)) > 0).all()


def test_labels_are_exported_as_coco_and_csv(tmp_path, study, sequences):
    assert export_labels(sequences, tmp_path / "a.json", study.dataset) == 3
    content = json.loads((tmp_path / "a.json").read_text())
    assert [image["timestamp_us"] for image in content["images"]] == list(LABEL_TIMES_US)
    assert content["images"][0]["sequence"] == "drive-01"
    assert [(entry["image_id"], entry["bbox"], entry["kind"]) for entry in content["annotations"]] == [
        (1, [34, 120.5, 61, 42], "ground_truth"),
        (1, [201, 118, 17, 44], "ground_truth"),
        (2, [40, 121, 66, 45], "ground_truth"),
    ]
    assert read_boxes(tmp_path / "a.json", study.dataset.classes)["class_id"].tolist() == [0, 2, 0]
    assert export_labels(sequences, tmp_path / "a.csv", study.dataset) == 3
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["sequence"], row["t_us"], row["class"]) for row in rows][1] == ("drive-01", "1250000", "pedestrian")
