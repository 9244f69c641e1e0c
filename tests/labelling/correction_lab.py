"""A small study on simulated recordings of which a few moments have boxes, run stage by stage."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from leod.boxes.box_files import read_boxes, write_boxes
from leod.boxes.dtypes import IGNORED_CLASS_ID, RECORDING_BOX_DTYPE
from leod.config.load import resolve_study
from leod.config.schema import SensorSize, SimulationConfig, StudyConfig
from leod.config.settings import (
    GenerateSettings,
    PreprocessSettings,
    SubsampleSettings,
    TrackFilterSettings,
    TrainSettings,
)
from leod.recordings.chunk import EventChunk
from leod.recordings.dat import write_dat
from leod.sequences.representations import representation_name
from leod.simulation.simulator import RecordingSimulator
from leod.stages.generate_pseudo_labels import generate_pseudo_labels
from leod.stages.preprocess import preprocess
from leod.stages.pretrain import pretrain
from leod.stages.self_train import self_train
from leod.stages.subsample_labels import subsample_labels
from leod.stages.track_filter import track_filter

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SENSOR = SensorSize(height=64, width=96)
CLASSES = ("car", "pedestrian")
LABELLED_US = {"a": (750_000, 1_230_000, 2_010_000), "b": (1_000_000,), "c": ()}
"""Training recording → its label moments, some of them off the windows' beat."""
LABEL_RATE_HZ = 100.0

_TRAINING = {
    "steps": 3,
    "learning_rate": 1.0e-3,
    "batch_size": 2,
    "sequence_length": 2,
    "validation": {"every_steps": 3, "sequence_fraction": 1.0},
}


def study(**changes: Any) -> StudyConfig:
    """The study; ``changes`` concern its data set."""
    dataset = {
        "name": "own",
        "recordings": "recordings",
        "sequences": "sequences",
        "sensor": SENSOR.model_dump(),
        "classes": list(CLASSES),
        "unlabelled_recordings": True,
        **changes,
    }
    content = {
        "name": "corrections",
        "dataset": dataset,
        "model": {"name": "tiny", "embed_dim": 8, "dim_head": 8, "stage_multipliers": [1, 1, 2, 2]},
        "labels": [{"setting": "weakly_supervised", "ratio": 1.0}],
        "rounds": 2,
        "hardware": {"num_workers": 0, "threads": 1, "accelerator": "cpu"},
        "pretrain": _TRAINING,
        "pseudo_labels": {
            "score_thresholds": dict.fromkeys(CLASSES, 0.0001),
            "detection": {"confidence_threshold": 0.0001},
            "views": {"mirror": True, "time_reversal": False},
            "merging": {"method": "weighted_box_fusion"},
        },
        "track_filter": {"min_track_length": 3, "smooth_frames": 2},
        "self_train": _TRAINING,
    }
    return resolve_study(content, [CONFIGS], "test")


def empty_moment(t_us: int) -> np.ndarray:
    """The row of a box file that says that nothing is to be seen."""
    return np.array([(t_us, 0, 0, 0, 0, IGNORED_CLASS_ID, 0, 1.0)], RECORDING_BOX_DTYPE)


def box(t_us: int, class_id: int = 0) -> np.ndarray:
    """A row of a box file, with digits that must survive."""
    return np.array([(t_us, 20.125, 21.75, 30.5, 20.0625, class_id, 0, 1.0)], RECORDING_BOX_DTYPE)


def _chunk(events: np.ndarray) -> EventChunk:
    t, x, y, p = events.T
    return EventChunk(t=t, x=x.astype(np.uint16), y=y.astype(np.uint16), p=p.astype(np.uint8))


class Lab:
    """The study in a folder.

    Args:
        root: The folder.
        **changes: Of the data set's description.
    """

    def __init__(self, root: Path, **changes: Any) -> None:
        self.root = root
        self.study = study(**changes)
        self.recordings, self.sequences = root / "recordings", root / "sequences"
        self.labels = root / "results" / "labels.json"
        dataset = self.study.dataset
        self.representation = representation_name(dataset.representation, dataset.window_us)

    def simulate(self, duration_s: float = 2.5) -> None:
        """Make the recordings: a and b have boxes at a few moments, c has none."""
        config = SimulationConfig(
            duration_s=duration_s,
            label_rate_hz=LABEL_RATE_HZ,
            render_rate_hz=LABEL_RATE_HZ,
            objects_per_second=1.5,
            clutter=0.2,
            seed=3,
        )
        places = [("train", "a"), ("train", "b"), ("train", "c"), ("val", "v")]
        for number, (split, name) in enumerate(places):
            simulator = RecordingSimulator(SENSOR, {"car": 0, "pedestrian": 1}, config, "train", number)
            folder = self.recordings / split
            folder.mkdir(parents=True, exist_ok=True)
            write_dat(folder / f"{name}_td.dat", map(_chunk, simulator.chunks()), SENSOR.height, SENSOR.width)
            moments = LABELLED_US.get(name, (1_000_000, 2_000_000))
            boxes = simulator.boxes()
            boxes = boxes[np.isin(boxes["t"], moments)]
            rows = [boxes, *(empty_moment(t_us) for t_us in moments if t_us not in boxes["t"])]
            if moments:
                self._write(split, name, np.concatenate(rows))

    def _write(self, split: str, name: str, rows: np.ndarray) -> None:
        order = np.argsort(rows["t"], kind="stable")
        write_boxes(self.recordings / split / f"{name}_bbox.csv", rows[order], CLASSES)

    def add(self, name: str, rows: np.ndarray) -> None:
        """Write further boxes into the box file of a training recording, as an import does."""
        path = self.recordings / "train" / f"{name}_bbox.csv"
        before = [read_boxes(path, CLASSES)] if path.exists() else []
        self._write("train", name, np.concatenate([*before, rows]))

    def prepare(self) -> None:
        """Preprocess what is new, and choose the labels anew."""
        settings = PreprocessSettings.from_study(self.study)
        for split in ("train", "val"):
            preprocess(self.recordings, self.sequences, split, self.root / f"{split}.json", settings)
        (self.sequences / "test").mkdir(exist_ok=True)
        subsample_labels(self.sequences, self.labels, SubsampleSettings.from_study(self.study, self.study.labels[0], 0))

    def run(self) -> None:
        """All stages, two rounds; nothing is taken from an earlier run but sequences."""
        shutil.rmtree(self.root / "results", ignore_errors=True)
        self.prepare()
        hardware = self.study.hardware
        pretrain(
            *(self.sequences, self.labels, self.round(0), TrainSettings.for_pretraining(self.study)), hardware=hardware
        )
        self.make_pseudo_labels(1)
        settings = TrainSettings.for_self_training(self.study)
        self_train(self.round(1) / "dataset", self.sequences, self.round(1), settings, hardware=hardware)
        self.make_pseudo_labels(2)

    def make_pseudo_labels(self, number: int) -> None:
        """The pseudo-labelled data set of a round, by the detector of the one before."""
        folder = self.round(number)
        shard = folder / "predictions" / "0.h5"
        checkpoint = self.round(number - 1) / "model.ckpt"
        generating = GenerateSettings.from_study(self.study)
        generate_pseudo_labels(
            *(checkpoint, self.sequences, self.labels, shard, generating), hardware=self.study.hardware
        )
        filtering = TrackFilterSettings.from_study(self.study)
        manifest = folder / "dataset.json"
        track_filter([shard], self.sequences, self.labels, folder / "dataset", manifest, filtering)

    def round(self, number: int) -> Path:
        """Results of a round."""
        return self.root / "results" / f"round_{number}"
