"""Sub-sampling of labels against the published code and its released splits."""

from __future__ import annotations

import json
import pickle
import re

import numpy as np
import pytest

from leod.boxes.dtypes import RECORDING_BOX_DTYPE
from leod.boxes.kept_labels import read_released_split
from leod.boxes.subsample import semi_supervised, weakly_supervised, weakly_supervised_step
from leod.config.load import load_study
from leod.errors import ConfigError
from leod.sequences.label_times import LabelledFrames
from leod.sequences.window_grid import WindowGrid

STUDIES = {"gen1": "gen1-weakly-supervised-small", "gen4": "one-mpx-weakly-supervised-small"}
"""The published code's name of a data set -> one of our studies of it."""


def load(golden_dir, name):
    path = golden_dir / name
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    return json.loads(path.read_text())


def test_weakly_supervised(golden_dir):
    for name, case in load(golden_dir, "subsample.json")["sequences"].items():
        frames = np.array(case["objframe_idx_2_repr_idx"])
        for ratio, expected in case["kept"].items():
            kept = weakly_supervised(frames, float(ratio), 0, case["sequence_length"])
            assert kept.tolist() == expected["kept_objframe_idx"], (name, ratio)
            assert frames[kept].tolist() == expected["kept_repr_idx"], (name, ratio)


def test_semi_supervised(golden_dir):
    for count, ratios in load(golden_dir, "subsample.json")["ssod"].items():
        for ratio, expected in ratios.items():
            # The reference writes "all" as -1.
            share = 1.0 if float(ratio) < 0 else float(ratio)
            if isinstance(expected, str):
                with pytest.raises(ConfigError, match="keeps none"):
                    semi_supervised(int(count), share, 0)
                continue
            chosen = semi_supervised(int(count), share, 0).tolist()
            assert len(chosen) == expected["count"]
            head, _, tail = "\n".join(map(str, expected["indices"])).partition("...")
            assert chosen[: len(head.split())] == [int(index) for index in head.split()]
            assert chosen[len(chosen) - len(tail.split()) :] == [int(index) for index in tail.split()]


def possible_first_indices(study):
    """First kept label of a full recording of ``study``, for every time at which the labels may begin."""
    dataset, history = study.dataset, study.pretrain.sequence_length
    step = dataset.label_times.step_us
    windows = np.full(40, round(step / dataset.window_us), np.int64)
    first_us = dataset.label_times.first_us
    found = set()
    for start in range(first_us, first_us + step, 1000):
        times = start + step * np.arange(len(windows) + 1)
        labels = LabelledFrames(np.zeros(0, RECORDING_BOX_DTYPE), times, np.zeros(len(times), np.int64), windows)
        grid = WindowGrid(labels, dataset.window_us, 0, dataset.windows.origin, dataset.windows.until("train"))
        grid.finish(int(times[-1]))
        frames = np.asarray(grid.labelled_frames)
        found.add(int(weakly_supervised(frames, 0.5, 0, history)[0]))
    return found


def test_released_splits_are_those_of_our_rules(golden_dir, pytestconfig, tmp_path):
    splits = load(golden_dir, "subsample.json")["released_splits"]
    assert splits
    for name, split in splits.items():
        dataset, ratio = re.fullmatch(r"(\w+)/ssod_([\d.]+)-off\d+\.pkl", name).groups()
        step = weakly_supervised_step(float(ratio))
        assert list(split["index_steps"]) == [str(step)], name
        counts = {int(kept): sequences for kept, sequences in split["frames_per_sequence"].items()}
        assert sum(counts.values()) == split["sequences"] == sum(split["first_index_histogram"].values()), name
        assert sum(kept * sequences for kept, sequences in counts.items()) == split["labelled_frames"], name
        assert sum(split["index_steps"].values()) == split["labelled_frames"] - split["sequences"], name

        # Sequences without enough history begin with their first label; the others where our windows say.
        study = load_study(pytestconfig.rootpath / "configs" / f"{STUDIES[dataset]}.yaml")
        begins = {int(index) for index in split["first_index_histogram"]}
        assert max(begins) in possible_first_indices(study), name
        assert begins <= set(range(max(possible_first_indices(study)) + 1)), name

        path = tmp_path / "split.pkl"
        examples = {sequence: tuple(kept) for sequence, kept in split["example"].items()}
        path.write_bytes(pickle.dumps(examples))
        assert read_released_split(path) == examples
        for kept in examples.values():
            assert (np.diff(kept) == step).all(), name
