"""The workflow in other folders than its own: imported, deployed, run from elsewhere, in folders with odd names.

The quick tests plan the smoke study, the slow ones run it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from checkout import REPOSITORY, copy_workflow
from packaging.version import Version

IMPORT = """
module leod:
    snakefile:
        {snakefile}
    config:
        config{key}


use rule * from leod{renamed}
"""
RULES_OF_ITS_OWN = """

rule all:
    default_target: True
    input:
        "done.txt",
        rules.leod_all.input,


rule after:
    input:
        "results/smoke/summary.csv",
    output:
        "done.txt",
    shell:
        "wc -l {input} > {output}"
"""
DEPLOYED = """
from snakemake.utils import min_version


min_version("6.10.0")


configfile: "config/config.yaml"

{module}
"""
"""What snakedeploy writes into workflow/Snakefile, but for the repository, which is that of a clone here."""


class Place:
    """A clone, and another folder in which its workflow is run.

    Attributes:
        clone: The clone.
        folder: The working directory.
        smoke: The smoke study in the clone.
        environment: Further variables of Snakemake's environment.
    """

    def __init__(self, root: Path, clone: str = "clone", folder: str = "elsewhere") -> None:
        self.clone, self.folder = root / clone, root / folder
        copy_workflow(self.clone)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.smoke = self.clone / "configs" / "smoke.yaml"
        self.environment: dict[str, str] = {}
        self.before = self.files()

    def files(self) -> set[Path]:
        """Files of the clone, but for what Git, Snakemake and Python note for themselves."""
        found = (path.relative_to(self.clone) for path in self.clone.rglob("*"))
        return {path for path in found if not {".git", ".snakemake", "__pycache__"} & set(path.parts)}

    def deploy(self, snakefile: str) -> None:
        """Do what snakedeploy does: copy config/ and profiles/, write a workflow that imports ``snakefile``."""
        for name in ("config", "profiles"):
            shutil.copytree(self.clone / name, self.folder / name)
        (self.folder / "workflow").mkdir()
        imported = IMPORT.format(snakefile=snakefile, key="", renamed="").strip()
        (self.folder / "workflow" / "Snakefile").write_text(DEPLOYED.format(module=imported))
        config = self.folder / "config" / "config.yaml"
        config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"base": "smoke", "name": "smoke"}))

    def snakemake(self, *arguments: object, cwd: Path | None = None, check: bool = True) -> str:
        """Run Snakemake; returns all that it says."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *map(str, arguments)]
        result = subprocess.run(
            command,
            cwd=cwd or self.folder,
            env=os.environ | {"PATH": path} | self.environment,
            capture_output=True,
            text=True,
            timeout=3600,
            check=False,
        )
        if check and result.returncode:
            pytest.fail(f"{' '.join(command)} failed:\n{result.stdout}\n{result.stderr}")
        return result.stdout + result.stderr


def from_elsewhere(root: Path) -> tuple[Place, Callable[..., str]]:
    """Started in another folder; the workflow is named with -s."""
    place = Place(root)
    return place, lambda *more: place.snakemake("-s", place.clone / "Snakefile", "--configfile", place.smoke, *more)


def other_directory(root: Path) -> tuple[Place, Callable[..., str]]:
    """Started in the clone; --directory names another folder, the study's file is relative."""
    place = Place(root)
    options = ("--directory", place.folder, "--configfile", "configs/smoke.yaml")
    return place, lambda *more: place.snakemake(*options, *more, cwd=place.clone)


def import_smoke_study(place: Place) -> None:
    """Write a workflow that imports the clone's and has rules of its own."""
    text = IMPORT.format(snakefile=f'"{place.clone}/Snakefile"', key='["leod"]', renamed=" as leod_*")
    (place.folder / "Snakefile").write_text(text + RULES_OF_ITS_OWN)
    (place.folder / "mine.yaml").write_text(yaml.safe_dump({"leod": {"base": "smoke", "name": "smoke"}}))


def module(root: Path) -> tuple[Place, Callable[..., str]]:
    """Imported by another workflow with rules of its own; the study is a part of its configuration."""
    place = Place(root)
    import_smoke_study(place)
    return place, lambda *more: place.snakemake("--configfile", "mine.yaml", *more)


def deployed(root: Path) -> tuple[Place, Callable[..., str]]:
    """As snakedeploy leaves it, but from a clone."""
    place = Place(root)
    place.deploy(f'"{place.clone}/workflow/Snakefile"')
    return place, place.snakemake


def hosted(root: Path) -> tuple[Place, Callable[..., str]]:
    """As snakedeploy leaves it: the workflow stays in a repository, which Snakemake keeps a copy of in its cache."""
    if shutil.which("git") is None or sys.platform != "linux" or Version(version("snakemake")) < Version("9.14.6"):
        pytest.skip("needs git, and a Snakemake that keeps copies of repositories where Linux has its caches")
    place = Place(root)
    cached = root / "cache/snakemake/snakemake/source-cache/snakemake-git-cache/github.com/somebody/leod"
    author = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")
    for command in (
        ("init", "--quiet"),
        ("add", "."),
        (*author, "commit", "--quiet", "--message=all"),
        ("tag", "v1"),
        ("clone", "--quiet", "--bare", ".", cached),
    ):
        subprocess.run(["git", *command], cwd=place.clone, check=True)
    place.environment["XDG_CACHE_HOME"] = str(root / "cache")
    place.deploy('github("somebody/leod", path="workflow/Snakefile", tag="v1")')
    return place, place.snakemake


