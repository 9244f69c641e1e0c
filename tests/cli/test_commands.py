"""Commands are made of functions: their options, their help, and what the functions are called with."""

from __future__ import annotations

import gc
import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

import pytest
from typer.testing import CliRunner

from leod.cli import COMMANDS, app
from leod.cli.commands import build_command
from leod.cli.docstrings import description, summary
from leod.config.schema import HardwareConfig, NonNegativeInt, SequenceConfig
from leod.errors import ConfigError
from leod.options import Argument, FromOptions, FromStudy, Names

REPOSITORY = Path(__file__).resolve().parents[2]
TARGETS = {name: target for commands in COMMANDS.values() for name, target in commands.items()}
STUDY = str(REPOSITORY / "configs" / "quickstart.yaml")
CALLS = []


def sensor_of(sensor: str | None = None):
    """A size.

    Args:
        sensor: HEIGHTxWIDTH.
    """
    return None if sensor is None else tuple(int(side) for side in sensor.split("x"))


def settings_of(study, labels: Path, ratio: float = 0.5):
    """Settings.

    Args:
        study: The study.
        labels: Not read: the command has an option of that name.
        ratio: A share.
    """
    return study.dataset.sequence_config(), labels, ratio


@pytest.mark.parametrize("command", ["evaluate", "schema"])
def test_garbage_is_collected_again_when_a_command_is_loaded(command, monkeypatch):
    enabled = []
    monkeypatch.setattr("leod.cli.import_module", lambda name: enabled.append(gc.isenabled()) or import_module(name))
    assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0
    assert enabled == [False]
    assert gc.isenabled()


def test_garbage_is_collected_again_when_a_command_cannot_be_loaded(monkeypatch):
    monkeypatch.setattr("leod.cli.import_module", lambda _: import_module("leod.there_is_no_such_module"))
    assert isinstance(CliRunner().invoke(app, ["evaluate", "--help"]).exception, ModuleNotFoundError)
    assert gc.isenabled()


def example(
    recordings: Annotated[list[Path], Argument()],
    labels: Path,
    settings: Annotated[SequenceConfig, FromStudy(settings_of)],
    seed: NonNegativeInt = 0,
    deep: bool = False,
    halve: Annotated[bool | None, Names("--halve/--full")] = None,
    model: Annotated[Path, Names("--model", "--weights")] = Path("a"),
    kind: Literal["a", "b"] = "a",
    split: Annotated[str, FromStudy(lambda study: study.evaluate.split)] = "train",
    size: Annotated[tuple[int, int] | None, FromOptions(sensor_of)] = None,
    hardware: HardwareConfig = HardwareConfig(),  # noqa: B008
) -> None:
    """Do `something` with arrays [n].

    In detail.

    Args:
        recordings: Files, float32 [n], on
            two lines.
        labels: Labels.
        settings: Settings.
        seed: Seed.

    Raises:
        ConfigError: Never.
    """
    CALLS.append(dict(locals()))


def call(*arguments):
    """What the example is called with."""
    CALLS.clear()
    build_command(example)([str(argument) for argument in arguments], standalone_mode=False)
    return CALLS[0]


def options_of(command):
    """Names of a command's options → the help of each."""
    return {
        name: parameter.help for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)
    }


def test_a_signature_is_a_command_line():
    options = options_of(build_command(example))
    assert {name for name in options if name.startswith("-")} == {
        *("--labels", "--seed", "--deep", "--halve", "--full", "--model", "--weights", "--kind", "--split", "--sensor"),
        *("--settings", "--ratio", "--study", "-s", "--set"),
        *("--hardware", "--threads", "--on-terminate", "--time-limit"),
    }
    assert options["recordings"] == r"Files, float32 \[n], on two lines."
    assert options["--sensor"] == "HEIGHTxWIDTH."
    assert options["--ratio"] == "A share."
    assert description(example) == "Do `something` with arrays \\[n].\n\nIn detail."


