"""What a result was made from: every JSON result and checkpoint carries one of these records."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import time
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("leod", "torch", "pytorch-lightning", "numpy", "timm", "h5py")

_WITHOUT_RESULTS = (
    "cli",
    "comparison",
    "costs",
    "drawing",
    "options.py",
    "packs",
    "progress.py",
    "provenance.py",
    "report",
    "study",
    "tables.py",
)
"""Parts of this package that no result depends on."""
_CPU_FACTS = Path("/proc/cpuinfo")


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


@cache
def source_digest() -> str:
    """Digest of this package's source, as far as results depend on it: what an installed package has for a commit."""
    digest = hashlib.sha256()
    package = Path(__file__).parent
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package)
        if name.parts[0] not in _WITHOUT_RESULTS:
            digest.update(name.as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def machine() -> dict[str, str | int | None]:
    """What of this machine may show in the last bits of a result; nothing that names it."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
    }


def _processor() -> str:
    try:
        facts = _CPU_FACTS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor()
    models = (line.partition(":")[2].strip() for line in facts.splitlines() if line.startswith("model name"))
    return next(models, platform.processor())


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
            "source": source_digest(),
            "machine": machine(),
            "wall_time_s": round(self.elapsed_s, 3),
            "cpus": os.cpu_count(),
        }
