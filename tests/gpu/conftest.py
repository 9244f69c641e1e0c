"""Fixtures of the tests of GPUs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# The tiny training of the tests of trainings.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stages"))

# CUDA's library for matrix products asks for it when a process first uses it.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

VISIBLE_AT_START = os.environ.get("CUDA_VISIBLE_DEVICES")


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Folder of a tiny data set, and the file of its kept labels."""
    from train_scenario import write_dataset

    root = tmp_path_factory.mktemp("gpu_data") / "sequences"
    return root, write_dataset(root)


@pytest.fixture
def give_up_claims(monkeypatch):
    """Lets the next training of this process choose among all GPUs; each job has a process of its own elsewhere."""
    from leod.gpus import release_gpus

    def give_up():
        release_gpus()
        if VISIBLE_AT_START is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", VISIBLE_AT_START)

    return give_up


@pytest.fixture
def full_precision():
    """No TF32, in which GPUs compute products with ten bits."""
    import torch

    switches = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = False
    yield
    for switch, value in zip(switches, before, strict=True):
        switch.allow_tf32 = value
