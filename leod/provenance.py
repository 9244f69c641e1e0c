"""What a result was made from: every JSON result and checkpoint carries one of these records."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("leod", "torch", "pytorch-lightning", "numpy", "timm", "h5py", "faster-coco-eval")


@cache
def versions() -> dict[str, str]:
    """Versions of Python, this package, and what it computes with."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def _git_commit() -> str | None:
    """The commit of the checkout this package is run from, or None for an installed package."""
    folder = Path(__file__).resolve().parent
    try:
        result = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None if result.returncode == 0 else None


class Stopwatch:
    """Starts when made; collects the provenance of one stage run."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self._start

    def provenance(
        self, stage: str, settings: Any, inputs: dict[str, Path | str | list[Path]], seed: int | None = None
    ) -> dict[str, Any]:
        """Describe this run of a stage as plain JSON data.

        Args:
            stage: Name of the stage.
            settings: Its resolved settings, a pydantic model.
            inputs: Role → file(s) that the result was computed from.
            seed: The random seed, where the stage has one.
        """
        return {
            "stage": stage,
            "inputs": {
                role: [str(entry) for entry in value] if isinstance(value, list) else str(value)
                for role, value in inputs.items()
            },
            "seed": seed,
            "settings": settings.model_dump(mode="json"),
            "versions": versions(),
            "git_commit": _git_commit(),
            "wall_time_s": round(self.elapsed_s, 3),
            "cpus": os.cpu_count(),
        }
