"""The graph of jobs that estimates are made of is the one that Snakemake makes of the rules."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from checkout import REPOSITORY, Checkout
from snakemake.rules import Rule

from leod.study.graph import PRIORITIES, PRIORITY_BEFORE_ROUNDS, study_graph
from leod.study.study import Study


def edges_of_snakemake(checkout: Checkout) -> Counter[tuple[str, str]]:
    """(rule, rule that waits for it) → how many such pairs of jobs there are."""
    graph = checkout.snakemake("--dag").stdout
    rules = dict(re.findall(r'(\d+)\[label = "(\w+)', graph))
    pairs = re.findall(r"(\d+) -> (\d+)", graph)
    return Counter((rules[first], rules[second]) for first, second in pairs if rules[second] != "all")


@pytest.mark.parametrize("arms", [{}, {"no_tracks": {"track_filter": {"enabled": False}}, "short": {"rounds": 1}}])
def test_same_jobs_that_wait_for_each_other(checkout: Checkout, arms: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout.study |= {"arms": arms, "references": ["control", "fully_supervised", "oracle"]}
    checkout.study["pseudo_labels"] = {
        "choose_thresholds": {"target_precision": 0.7, "max_background": 0.1},
        "shards": 2,
    }
    monkeypatch.chdir(checkout.folder)
    jobs = study_graph(Study(checkout.study, [checkout.folder / "configs"], "study.yaml"))
    assert Counter(job.rule for job in jobs) == checkout.pending()
    ours = Counter((jobs[before].rule, job.rule) for job in jobs for before in job.after)
    assert ours == edges_of_snakemake(checkout)


def test_priorities_are_those_of_the_rules() -> None:
    found = {}
    for file in Path(REPOSITORY / "rules").glob("*.smk"):
        for name, body in re.findall(
            r"^ *rule (\w+):\n(.*?)(?=^ *rule |\Z)", file.read_text(), re.MULTILINE | re.DOTALL
        ):
            if priority := re.search(r"^ *priority: (\d+)", body, re.MULTILINE):
                found[name] = int(priority[1])
    assert found == PRIORITIES


def test_rounds_are_not_kept_waiting(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(Rule, "expand_priority"):
        pytest.skip("priorities of this Snakemake are the same for all jobs of a rule")
    checkout.study["references"] = ["control", "fully_supervised"]
    output = checkout.snakemake("--cores", "1").stderr
    started = re.findall(r"^Job \d+: (.*)$", output, re.MULTILINE)
    last_of_rounds = max(number for number, message in enumerate(started) if message.startswith("Self-training"))
    before = [message for message in started[:last_of_rounds] if message.startswith("Pretraining")]
    assert before == ["Pretraining weakly_supervised-0.05-offset0-seed0"]
    monkeypatch.chdir(checkout.folder)
    jobs = study_graph(Study(checkout.study, [checkout.folder / "configs"], "study.yaml"))
    pretrainings = [job.priority for job in jobs if job.rule == "pretrain"]
    assert sorted(pretrainings) == [0, 0, PRIORITY_BEFORE_ROUNDS]
