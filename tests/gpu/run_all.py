"""All tests that need a GPU and the speeds of this machine, in one table: python tests/gpu/run_all.py --output gpu.md.

Runs `pytest -m gpu`, then `leod benchmark` for RVT-S on Gen1 and for the default study. Ends with status 1 where a test
or a benchmark failed (the table says which), and with status 2, at once and without a table, where there is no GPU.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import torch

from leod.costs.figures import BenchmarkResult, read_benchmark
from leod.provenance import versions

REPOSITORY = Path(__file__).resolve().parents[2]
STUDIES = ("gen1-weakly-supervised-small", "quickstart")
NO_GPU = 2


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        what: Test or measurement.
        result: ``passed``, ``failed``, ``skipped``, or what was measured.
        detail: Seconds, memory, or why not.
    """

    what: str
    result: str
    detail: str = ""


def machine() -> list[Row]:
    """What the figures depend on."""
    properties = torch.cuda.get_device_properties(0)
    driver = first_line("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    commit = first_line("git", "-C", str(REPOSITORY), "rev-parse", "HEAD")
    return [
        Row("GPU", f"{torch.cuda.device_count()} × {properties.name}", f"{properties.total_memory / 1e9:.0f} GB each"),
        Row("compute capability", f"{properties.major}.{properties.minor}"),
        Row("driver", driver),
        Row("CUDA, cuDNN", f"{torch.version.cuda}, {torch.backends.cudnn.version()}", "of the build of PyTorch"),
        Row("system", f"{platform.system()} {platform.machine()}"),
        *(Row(name, version, f"commit {commit}" if name == "leod" else "") for name, version in versions().items()),
    ]


def first_line(*command: str) -> str:
    """What a command says, or that it does not."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0].strip()
    except (OSError, subprocess.CalledProcessError, IndexError):
        return f"unknown: {command[0]} does not tell"


def tests(report: Path) -> list[Row]:
    """Run the tests marked gpu, one after the other; ``report`` receives pytest's own."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-n", "0", f"--junitxml={report}", "tests/gpu"]
    status = subprocess.run(command, cwd=REPOSITORY, check=False).returncode
    if not report.exists():
        return [Row("pytest -m gpu", "failed", f"ended with status {status} and without a report")]
    return read_report(report)


def read_report(report: Path) -> list[Row]:
    """The outcome of each test in a report of pytest (JUnit's XML)."""
    rows = []
    for case in ElementTree.parse(report).iter("testcase"):
        result, detail = "passed", f"{float(case.get('time', 0)):.1f} s"
        for kind, word in (("skipped", "skipped"), ("failure", "failed"), ("error", "failed")):
            if (found := case.find(kind)) is not None:
                result, detail = word, (found.get("message") or "").strip().partition("\n")[0][:200]
        rows.append(Row(case.get("name", "?"), result, detail))
    return rows


def benchmark(study: str, figures: Path, seconds: float) -> list[Row]:
    """Measure a study on the GPU; ``figures`` receives what `leod benchmark --output` writes."""
    name = f"leod benchmark, {study}"
    command = [sys.executable, "-c", "from leod.cli import main; main()", "benchmark"]
    command += ["--study", str(REPOSITORY / "configs" / f"{study}.yaml")]
    command += ["--seconds", f"{seconds:g}", "--output", str(figures)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return [Row(name, "failed", last[:200])]
    return benchmark_rows(study, read_benchmark(figures))


def benchmark_rows(study: str, result: BenchmarkResult) -> list[Row]:
    """What of the figures depends on the GPU."""

    def memory(megabytes: float | None) -> str:
        return "" if megabytes is None else f"GPU {megabytes / 1000:.3g} GB"

    rows = [
        Row(
            f"{study}: {entry.stage} step, {entry.batch_size} × {entry.sequence_length} frames, {entry.way.name}",
            f"{1000 * entry.step_s:.3g} ms, {entry.samples_per_s:.3g} samples/s",
            memory(entry.gpu_memory_mb),
        )
        for entry in result.training
    ]
    rows += [
        Row(
            f"{study}: {entry.task}, {entry.views} view(s), {entry.batch_size} sequences, {entry.way.name}",
            f"{entry.frames_per_s:.4g} frames/s",
            memory(entry.gpu_memory_mb),
        )
        for entry in result.streams
    ]
    rows += [
        Row(
            f"{study}: one window, events to boxes, {entry.way.name}",
            f"{entry.median_ms:.3g} ms (median), {entry.quantile_95_ms:.3g} ms (95 %)",
        )
        for entry in result.latency
    ]
    return rows + [Row(f"{study}: note", note) for note in result.notes]


def render(rows: Iterable[Row]) -> str:
    """The rows as one Markdown table."""
    lines = ["| what | result | detail |", "|---|---|---|"]
    for row in rows:
        cells = (cell.replace("|", "\\|") for cell in (row.what, row.result, row.detail))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run everything; returns the status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="Markdown file to write")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each measurement of the benchmarks")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        sys.stderr.write(
            f"There is no GPU: PyTorch {torch.__version__} ({build}) sees none. Check the driver (nvidia-smi), "
            f"CUDA_VISIBLE_DEVICES and the build of PyTorch. Nothing was run, {arguments.output} was not written.\n"
        )
        return NO_GPU
    rows = machine()
    with tempfile.TemporaryDirectory() as folder:
        parts = [lambda: tests(Path(folder, "tests.xml"))]
        parts += [
            lambda study=study: benchmark(study, Path(folder, f"{study}.json"), arguments.seconds) for study in STUDIES
        ]
        for part in parts:
            rows += part()
            # After each part: what comes next may take the machine down.
            arguments.output.write_text(render(rows), encoding="utf-8")
    failed = [row.what for row in rows if row.result == "failed"]
    sys.stdout.write(f"{arguments.output}: {len(rows)} rows, {len(failed)} failed {failed or ''}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
