"""Names of a study's files and jobs: one description for the rules, the summary and the report."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from leod.errors import ConfigError
from leod.study.jobs import FIGURES, JOBS
from leod.study.plan import read_plan
from leod.study.study import Study

REPOSITORY = Path(__file__).resolve().parents[2]


def study(**changes):
    content = yaml.safe_load((REPOSITORY / "configs" / "quickstart.yaml").read_text())
    return Study(content | changes, [REPOSITORY / "configs"], "quickstart.yaml")


def test_detectors_with_their_files():
    plan = study(seeds=[0, 3], rounds=1, evaluate={"variants": ["tta", "plain"]}).plan()
    cells = [(detector.experiment, detector.seed, detector.round) for detector in plan.detectors]
    weak = "weakly_supervised-0.05-offset0-seed"
    assert cells == [
        *((f"{weak}0", 0, 0), (f"{weak}0", 0, 1), (f"{weak}3", 3, 0), (f"{weak}3", 3, 1)),
        *(("fully_supervised-seed0", 0, 0), ("fully_supervised-seed3", 3, 0)),
    ]
    first, second = plan.detectors[:2]
    folder = Path("results/quickstart") / f"{weak}0"
    assert second.model == folder / "round_1" / "model.ckpt"
    assert next(iter(second.metrics.items())) == ("tta", folder / "round_1/metrics/test_tta.json")
    assert second.quality == folder / "round_1" / "quality.json"
    assert first.quality is first.dataset is first.manifest is second.thresholds is None
    assert folder / "round_1" / "dataset" in second.results()
    assert len(list(plan.evaluations())) == 12


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
    assert set(study().figures()) == everything - {"thresholds"}
    chosen = {"choose_thresholds": {"target_precision": 0.5}}
    assert set(study(pseudo_labels=chosen).figures()) == everything
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
    assert plain.previous_detector("e", 2) == plain.published_weights() == plain.chosen_thresholds("e", 1) == []
    assert len(plain.pretraining_sequences()) == 2
    weights = {"steps": 1, "learning_rate": 1e-3, "sequence_length": 2, "from": "w.ckpt"}
    given = study(pretrain=weights, pseudo_labels={"choose_thresholds": {"target_precision": 0.5}})
    assert given.published_weights() == ["w.ckpt"]
    assert given.pretraining_sequences() == []
    assert given.chosen_thresholds("e", 1) == ["results/quickstart/e/round_1/thresholds.json"]
    assert given.keep_thresholds("e", 1) == []
    choice = {"target_precision": 0.5, "max_background": 0.1}
    assert study(pseudo_labels={"choose_thresholds": choice}).keep_thresholds("e", 1) == given.chosen_thresholds("e", 1)
    assert given.previous_detector("e", 2) == ["results/quickstart/e/round_1/model.ckpt"]
    assert study(hardware={"accelerator": "cpu", "devices": 2}).gpus == 0
    assert study(hardware={"accelerator": "auto", "devices": 2}).gpus == 2


def test_nulls_of_the_command_line_and_data_that_are_not_there(tmp_path):
    own = study(dataset={"base": "simulated", "simulate": "null", "recordings": str(tmp_path / "none")})
    assert own.config.dataset.simulate is None
    assert f"{tmp_path / 'none'} does not exist yet. Put its recordings into" in own.missing_data()
    assert study().missing_data() is None
    assert study(dataset={"base": "gen1", "sequences": str(tmp_path)}, references=[]).missing_data() is None
