"""What a command takes out of a study, through the command line."""

from __future__ import annotations

import inspect
import json
import pickle
import re
from importlib import import_module
from pathlib import Path

import pytest
from working_folder import TRAINING, run, write_study, write_working_folder

from leod.boxes.kept_labels import KeptLabels
from leod.cli import COMMANDS
from leod.cli.commands import build_command

COMMAND_FUNCTIONS = {name: function for commands in COMMANDS.values() for name, function in commands.items()}


@pytest.fixture
def leod(tmp_path, monkeypatch, capsys):
    """Run a command in a working folder; returns its exit status and what it said."""
    monkeypatch.chdir(tmp_path)
    write_working_folder()
    return lambda command: run(monkeypatch, capsys, command)


def content(path):
    return json.loads(Path(path).read_text())


# ---------------------------------------------------------------------------------------------------- evaluate

EVALUATE = "evaluate --checkpoint model.ckpt --sequences sequences --output metrics.json"


@pytest.mark.parametrize(
    ("options", "split"),
    [
        ("--study study.yaml", "val"),
        ("--study study.yaml --set evaluate.split=test", "test"),
        ("--study study.yaml --split test", "test"),
        ("--study study.yaml --split train", "train"),
    ],
)
def test_evaluation_is_of_the_studys_split_unless_told(leod, options, split):
    write_study(evaluate={"split": "val"})
    status, text = leod(f"{EVALUATE} {options}")
    assert status == 0, text
    assert content("metrics.json")["split"] == split


# ---------------------------------------------------------------------------------------------------- pretrain

PRETRAIN = "pretrain --sequences sequences --labels labels.json --output out --study study.yaml"
LABELS = [
    {"setting": "weakly_supervised", "ratio": 0.25, "pretrain": {"steps": 3}},
    {"setting": "weakly_supervised", "ratio": 0.5, "pretrain": {"steps": 1, "sequence_length": 3}},
    {"setting": "semi_supervised", "ratio": 0.5},
]


def write_labels(setting, ratio):
    KeptLabels(sequences={"drive": (0, 1)}, setting=setting, ratio=ratio).write(Path("labels.json"))


@pytest.mark.parametrize(
    ("setting", "ratio", "steps", "sequence_length"),
    [
        ("weakly_supervised", 0.5, 1, 3),
        ("semi_supervised", 0.5, 2, 2),  # a budget without changes
        ("fully_supervised", 1.0, 4, 2),  # a reference
    ],
)
def test_pretraining_is_that_of_the_labels_budget(leod, setting, ratio, steps, sequence_length):
    write_study(labels=LABELS, reference_pretrain={"steps": 4})
    write_labels(setting, ratio)
    status, text = leod(PRETRAIN)
    assert status == 0, text
    training = content("out/training.json")["provenance"]["settings"]["training"]
    assert (training["steps"], training["sequence_length"]) == (steps, sequence_length)


@pytest.mark.parametrize(
    ("setting", "ratio"), [("semi_supervised", 0.25), ("weakly_supervised", None), ("fully_supervised", 1.0)]
)
def test_labels_of_no_budget_of_the_study_are_refused(leod, setting, ratio):
    write_study(labels=LABELS, references=[])
    write_labels(setting, ratio)
    status, text = leod(PRETRAIN)
    assert status == 1
    assert "Traceback" not in text
    for part in ("labels.json", repr(setting), str(ratio), "'tiny'", "weakly_supervised-0.25", "semi_supervised-0.5"):
        assert part in text
    assert not Path("out/model.ckpt").exists()


def test_exact_settings_need_no_budget(leod):
    write_study(labels=LABELS)
    status, text = leod(PRETRAIN)
    assert status == 0, text
    settings = content("out/training.json")["provenance"]["settings"]
    Path("settings.json").write_text(json.dumps(settings))
    write_labels("weakly_supervised", None)
    hardware = json.dumps({"accelerator": "cpu", "num_workers": 0}).replace(" ", "")
    command = PRETRAIN.replace("--study study.yaml", f"--settings settings.json --hardware {hardware}")
    status, text = leod(command.replace("--output out", "--output again"))
    assert status == 0, text
    assert content("again/training.json")["provenance"]["settings"] == settings


def commands_of_rules():
    rules = (Path(__file__).resolve().parents[1] / "rules").glob("*.smk")
    return sorted({name for file in rules for name in re.findall(r"leod ([a-z]+-?[a-z-]*) --", file.read_text())})


@pytest.mark.parametrize("name", commands_of_rules())
def test_rules_give_exact_settings_and_no_options_that_pick_them_out_of_a_study(name):
    module, _, attribute = COMMAND_FUNCTIONS[name].partition(":")
    function = getattr(import_module(module), attribute)
    required = {parameter.name for parameter in build_command(function).params if parameter.required}
    assert required <= set(inspect.signature(function).parameters)


@pytest.mark.parametrize(("ratio", "history"), [(0.5, 3), (0.1, 2)], ids=["the study's budget", "another one"])
def test_labels_are_chosen_with_the_budgets_history(leod, ratio, history):
    write_study(labels=LABELS)
    status, text = leod(
        f"subsample-labels --sequences sequences --output chosen.json --study study.yaml --ratio {ratio}"
    )
    assert status == 0, text
    assert KeptLabels.read(Path("chosen.json")).history == history


# ------------------------------------------------------------------------------------------------ import-split

IMPORT = "import-split ssod_0.010-off0.pkl --output imported.json"


def write_split():
    Path("ssod_0.010-off0.pkl").write_bytes(pickle.dumps({"drive": (0,)}))


@pytest.mark.parametrize("setting", ["weakly_supervised", "semi_supervised"])
def test_an_imported_split_is_what_one_says_it_is(leod, setting):
    write_split()
    status, text = leod(f"{IMPORT} --setting {setting} --ratio 0.02 --split-offset 3 --history 21")
    assert status == 0, text
    found = KeptLabels.read(Path("imported.json"))
    assert (found.setting, found.ratio, found.split_offset, found.history) == (setting, 0.02, 3, 21)


@pytest.mark.parametrize(
    ("options", "missing"), [("--ratio 0.01", "--setting"), ("--setting semi_supervised", "--ratio")]
)
def test_the_name_of_a_split_says_nothing(leod, options, missing):
    write_split()
    status, text = leod(f"{IMPORT} {options}")
    assert status == 2
    assert missing in text
    assert not Path("imported.json").exists()


def test_an_impossible_ratio_is_refused(leod):
    write_split()
    status, text = leod(f"{IMPORT} --setting semi_supervised --ratio 0")
    assert status == 1
    assert "ratio = 0.0" in text
    assert not Path("imported.json").exists()


def test_an_imported_split_is_pretrained_on_with_its_budget(leod):
    write_study(labels=LABELS, pretrain={**TRAINING, "steps": 5})
    write_split()
    leod(f"{IMPORT.replace('imported', 'labels')} --setting weakly_supervised --ratio 0.5")
    status, text = leod(PRETRAIN)
    assert status == 0, text
    assert content("out/training.json")["provenance"]["settings"]["training"]["steps"] == 1


# --------------------------------------------------------------------------------------------- where it is from


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("", ["give --study FILE", "--settings"]),
        ("--set evaluate.split=val", ["--set", "give --study FILE"]),
        ("--study study.yaml --settings {}", ["give either it or --study"]),
    ],
)
def test_settings_come_from_one_place(leod, options, says):
    status, text = leod(f"{EVALUATE} {options}")
    assert status == 1
    for part in says:
        assert part in text
