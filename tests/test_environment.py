"""The conda environment and pyproject.toml ask for the same packages."""

from __future__ import annotations

import re
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


def test_leod_itself_is_installed_without_looking_for_packages(environment) -> None:
    script = (REPOSITORY / "envs" / "leod.post-deploy.sh").read_text()
    assert "pip install --no-deps --no-build-isolation --editable ." in script
    assert environment["channels"][-1] == "nodefaults"


def test_every_dependency_has_a_lower_bound_and_a_reason() -> None:
    text = (REPOSITORY / "pyproject.toml").read_text()
    block = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)[1]
    for line in block.splitlines():
        assert re.search(r'">?[\w.-]+>=[\d.]+",\s+# \w', line), line


def test_torchvision_goes_with_torch(project) -> None:
    versions = dict(map(split_requirement, project["project"]["dependencies"]))
    torch_minor, torchvision_minor = (
        int(versions[name].removeprefix(">=").split(".")[1]) for name in ("torch", "torchvision")
    )
    assert torchvision_minor == torch_minor + 15
