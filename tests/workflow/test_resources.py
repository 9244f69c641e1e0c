"""Memory of the attempts of a job, as Snakemake plans it: by the rules alone, and with the cluster's profile."""

from __future__ import annotations

import re

import pytest
import yaml
from checkout import REPOSITORY, Checkout

PROFILE = REPOSITORY / "profiles" / "slurm"


@pytest.fixture(autouse=True)
def _talkative(checkout: Checkout) -> None:
    """Snakemake shows the resources of jobs without a message only."""
    for path in (checkout.folder / "rules").glob("*.smk"):
        path.write_text(re.sub(r"\n +message:\n[^\n]+", "", path.read_text()))


def planned(checkout: Checkout, *arguments: str) -> dict[str, dict[str, int]]:
    """Rule → resources of one of its jobs, as `snakemake -n` shows them."""
    result = checkout.snakemake("-n", *arguments)
    if "mem_mb=<TBD>" in result.stdout + result.stderr:
        pytest.skip("this Snakemake shows what a profile says of memory only when the job runs")
    found: dict[str, dict[str, int]] = {}
    rule = ""
    for line in (result.stdout + result.stderr).splitlines():
        if heading := re.match(r"\s*(?:local)?rule (\w+):$", line):
            rule = heading[1]
        elif line.strip().startswith("resources: "):
            found[rule] = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", line)}
    return found


@pytest.fixture
def memory(checkout: Checkout):
    """Memory of each rule's jobs in an attempt, in MB."""

    def ask(attempt: int, *arguments: str) -> dict[str, int]:
        jobs = planned(checkout, "--attempt", str(attempt), *arguments)
        return {rule: resources["mem_mb"] for rule, resources in jobs.items() if rule != "all"}

    return ask


def test_every_attempt_of_every_job_has_more_memory_up_to_twice_as_much(memory) -> None:
    first, second, tenth = (memory(attempt) for attempt in (1, 2, 10))
    assert {"preprocess", "pretrain", "generate_pseudo_labels", "self_train", "write_report"} <= first.keys()
    assert second == {rule: 1.5 * megabytes for rule, megabytes in first.items()}
    assert tenth == {rule: 2 * megabytes for rule, megabytes in first.items()}


def test_the_profile_of_a_cluster_keeps_memory_growing_and_its_minutes_are_minutes(checkout: Checkout) -> None:
    jobs, third = (planned(checkout, "--profile", str(PROFILE), "--attempt", attempt) for attempt in ("1", "3"))
    for rule in ("preprocess", "pretrain", "self_train", "generate_pseudo_labels", "evaluate"):
        assert third[rule]["mem_mb"] == 2 * jobs[rule]["mem_mb"]
    assert jobs["pretrain"]["mem_mb"] == 32000
    # From 9.16.3 to 9.19 Snakemake took them for seconds (its issue 4039): trainings would have ended after 24 minutes.
    assert jobs["pretrain"]["runtime"] == jobs["pretrain"]["time_limit_min"] == 1440


def test_a_job_that_failed_is_started_again_with_more_memory(checkout: Checkout) -> None:
    program = checkout.folder / "programs" / "leod"
    program.write_text("#!/bin/sh\nexit 1\n")
    result = checkout.snakemake("--retries", "2", "--until", "simulate", check=False)
    assert re.findall(r"resources:.*?mem_mb=(\d+)", result.stdout + result.stderr) == ["2000", "3000", "4000"]


def test_attempts_are_counted_in_one_place() -> None:
    rules = "".join(path.read_text() for path in (REPOSITORY / "rules").glob("*.smk"))
    assert "retries:" not in rules
    assert yaml.safe_load((PROFILE / "config.yaml").read_text())["retries"] == 2
    assert "retries" not in yaml.safe_load((REPOSITORY / "profiles/default/config.yaml").read_text())
