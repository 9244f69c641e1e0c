"""Faults of the workflow itself, on stages that only pretend; real stages are in `fault_drill.py`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import fault_drill
import pytest
from checkout import Checkout

FAILING_STAND_IN = """#!{python}
# Fails as long as the file "broken" exists, else does what the first stand-in does.
import os, sys
from pathlib import Path

print("attempt of", sys.argv[1])
if Path("broken").exists() and sys.argv[1] == "pretrain":
    sys.exit("something is broken")
os.execv(sys.executable, [sys.executable, {stand_in!r}, *sys.argv[1:]])
"""

WAITING_STAND_IN = """#!{python}
# Waits until the file "go" exists.
import os, sys, time
from pathlib import Path

Path("started").touch()
while not Path("go").exists():
    time.sleep(0.05)
os.execv(sys.executable, [sys.executable, {stand_in!r}, *sys.argv[1:]])
"""


def replace_stand_in(checkout: Checkout, text: str) -> None:
    program = checkout.folder / "programs" / "leod"
    behind = program.rename(program.with_name("stand_in"))
    program.write_text(text.format(python=sys.executable, stand_in=str(behind)))
    program.chmod(0o755)


def test_logs_of_all_attempts_are_kept(checkout: Checkout) -> None:
    replace_stand_in(checkout, FAILING_STAND_IN)
    broken = checkout.folder / "broken"
    broken.touch()
    # A job and its retry within the same second still have logs of their own.
    result = checkout.snakemake("--retries", "1", "--until", "pretrain", check=False)
    assert result.returncode != 0
    broken.unlink()
    checkout.snakemake("--until", "pretrain")

    folder = next((checkout.folder / "results" / "quickstart" / "logs").glob("weakly*/round_0"))
    attempts = sorted((folder / "attempts").glob("pretrain.*.log"), key=lambda path: path.stat().st_mtime_ns)
    texts = [path.read_text() for path in attempts]
    assert ["something is broken" in text for text in texts] == [True, True, False]
    assert all("attempt of pretrain" in text for text in texts)
    assert (folder / "pretrain.log").read_text() == texts[-1]


def test_a_second_snakemake_is_refused(checkout: Checkout) -> None:
    replace_stand_in(checkout, WAITING_STAND_IN)
    first = checkout.start("--until", "simulate")
    deadline = time.monotonic() + 120
    while not (checkout.folder / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    second = checkout.snakemake(check=False)
    (checkout.folder / "go").touch()
    first.communicate(timeout=300)
    assert first.returncode == 0
    assert second.returncode != 0
    assert "Directory cannot be locked" in second.stdout + second.stderr


@pytest.mark.slow
def test_a_study_survives_kills_and_faults(tmp_path: Path) -> None:
    fault_drill.drill(tmp_path, ["kills", "full"], count=3, seed=1)
