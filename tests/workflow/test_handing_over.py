"""A study handed over: packed in one clone, run again in another, and compared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import Checkout, copy_workflow
from small_study import EXPERIMENT, small_study

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def leod(folder: Path, *arguments: str, statuses: tuple[int, ...] = (0,)) -> str:
    """Run a command in a clone; returns what it prints."""
    command = [sys.executable, "-c", "from leod.cli import main; main()", *arguments]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode in statuses, result.stdout + result.stderr
    return result.stdout


def program(folder: Path) -> Path:
    """A folder with the command ``leod`` of this checkout."""
    folder.mkdir()
    script = folder / "leod"
    # Processes of a pool import it once more.
    script.write_text(f"#!{sys.executable}\nfrom leod.cli import main\n\nif __name__ == '__main__':\n    main()\n")
    script.chmod(0o755)
    return folder


def test_a_packed_study_runs_again_elsewhere_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    programs = program(tmp_path / "programs")
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    for folder in (mine, theirs):
        folder.mkdir()
        copy_workflow(folder)
    original = Checkout(mine, small_study(), [programs])
    original.snakemake()
    leod(mine, "pack", "results/small", "small.zip")

    printed = leod(theirs, "unpack", str(mine / "small.zip"), "original")
    assert "Its recordings are simulated: no data are needed." in printed
    packed = json.loads((theirs / "original" / "study.json").read_text())
    again = Checkout(theirs, packed, [programs])
    again.snakemake("--configfile", "original/study.json")
    printed = leod(theirs, "compare", "original", "results/small")
    assert "Verdict: bit-identical results." in printed
    assert "First difference" not in printed

    # A changed threshold is named at the first stage that uses it.
    again.study["track_filter"]["min_track_length"] = 2
    again.snakemake()
    printed = leod(theirs, "compare", "original", "results/small", statuses=(3, 4))
    experiment = Path(EXPERIMENT).name
    assert (
        f"First difference: track_filter, {experiment}, round 1: settings: track_filter.min_track_length: 6 → 2"
        in printed
    )
