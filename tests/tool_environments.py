"""Environments of other programs: too large, and too particular about versions, to stand in that of the tests.

They are made once, in the folder that LEOD_TOOLS names (default: ~/.cache/leod-tools), and kept.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

_UNREACHABLE = (
    "Could not find a version",
    "No matching distribution",
    "Temporary failure in name resolution",
    "Failed to establish a new connection",
    "Max retries exceeded",
    "Read timed out",
    "ProxyError",
)


def tool_folder(name: str) -> Path:
    """Folder of a tool's environment."""
    root = Path(os.environ.get("LEOD_TOOLS", Path.home() / ".cache" / "leod-tools"))
    return root / f"{name}-py{sys.version_info[0]}.{sys.version_info[1]}"


def tool_python(name: str, *requirements: str) -> Path:
    """The interpreter of an environment in which a tool is installed; made if it is not there.

    Skips the test where the package index cannot be reached.

    Args:
        name: Name of the environment.
        requirements: What is installed.
    """
    requirement = " ".join(requirements)
    folder = tool_folder(name)
    python, complete = folder / "bin" / "python", folder / "complete"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if complete.is_file() and complete.read_text() == requirement:
            return python
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
        result = subprocess.run(install, capture_output=True, text=True, check=False)
        if result.returncode:
            last = result.stderr.strip().splitlines()[-1:]
            if any(text in result.stderr for text in _UNREACHABLE):
                pytest.skip(f"{requirement} cannot be had from the package index: {''.join(last)}")
            pytest.fail(f"{requirement} cannot be installed: {result.stderr[-2000:]}")
        complete.write_text(requirement)
    return python


def environment() -> dict[str, str]:
    """Variables for the processes of a tool: without our own packages."""
    return {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
