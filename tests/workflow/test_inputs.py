"""Rules say what they read: any file of a study can be asked for alone, and what was deleted is made again."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from checkout import Checkout, copy_workflow
from small_study import EXPERIMENT, small_study

QUICKSTART = "results/quickstart/weakly_supervised-0.05-offset0-seed0"


def preprocessed(checkout: Checkout, *arguments: str) -> list[str]:
    """The splits that `snakemake -n` would preprocess."""
    result = checkout.snakemake("-n", *arguments)
    return sorted(re.findall(r"Preprocessing (\w+) recordings", result.stdout + result.stderr))


@pytest.mark.parametrize(
    ("target", "splits"),
    [
        ("labels.json", ["train"]),
        ("round_0/model.ckpt", ["train", "val"]),  # the best checkpoint is chosen on val
        ("round_0/metrics/val_plain.json", ["train", "val"]),  # a split that the study itself does not evaluate
        ("round_0/metrics/test_plain.json", ["test", "train", "val"]),
        ("round_1/predictions/0.h5", ["train", "val"]),
        ("round_1/dataset.json", ["test", "train", "val"]),  # links to all splits
        ("round_1/model.ckpt", ["test", "train", "val"]),
    ],
)
def test_a_file_asked_for_alone_brings_the_splits_that_it_needs(
    checkout: Checkout, target: str, splits: list[str]
) -> None:
    assert preprocessed(checkout, f"{QUICKSTART}/{target}") == splits


def test_published_weights_need_no_validation_split(checkout: Checkout) -> None:
    (checkout.folder / "published.ckpt").touch()
    checkout.study["pretrain"] = checkout.study["pretrain"] | {"from": "published.ckpt"}
    assert preprocessed(checkout, f"{QUICKSTART}/round_0/model.ckpt") == ["train"]


def list_in(manifest: Path, content: dict[str, object]) -> None:
    """Write what a manifest lists, as if it had said so from the start."""
    status = manifest.stat()
    manifest.write_text(json.dumps(content))
    os.utime(manifest, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_deleted_test_sequence_repeats_no_training(finished: Checkout) -> None:
    folder = finished.folder / "data" / "simulated" / "sequences"
    list_in(folder / "manifests" / "test-0.json", {"split": "test", "sequences": [{"name": "drive"}]})
    assert finished.pending() == {"preprocess": 1, "evaluate": 5, "summarise": 1, "write_report": 1}
    (folder / "test" / "drive").mkdir(parents=True)
    assert finished.pending() == {}


def test_what_is_not_asked_for_is_not_repaired(finished: Checkout) -> None:
    folder = finished.folder / "data" / "simulated" / "sequences"
    list_in(folder / "manifests" / "test-0.json", {"split": "test", "sequences": [{"name": "drive"}]})
    result = finished.snakemake("-n", f"{QUICKSTART}/round_0/model.ckpt")
    assert "Nothing to be done" in result.stdout + result.stderr


@pytest.mark.slow
def test_changed_set_of_sequences_that_come_from_elsewhere_is_checked_again(checkout: Checkout) -> None:
    sequences = checkout.folder / "given"
    for split in ("train", "val", "test"):
        (sequences / split / "drive-1").mkdir(parents=True)
    checkout.study["dataset"] = {"base": "gen1", "sequences": "given"}
    checkout.study["references"] = []
    checkout.study["rounds"] = 0
    checkout.snakemake()
    assert checkout.pending() == {}
    (sequences / "test" / "drive-1").rename(sequences / "test" / "drive-2")
    assert checkout.pending() == {"check_sequences": 1, "evaluate": 1, "summarise": 1, "write_report": 1}
    checkout.snakemake()
    assert checkout.pending() == {}


@pytest.mark.slow
def test_deleted_sequence_and_recording_are_made_again_once(tmp_path: Path) -> None:
    copy_workflow(tmp_path)
    checkout = Checkout(tmp_path, small_study())
    target = f"{EXPERIMENT}/labels.json"
    checkout.snakemake(target)
    sequences = tmp_path / "data" / "sequences" / "train"
    deleted, other = sorted(path for path in sequences.iterdir() if not path.name.startswith("."))
    kept_time = (other / "preprocess.json").stat().st_mtime_ns

    shutil.rmtree(deleted)
    announced = checkout.snakemake("-n", target)
    assert deleted.name in announced.stdout + announced.stderr
    assert not deleted.exists()
    checkout.snakemake(target)
    assert (deleted / "preprocess.json").is_file()
    assert (other / "preprocess.json").stat().st_mtime_ns == kept_time
    quiet = checkout.snakemake(target)
    assert "Nothing to be done" in quiet.stdout + quiet.stderr

    recording = tmp_path / "data" / "recordings" / "train" / f"{deleted.name}_td.dat"
    recording.unlink()
    checkout.snakemake(target)
    assert recording.is_file()
    quiet = checkout.snakemake(target)
    assert "Nothing to be done" in quiet.stdout + quiet.stderr


@pytest.mark.slow
def test_pseudo_labels_as_the_only_target_of_a_fresh_study(tmp_path: Path) -> None:
    copy_workflow(tmp_path)
    checkout = Checkout(tmp_path, small_study())
    checkout.snakemake(f"{EXPERIMENT}/round_1/dataset.json")
    dataset = tmp_path / EXPERIMENT / "round_1" / "dataset"
    assert {split: (dataset / split).is_dir() for split in ("train", "val", "test")} == dict.fromkeys(
        ("train", "val", "test"), True
    )
