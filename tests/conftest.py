"""Fixtures that several test folders use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# The suite runs a process per core. Without this, each would compute with all cores, and all wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parents[1]


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