def all_at_once(root: Path) -> tuple[Place, Callable[..., str]]:
    """Imported, started in a third folder with --directory; spaces, quotes, umlauts and other letters in the names."""
    place = Place(root, "Ein Ordner für Übungen/der Klon", "Ein Ordner für Übungen/l'été, 研究 (1) & $HOME")
    import_smoke_study(place)
    options = (
        "-s",
        place.folder / "Snakefile",
        "--directory",
        place.folder,
        "--configfile",
        place.folder / "mine.yaml",
    )
    return place, lambda *more: place.snakemake(*options, *more, cwd=root)


PLACES = [from_elsewhere, other_directory, module, deployed, hosted, all_at_once]
JOBS = {"simulate": 1, "preprocess": 3, "pretrain": 3, "self_train": 2, "evaluate": 10, "write_report": 1}


def planned(output: str) -> dict[str, int]:
    """Rule → number of jobs, without what an importing workflow puts in front of the names."""
    table = output.partition("Job stats:")[2].partition("total")[0]
    return {
        name.removeprefix("leod_"): int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)
    }


@pytest.mark.parametrize("arrange", PLACES)
def test_study_is_planned(tmp_path: Path, arrange: Callable[[Path], tuple[Place, Callable[..., str]]]) -> None:
    _, run = arrange(tmp_path)
    assert JOBS.items() <= planned(run("-n")).items()


@pytest.mark.slow
def test_study_runs_and_leaves_the_clone_alone(tmp_path: Path) -> None:
    # One run for all: it takes minutes, and the plans above tell apart which of the ways is at fault.
    place, run = all_at_once(tmp_path)
    run()
    assert (place.folder / "done.txt").is_file()
    results = place.folder / "results" / "smoke"
    assert "AP" in (results / "summary.md").read_text()
    assert (results / "report.html").stat().st_size > 10_000
    assert (place.folder / "data" / "smoke" / "sequences").is_dir()
    assert place.files() == place.before
    assert "Nothing to be done" in run()
    run("--report", "overview.html")
    # The report's captions are files of the clone.
    assert "self-training" in (place.folder / "overview.html").read_text()


def test_names_of_a_study_are_looked_up_in_the_users_folder_first(tmp_path: Path) -> None:
    place = Place(tmp_path)
    datasets = place.folder / "configs" / "datasets"
    datasets.mkdir(parents=True)
    simulated = yaml.safe_load((place.clone / "configs" / "datasets" / "simulated.yaml").read_text())
    simulated |= {"recordings": "mine/recordings", "sequences": "mine/sequences"}
    (datasets / "simulated.yaml").write_text(yaml.safe_dump(simulated))
    # No study is given: the default one, which is the workflow's.
    output = place.snakemake("-n", "-s", place.clone / "Snakefile")
    assert "mine/sequences/manifests/train-0.json" in output
    assert "results/quickstart/summary.csv" in output


def test_a_mistake_in_the_configuration_of_an_importing_workflow_is_named(tmp_path: Path) -> None:
    place, _ = module(tmp_path)
    (place.folder / "mine.yaml").write_text(yaml.safe_dump({"leod": {"base": "smoke", "name": "smoke", "round": 1}}))
    output = place.snakemake("-n", "--configfile", "mine.yaml", check=False)
    assert "unknown key 'round' (value 1); did you mean 'rounds'?" in output
    assert "mine.yaml" in output


def test_prefix_of_a_module_is_refused(tmp_path: Path) -> None:
    place, _ = module(tmp_path)
    snakefile = place.folder / "Snakefile"
    snakefile.write_text(snakefile.read_text().replace("    config:\n", '    prefix:\n        "sub"\n    config:\n', 1))
    output = place.snakemake("-n", "--configfile", "mine.yaml", check=False)
    assert "takes no 'prefix'" in output


def test_what_the_catalogue_of_workflows_asks_for() -> None:
    usage = yaml.safe_load((REPOSITORY / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert {"mandatory-flags", "software-stack-deployment", "report"} <= usage.keys()
    for name in ("workflow/Snakefile", "config/README.md", "config/config.yaml"):
        assert (REPOSITORY / name).is_file()


@pytest.mark.parametrize("source", ["clone", "git+https://example.org/somebody/workflow@v1"])
def test_conda_environments_get_the_package_from_where_the_workflow_is(tmp_path: Path, source: str) -> None:
    (tmp_path / "clone").mkdir()
    (tmp_path / "clone" / "pyproject.toml").touch()
    source = source if "+" in source else str(tmp_path / "clone")
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$*"\n')
    python.chmod(0o755)
    script = REPOSITORY / "envs" / "leod.post-deploy.sh"
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "LEOD_SOURCE": source}
    run = subprocess.run(["bash", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("-m pip install --no-deps --no-build-isolation")
    assert run.stdout.rstrip().endswith(source)
    environment["LEOD_SOURCE"] = str(tmp_path)
    refused = subprocess.run(["bash", script], env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "is no clone of the workflow" in refused.stderr
