"""Seconds, hours and bytes of a study, worked out by hand from round figures."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmark_figures import ON_GPU, made_up_benchmark, training_figures
from plain_study import plain_study

from leod.config.schema import TrainingConfig, ValidationConfig
from leod.costs.amounts import Amount, SplitAmount, of_simulation
from leod.costs.estimate import (
    BETWEEN_JOBS_S,
    SNAKEMAKE_START_S,
    Costs,
    Resources,
    checkpoints,
    step_seconds,
    training_seconds,
    validations,
)
from leod.study.study import Study

REPOSITORY = Path(__file__).resolve().parents[2]
AMOUNT = Amount(SplitAmount(30, 6000, 1200), SplitAmount(8, 1600, 320), SplitAmount(16, 3200, 640), source="a test")


def training(**changes):
    return TrainingConfig(**{"steps": 1000, "learning_rate": 1e-3, "batch_size": 8, "sequence_length": 4} | changes)


@pytest.mark.parametrize(
    ("changes", "devices", "expected"),
    [
        ({}, 1, 0.5),
        ({"batch_size": 16}, 1, 1.0),
        ({"sequence_length": 8, "accumulate": 2}, 1, 2.0),
        ({"batch_size": 16}, 2, 0.5),
        ({"sampling": "random", "burn_in": 3}, 1, 0.25),  # 1 + 3 / 3 of 4 windows
    ],
)
def test_time_of_a_step(changes, devices, expected):
    assert step_seconds(training(**changes), training_figures(), devices) == pytest.approx(expected)


def test_pauses_of_a_training():
    pauses = training(checkpoint_every_steps=300, validation=ValidationConfig(every_steps=400))
    assert validations(pauses) == 3  # at 400, 800 and at the end
    assert checkpoints(pauses) == 3 + 6


def test_time_of_a_training():
    validated = training(
        steps=100,
        checkpoint_every_steps=50,
        validation=ValidationConfig(every_steps=100, sequence_fraction=0.5),
    )
    # Opening 38 sequences, 2 s more for the first step, 100 steps, 800 frames at 200 a second, 2 + 2 checkpoints.
    expected = 0.38 + 2.0 + 50 + 4.0 + 0.4
    assert training_seconds(validated, training_figures(), made_up_benchmark(), AMOUNT) == pytest.approx(expected)


def small_study(**changes):
    content = plain_study() | {"rounds": 1, "references": [], "report": {"sample_sequences": 0}}
    for stage, steps in (("pretrain", 100), ("self_train", 40)):
        content[stage] = {
            "steps": steps,
            "learning_rate": 1e-3,
            "batch_size": 8,
            "sequence_length": 4,
            "checkpoint_every_steps": 1000,
            "validation": {"every_steps": 1000, "sequence_fraction": 1.0},
        }
    return Study(content | changes, [REPOSITORY / "configs"], "test")


def costs(study, benchmark=None, cores=2, gpus=None):
    return Costs(study, AMOUNT, benchmark or made_up_benchmark(), Resources(cores, gpus))


def seconds_by_rule(found):
    return {job.rule: found.seconds(job) for job in found._jobs}


def test_time_of_each_job():
    found = seconds_by_rule(costs(small_study()))
    assert found["simulate"] == pytest.approx(2 + 54 * 10 / 20 / 2)
    assert found["preprocess"] == pytest.approx(1 + 3200 / 1000)  # the last one: test
    assert found["subsample_labels"] == pytest.approx(1 + 0.3)
    # Opening, first step, steps, one validation of 1600 frames, two checkpoints.
    assert found["pretrain"] == pytest.approx(4 + 0.38 + 2 + 50 + 8 + 0.2)
    # Its first step takes 1.5 s longer than others, of 1 s each.
    assert found["self_train"] == pytest.approx(4 + 0.38 + 1.5 + 40 + 8 + 0.2)
    # Half of the frames, in four views.
    assert found["generate_pseudo_labels"] == pytest.approx(4 + 0.3 + 3000 * 4 / 100)
    assert found["evaluate"] == pytest.approx(4 + 0.16 + 3200 / 200)
    assert found["track_filter"] == pytest.approx(1 + 0.3 + 0.6)


def test_whole_study_on_two_cores():
    study = small_study()
    found = costs(study).estimate()
    jobs = {rule.rule: rule.jobs for rule in found.rules}
    assert jobs["generate_pseudo_labels"] == jobs["evaluate"] == 2
    assert found.jobs == sum(jobs.values()) == 1 + 3 + 1 + 1 + 2 + 1 + 1 + 1 + 2 + 4
    seconds = seconds_by_rule(costs(study))
    # Preprocessing of the training recordings beside the others'; the chain of rounds, two shards side by side; the
    # evaluation of the last round, the summary and the report at the end.
    preprocessing = 1 + 6000 / 1000
    chain = ["simulate", "subsample_labels", "pretrain", "generate_pseudo_labels", "track_filter", "self_train"]
    chain += ["evaluate", "summarise", "write_report"]
    expected = SNAKEMAKE_START_S + preprocessing + sum(seconds[rule] for rule in chain) + BETWEEN_JOBS_S * 10
    assert 3600 * found.wall_h == pytest.approx(expected)
    hours = {rule.rule: rule for rule in found.rules}
    assert 3600 * hours["pretrain"].cpu_hours == pytest.approx(seconds["pretrain"] + BETWEEN_JOBS_S)
    assert hours["pretrain"].gpu_hours == 0
    assert found.gpu_memory_gb is None


def test_shared_jobs_cost_once():
    arms = {"no_tracks": {"track_filter": {"enabled": False}}}
    jobs = {rule.rule: rule.jobs for rule in costs(small_study(arms=arms)).estimate().rules}
    assert jobs["pretrain"] == 1
    assert jobs["generate_pseudo_labels"] == 2
    assert jobs["self_train"] == 2


def test_disk_space():
    found = costs(small_study()).estimate().disk_gb
    assert found["recordings"] == pytest.approx(540 * 20_000 * 8 / 1e9)
    assert found["sequences"] == pytest.approx(10_800 * 2000 / 1e9)
    assert found["predictions"] == pytest.approx(6000 * 9 * 40 / 1e9)
    assert found["detectors"] == pytest.approx(2 * 8e6 / 1e9)


def test_on_gpus():
    hardware = {"accelerator": "gpu", "devices": 2}
    study = small_study(hardware=hardware)
    benchmark = made_up_benchmark(ON_GPU)
    found = costs(study, benchmark, cores=None, gpus=2).estimate()
    rules = {rule.rule: rule for rule in found.rules}
    assert rules["pretrain"].gpu_hours == pytest.approx(2 * rules["pretrain"].hours)
    assert rules["evaluate"].gpu_hours == pytest.approx(rules["evaluate"].hours)
    assert rules["track_filter"].gpu_hours == 0
    assert found.gpu_memory_gb == pytest.approx(8.0)
    # With one GPU the shards come one after the other.
    alone = costs(study, benchmark, cores=None, gpus=1).estimate()
    assert 3600 * (alone.wall_h - found.wall_h) > 100


def test_amount_of_a_simulation():
    study = small_study()
    found = of_simulation(study.config.dataset.simulate, study.config.dataset.window_us)
    assert found.train == SplitAmount(30, 6000, 1200)
    assert (found.recordings, found.frames) == (54, 10_800)
