"""Results of a small study that nobody trained for: every file in its real format, with made-up figures."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
from tiny_sequences import CONFIG, HEIGHT, MODEL, WIDTH, random_detector, random_frames, write_tiny_sequence
from working_folder import TRAINING

from leod.boxes.dtypes import LABEL_DTYPE
from leod.boxes.kept_labels import KeptLabels
from leod.config.settings import EvaluateSettings, PreprocessSettings
from leod.evaluation.coco import METRICS
from leod.files import write_json
from leod.models.checkpoint import save_detector
from leod.provenance import Stopwatch
from leod.pseudo_labels.predictions import SequencePredictions, write_predictions
from leod.sequences.layout import SPLITS, write_labels
from leod.study.plan import DetectorFiles
from leod.study.study import Study

STUDY: dict[str, Any] = {
    "name": "tiny",
    "dataset": {
        "name": "drives",
        "recordings": "data/recordings",
        "sequences": "data/sequences",
        "sensor": {"height": HEIGHT, "width": WIDTH},
        "classes": list(CONFIG.classes),
    },
    "model": MODEL.model_dump(),
    "labels": [{"setting": "weakly_supervised", "ratio": 0.5}],
    "rounds": 1,
    "references": [],
    "seeds": [0],
    "pretrain": TRAINING,
    "self_train": TRAINING,
    "pseudo_labels": {"score_thresholds": {"car": 0.3, "pedestrian": 0.3}},
    "evaluate": {"variants": ["plain"]},
}
EXPERIMENT = "weakly_supervised-0.5-offset0-seed0"
FRAMES = "train/drive/event_representations_v2/stacked_histogram_dt=50_nbins=10/event_representations.h5"


def tiny_study(**changes: Any) -> dict[str, Any]:
    """The study with changed values; sections are laid over the study's."""
    study = copy.deepcopy(STUDY)
    for key, value in changes.items():
        study[key] = study[key] | value if isinstance(study.get(key), dict) else value
    return study


def average_precision(seed: int, round: int) -> float:
    """What the detector of a round comes to: seeds scatter by a point."""
    return 0.3 + 0.05 * round + 0.01 * seed


