"""An estimate beside a run: `python tests/benchmarks/compare_estimate.py costs.json results/quickstart`.

Reads what `leod estimate --output costs.json` wrote and the files in which Snakemake noted the time of each job. The
median says most: some jobs may have run beside other work.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

from leod.study.jobs import JOBS


def job_times(results: Path) -> dict[str, list[float]]:
    """Rule → seconds of each of its jobs."""
    times = defaultdict(list)
    for file in sorted((results / "benchmarks").rglob("*.tsv")):
        # A job of preprocessing has a folder of its rule's name, the others a file.
        rule = next(name for name in (file.parent.name, file.stem.partition("-")[0]) if name in JOBS)
        times[rule].append(float(file.read_text().splitlines()[1].split("\t")[0]))
    return times


def main() -> None:
    """Print both, rule by rule."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("estimate", type=Path)
    parser.add_argument("results", type=Path)
    arguments = parser.parse_args()
    estimate = json.loads(arguments.estimate.read_text())["estimate"]
    measured = job_times(arguments.results)
    sys.stdout.write(f"{'rule':<24}{'jobs':>5}{'estimated':>12}{'median':>10}{'least':>10}{'most':>10}{'ratio':>8}\n")
    for rule in estimate["rules"]:
        seconds, times = 3600 * rule["hours"] / rule["jobs"], measured.get(rule["rule"])
        if times:
            median = statistics.median(times)
            sys.stdout.write(
                f"{rule['rule']:<24}{rule['jobs']:>5}{seconds:>12.1f}{median:>10.1f}{min(times):>10.1f}"
                f"{max(times):>10.1f}{seconds / median:>8.2f}\n"
            )
    sys.stdout.write(f"wall time: {60 * estimate['wall_h']:.1f} to {60 * estimate['longest_wall_h']:.1f} min\n")


if __name__ == "__main__":
    main()
