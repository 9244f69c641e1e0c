"""A study of few seconds' work for drills, and what its results are, apart from times and versions."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

STUDY: dict[str, Any] = {
    "name": "small",
    "dataset": {
        "base": "simulated",
        "recordings": "data/recordings",
        "sequences": "data/sequences",
        "simulate": {"recordings": {"train": 2, "val": 1, "test": 1}, "duration_s": 2.0, "seed": 1},
    },
    "model": "rvt-nano",
    "labels": [{"setting": "weakly_supervised", "ratio": 0.5}],
    "rounds": 1,
    "references": [],
    "hardware": {"num_workers": 0, "threads": 1},
    "preprocess": {"processes": 1},
    "pretrain": {
        "steps": 4,
        "learning_rate": 1.0e-3,
        "batch_size": 2,
        "sequence_length": 2,
        "validation": {"every_steps": 2, "sequence_fraction": 1.0},
        "checkpoint_every_steps": 1,
    },
    "pseudo_labels": {
        "views": {"mirror": True, "time_reversal": False},
        "score_thresholds": {"car": 0.005, "pedestrian": 0.005},
        "detection": {"confidence_threshold": 0.0001},
        "shards": 2,
    },
    "evaluate": {"variants": ["plain"]},
}
STUDY["self_train"] = STUDY["pretrain"] | {"loss": {"ignore_thresholds": {"car": 0.005, "pedestrian": 0.005}}}

# What is known to depend on when, where and how often something was run.
_UNESSENTIAL = {"provenance", "key"}
_UNCOMPARED = {"plan.json", "report_plan.json"}
# Damaged working checkpoints stay where they are set aside; the last three are links to the original sequences.
_FOLDERS_UNCOMPARED = {"logs", "benchmarks", "figures", "checkpoints", "event_representations_v2", "val", "test"}
EXPERIMENT = "results/small/weakly_supervised-0.5-offset0-seed0"
TARGETS = (
    "results/small/summary.csv",
    f"{EXPERIMENT}/round_0/model.ckpt",
    f"{EXPERIMENT}/round_1/model.ckpt",
    f"{EXPERIMENT}/round_1/metrics/test_plain.json",
)
"""What is compared, without the report. Snakemake makes a deleted file again only if it is asked for."""


def small_study(**changes: dict[str, Any]) -> dict[str, Any]:
    """The study with changed sections."""
    study = copy.deepcopy(STUDY)
    for section, values in changes.items():
        study[section] |= values
    return study


def results_of(results: Path) -> dict[str, str]:
    """Digest of the essential content of each result file: weights, metrics, curves, predictions, labels."""
    digests = {}
    for path in sorted(results.rglob("*")):
        name = path.relative_to(results)
        # Hidden: locks, and the second names of finished results.
        if (
            not path.is_file()
            or any(part.startswith(".") for part in name.parts)
            or name.name in _UNCOMPARED
            or name.suffix == ".html"
        ):
            continue
        if _FOLDERS_UNCOMPARED & set(name.parts):
            continue
        digests[str(name)] = hashlib.sha256(_essence(path)).hexdigest()
    return digests


def _values(array: np.ndarray) -> bytes:
    """The array without the padding of structured rows, which reading fills with chance bytes."""
    if array.dtype.names is None:
        return array.tobytes()
    return b"".join(np.ascontiguousarray(array[name]).tobytes() for name in array.dtype.names)


def _essence(path: Path) -> bytes:
    if path.suffix == ".ckpt":
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        return b"".join(name.encode() + tensor.contiguous().numpy().tobytes() for name, tensor in state.items())
    if path.suffix == ".json":
        content = json.loads(path.read_text())
        if isinstance(content, dict):
            content = {key: value for key, value in content.items() if key not in _UNESSENTIAL}
        return json.dumps(content, sort_keys=True).encode()
    if path.suffix == ".npz":
        with np.load(path) as file:
            return b"".join(key.encode() + _values(file[key]) for key in sorted(file.files))
    if path.suffix == ".h5":
        parts: list[bytes] = []

        def visit(name: str, entry: h5py.Group | h5py.Dataset) -> None:
            if isinstance(entry, h5py.Dataset):
                parts.append(name.encode() + _values(entry[()]))

        with h5py.File(path) as file:
            file.visititems(visit)
        return b"".join(parts)
    return path.read_bytes()


def difference(results: dict[str, str], expected: dict[str, str]) -> str:
    """What differs, one line a file; empty if nothing does."""
    lines = [f"missing: {name}" for name in expected.keys() - results.keys()]
    lines += [f"unexpected: {name}" for name in results.keys() - expected.keys()]
    lines += [f"differs: {name}" for name in results.keys() & expected.keys() if results[name] != expected[name]]
    return "\n".join(sorted(lines))
