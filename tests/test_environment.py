"""The conda environment, the locks and pyproject.toml ask for the same packages."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

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


def locked_versions(name: str) -> dict[str, str]:
    """Package → version of a lock; those of other platforms included."""
    text = (REPOSITORY / "locks" / name).read_text()
    return dict(re.findall(r"^([\w.-]+)==([\w.+!-]+)", text, re.MULTILINE))


@pytest.mark.parametrize(("name", "open_places"), [("run.txt", set()), ("run-cpu.txt", {"torch", "torchvision"})])
def test_lock_holds_what_is_asked_for(project, name, open_places) -> None:
    locked = locked_versions(name)
    requirements = [Requirement(text) for text in project["project"]["dependencies"]]
    assert {entry.name for entry in requirements} - locked.keys() == open_places
    for entry in requirements:
        if entry.name not in open_places:
            assert entry.specifier.contains(locked[entry.name]), entry.name


def test_locks_agree_and_the_tests_lock_holds_all_extras(project) -> None:
    everything = locked_versions("test.txt")
    extras = project["project"]["optional-dependencies"]
    for requirement in (Requirement(text) for group in extras.values() for text in group):
        if requirement.name != project["project"]["name"]:
            assert requirement.specifier.contains(everything[requirement.name]), requirement.name
    for name in ("run.txt", "run-cpu.txt"):
        assert locked_versions(name).items() <= everything.items()


def test_every_locked_package_has_a_hash() -> None:
    for path in (REPOSITORY / "locks").glob("*.txt"):
        entries = re.split(r"^(?=[\w.-]+==)", path.read_text(), flags=re.MULTILINE)[1:]
        assert entries
        for entry in entries:
            assert "--hash=sha256:" in entry, (path.name, entry.splitlines()[0])


def lines_of(*arguments: object, **options) -> list[str]:
    return subprocess.run([*map(str, arguments)], capture_output=True, text=True, check=True, **options).stdout.split(
        "\n"
    )[:-1]


def test_the_container_names_the_locked_pytorch() -> None:
    recipe = (REPOSITORY / "Dockerfile").read_text()
    pattern = re.search(r"grep -oE '([^']+)' (locks/\S+?)\)", recipe)
    found = lines_of("grep", "-oE", pattern[1], REPOSITORY / pattern[2])
    locked = locked_versions("run.txt")
    assert found == [f"{name}=={locked[name]}" for name in ("torch", "torchvision")]


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
