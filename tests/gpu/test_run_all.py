"""The script that runs all that needs a GPU: what it says without one, and what of a run ends up in its table."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmark_figures import ON_GPU, made_up_benchmark
from run_all import NO_GPU, benchmark_rows, read_report, render

SCRIPT = Path(__file__).with_name("run_all.py")

TESTS_OF_A_RUN = """
import pytest

def test_passes(): pass

def test_fails(): raise ValueError("losses | differ")

@pytest.mark.skip(reason="needs 2 GPUs")
def test_waits(): pass

@pytest.fixture
def broken(): raise OSError("no data")

def test_cannot_begin(broken): pass
"""


def test_without_a_gpu_it_says_so_and_fails(tmp_path):
    command = [sys.executable, str(SCRIPT), "--output", str(tmp_path / "gpu.md")]
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=hidden, capture_output=True, text=True, cwd=SCRIPT.parents[2], check=False)
    assert done.returncode == NO_GPU
    assert "There is no GPU" in done.stderr
    assert "nvidia-smi" in done.stderr
    assert not (tmp_path / "gpu.md").exists()


def test_each_outcome_is_a_row_with_its_reason(tmp_path):
    (tmp_path / "test_made_up.py").write_text(TESTS_OF_A_RUN)
    report = tmp_path / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", str(tmp_path)]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    rows = {row.what: row for row in read_report(report)}
    results = {name: row.result for name, row in rows.items()}
    assert results == {
        "test_passes": "passed",
        "test_fails": "failed",
        "test_waits": "skipped",
        "test_cannot_begin": "failed",
    }
    assert rows["test_waits"].detail == "needs 2 GPUs"
    assert "no data" in rows["test_cannot_begin"].detail
    assert "losses \\| differ" in render(rows.values())


def test_figures_of_a_benchmark_are_rows(tmp_path):
    rows = benchmark_rows("quickstart", made_up_benchmark(ON_GPU))
    table = render(rows)
    assert "| quickstart: pretrain step, 8 × 4 frames, cuda 16-mixed | 500 ms, 16 samples/s | GPU 8 GB |" in table
    assert "quickstart: pseudo_labels, 4 view(s), 8 sequences" in table
    assert all(line.count(" | ") == 2 for line in table.splitlines()[2:])
