"""A small data set on disk with everything that the pseudo-label stages read."""

from __future__ import annotations

import h5py
import numpy as np

from leod.boxes.dtypes import LABEL_DTYPE, RECORDING_BOX_DTYPE
from leod.boxes.kept_labels import KeptLabels
from leod.config.schema import (
    BoxFilterConfig,
    DetectionConfig,
    ModelConfig,
    SensorSize,
    SequenceConfig,
    TrackFilterConfig,
    ViewsConfig,
)
from leod.config.settings import GenerateSettings, TrackFilterSettings
from leod.pseudo_labels.predictions import SequencePredictions, write_predictions
from leod.sequences.layout import representations_dir, write_labelled_frames, write_labels, write_timestamps

HEIGHT, WIDTH = 64, 96
REPRESENTATION = "stacked_histogram_dt=50_nbins=10"
CLASSES = ("car", "pedestrian")
SEQUENCES = {
    "a": (20, [4, 9, 14, 19]),
    "b": (23, [3, 12]),
    "c": (11, []),
}
"""Name -> number of frames, labelled frames."""
KEPT = {"a": (0, 2), "b": (), "c": ()}


def object_box(frame):
    """Where the one car is in every frame of every sequence: x, y, w, h in pixels of the sensor."""
    return 4 + 2 * frame, 20, 24, 16


def write_sequence(folder, num_frames, labelled_frames, downsample_by_2=False):
    """Write a preprocessed sequence: one car and, for every second labelled frame, a pedestrian."""
    name = "event_representations_ds2_nearest.h5" if downsample_by_2 else "event_representations.h5"
    path = representations_dir(folder) / REPRESENTATION / name
    path.parent.mkdir(parents=True)
    divisor = 2 if downsample_by_2 else 1
    frames = np.zeros((num_frames, 20, HEIGHT // divisor, WIDTH // divisor), np.uint8)
    for frame in range(num_frames):
        x, y, w, h = (value // divisor for value in object_box(frame))
        frames[frame, :, y : y + h, x : x + w] = 5
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=frames, chunks=(1, *frames.shape[1:]))
    rows, first_rows = [], []
    for position, frame in enumerate(labelled_frames):
        first_rows.append(len(rows))
        t = (frame + 1) * 50_000 + 1
        rows.append((t, *object_box(frame), 0, 7, 1.0))
        if position % 2:
            rows.append((t, 60.25, 30.5, 8, 20, 1, 8, 1.0))
    write_labels(folder, np.array(rows, RECORDING_BOX_DTYPE), np.array(first_rows, np.int64))
    write_labelled_frames(folder, REPRESENTATION, np.array(labelled_frames, np.int64))
    write_timestamps(folder, REPRESENTATION, np.arange(1, num_frames + 1) * 50_000)


def write_data_set(root, downsample_by_2=False):
    """Write all splits and the split of record; returns the folder of the sequences and the file of kept labels."""
    for name, (num_frames, labelled_frames) in SEQUENCES.items():
        write_sequence(root / "sequences" / "train" / name, num_frames, labelled_frames, downsample_by_2)
    for split in ("val", "test"):
        write_sequence(root / "sequences" / split / f"{split}_drive", 6, [5], downsample_by_2)
    write_kept(root / "labels.json", KEPT)
    return root / "sequences", root / "labels.json"


def write_kept(path, kept):
    KeptLabels(sequences=kept, setting="weakly_supervised", ratio=0.5).write(path)


def sequence_config(downsample_by_2=False):
    return SequenceConfig(
        sensor=SensorSize(height=HEIGHT, width=WIDTH), classes=CLASSES, downsample_by_2=downsample_by_2
    )


def model_config():
    return ModelConfig(name="smallest", embed_dim=8, dim_head=8)


def generate_settings(downsample_by_2=False, mirror=False, time_reversal=False, **changes):
    """Settings under which an untrained detector finds boxes in every frame."""
    settings = {
        "sequence": sequence_config(downsample_by_2),
        "model": model_config(),
        "views": ViewsConfig(mirror=mirror, time_reversal=time_reversal),
        "detection": DetectionConfig(confidence_threshold=0.0, batch_size=2, sequence_length=6),
        "score_thresholds": dict.fromkeys(CLASSES, 0.0),
        "box_filter": BoxFilterConfig(min_side=2.0, max_width_fraction=0.9),
        "use_ground_truth": True,
        "skip_first_frames": 0,
    }
    return GenerateSettings(**(settings | changes))


def track_filter_settings(use_ground_truth=True, downsample_by_2=False, **changes):
    return TrackFilterSettings(
        sequence=sequence_config(downsample_by_2),
        track_filter=TrackFilterConfig(**changes),
        use_ground_truth=use_ground_truth,
    )


def predictions_of(name, forbidden=()):
    """The car in all frames but every seventh, a pedestrian that flickers up in frame 5."""
    num_frames, _ = SEQUENCES[name]
    rows, frames = [], []
    for frame in range(num_frames):
        if frame in forbidden:
            continue
        if frame % 7 != 6:
            rows.append((0, *object_box(frame), 0, 0.75, 0.875))
            frames.append(frame)
        if frame == 5:
            rows.append((0, 70, 8, 10, 20, 1, 0.5, 0.625))
            frames.append(frame)
    return SequencePredictions(name, num_frames, np.array(rows, LABEL_DTYPE), np.array(frames, np.int64))


def write_shards(folder, use_ground_truth=True):
    """Two shards of predictions; returns their paths."""
    paths = [folder / "0.h5", folder / "1.h5"]
    for path, names in zip(paths, (["b"], ["c", "a"]), strict=True):
        found = []
        for name in names:
            kept = [SEQUENCES[name][1][position] for position in KEPT[name]] if use_ground_truth else []
            found.append(predictions_of(name, kept))
        write_predictions(path, found, (HEIGHT, WIDTH), {"stage": "generate_pseudo_labels"})
    return paths
