"""`leod estimate` and `leod benchmark` through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmark_figures import made_up_benchmark

from leod.cli import main

REPOSITORY = Path(__file__).resolve().parents[2]
QUICKSTART = REPOSITORY / "configs" / "quickstart.yaml"


@pytest.fixture
def leod(tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder with a benchmark of round figures; returns its exit status and its words."""
    monkeypatch.chdir(tmp_path)
    Path("speeds.json").write_text(json.dumps(made_up_benchmark().model_dump(mode="json")))

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["leod", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return run


def test_default_study_without_data(leod):
    status, table, errors = leod("estimate", QUICKSTART, "--benchmark", "speeds.json", "--output", "costs.json")
    assert status == 0, errors
    content = json.loads(Path("costs.json").read_text())
    assert content["amount"]["train"]["frames"] == 6000
    assert content["resources"]["cores"] == 2  # of the machine that was measured
    rules = {rule["rule"]: rule for rule in content["estimate"]["rules"]}
    assert (rules["pretrain"]["jobs"], rules["generate_pseudo_labels"]["jobs"]) == (3, 4)
    # 1400 steps of 8 x 4 windows, three of them burn-in: 0.25 s each; twice 2200 steps for the references.
    assert rules["pretrain"]["hours"] * 3600 == pytest.approx(5800 * 0.25, rel=0.1)
    for text in ("30 jobs", "wall time", "disk space", "peak memory", "assumed: amount of data from the settings of"):
        assert text in table
    assert content["provenance"]["stage"] == "estimate"


def test_more_cores_seeds_and_frames_change_the_price(leod):
    def wall(*options):
        assert leod("estimate", QUICKSTART, "--benchmark", "speeds.json", "--output", "costs.json", *options)[0] == 0
        return json.loads(Path("costs.json").read_text())["estimate"]["wall_h"]

    usual = wall()
    assert wall("--cores", "1") > 1.5 * usual
    assert wall("--cores", "0") < usual
    assert wall("--set", "seeds=[0,1,2]") > 2 * usual
    assert wall("--recordings", "30,8,16", "--frames", "60000,16000,32000") > 2 * usual


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["estimate", "gone.yaml"], ["gone.yaml"]),
        (["estimate", QUICKSTART, "--benchmark", "gone.json"], ["gone.json", "does not exist"]),
        (["estimate", QUICKSTART, "--benchmark", "other.json"], ["other.json", "leod benchmark --study"]),
        (["estimate", QUICKSTART, "--benchmark", "speeds.json", "--frames", "10"], ["--frames", "TRAIN,VAL,TEST"]),
        (
            ["estimate", QUICKSTART, "--benchmark", "speeds.json", "--set", "model=rvt-tiny"],
            ["speeds.json", "rvt-nano", "rvt-tiny"],
        ),
        (["benchmark"], ["--study", "--model", "--sensor"]),
        (["benchmark", "--study", QUICKSTART, "--sensor", "64x96"], ["--study", "--sensor"]),
        (["benchmark", "--model", REPOSITORY / "configs/models/rvt-nano.yaml", "--sensor", "wide"], ["HEIGHTxWIDTH"]),
        (["benchmark", "--study", QUICKSTART, "--seconds", "0"], ["--seconds", "above 0"]),
        (["benchmark", "--study", QUICKSTART, "--clock", "cpu", "--threads", "2"], ["CPU time", "--threads 1"]),
        (["benchmark", "--study", QUICKSTART, "--output", "."], ["is a folder"]),
    ],
)
def test_wrong_input_is_a_clear_error(leod, arguments, parts):
    Path("other.json").write_text("{}")
    before = sorted(Path().iterdir())
    status, _, errors = leod(*arguments)
    assert status == 1
    assert [part for part in parts if part not in errors] == [], errors
    assert "Traceback" not in errors
    assert sorted(Path().iterdir()) == before


@pytest.mark.slow
def test_benchmark_feeds_the_estimate(leod):
    study = REPOSITORY / "configs" / "smoke.yaml"
    status, table, errors = leod(
        *("benchmark", "--study", study, "--seconds", "0.1", "--as-in-study", "--side-by-side", "2"),
        *("--threads", "1", "--output", "speeds.json"),
    )
    assert status == 0, errors
    measured = json.loads(Path("speeds.json").read_text())
    assert {entry["stage"] for entry in measured["training"]} == {"pretrain", "self_train"}
    assert measured["conditions"]["side_by_side"] == 2
    assert measured["conditions"]["threads"] == 1
    assert "pretraining step, 2 x 3 frames" in table
    status, table, errors = leod("estimate", study, "--benchmark", "speeds.json")
    assert status == 0, errors
    assert "study smoke" in table
