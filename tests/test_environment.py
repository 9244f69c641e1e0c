"""The conda environment and pyproject.toml ask for the same packages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[1]

CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base", "snakemake": "snakemake-minimal"}
"""Packages that are called otherwise in conda's channels; the others have one name."""


def split_requirement(text: str) -> tuple[str, str]:
    """Name and version of ``name>=version``."""
    return re.fullmatch(r"([\w.-]+)\s*(.*)", text).groups()


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def environment():
    return yaml.safe_load((REPOSITORY / "envs" / "leod.yaml").read_text())


def test_same_packages_and_versions(project, environment) -> None:
    wanted = {
        CONDA_NAMES.get(name, name): version
        for name, version in map(split_requirement, project["project"]["dependencies"])
    }
    wanted["python"] = project["project"]["requires-python"]
    # What installing leod itself into the environment takes.
    wanted |= dict(map(split_requirement, project["build-system"]["requires"])) | {"pip": ""}
    assert dict(map(split_requirement, environment["dependencies"])) == wanted


def test_no_package_comes_from_anywhere_else(environment) -> None:
    assert environment["channels"][-1] == "nodefaults"


def test_every_dependency_has_a_lower_bound_and_a_reason() -> None:
    text = (REPOSITORY / "pyproject.toml").read_text()
    block = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)[1]
    for line in block.splitlines():
        # A reason may go on in a line of its own.
        assert re.search(r'^  ("[\w.-]+>=[\d.]+(,!=[\d.*]+)*",\s+)?# \w', line), line


def test_torchvision_goes_with_torch(project) -> None:
    versions = dict(map(split_requirement, project["project"]["dependencies"]))
    torch_minor, torchvision_minor = (
        int(versions[name].removeprefix(">=").split(".")[1]) for name in ("torch", "torchvision")
    )
    assert torchvision_minor == torch_minor + 15


def lines_of(*arguments: object, **options) -> list[str]:
    return subprocess.run([*map(str, arguments)], capture_output=True, text=True, check=True, **options).stdout.split(
        "\n"
    )[:-1]


def test_the_container_installs_what_pyproject_asks_for(project) -> None:
    script = REPOSITORY / "envs" / "requirements.py"
    assert lines_of(sys.executable, script) == project["project"]["dependencies"]
    torch = lines_of(sys.executable, script, "torch", "torchvision")
    assert [split_requirement(line)[0] for line in torch] == ["torch", "torchvision"]


@pytest.mark.parametrize(
    ("workflow_of_its_own", "started"), [(False, "--snakefile /opt/image/Snakefile -n"), (True, "-n")]
)
def test_snakemake_in_a_container_takes_the_workflow_of_the_folder_else_of_the_image(
    tmp_path: Path, workflow_of_its_own: bool, started: str
) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "snakemake"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$*"\n')
    program.chmod(0o755)
    if workflow_of_its_own:
        (tmp_path / "Snakefile").touch()
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "LEOD_HOME": "/opt/image"}
    script = REPOSITORY / "envs" / "entrypoint.sh"
    assert lines_of("sh", script, "snakemake", "-n", cwd=tmp_path, env=environment) == [started]
    assert lines_of("sh", script, "echo", "a  b", cwd=tmp_path, env=environment) == ["a  b"]
