"""Fixtures that several test folders use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# The suite runs a process per core. Without this, each would compute with all cores, and all wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parents[1]

DEVICE_VARIABLE = "LEOD_TEST_DEVICE"
"""Names a device that stands in for the GPU: ``cpu`` runs the tests of GPUs on the CPU, to see that they are right."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bring tests into order, and skip those marked gpu where PyTorch sees none or fewer than asked for: ``gpu(2)``."""
    # Slow ones of the workflow run whole studies: begun last, one of them would keep a single core busy for minutes.
    items.sort(key=lambda item: not (item.get_closest_marker("slow") and "workflow" in item.path.parts))
    marked = [(item, mark) for item in items if (mark := item.get_closest_marker("gpu")) is not None]
    if not marked or DEVICE_VARIABLE in os.environ:
        return
    import torch

    found = torch.cuda.device_count()
    for item, mark in marked:
        wanted = mark.args[0] if mark.args else 1
        if found < wanted:
            there_is = "there is none" if not found else f"there is only {found}"
            reason = f"needs {wanted} GPU{'s' if wanted > 1 else ''}, and PyTorch sees that {there_is}"
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Folder of the full golden comparison; the environment variable LEOD_GOLDEN names another one."""
    folder = Path(os.environ.get("LEOD_GOLDEN", REPOSITORY.parent / "shared" / "golden"))
    if not folder.is_dir():
        pytest.skip(f"golden data not found at {folder}")
    return folder


@pytest.fixture(autouse=True)
def _impatient_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages of this process give up at once where another one holds the lock."""
    monkeypatch.setattr("leod.files.LOCK_WAIT_S", 0.0)
