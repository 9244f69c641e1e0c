"""Configuration files: what is accepted, and that every mistake is named with file, key, value and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from leod.config.load import load_settings, load_study, study_schema
from leod.config.schema import HardwareConfig, StudyConfig
from leod.config.settings import SubsampleSettings, TrainSettings
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
        ("dataset={base: simulated, classes: [car, pedestrian, bus]}", ["class 'bus' has no threshold"]),
        ("self_train.loss.ignore_thresholds={bus: 0.5}", ["'bus' is not a class of data set 'simulated'"]),
        ("track_filter.keep_thresholds={bus: 0.5}", ["track_filter.keep_thresholds", "'bus' is not a class"]),
        ("track_filter={enabled: false, smooth_frames: 2}", ["keep_thresholds and smooth_frames need tracks"]),
        ("pseudo_labels.merging.method=wbf", ["pseudo_labels.merging.method", "weighted_box_fusion"]),
        ("dataset=nowhere", ["dataset 'nowhere': no such file", "known:", "simulated"]),
        ("model=rvt-huge", ["model 'rvt-huge': no such file", "rvt-small"]),
        ("dataset={base: simulated, sensor: {height: 0, width: 5}}", ["simulated.yaml", "sensor.height = 0"]),
        ("dataset={base: simulated, classes: [car, car]}", ["class names must differ"]),
        ("model={base: rvt-small, dim_head: 7}", ["dim_head 7 must divide"]),
    ],
)
def test_mistakes_are_named(override: str, fragments: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_study(QUICKSTART, [override])
    for fragment in [*fragments, "quickstart.yaml"] if "simulated.yaml" not in fragments else fragments:
        assert fragment in str(caught.value)


@pytest.mark.parametrize(
    ("override", "fragment"),
    [
        ("track_filter.enabled=false", "weak boxes need tracks"),
        ("track_filter.keep_thresholds={car: 0.5}", "leave track_filter.keep_thresholds out"),
    ],
)
def test_chosen_weak_boxes_go_with_a_track_filter_without_its_own(override: str, fragment: str) -> None:
    chosen = "pseudo_labels.choose_thresholds={target_precision: 0.9, max_background: 0.1}"
    assert load_study(QUICKSTART, [chosen]).pseudo_labels.choose_thresholds is not None
    with pytest.raises(ConfigError, match=fragment):
        load_study(QUICKSTART, [chosen, override])


def test_all_mistakes_of_a_file_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load_study(QUICKSTART, ["pretrain.stepz=3", "rounds=-1"])
    assert str(caught.value).count("\n") == 1


def test_overrides_reach_into_the_file_and_leave_the_rest() -> None:
    plain, changed = load_study(QUICKSTART), load_study(QUICKSTART, ["pretrain.steps=7", "model={base: rvt-small}"])
    assert changed.pretrain.steps == 7
    assert changed.model.embed_dim == 48
    assert changed.pretrain.learning_rate == plain.pretrain.learning_rate


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
    assert len(names) == len(set(names)) == 2 * 2 * 2 + 2
    assert "semi_supervised-0.1-offset1-seed5" in names
    assert [e.name for e in study_experiments(study) if e.is_reference] == [
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