def test_options_become_arguments():
    given = ("x", "y", "--labels", "l", "--seed", 3, "--deep", "--full", "--weights", "w", "--kind", "b")
    found = call(*given, "--sensor", "2x3", "--study", STUDY, "--threads", 2, "--time-limit", 1, "--ratio", 0.1)
    assert found["recordings"] == [Path("x"), Path("y")]
    assert (found["seed"], found["deep"], found["halve"], found["model"]) == (3, True, False, Path("w"))
    assert (found["kind"], found["size"], found["split"]) == ("b", (2, 3), "test")
    config, labels, ratio = found["settings"]
    assert isinstance(config, SequenceConfig)
    assert (labels, ratio) == (Path("l"), 0.1)
    assert (found["hardware"].threads, found["hardware"].time_limit_s) == (2, 60.0)


def test_defaults_are_the_functions():
    exact = json.dumps({"sensor": {"height": 24, "width": 48}, "classes": ["car"]})
    found = call("x", "--labels", "l", "--settings", exact)
    assert found["settings"].classes == ("car",)
    assert (found["seed"], found["deep"], found["halve"], found["model"]) == (0, False, None, Path("a"))
    assert (found["kind"], found["size"], found["split"], found["hardware"]) == ("a", None, "train", HardwareConfig())


def test_what_is_given_wins_over_the_study():
    hardware = json.dumps({"num_workers": 7})
    found = call("x", "--labels", "l", "--study", STUDY, "--split", "val", "--hardware", hardware)
    assert (found["split"], found["hardware"].num_workers) == ("val", 7)
    found = call(
        "x", "--labels", "l", "--study", STUDY, "--set", "evaluate.split=val", "--set", "hardware.num_workers=5"
    )
    assert (found["split"], found["hardware"].num_workers) == ("val", 5)


def test_settings_are_needed():
    with pytest.raises(ConfigError, match="give --study FILE"):
        call("x", "--labels", "l")


@pytest.mark.parametrize("name", TARGETS)
def test_everything_is_explained(name):
    module, _, function = TARGETS[name].partition(":")
    function = getattr(import_module(module), function)
    assert description(function).startswith(summary(TARGETS[name]))
    assert summary(TARGETS[name]).endswith(".")
    unexplained = [option for option, text in options_of(build_command(function)).items() if not text]
    assert unexplained == []


def test_the_help_of_the_whole_names_every_command_and_imports_no_stage():
    script = "import sys, leod.cli; leod.cli.app(standalone_mode=False); print(*sorted(sys.modules), file=sys.stderr)"
    found = subprocess.run([sys.executable, "-c", script, "--help"], capture_output=True, text=True, check=True)
    assert [name for name in TARGETS if name not in found.stdout] == []
    modules = found.stderr.split()
    assert "leod.cli" in modules
    assert [name for name in modules if name.startswith("leod.stages.") or name in ("torch", "numpy", "pydantic")] == []


def test_an_unknown_command_is_named():
    result = CliRunner().invoke(app, ["evalute"])
    assert result.exit_code == 2
    assert "evalute" in result.output


RULES = "\n\n".join(path.read_text() for path in sorted((REPOSITORY / "rules").glob("*.smk")))
DOCS = "\n\n".join(path.read_text() for path in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))))


def used_options(text):
    """(command, option) pairs in a text; a command ends with its sentence, line or rule."""
    pairs = set()
    for name, rest in re.findall(r"\bleod ([a-z][a-z-]+)\b((?:[^`\n]|(?<=\\)\n|\n(?= +\"))*)", text):
        if name in TARGETS:
            pairs |= {(name, option) for option in re.findall(r"--[a-z][a-z-]*", rest)}
    return pairs


@pytest.mark.parametrize(("text", "least"), [(RULES, 50), (DOCS, 30)], ids=["rules", "docs"])
def test_options_that_are_used_exist(text, least):
    used = used_options(text)
    assert len(used) >= least, used
    existing = {}
    for name in {name for name, _ in used}:
        module, _, function = TARGETS[name].partition(":")
        existing[name] = options_of(build_command(getattr(import_module(module), function)))
    assert [(name, option) for name, option in sorted(used) if option not in {*existing[name], "--help"}] == []