class FinishedStudy:
    """Writes the results.

    Args:
        root: Folder that the study's paths start from.
        study: Its content.
        shift: Added to all average precisions.
    """

    def __init__(self, root: Path, study: dict[str, Any], shift: float = 0.0) -> None:
        self.root, self.shift = root, shift
        self.study = Study(study, [], "the study")
        self.results = root / self.study.folder

    def write(self) -> Path:
        """Write everything; returns the folder of the results."""
        dataset = self.study.config.dataset
        write_json(self.results / "study.json", self.study.config.model_dump(mode="json", by_alias=True))
        write_json(self.results / "plan.json", self.study.plan().model_dump(mode="json"))
        for number, split in enumerate(SPLITS):
            folder = self.root / dataset.sequences / split / "drive"
            if not folder.exists():
                write_tiny_sequence(folder, random_frames(number, 8), [3, 7])
            content: dict[str, Any] = {"split": split, "sequences": [{"name": "drive", "frames": 8}]}
            if dataset.recordings is None:
                counted = {"root": str(folder.parents[1]), "splits": {split: {"link_target": str(folder), "frames": 8}}}
                write_json(self.root / self.study.manifests(split)[0], counted)
                continue
            settings = PreprocessSettings.from_study(self.study.config)
            inputs = {"recordings": dataset.recordings / split}
            self._json(self.study.manifests(split)[0], "preprocess", settings, inputs, None, content)
        for detector in self.study.plan().detectors:
            self._detector(detector)
        rows = [f"{entry.experiment},{entry.round}" for entry in self.study.plan().detectors]
        (self.results / "summary.csv").write_text("\n".join(("experiment,round", *rows)) + "\n")
        (self.results / "summary.md").write_text("# Did self-training help?\n\n## test split\n\nAP rose by 5 points.\n")
        page = f"<p>Sequences: {(self.root / dataset.sequences).resolve()}</p><p>took 3 s</p>"
        (self.results / "report.html").write_text(page)
        return self.results

    def _provenance(self, stage: str, settings: Any, inputs: dict[str, Any], seed: int | None) -> dict[str, Any]:
        return Stopwatch().provenance(stage, settings, inputs, seed)

    def _json(self, path: Any, stage: str, settings: Any, inputs: Any, seed: int | None, content: Any) -> None:
        write_json(self.root / path, {"provenance": self._provenance(stage, settings, inputs, seed), **content})

    def _detector(self, entry: DetectorFiles) -> None:
        sequences = self.study.config.dataset.sequences
        experiment, config = entry.experiment, self.study.config
        settings = self.study.settings
        inputs: dict[str, Any] = {"sequences": sequences, "labels": entry.labels}
        provenance = self._provenance("subsample_labels", settings("subsample_labels", experiment), inputs, None)
        KeptLabels({"drive": (0,)}, "weakly_supervised", 0.5, provenance=provenance).write(self.root / entry.labels)
        if entry.round:
            self._pseudo_labels(entry)
            inputs = {"dataset": entry.dataset, "sequences": sequences}
        stage = "self_train" if entry.round else "pretrain"
        provenance = self._provenance(stage, settings(stage, experiment), inputs, entry.seed)
        save_detector(self.root / entry.model, random_detector(10 * entry.seed + entry.round), provenance)
        (self.root / entry.curves).write_text(f"step,loss\n1,{5 + entry.seed}\n2,4.5\n")
        ap = average_precision(entry.seed, entry.round) + self.shift
        best = {"key": "0", "best": {"step": 2, "metrics": {"AP": ap}}}
        self._json(entry.record, stage, settings(stage, experiment), inputs, entry.seed, best)
        for variant, path in entry.metrics.items():
            figures = dict.fromkeys(METRICS, ap)
            content = {"split": "test", "variant": variant, "metrics": figures}
            read = {"checkpoint": entry.model, "sequences": sequences / "test"}
            self._json(path, "evaluate", EvaluateSettings.from_study(config), read, None, content)

    def _pseudo_labels(self, entry: DetectorFiles) -> None:
        experiment, sequences = entry.experiment, self.study.config.dataset.sequences
        predictions = [Path(path) for path in self.study.predictions(experiment, entry.round)]
        boxes = np.zeros(1, LABEL_DTYPE)
        boxes["w"] = boxes["h"] = 10
        boxes["x"] = entry.seed
        settings = self.study.settings("generate_pseudo_labels", experiment)
        model = Path(self.study.model(experiment, entry.round - 1))
        read = {"checkpoint": model, "sequences": sequences, "labels": entry.labels}
        found = SequencePredictions("drive", 8, boxes, np.array([2]))
        provenance = self._provenance("generate_pseudo_labels", settings, read, None)
        for path in predictions:
            write_predictions(self.root / path, [found], (HEIGHT, WIDTH), provenance)
        dataset = self.root / (entry.dataset or "")
        write_labels(dataset / "train" / "drive", boxes, np.array([0]))
        read = {"predictions": predictions, "sequences": sequences, "labels": entry.labels}
        filtering = self.study.settings("track_filter", experiment)
        self._json(entry.manifest, "track_filter", filtering, read, None, {"totals": {"frames": 8}})
        read = {"predictions": predictions, "dataset": entry.dataset, "sequences": sequences}
        quality = self.study.settings("validate_quality", experiment)
        self._json(entry.quality, "validate_quality", quality, read, None, {"hidden_frames": 1})


def finished_study(root: Path, shift: float = 0.0, **changes: Any) -> Path:
    """Write a finished study below ``root``; returns the folder of its results."""
    return FinishedStudy(root, tiny_study(**changes), shift).write()


def change_json(path: Path, *keys: str, value: Any) -> None:
    """Change one value of a JSON file."""
    content = json.loads(path.read_text())
    place = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(content))
