"""Names of a study's files and jobs: one description for the rules, the summary and the report."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from plain_study import plain_study

from leod.errors import ConfigError
from leod.study.jobs import FIGURES, JOBS
from leod.study.plan import read_plan
from leod.study.study import Study

REPOSITORY = Path(__file__).resolve().parents[2]


CEILING = "fully_supervised"
WEAK = "weakly_supervised-0.05-offset0-seed0"


def study(**changes):
    return Study(plain_study() | changes, [REPOSITORY / "configs"], "quickstart.yaml")


def test_detectors_with_their_files():
    plan = study(seeds=[0, 3], rounds=1, evaluate={"variants": ["tta", "plain"]}).plan()
    cells = [(detector.experiment, detector.arm, detector.seed, detector.round) for detector in plan.detectors]
    weak = "weakly_supervised-0.05-offset0-seed"
    assert cells == [
        *(
            (f"{weak}0", "main", 0, 0),
            (f"{weak}0", "main", 0, 1),
            (f"{weak}3", "main", 3, 0),
            (f"{weak}3", "main", 3, 1),
        ),
        *((f"{weak}0-control", "control", 0, 0), (f"{weak}3-control", "control", 3, 0)),
        *(("fully_supervised-seed0", CEILING, 0, 0), ("fully_supervised-seed3", CEILING, 3, 0)),
    ]
    first, second = plan.detectors[:2]
    folder = Path("results/quickstart") / f"{weak}0"
    assert second.model == folder / "round_1" / "model.ckpt"
    assert next(iter(second.metrics.items())) == ("tta", folder / "round_1/metrics/test_tta.json")
    assert second.quality == folder / "round_1" / "quality.json"
    assert first.quality is first.dataset is first.manifest is second.thresholds is None
    assert folder / "round_1" / "dataset" in second.results()
    assert second.results("quality", "thresholds") == [folder / "round_1" / "quality.json"]
    assert plan.detectors[4].labels == first.labels == folder / "labels.json"
    assert len(list(plan.evaluations())) == 16


def steps(of, experiment):
    return of.settings("pretrain", experiment).training.steps


def test_references_train_as_long_as_all_rounds():
    labels = [
        {"setting": "weakly_supervised", "ratio": 0.05},
        {"setting": "weakly_supervised", "ratio": 0.1, "pretrain": {"steps": 200, "sequence_length": 6}},
    ]
    found = study(labels=labels, references=["control", CEILING, "oracle"])
    names = {ratio: f"weakly_supervised-{ratio}-offset0-seed0" for ratio in (0.05, 0.1)}
    assert steps(found, names[0.05]) == 500
    assert steps(found, f"{names[0.05]}-control") == 500 + 2 * 300
    assert steps(found, f"{names[0.1]}-control") == 200 + 2 * 300
    assert steps(found, "fully_supervised-seed0") == 500 + 2 * 300
    own, control = (found.settings("pretrain", name).training for name in (names[0.1], f"{names[0.1]}-control"))
    assert control == own.model_copy(update={"steps": control.steps})
    oracle = f"{names[0.1]}-oracle"
    assert found.experiments[oracle].rounds == 1
    assert found.model(oracle, 0) == found.model(names[0.1], 0)
    assert found.previous_detector(oracle, 1) == [found.model(names[0.1], 0)]
    assert found.training_set(oracle, 1) == "data/simulated/sequences"
    assert found.pseudo_labels(oracle, 1) == []
    assert found.settings("self_train", oracle) == found.settings("self_train", names[0.1])


def test_references_are_trained_where_the_study_takes_weights():
    pretrain = {"steps": 10, "learning_rate": 1e-3, "sequence_length": 2, "from": "w.ckpt"}
    found = study(pretrain=pretrain)
    assert found.published_weights(WEAK) == ["w.ckpt"]
    for name in (f"{WEAK}-control", "fully_supervised-seed0"):
        assert found.published_weights(name) == []
        assert len(found.pretraining_sequences(name)) == 2


def test_without_rounds_there_is_nothing_to_compare_with_but_the_ceiling():
    found = study(rounds=0, references=["control", CEILING, "oracle"])
    assert list(found.experiments) == [WEAK, "fully_supervised-seed0"]


def owners_of(found, rule):
    return {wildcards["experiment"].removeprefix(WEAK) for name, wildcards in found.jobs() if name == rule}


def test_arms_share_what_they_do_not_change():
    arms = {
        "no_tracks": {"track_filter": {"enabled": False}},
        "short_tracks": {"track_filter": {"min_track_length": 2}},
        "one_round_long": {"rounds": 1, "self_train": {"steps": 600}},
        "scratch": {"self_train": {"initial_weights": "scratch"}},
        "other_start": {"pretrain": {"learning_rate": 1e-4}},
        "same": {},
    }
    found = study(references=[], arms=arms)
    assert owners_of(found, "subsample_labels") == {""}
    assert owners_of(found, "pretrain") == {"", "-other_start"}
    made = [
        (wildcards["experiment"].removeprefix(WEAK), wildcards["round"])
        for rule, wildcards in found.jobs()
        if rule == "generate_pseudo_labels" and wildcards["shard"] == 0
    ]
    assert made == [
        *(("", 1), ("", 2), ("-no_tracks", 2), ("-short_tracks", 2), ("-scratch", 2)),
        *(("-other_start", 1), ("-other_start", 2)),
    ]
    by_cell = {(detector.arm, detector.round): detector for detector in found.plan().detectors}
    folder = Path("results/quickstart")
    assert by_cell["no_tracks", 1].dataset == folder / f"{WEAK}-no_tracks" / "round_1" / "dataset"
    assert found.predictions(f"{WEAK}-no_tracks", 1) == found.predictions(WEAK, 1)
    assert by_cell["no_tracks", 0].metrics == by_cell["main", 0].metrics
    assert by_cell["one_round_long", 1].dataset == by_cell["main", 1].dataset
    assert by_cell["one_round_long", 1].model == folder / f"{WEAK}-one_round_long" / "round_1" / "model.ckpt"
    assert by_cell["same", 2].model == by_cell["main", 2].model
    assert not [wildcards for _, wildcards in found.jobs() if wildcards.get("experiment", "").endswith("-same")]


def test_seeds_share_nothing():
    found = study(references=[], seeds=[0, 1])
    assert len([1 for rule, _ in found.jobs() if rule == "subsample_labels"]) == 2


def test_a_plan_comes_back(tmp_path):
    plan = study().plan()
    (tmp_path / "plan.json").write_text(plan.model_dump_json())
    assert read_plan(tmp_path / "plan.json") == plan


def test_every_rule_has_its_names_here_and_every_name_its_rule():
    text = "".join(path.read_text() for path in (REPOSITORY / "rules").glob("*.smk"))
    rules = re.findall(r"^ *rule (\w+):", text, re.MULTILINE)
    assert sorted(rules) == sorted(JOBS)
    for rule in rules:
        assert text.count(f'FILES.log("{rule}")') == text.count(f'FILES.benchmark("{rule}")') == 1


def test_jobs_have_names_of_their_own():
    names = [JOBS[rule].format(**wildcards) for rule, wildcards in study(seeds=[0, 1]).jobs()]
    assert len(set(names)) == len(names)
    assert "weakly_supervised-0.05-offset0-seed1/round_2/generate_pseudo_labels-1" in names


def test_figures_are_those_that_there_are_results_for():
    everything = set(FIGURES)
    assert set(study().figures()) == everything - {"thresholds", "arms"}
    chosen = {"choose_thresholds": {"target_precision": 0.5}}
    assert set(study(pseudo_labels=chosen, arms={"short": {"rounds": 1}}).figures()) == everything
    assert {FIGURES[name] for name in study(rounds=0).figures()} == {"Result", "Training", "Labels"}
    for name in everything:
        assert (REPOSITORY / "workflow" / "report" / f"{name}.rst").is_file()


def test_data_that_are_there_already():
    already = study(dataset="gen1", references=[])
    assert already.plan().manifests == {}
    assert already.manifests("train") == ["results/quickstart/data/train-0.json"]
    assert "check_sequences" in {rule for rule, _ in already.jobs()}


def test_two_cells_of_one_name():
    with pytest.raises(ConfigError, match="twice"):
        study(seeds=[0, 0])


def test_what_a_stage_needs_follows_from_the_settings():
    plain = study(self_train={"steps": 1, "learning_rate": 1e-3, "sequence_length": 2})
    assert plain.previous_detector(WEAK, 2) == plain.published_weights(WEAK) == plain.chosen_thresholds(WEAK, 1) == []
    assert len(plain.pretraining_sequences(WEAK)) == 2
    weights = {"steps": 1, "learning_rate": 1e-3, "sequence_length": 2, "from": "w.ckpt"}
    given = study(pretrain=weights, pseudo_labels={"choose_thresholds": {"target_precision": 0.5}})
    assert given.published_weights(WEAK) == ["w.ckpt"]
    assert given.pretraining_sequences(WEAK) == []
    assert given.chosen_thresholds(WEAK, 1) == [f"results/quickstart/{WEAK}/round_1/thresholds.json"]
    assert given.keep_thresholds(WEAK, 1) == []
    choice = {"target_precision": 0.5, "max_background": 0.1}
    weak = study(pseudo_labels={"choose_thresholds": choice})
    assert weak.keep_thresholds(WEAK, 1) == given.chosen_thresholds(WEAK, 1)
    assert given.previous_detector(WEAK, 2) == [f"results/quickstart/{WEAK}/round_1/model.ckpt"]
    assert study(hardware={"accelerator": "cpu", "devices": 2}).gpus == 0
    assert study(hardware={"accelerator": "auto", "devices": 2}).gpus == 2


def test_nulls_of_the_command_line_and_data_that_are_not_there(tmp_path):
    own = study(dataset={"base": "simulated", "simulate": "null", "recordings": str(tmp_path / "none")})
    assert own.config.dataset.simulate is None
    assert f"{tmp_path / 'none'} does not exist yet. Put its recordings into" in own.missing_data()
    assert study().missing_data() is None
    assert study(dataset={"base": "gen1", "sequences": str(tmp_path)}, references=[]).missing_data() is None


SUGGESTED = "suggested-52-offset0-seed0"
CHOOSER = "random-26-offset0-seed0"


def test_suggested_labels_need_the_detector_of_their_first_share():
    arms = {"no_tracks": {"track_filter": {"enabled": False}}}
    found = study(labels=[{"setting": "suggested", "frames": 52}], arms=arms, references=["control"])
    assert list(found.experiments) == [CHOOSER, SUGGESTED, f"{SUGGESTED}-control", f"{SUGGESTED}-no_tracks"]
    assert found.experiments[CHOOSER].arm == "chooser"
    assert found.experiments[CHOOSER].rounds == 0
    folder = "results/quickstart"
    assert found.first_labels(SUGGESTED) == [f"{folder}/{CHOOSER}/labels.json"]
    assert found.choosing_detector(SUGGESTED) == [f"{folder}/{CHOOSER}/round_0/model.ckpt"]
    for name in (SUGGESTED, f"{SUGGESTED}-control", f"{SUGGESTED}-no_tracks"):
        assert found.labels_of(name) == f"{folder}/{SUGGESTED}/labels.json"
    jobs = [(rule, wildcards["experiment"]) for rule, wildcards in found.jobs() if rule.endswith("labels")]
    assert jobs[:2] == [("subsample_labels", CHOOSER), ("suggest_labels", SUGGESTED)]
    assert found.settings("pretrain", CHOOSER) == found.settings("pretrain", SUGGESTED)


def test_a_first_share_that_is_a_budget_of_its_own_is_trained_once():
    labels = [{"setting": "suggested", "frames": 52}, {"setting": "random", "frames": 26}]
    found = study(labels=labels, references=[], rounds=1)
    assert list(found.experiments) == [CHOOSER, SUGGESTED]
    assert found.experiments[CHOOSER].arm == "main"
    assert found.experiments[CHOOSER].rounds == 1
    assert found.choosing_detector(SUGGESTED) == [found.model(CHOOSER, 0)]


def test_labels_suggested_without_a_detector_need_none():
    found = study(labels=[{"setting": "suggested", "frames": 52, "first_share": 0}], references=[])
    assert list(found.experiments) == ["suggested-52-first0-offset0-seed0"]
    assert found.first_labels("suggested-52-first0-offset0-seed0") == []
    assert found.choosing_detector("suggested-52-first0-offset0-seed0") == []


def test_random_labels_differ_by_seed():
    found = study(labels=[{"setting": "random", "frames": 52}], seeds=[0, 1], references=[])
    assert [found.settings("subsample_labels", name).seed for name in found.experiments] == [0, 1]
    assert study().settings("subsample_labels", WEAK).seed is None
