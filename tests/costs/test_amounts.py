"""Where an estimate's amount of data comes from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_sequences import CONFIG, HEIGHT, WIDTH, random_frames, write_tiny_sequence

from leod.config.load import load_study
from leod.config.schema import DatasetConfig
from leod.costs.amounts import SplitAmount, find_amount
from leod.errors import ConfigError, DataError
from leod.recordings.chunk import EventChunk
from leod.recordings.dat import write_dat

REPOSITORY = Path(__file__).resolve().parents[2]


def dataset(folder, **changes):
    content = {"name": "own", "sequences": folder / "sequences"} | CONFIG.model_dump() | changes
    return DatasetConfig(**content)


def test_published_data_sets_tell_theirs(tmp_path):
    for name, hours in (("gen1", 39.31), ("one_mpx", 15.65)):
        study = load_study(
            REPOSITORY / "configs" / f"{name.replace('_', '-')}-weakly-supervised-small.yaml",
            [f"dataset={{base: {name}, sequences: {tmp_path}}}"],
        )
        found = find_amount(study.dataset)
        assert found.frames * 0.05 / 3600 == pytest.approx(hours, abs=0.01)
        assert "et al." in found.source
        assert any("labelled" in assumption for assumption in found.assumptions)


def test_sequences_that_are_there_are_counted(tmp_path):
    for split, count in (("train", 2), ("val", 1), ("test", 1)):
        for number in range(count):
            write_tiny_sequence(tmp_path / "sequences" / split / f"{split}{number}", random_frames(0, 5), [1, 3])
    found = find_amount(dataset(tmp_path))
    assert found.train == SplitAmount(2, 10, 4)
    assert found.test == SplitAmount(1, 5, 2)
    assert found.frame_bytes > 4000
    assert str(tmp_path) in found.source


def test_recordings_that_are_there_are_measured(tmp_path):
    events = EventChunk(
        np.arange(0, 500_000, 1000), *(np.zeros(500, kind) for kind in (np.uint16, np.uint16, np.uint8))
    )
    for split in ("train", "val", "test"):
        (tmp_path / "raw" / split).mkdir(parents=True)
        write_dat(tmp_path / "raw" / split / f"{split}_td.dat", [events], HEIGHT, WIDTH)
    found = find_amount(dataset(tmp_path, recordings=tmp_path / "raw", unlabelled_recordings=True))
    assert found.train.recordings == 1
    assert found.train.frames == 9
    assert found.events == 1500
    # What cannot be read as a recording is named.
    damaged = tmp_path / "raw" / "val" / "val_td.dat"
    damaged.write_bytes(damaged.read_bytes()[:-3])
    with pytest.raises(DataError, match=r"val_td\.dat: is cut off"):
        find_amount(dataset(tmp_path, recordings=tmp_path / "raw", unlabelled_recordings=True))
    damaged.write_bytes(b"%")
    with pytest.raises(DataError, match=r"val_td\.dat"):
        find_amount(dataset(tmp_path, recordings=tmp_path / "raw", unlabelled_recordings=True))


def test_what_the_user_says_wins(tmp_path):
    found = find_amount(dataset(tmp_path), recordings=[3, 1, 1], frames=[300, 100, 50], labelled_frames=[7, 2, 1])
    assert found.train == SplitAmount(3, 300, 7)
    assert found.source == "the numbers given"
    simulated = load_study(
        REPOSITORY / "configs" / "quickstart.yaml", [f"dataset={{base: simulated, sequences: {tmp_path}}}"]
    )
    partly = find_amount(simulated.dataset, labelled_frames=[7, 2, 1])
    assert partly.train == SplitAmount(30, 6000, 7)
    assert partly.source.endswith("labelled frames as given")


def test_nothing_tells_it(tmp_path):
    with pytest.raises(ConfigError, match=r"own.*--recordings TRAIN,VAL,TEST --frames"):
        find_amount(dataset(tmp_path))
