"""What a changed box file of a recording makes stale: what a person drew or corrected, and nothing else."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import yaml
from checkout import Checkout, pretending_checkout
from plain_study import plain_study

RECORDINGS = Path("data/own/recordings")
DATASET = {
    "name": "own",
    "recordings": str(RECORDINGS),
    "sequences": "data/own/sequences",
    "sensor": {"height": 64, "width": 96},
    "classes": ["car", "pedestrian"],
    "unlabelled_recordings": True,
}
ROUND = ("choose_thresholds", "generate_pseudo_labels", "track_filter", "validate_quality", "self_train")
AFTER_TRAINING = {"evaluate": 3, "summarise": 1, "write_report": 1}
TRAINING_AND_ALL_THAT_FOLLOWS = (
    # Rounds 0 and 1, and the control.
    {"preprocess": 1, "subsample_labels": 1, "pretrain": 2} | dict.fromkeys(ROUND, 1) | AFTER_TRAINING
)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A finished study on own recordings, one of them without boxes; stages only pretend to work."""
    checkout = pretending_checkout(tmp_path_factory.mktemp("own"), plain_study())
    (checkout.folder / "configs" / "datasets" / "own.yaml").write_text(yaml.safe_dump(DATASET))
    for place in ("train/a", "train/b", "val/v", "test/t"):
        recording = checkout.folder / RECORDINGS / f"{place}.raw"
        recording.parent.mkdir(parents=True, exist_ok=True)
        recording.write_text("events")
        if place != "train/b":
            recording.with_name(f"{recording.stem}_bbox.csv").write_text("boxes")
    checkout.study |= {
        "name": "own",
        "dataset": "own",
        "labels": [{"setting": "weakly_supervised", "ratio": 1.0}],
        "rounds": 1,
        "references": ["control"],
    }
    checkout.study["pseudo_labels"]["choose_thresholds"] = {"target_precision": 0.7}
    checkout.snakemake()
    assert checkout.pending() == {}
    return checkout


@pytest.fixture
def boxes(own: Checkout):
    """Changes a box file, and puts everything back as it was."""
    folder = own.folder / RECORDINGS
    changed: list[tuple[Path, str | None, int]] = []

    def change(place: str) -> dict[str, int]:
        path = folder / place
        before = path.stat().st_mtime_ns if path.exists() else 0
        changed.append((path, path.read_text() if path.exists() else None, before))
        path.write_text("corrected boxes")
        later = time.time() + 5
        os.utime(path, (later, later))
        return own.pending()

    yield change
    for path, text, before in changed:
        if text is None:
            path.unlink()
        else:
            path.write_text(text)
            os.utime(path, ns=(before, before))


def test_corrected_boxes_of_a_training_recording(boxes) -> None:
    # One of the three splits is preprocessed; labels are chosen of none but the training split.
    assert boxes("train/a_bbox.csv") == TRAINING_AND_ALL_THAT_FOLLOWS


def test_first_boxes_of_a_training_recording(boxes) -> None:
    assert boxes("train/b_bbox.csv") == TRAINING_AND_ALL_THAT_FOLLOWS


def test_corrected_boxes_of_the_test_split_train_nothing(boxes) -> None:
    assert boxes("test/t_bbox.csv") == {"preprocess": 1} | AFTER_TRAINING


def test_corrected_boxes_of_the_validation_split_preprocess_no_training_recording(boxes) -> None:
    jobs = boxes("val/v_bbox.csv")
    assert jobs["preprocess"] == 1
    assert "subsample_labels" not in jobs
    # It chooses the best weights and the thresholds.
    assert jobs["pretrain"] == 2
