"""A working folder with all that the commands of a study read: sequences, labels, a detector, a recording."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from tiny_sequences import CONFIG, HEIGHT, MODEL, WIDTH, random_detector, random_frames, write_tiny_sequence

from leod.boxes.dtypes import RECORDING_BOX_DTYPE
from leod.boxes.kept_labels import KeptLabels
from leod.cli import main
from leod.models.checkpoint import save_detector
from leod.recordings.chunk import EventChunk
from leod.recordings.dat import write_dat

TRAINING = {
    "steps": 2,
    "learning_rate": 1e-3,
    "batch_size": 2,
    "sequence_length": 2,
    "validation": {"every_steps": 2, "sequence_fraction": 1.0},
}
STUDY = {
    "name": "tiny",
    "dataset": {
        "name": "tiny",
        "recordings": "recordings",
        "sequences": "sequences",
        "sensor": {"height": HEIGHT, "width": WIDTH},
        "classes": list(CONFIG.classes),
    },
    "model": MODEL.model_dump(),
    "labels": [{"setting": "weakly_supervised", "ratio": 0.5}],
    "pretrain": TRAINING,
    "self_train": {**TRAINING, "initial_weights": "previous"},
    "pseudo_labels": {"score_thresholds": {"car": 0.3, "pedestrian": 0.3}},
    "hardware": {"accelerator": "cpu", "num_workers": 0, "threads": 1},
}


def write_study(**changes):
    Path("study.yaml").write_text(yaml.safe_dump(STUDY | changes))


def write_recording():
    folder = Path("recordings/train")
    folder.mkdir(parents=True)
    count = 2000
    time = np.linspace(0, 500_000, count).astype(np.int64)
    place = np.zeros(count, np.uint16)
    events = EventChunk(t=time, x=place, y=place, p=np.zeros(count, np.uint8))
    write_dat(folder / "drive_td.dat", [events], HEIGHT, WIDTH)
    write_boxes()


def write_boxes(**values):
    boxes = np.zeros(1, RECORDING_BOX_DTYPE)
    for field, value in ({"t": 300_000, "x": 4, "y": 4, "w": 12, "h": 12, "class_confidence": 1} | values).items():
        boxes[field] = value
    np.save("recordings/train/drive_bbox.npy", boxes)


def write_working_folder():
    """A sound study, recording, data set, split of record and detector in the current folder."""
    write_study()
    write_recording()
    for split in ("train", "val", "test"):
        write_tiny_sequence(Path("sequences") / split / "drive", random_frames(0, 16), [11, 14])
    KeptLabels(sequences={"drive": (0, 1)}, setting="weakly_supervised", ratio=0.5).write(Path("labels.json"))
    save_detector(Path("model.ckpt"), random_detector(), {})


def run(monkeypatch, capsys, command):
    """The exit status and what was printed to stderr."""
    monkeypatch.setattr(sys, "argv", ["leod", *command.split()])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, capsys.readouterr().err
