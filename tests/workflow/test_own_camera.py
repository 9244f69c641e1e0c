"""The way of docs/own-data.md, whole: own recordings of three kinds, three classes, an odd sensor, irregular boxes."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from checkout import Checkout, copy_workflow

from leod.config.schema import SensorSize, SimulationConfig
from leod.recordings.chunk import EventChunk
from leod.recordings.dat import write_dat
from leod.simulation.simulator import RecordingSimulator

SENSOR = SensorSize(height=260, width=346)
CLASSES = ("car", "cyclist", "pedestrian")

DATASET = {
    "name": "my_camera",
    "recordings": "data/my-camera/recordings",
    "sequences": "data/my-camera/sequences",
    "sensor": {"height": SENSOR.height, "width": SENSOR.width},
    "classes": list(CLASSES),
    "unlabelled_recordings": True,
    "label_times": {"mode": "any", "first_us": 100_000},
    "label_filter": {"min_side": 4},
    "pseudo_label_filter": {"min_side": 4, "max_width_fraction": 0.9},
    "evaluation_filter": {"min_side": 4, "skip_us": 100_000},
}

TRAINING = {
    "steps": 4,
    "learning_rate": 1.0e-3,
    "batch_size": 2,
    "sequence_length": 3,
    "validation": {"every_steps": 4, "sequence_fraction": 1.0},
}

STUDY = {
    "name": "my-study",
    "dataset": "my_camera",
    "model": "rvt-nano",
    "labels": [{"setting": "weakly_supervised", "ratio": 1.0}],
    "rounds": 1,
    "references": [],
    "hardware": {"num_workers": 0, "threads": 1},
    "pretrain": TRAINING,
    "pseudo_labels": {
        "views": {"mirror": True, "time_reversal": True},
        "choose_thresholds": {"target_precision": 0.5},
        "detection": {"confidence_threshold": 0.0001},
        "score_thresholds": dict.fromkeys(CLASSES, 0.001),
    },
    "self_train": TRAINING,
    "evaluate": {"variants": ["plain"]},
}


def simulated_drive(number: int) -> tuple[np.ndarray, list[dict[str, object]]]:
    """Events int64 [n, 4] (t, x, y, p) of a street, and boxes at irregular moments; every other person cycles."""
    config = SimulationConfig(
        duration_s=2.0, label_rate_hz=20.0, render_rate_hz=100.0, objects_per_second=1.5, clutter=0.3, seed=number
    )
    simulator = RecordingSimulator(SENSOR, {"car": 0, "pedestrian": 2}, config, "train", number)
    events = np.concatenate(list(simulator.chunks()))
    boxes = simulator.boxes()
    moments = np.random.default_rng(number).choice(np.arange(3, 40), 12, replace=False) * 50_000
    rows = []
    for box in boxes[np.isin(boxes["t"], moments)]:
        class_id = int(box["class_id"])
        if class_id == 2 and box["track_id"] % 2:
            class_id = 1
        sides = {name: float(box[name]) for name in "xywh"}
        rows.append({"t_us": int(box["t"]), **sides, "class": CLASSES[class_id]})
    return events, rows


def write_raw(path: Path, events: np.ndarray) -> None:
    """Prophesee RAW, EVT 2.0: a time word wherever the upper bits of the time change."""
    t, x, y, p = events.T
    high, changed = t >> 6, np.diff(t >> 6, prepend=-1) != 0
    words = np.zeros(len(t) + changed.sum(), np.uint32)
    places = np.arange(len(t)) + np.cumsum(changed)
    words[places] = p << 28 | (t & 0x3F) << 22 | x << 11 | y
    words[places[changed] - 1] = 0x8 << 28 | high[changed]
    header = f"% evt 2.0\n% format EVT2;height={SENSOR.height};width={SENSOR.width}\n% end\n"
    path.write_bytes(header.encode() + words.astype("<u4").tobytes())


def write_hdf5(path: Path, events: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        for name, column in zip("txyp", events.T, strict=True):
            file[f"events/{name}"] = column.astype(np.int64 if name == "t" else np.uint16)


def write_recording_dat(path: Path, events: np.ndarray) -> None:
    t, x, y, p = events.T
    chunk = EventChunk(t=t, x=x.astype(np.uint16), y=y.astype(np.uint16), p=p.astype(np.uint8))
    write_dat(path, [chunk], SENSOR.height, SENSOR.width)


def write_csv(path: Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["class", "t_us", "x", "y", "w", "h"])
        writer.writeheader()
        writer.writerows(rows)


def write_coco(path: Path, rows: list[dict[str, object]]) -> None:
    moments = sorted({row["t_us"] for row in rows})
    content = {
        "images": [{"id": number, "timestamp_us": moment} for number, moment in enumerate(moments)],
        "annotations": [
            {
                "id": number,
                "image_id": moments.index(row["t_us"]),
                "category_id": CLASSES.index(str(row["class"])) + 1,
                "bbox": [row[side] for side in "xywh"],
            }
            for number, row in enumerate(rows)
        ],
        "categories": [{"id": number + 1, "name": name} for number, name in enumerate(CLASSES)],
    }
    path.write_text(json.dumps(content))


def make_recordings(folder: Path) -> None:
    """Five drives, as a user would have them."""
    for split in ("train", "val", "test"):
        (folder / split).mkdir(parents=True)
    for number, (place, write_events, write_boxes) in enumerate(
        (
            ("train/drive-01.raw", write_raw, write_csv),
            ("train/drive-02_td.dat", write_recording_dat, None),
            ("train/drive-03.h5", write_hdf5, write_coco),
            ("val/drive-04.raw", write_raw, write_csv),
            ("test/drive-05.dat", write_recording_dat, write_csv),
        )
    ):
        events, rows = simulated_drive(number)
        write_events(folder / place, events)
        if write_boxes is not None:
            ending = ".json" if write_boxes is write_coco else ".csv"
            name = Path(place).name.split(".")[0].removesuffix("_td")
            write_boxes((folder / place).with_name(f"{name}_bbox{ending}"), rows)


@pytest.mark.slow
def test_from_own_recordings_to_a_detector(tmp_path: Path) -> None:
    copy_workflow(tmp_path)
    (tmp_path / "configs" / "datasets" / "my_camera.yaml").write_text(yaml.safe_dump(DATASET))
    make_recordings(tmp_path / DATASET["recordings"])
    checkout = Checkout(tmp_path, STUDY)

    checkout.snakemake()

    results = tmp_path / "results" / "my-study"
    round_1 = results / "weakly_supervised-1-offset0-seed0" / "round_1"
    sequences = sorted(path.name for path in (tmp_path / DATASET["sequences"] / "train").iterdir())
    assert sequences == ["drive-01", "drive-02", "drive-03"]
    labelled = json.loads((round_1 / "dataset.json").read_text())["sequences"]
    assert {"drive-02"} <= {entry["name"] for entry in labelled}, "the recording without boxes was not pseudo-labelled"
    metrics = json.loads((round_1 / "metrics" / "test_plain.json").read_text())
    assert set(metrics["per_class"]) == set(CLASSES)
    page = (results / "report.html").read_text()
    for text in (*CLASSES, "my-study"):
        assert text in page
    assert checkout.pending() == {}

    command = [
        str(Path(sys.executable).parent / "leod"),
        "detect",
        str(tmp_path / "data/my-camera/recordings/test/drive-05.dat"),
    ]
    command += ["--checkpoint", str(round_1 / "model.ckpt"), "--boxes", str(tmp_path / "boxes.csv")]
    subprocess.run([*command, "--video", str(tmp_path / "drive.mp4")], check=True, capture_output=True, timeout=300)
    assert (tmp_path / "boxes.csv").read_text().startswith("t_us,")
    assert (tmp_path / "drive.mp4").stat().st_size > 0
