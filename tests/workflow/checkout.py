"""A checkout of the workflow in a temporary folder, driven through the real `snakemake`."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]

STAND_IN = """#!{python}
# Stands in for the command line: makes what each stage declares, so that only Snakemake's decisions are tested.
import sys
from pathlib import Path

arguments = dict(zip(sys.argv[2:], sys.argv[3:]))
command = sys.argv[1]
files = [arguments[key] for key in ("--manifest", "--table") if key in arguments]
output = Path(arguments["--output"])
if command in ("pretrain", "self-train"):
    files += [output / name for name in ("model.ckpt", "training.csv", "training.json")]
elif command in ("simulate", "preprocess", "track-filter"):
    output.mkdir(parents=True, exist_ok=True)
elif command == "report":
    from leod.study.jobs import FIGURES

    files += [output, *(Path(arguments["--figures"]) / (name + ".svg") for name in FIGURES)]
else:
    files.append(output)
for file in files:
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).write_text("{{}}")
"""


@dataclass
class Checkout:
    """A copy of the workflow with a study file.

    Attributes:
        folder: Its folder.
        study: The study's content; written before each run.
        path: Folders put in front of PATH.
    """

    folder: Path
    study: dict
    path: list[Path] = field(default_factory=list)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start Snakemake on the study."""
        (self.folder / "configs" / "study.yaml").write_text(yaml.safe_dump(self.study))
        environment = os.environ | {
            "PATH": os.pathsep.join([*map(str, self.path), str(Path(sys.executable).parent), os.environ["PATH"]])
        }
        command = [sys.executable, "-m", "snakemake", "--configfile", "configs/study.yaml", "--cores", "2", *arguments]
        return subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def snakemake(self, *arguments: str, check: bool = True, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """Run Snakemake on the study to its end."""
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=timeout)
        result = subprocess.CompletedProcess(process.args, process.returncode, output, errors)
        if check and result.returncode:
            pytest.fail(f"snakemake {' '.join(arguments)} failed:\n{result.stdout}\n{result.stderr}")
        return result

    def pending(self) -> dict[str, int]:
        """What `snakemake -n` would run: rule → number of jobs."""
        result = self.snakemake("-n")
        lines = (result.stdout + result.stderr).splitlines()
        jobs: dict[str, int] = {}
        for number, line in enumerate(lines):
            if line.strip() != "Job stats:":
                continue
            for row in lines[number + 3 :]:
                name, *count = row.split() or [""]
                if name in ("", "total"):
                    break
                if name != "all":
                    jobs[name] = int(count[0])
        return jobs


def copy_workflow(folder: Path) -> None:
    """Copy what a clone holds of the workflow into ``folder``."""
    for name in ("rules", "workflow", "config", "configs", "envs", "profiles"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "Snakefile", folder / "Snakefile")


def pretending_checkout(folder: Path, study: dict[str, Any]) -> Checkout:
    copy_workflow(folder)
    programs = folder / "programs"
    programs.mkdir()
    stand_in = programs / "leod"
    stand_in.write_text(STAND_IN.format(python=sys.executable))
    stand_in.chmod(stand_in.stat().st_mode | stat.S_IXUSR)
    study["pseudo_labels"]["shards"] = 1
    return Checkout(folder, study, [programs])
