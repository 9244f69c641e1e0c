"""Sub-sampling of labels against the published code and its released splits."""

from __future__ import annotations

import json

import numpy as np
import pytest

from leod.errors import ConfigError
from leod.labels.subsample import semi_supervised, supervised_steps, weakly_supervised


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


def test_supervised_steps(golden_dir):
    for case in load(golden_dir, "subsample_label_idx.json"):
        arguments = {
            ours: case[theirs]
            for ours, theirs in (("use_every", "use_every"), ("leave_out_every", "remove_every"))
            if case[theirs] > 0
        }
        assert supervised_steps(case["L"], **arguments).tolist() == case["idx"], case
