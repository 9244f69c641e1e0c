"""Configuration files: what is accepted, and that every mistake is named with file, key, value and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from leod.config.load import load_settings, load_study, study_of_arm, study_schema
from leod.config.schema import HardwareConfig, LabelBudget, StudyConfig
from leod.config.settings import QualitySettings, SubsampleSettings, TrainSettings
from leod.errors import ConfigError
from leod.files import read_json
from leod.study.experiments import study_experiments

REPOSITORY = Path(__file__).resolve().parents[2]
QUICKSTART = REPOSITORY / "configs" / "quickstart.yaml"
STUDIES = sorted((REPOSITORY / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_of_the_repository_is_valid(path: Path) -> None:
    study = load_study(path)
    assert study_experiments(study)
    assert study.name == path.stem


@pytest.mark.parametrize(
    ("override", "fragments"),
    [
        ("pretrain.stepz=3", ["unknown key 'pretrain.stepz' (value 3)", "did you mean 'steps'?", "learning_rate"]),
        ("labels=[{setting: weakly_supervised, ratio: 0}]", ["labels.0.ratio = 0", "greater than 0"]),
        ("labels=[{setting: weekly}]", ["labels.0.setting = 'weekly'", "'weakly_supervised'", "'semi_supervised'"]),
        ("rounds=-1", ["rounds = -1", "greater than or equal to 0"]),
        ("pretrain.learning_rate=.nan", ["pretrain.learning_rate", "finite"]),
        ("pretrain.steps=ten", ["pretrain.steps = 'ten'", "integer"]),
        (
            "pseudo_labels={choose_thresholds: null, score_thresholds: {car: 0.5}}",
            ["class 'pedestrian' has no threshold"],
        ),
        ("self_train.loss.ignore_thresholds={bus: 0.5}", ["'bus' is not a class of data set 'simulated'"]),
        ("track_filter.keep_thresholds={bus: 0.5}", ["track_filter.keep_thresholds", "'bus' is not a class"]),
        ("pseudo_labels.merging.method=wbf", ["pseudo_labels.merging.method", "weighted_box_fusion"]),
        ("dataset=nowhere", ["dataset 'nowhere': no such file", "known:", "simulated"]),
        ("model=rvt-huge", ["model 'rvt-huge': no such file", "rvt-small"]),
        ("dataset={base: simulated, sensor: {height: 0, width: 5}}", ["simulated.yaml", "sensor.height = 0"]),
        ("dataset={base: simulated, classes: [car, car]}", ["class names must differ"]),
        ("model={base: rvt-small, dim_head: 7}", ["dim_head 7 must divide"]),
        ("references=[controls]", ["references.0 = 'controls'", "'control', 'fully_supervised' or 'oracle'"]),
        ("reference_pretrain={steps: rounds}", ["reference_pretrain.steps = 'rounds'", "'all_rounds'"]),
        (
            "arms={a: {self_train: {stepz: 3}}}",
            ["unknown key 'arms.a.self_train.stepz' (value 3)", "did you mean 'steps'?", "learning_rate"],
        ),
        ("arms={a: {rounds: -1}}", ["arms.a.rounds = -1", "greater than or equal to 0"]),
        ("arms={a: {seeds: [1]}}", ["unknown key 'arms.a.seeds' (value [1])", "rounds, pretrain, pseudo_labels"]),
        ("arms={a: {track_filter: off}}", ["arms.a.track_filter = False"]),
        ("arms={a: {pseudo_labels: {score_thresholds: {bus: 0.5}}}}", ["arms.a: ", "'bus' is not a class"]),
        ("arms={a: {pseudo_labels: {shards: 7}}}", ["arms.a.pseudo_labels.shards = 7", "the whole study, 2"]),
        ("arms={oracle: {rounds: 1}}", ["arms.oracle: this name is taken"]),
        ("arms={a/b: {rounds: 1}}", ["arms.a/b", "should match pattern"]),
        ("base=nowhere", ["base 'nowhere': no such file", "known:", "quickstart"]),
        ("base=3", ["base must be the name of a study", "got 3"]),
    ],
)
def test_mistakes_are_named(override: str, fragments: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_study(QUICKSTART, [override])
    for fragment in [*fragments, "quickstart.yaml"] if "simulated.yaml" not in fragments else fragments:
        assert fragment in str(caught.value)


def test_thresholds_for_keeping_are_chosen_or_given() -> None:
    chosen = "pseudo_labels.choose_thresholds={target_precision: 0.9, max_background: 0.1}"
    assert load_study(QUICKSTART, [chosen]).pseudo_labels.choose_thresholds is not None
    with pytest.raises(ConfigError, match=r"leave track_filter\.keep_thresholds out"):
        load_study(QUICKSTART, [chosen, "track_filter.keep_thresholds={car: 0.5}"])


def test_quality_knows_what_training_ignores_and_that_boxes_were_moved() -> None:
    overrides = ["track_filter.smooth_frames=2", "self_train.loss.ignore_thresholds={car: 0.5}"]
    settings = QualitySettings.from_study(load_study(QUICKSTART, overrides))
    assert settings.smooth_frames == 2
    assert settings.ignore_thresholds["car"] == 0.5


def test_all_mistakes_of_a_file_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load_study(QUICKSTART, ["pretrain.stepz=3", "rounds=-1"])
    assert str(caught.value).count("\n") == 1


def test_overrides_reach_into_the_file_and_leave_the_rest() -> None:
    plain, changed = load_study(QUICKSTART), load_study(QUICKSTART, ["pretrain.steps=7", "model={base: rvt-small}"])
    assert changed.pretrain.steps == 7
    assert changed.model.embed_dim == 48
    assert changed.pretrain.learning_rate == plain.pretrain.learning_rate


def test_an_arm_is_the_study_with_its_changes() -> None:
    arms = (
        "arms={a: {rounds: 1, self_train: {steps: 7, loss: {ignore_thresholds: null}}, pretrain: {learning_rate: 1}}}"
    )
    study = load_study(QUICKSTART, [arms])
    arm = study_of_arm(study, "a")
    assert (arm.rounds, arm.self_train.steps, arm.self_train.loss.ignore_thresholds) == (1, 7, None)
    assert arm.pretrain == study.pretrain.model_copy(update={"learning_rate": 1.0})
    unchanged = {
        "labels",
        "seeds",
        "dataset",
        "model",
        "pseudo_labels",
        "track_filter",
        "evaluate",
        "reference_pretrain",
    }
    assert all(getattr(arm, name) == getattr(study, name) for name in unchanged)


def test_an_arm_that_every_budget_overrules_is_an_error() -> None:
    labels = "labels=[{setting: weakly_supervised, ratio: 0.1, pretrain: {steps: 5}}]"
    with pytest.raises(
        ConfigError, match=r"arms\.a\.pretrain\.steps = 7: every entry of 'labels' has a pretrain.steps"
    ):
        load_study(QUICKSTART, [labels, "arms={a: {pretrain: {steps: 7}}}"])


def test_steps_of_all_rounds() -> None:
    study = load_study(QUICKSTART, ["rounds=3", "self_train.steps=100", "pretrain.steps=50"])
    budget = LabelBudget(setting="fully_supervised", pretrain=study.reference_pretrain)
    assert study.pretraining(budget).steps == 50 + 3 * 100


def test_a_study_may_say_only_what_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"base: {QUICKSTART}\nname: mine\npretrain: {{steps: 7}}\ndataset: {{windows: {{origin: clock_zero}}}}\n"
    )
    study, base = load_study(path, ["self_train.steps=8"]), load_study(QUICKSTART)
    assert study.name == "mine"
    assert study.pretrain == base.pretrain.model_copy(update={"steps": 7})
    assert study.self_train == base.self_train.model_copy(update={"steps": 8})
    assert study.dataset == base.dataset
    further = tmp_path / "further.yaml"
    further.write_text("base: mine\nname: further\nrounds: 1\n")
    assert load_study(further).pretrain == study.pretrain


def test_what_comes_with_the_package_is_found_in_any_folder_and_the_users_own_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = tmp_path / "mine.yaml"
    study.write_text("base: quickstart\nname: mine\n")
    assert load_study(study).model.name == "rvt-nano"
    models = tmp_path / "configs" / "models"
    models.mkdir(parents=True)
    own = (REPOSITORY / "configs" / "models" / "rvt-tiny.yaml").read_text()
    (models / "rvt-nano.yaml").write_text(own)
    assert load_study(study).model.embed_dim == 32


def test_a_file_is_named_from_the_working_folder_or_from_that_of_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "studies"
    folder.mkdir()
    tiny = (REPOSITORY / "configs" / "models" / "rvt-tiny.yaml").read_text()
    (folder / "small.yaml").write_text(tiny)
    study = folder / "mine.yaml"
    study.write_text("base: quickstart\nname: mine\nmodel: small.yaml\n")
    monkeypatch.chdir(tmp_path)
    assert load_study(study).model.fpn_depth == 0.33
    (tmp_path / "small.yaml").write_text(tiny.replace("0.33", "0.67"))
    assert load_study(study).model.fpn_depth == 0.67


def test_mistakes_of_a_study_with_a_base_name_both_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"base: {QUICKSTART}\nname: mine\nround: 1\n")
    with pytest.raises(ConfigError) as caught:
        load_study(path)
    assert f"{QUICKSTART} (changed by {path}): unknown key 'round' (value 1); did you mean 'rounds'?" in str(
        caught.value
    )


def test_bases_in_a_circle(tmp_path: Path) -> None:
    for name, base in (("a", "b"), ("b", "a")):
        (tmp_path / f"{name}.yaml").write_text(f"base: {base}\nname: {name}\n")
    with pytest.raises(ConfigError, match="leads in a circle"):
        load_study(tmp_path / "a.yaml")


def test_learning_rate_without_a_dot_is_a_number() -> None:
    assert load_study(QUICKSTART, ["self_train.learning_rate=5e-4"]).self_train.learning_rate == 5e-4


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("name: a\nname: b\n", "given twice"),
        ("name: [", "not valid YAML"),
        ("- a\n- b\n", "expected 'key: value' pairs"),
    ],
)
def test_damaged_file_is_named(tmp_path: Path, text: str, fragment: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=fragment) as caught:
        load_study(path)
    assert str(path) in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such configuration file"):
        load_study(tmp_path / "none.yaml")


def test_experiments_span_labels_offsets_and_seeds() -> None:
    study = load_study(
        QUICKSTART,
        ["labels=[{setting: weakly_supervised, ratio: 0.01}, {setting: semi_supervised, ratio: 0.1}]"]
        + ["split_offsets=[0, 1]", "seeds=[0, 5]"],
    )
    names = [experiment.name for experiment in study_experiments(study)]
    assert len(names) == len(set(names)) == 2 * 2 * 2 + 2 * 2 * 2 + 2
    assert "semi_supervised-0.1-offset1-seed5-control" in names
    assert "semi_supervised-0.1-offset1-seed5" in names
    assert [e.name for e in study_experiments(study) if e.arm == "fully_supervised"] == [
        "fully_supervised-seed0",
        "fully_supervised-seed5",
    ]


def test_stage_settings_survive_the_way_to_the_command_line() -> None:
    study = load_study(REPOSITORY / "configs" / "gen1-weakly-supervised-small.yaml")
    settings = TrainSettings.for_pretraining(study, study.labels[0])
    assert settings.training.steps == 200_000
    assert load_settings(TrainSettings, settings.model_dump_json(by_alias=True)) == settings
    subsample = SubsampleSettings.from_study(study, study.labels[0], 0)
    assert load_settings(SubsampleSettings, subsample.model_dump_json(by_alias=True)) == subsample


def test_settings_file_with_unknown_key_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "hardware.yaml"
    path.write_text("acelerator: gpu\n")
    with pytest.raises(ConfigError, match="did you mean 'accelerator'"):
        load_settings(HardwareConfig, str(path))


def test_padding_and_partition_are_the_published_ones() -> None:
    gen1 = load_study(REPOSITORY / "configs" / "gen1-weakly-supervised-small.yaml").dataset
    one_mpx = load_study(REPOSITORY / "configs" / "one-mpx-weakly-supervised-small.yaml").dataset
    assert (gen1.frame_size, gen1.padded_size, gen1.partition_size) == ((240, 304), (256, 320), (8, 10))
    assert (one_mpx.frame_size, one_mpx.padded_size, one_mpx.partition_size) == ((360, 640), (384, 640), (6, 10))


def test_schema_for_editors_is_up_to_date() -> None:
    stored = read_json(REPOSITORY / "workflow" / "schemas" / "study.schema.json")
    assert stored == study_schema(), "write it anew: leod schema > workflow/schemas/study.schema.json"


def test_settings_cannot_be_changed_after_reading() -> None:
    study: StudyConfig = load_study(QUICKSTART)
    with pytest.raises(Exception, match="frozen"):
        study.rounds = 5
