"""Arms of a study: what differs is made for each of them, what is equal once; asked of `snakemake`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from checkout import Checkout, copy_workflow
from small_study import EXPERIMENT, small_study

from leod.files import read_json

MAIN = "weakly_supervised-0.05-offset0-seed0"
SIX_ARMS = {
    "no_tracks": {"track_filter": {"enabled": False}},
    "short_tracks": {"track_filter": {"min_track_length": 3}},
    "no_inpainting": {"track_filter": {"inpaint": False}},
    "plain_view": {"pseudo_labels": {"views": {"mirror": False, "time_reversal": False}}},
    "hard_labels": {"self_train": {"loss": {"ignore_thresholds": None}}},
    "one_round_long": {"rounds": 1, "self_train": {"steps": 600}},
}


def made(checkout: Checkout, rule: str) -> list[str]:
    """The jobs of a rule that `snakemake -n` would run: experiment and round, without the common part of the name."""
    result = checkout.snakemake("-n", "-p")
    logs = re.findall(r": > \S+/logs/(\S+?)/(round_\d)/" + rule + r"(?:-\d)?\.log;", result.stdout + result.stderr)
    return sorted({f"{experiment.removeprefix(MAIN)} {round}" for experiment, round in logs})


@pytest.fixture
def six_arms(checkout: Checkout) -> Checkout:
    checkout.study["arms"] = SIX_ARMS
    checkout.study["references"] = []
    return checkout


def test_six_arms_that_differ_after_pretraining(six_arms: Checkout) -> None:
    six_arms.study["seeds"] = [0, 1]
    assert six_arms.pending() == {
        "simulate": 1,
        "preprocess": 3,
        "subsample_labels": 2,
        "pretrain": 2,  # one a seed
        # One of round 1 for all that see alike, one for the arm with other views; in round 2 each has a detector of its
        # own, but for the one without a second round.
        "generate_pseudo_labels": 2 * (2 + 6),
        "track_filter": 2 * (5 + 6),
        # What the loss ignores is what quality tells: that arm has its own from round 1 on.
        "validate_quality": 2 * (6 + 6),
        "self_train": 2 * (7 + 6),
        "evaluate": 2 * (1 + 7 + 6),
        "write_plan": 1,
        "write_study": 1,
        "summarise": 1,
        "write_report": 1,
    }


@pytest.mark.slow
def test_a_changed_or_further_arm_reruns_only_itself(checkout: Checkout) -> None:
    arms = {name: SIX_ARMS[name] for name in ("no_tracks", "short_tracks")}
    checkout.study |= {"arms": arms, "references": []}
    checkout.snakemake()
    assert checkout.pending() == {}

    checkout.study["arms"] = arms | {"short_tracks": {"track_filter": {"min_track_length": 2}}}
    for rule, rounds in (("track_filter", 2), ("self_train", 2), ("generate_pseudo_labels", 1), ("pretrain", 0)):
        # No inference of round 1: there it is the main chain's.
        assert made(checkout, rule) == [f"-short_tracks round_{number}" for number in range(3 - rounds, 3)]

    checkout.study["arms"] = arms | {"from_scratch": {"rounds": 1, "self_train": {"initial_weights": "scratch"}}}
    listed = {"write_plan": 1, "write_study": 1, "summarise": 1, "write_report": 1}
    assert checkout.pending() == {"self_train": 1, "evaluate": 1} | listed

    del arms["no_tracks"]
    checkout.study["arms"] = arms
    assert checkout.pending() == listed


def test_an_arm_may_be_the_only_one_to_choose_thresholds(checkout: Checkout) -> None:
    checkout.study["arms"] = {"chosen": {"pseudo_labels": {"choose_thresholds": {"target_precision": 0.8}}}}
    assert made(checkout, "choose_thresholds") == ["-chosen round_1", "-chosen round_2"]
    checkout.snakemake()
    assert checkout.pending() == {}


def test_a_wrong_arm_is_named(checkout: Checkout) -> None:
    checkout.study["arms"] = {"fast": {"self_train": {"step": 3}}}
    result = checkout.snakemake("-n", check=False)
    assert result.returncode != 0
    message = result.stdout + result.stderr
    assert "configs/study.yaml" in message
    assert "unknown key 'arms.fast.self_train.step' (value 3); did you mean 'steps'?" in message


@pytest.mark.slow
def test_references_and_arms_with_real_stages(tmp_path: Path) -> None:
    copy_workflow(tmp_path)
    study = small_study(self_train={"initial_weights": "previous"})
    study["references"] = ["control", "oracle"]
    study["arms"] = {"no_tracks": {"track_filter": {"enabled": False}}}
    checkout = Checkout(tmp_path, study)
    checkout.snakemake()
    assert checkout.pending() == {}
    records = {
        name: read_json(tmp_path / f"{EXPERIMENT}{name}" / f"round_{round}" / "training.json")
        for name, round in (("", 1), ("-oracle", 1), ("-no_tracks", 1), ("-control", 0))
    }
    assert records["-control"]["steps"] == 4 + 4
    assert records["-oracle"]["provenance"]["settings"] == records[""]["provenance"]["settings"]
    assert records["-oracle"]["provenance"]["inputs"] != records[""]["provenance"]["inputs"]
    assert not (tmp_path / f"{EXPERIMENT}-no_tracks" / "round_1" / "predictions").exists()
    summary = (tmp_path / "results" / "small" / "summary.md").read_text()
    for name in ("control", "oracle", "no_tracks"):
        assert name in summary
    assert "no_tracks" in (tmp_path / "results" / "small" / "report.html").read_text()
