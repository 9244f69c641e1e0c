"""The split of record whose labels a detector suggests."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from tiny_sequences import CONFIG, MODEL, random_detector, random_frames, write_tiny_sequence

from leod.boxes.kept_labels import KeptLabels
from leod.config.schema import HardwareConfig, LabelBudget
from leod.config.settings import SuggestLabelsSettings
from leod.errors import ConfigError, DataError
from leod.models.checkpoint import save_detector
from leod.stages.suggest_labels import APART_US, suggest_labels

CPU = HardwareConfig(accelerator="cpu", num_workers=0, threads=1)
LABELLED = {"a": list(range(3, 80, 4)), "b": list(range(5, 60, 5)), "quiet": list(range(3, 30, 4)), "unlabelled": []}
FRAMES = {"a": 80, "b": 60, "quiet": 30, "unlabelled": 5}
FIRST = {"a": (6,), "b": (3,), "quiet": (), "unlabelled": ()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("suggested")
    for number, (name, labelled) in enumerate(LABELLED.items()):
        frames = random_frames(number, FRAMES[name])
        write_tiny_sequence(root / "sequences/train" / name, frames * (name != "quiet"), labelled)
    save_detector(root / "model.ckpt", random_detector())
    KeptLabels(FIRST, "random", frames=2).write(root / "first.json")
    return root


def suggest(folder, output, frames=4, seed=0, history=4, detector=True, **changes):
    budget = LabelBudget(setting="suggested", frames=frames, first_share=2 / frames if detector else 0)
    settings = SuggestLabelsSettings(budget=budget, seed=seed, history=history, sequence=CONFIG, model=MODEL)
    given = {"first": folder / "first.json", "checkpoint": folder / "model.ckpt"} if detector else {}
    suggest_labels(
        **{"sequences": folder / "sequences", "output": output, "settings": settings, "hardware": CPU} | given | changes
    )
    return KeptLabels.read(output)


def frames_of(kept):
    return {name: np.array(LABELLED[name], np.int64)[list(found)] for name, found in kept.sequences.items()}


@pytest.mark.parametrize("detector", [False, True])
def test_the_first_share_stays_and_the_rest_is_apart(folder, tmp_path, detector):
    kept = suggest(folder, tmp_path / "labels.json", detector=detector)
    assert kept.labelled_frames == kept.frames == 4
    assert kept.setting == "suggested"
    assert kept.sequences.keys() == LABELLED.keys()
    if detector:
        assert all(set(FIRST[name]) <= set(found) for name, found in kept.sequences.items())
    for name, frames in frames_of(kept).items():
        assert (np.diff(frames) * CONFIG.window_us >= APART_US).all()
        assert (frames >= 10).all(), f"{name}: the detector has no memory yet"
    assert kept.sequences["quiet"] == ()


def test_the_same_seed_gives_the_same_labels_and_the_detector_matters(folder, tmp_path):
    first, again = (suggest(folder, tmp_path / f"{name}.json") for name in "ab")
    assert first.sequences == again.sequences
    save_detector(tmp_path / "other.ckpt", random_detector(1))
    others = [
        suggest(folder, tmp_path / "c.json", checkpoint=tmp_path / "other.ckpt").sequences,
        suggest(folder, tmp_path / "d.json", seed=5).sequences,
    ]
    assert any(other != first.sequences for other in others)


def test_a_budget_beyond_what_differs_is_spent_and_said(folder, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        kept = suggest(folder, tmp_path / "labels.json", frames=36)
    assert kept.labelled_frames == 36
    assert "more are taken at random" in caplog.text
    assert all((frames >= 3).all() for frames in frames_of(kept).values()), "each has its history"


def test_more_frames_than_there_are(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"frames: 60 are wanted, but only 38 labelled frames have the 4 frames"):
        suggest(folder, tmp_path / "labels.json", frames=60)
    assert not (tmp_path / "labels.json").exists()


def test_first_share_and_detector_belong_together(folder, tmp_path):
    with pytest.raises(ConfigError, match="--first and --checkpoint belong together"):
        suggest(folder, tmp_path / "labels.json", first=None)


def test_labels_of_another_data_set(folder, tmp_path):
    KeptLabels({"a": (6,)}, "random", frames=1).write(tmp_path / "first.json")
    with pytest.raises(DataError, match="does not list the sequence 'b'"):
        suggest(folder, tmp_path / "labels.json", first=tmp_path / "first.json")
