"""The guide to the first boxes: its files are valid, its commands and options exist, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from leod.cli import COMMANDS
from leod.cli.commands import build_command
from leod.config.load import resolve_study

REPOSITORY = Path(__file__).resolve().parents[1]
GUIDE = REPOSITORY / "docs" / "labelling.md"
FUNCTIONS = {name: function for commands in COMMANDS.values() for name, function in commands.items()}


def commands() -> list[str]:
    """The lines of the guide that run `leod`, with what is continued."""
    text = GUIDE.read_text(encoding="utf-8").replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.startswith("    leod ")]


@pytest.mark.parametrize("line", commands())
def test_commands_of_the_guide_are_understood(line: str) -> None:
    _, name, *arguments = shlex.split(line)
    module, _, function = FUNCTIONS[name].partition(":")
    command = build_command(getattr(import_module(module), function))
    # Options that are missing or unknown, and values of another type, are usage errors.
    command.make_context(name, arguments, resilient_parsing=False)


def test_files_of_the_guide_are_a_study(tmp_path: Path) -> None:
    dataset, study = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "my_camera.yaml").write_text(dataset)
    resolved = resolve_study(yaml.safe_load(study), [tmp_path, REPOSITORY / "configs"], "guide")
    assert resolved.dataset.label_times.mode == "any"
    assert [budget.ratio for budget in resolved.labels] == [1.0]
    # What the guide simulates is what its data set describes.
    simulated = resolve_study({"base": "quickstart"}, [REPOSITORY / "configs"], "guide").dataset
    assert (resolved.dataset.sensor, resolved.dataset.classes) == (simulated.sensor, simulated.classes)


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", GUIDE.read_text(encoding="utf-8"))
    missing = [link for link in links if not link.startswith("http") and not (GUIDE.parent / link).exists()]
    assert missing == []
