"""A tiny data set and tiny settings; run as a script it trains in a process of its own that can be killed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import h5py
import numpy as np

from leod.boxes.dtypes import RECORDING_BOX_DTYPE
from leod.boxes.kept_labels import KeptLabels
from leod.config.schema import HardwareConfig
from leod.config.settings import TrainSettings
from leod.sequences.layout import (
    list_sequences,
    read_labelled_frames,
    representations_dir,
    write_labelled_frames,
    write_labels,
    write_timestamps,
)

HEIGHT, WIDTH, CHANNELS = 32, 64, 4
REPRESENTATION = "stacked_histogram_dt=50_nbins=2"
FRAMES = 24
LABELLED_FRAMES = (6, 8, 11, 14, 17, 20, 23)

SEQUENCE = {
    "sensor": {"height": HEIGHT, "width": WIDTH},
    "classes": ["car", "pedestrian"],
    "representation": {"bins": 2},
}
MODEL = {"name": "tiny", "embed_dim": 8, "dim_head": 8, "stage_multipliers": [1, 1, 2, 2]}
CPU = HardwareConfig(accelerator="cpu", num_workers=0, threads=1)


def settings(**changes):
    """Settings of a training of a few seconds; ``changes`` concern the section training."""
    training = {
        "steps": 8,
        "learning_rate": 1e-3,
        "batch_size": 2,
        "sequence_length": 3,
        "checkpoint_every_steps": 3,
        "validation": {"every_steps": 4, "sequence_fraction": 1.0, "detection": {"confidence_threshold": 0.001}},
        **changes,
    }
    return TrainSettings(sequence=SEQUENCE, model=MODEL, training=training, evaluation_filter={"skip_us": 0})


def write_sequence(folder, seed):
    """A bright square that moves over noise; each labelled frame has one or two boxes."""
    rng = np.random.default_rng(seed)
    frames = rng.poisson(0.1, (FRAMES, CHANNELS, HEIGHT, WIDTH)).astype(np.uint8)
    left = (np.arange(FRAMES) * 2 + seed) % (WIDTH - 20)
    for frame, x in zip(frames, left, strict=True):
        frame[:, 8:24, x : x + 16] += 3
    representation = representations_dir(folder) / REPRESENTATION
    representation.mkdir(parents=True)
    with h5py.File(representation / "event_representations.h5", "w") as file:
        file.create_dataset("data", data=frames, chunks=(1, *frames.shape[1:]))
    labelled = np.array(LABELLED_FRAMES, np.int64)
    boxes = np.zeros(len(labelled), RECORDING_BOX_DTYPE)
    boxes["t"] = (labelled + 1) * 50_000
    boxes["x"], boxes["y"], boxes["w"], boxes["h"] = left[labelled], 8, 16, 16
    boxes["class_id"] = seed % 2
    boxes["class_confidence"] = 1
    write_labelled_frames(folder, REPRESENTATION, labelled)
    write_timestamps(folder, REPRESENTATION, (np.arange(FRAMES) + 1) * 50_000)
    write_labels(folder, boxes, np.arange(len(labelled)))


def write_dataset(root):
    """Three training sequences and two for validation; returns the path of labels.json, which keeps some labels."""
    for split, count in (("train", 3), ("val", 2)):
        for index in range(count):
            write_sequence(root / split / f"sequence_{index}", index)
    kept = {path.name: tuple(range(0, len(LABELLED_FRAMES), 2)) for path in list_sequences(root, "train")}
    assert all(len(read_labelled_frames(path, REPRESENTATION)) for path in list_sequences(root, "train"))
    labels = root.parent / "labels.json"
    KeptLabels(sequences=kept, setting="weakly_supervised", ratio=0.5).write(labels)
    return labels


def main():
    """Pretrain as the JSON argument says."""
    from leod.stages.pretrain import pretrain

    arguments = json.loads(sys.argv[1])
    pretrain(
        Path(arguments["sequences"]),
        Path(arguments["labels"]),
        Path(arguments["output"]),
        TrainSettings(**arguments["settings"]),
        seed=arguments["seed"],
        hardware=HardwareConfig(**arguments["hardware"]),
    )


if __name__ == "__main__":
    main()
