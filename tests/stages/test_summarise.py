from __future__ import annotations

import json

import pandas as pd
import pytest

from leod.errors import ConfigError, DataError
from leod.evaluation.coco import METRICS
from leod.stages.summarise import summarise
from leod.study.plan import DetectorFiles, StudyPlan, read_plan

CLASSES = ("car", "pedestrian")


def write_metrics(path, ap, split="test", variant="plain"):
    figures = dict.fromkeys(METRICS, ap) | {"AP50": 2 * ap, "AP_L": -1.0}
    per_class = {name: {"prophesee": figures, "coco": figures} for name in CLASSES}
    path.write_text(json.dumps({"split": split, "variant": variant, "metrics": figures, "per_class": per_class}))
    return path


def write_quality(path, precision, recall):
    shares = {"precision_50": precision, "recall_50": recall}
    seen = {"positives": 200, "precision_50": 0.75, "found": 0.5, "taught_as_background": 0.25}
    of_classes, seen_of_classes = (dict.fromkeys((*CLASSES, "all"), figures) for figures in (shares, seen))
    path.write_text(json.dumps({"after_tracking": {"classes": of_classes}, "seen_by_training": seen_of_classes}))
    return path


def write_record(path, validation_ap):
    metrics = {} if validation_ap is None else {"AP": validation_ap}
    path.write_text(json.dumps({"select": "best", "best": {"metrics": metrics}, "last": {"metrics": {"AP": 0.9}}}))
    return path


@pytest.fixture
def make_entry(tmp_path):
    def make(
        ap,
        setting="weakly_supervised",
        ratio=0.05,
        seed=0,
        round=0,
        variant="plain",
        quality=None,
        arm="main",
        validation=None,
        frames=0,
        first_frames=0,
    ):
        name = f"{setting}-{frames or format(ratio, 'g')}-offset0-seed{seed}" + (
            "" if arm in ("main", "fully_supervised") else f"-{arm}"
        )
        stem = f"{name}-{first_frames}-{round}-{variant}"
        return DetectorFiles(
            **dict.fromkeys(("labels", "model", "curves"), "unused"),
            record=write_record(tmp_path / f"{stem}-training.json", validation),
            experiment=name,
            arm=arm,
            setting=setting,
            ratio=ratio,
            frames=frames,
            first_frames=first_frames,
            split_offset=0,
            seed=seed,
            round=round,
            metrics={variant: write_metrics(tmp_path / f"{stem}.json", ap, variant=variant)},
            quality=None if quality is None else write_quality(tmp_path / f"{stem}-quality.json", *quality),
        )

    return make


@pytest.fixture
def ceiling(make_entry):
    """A detector trained on all labels."""
    return lambda ap, seed=0: make_entry(ap, setting="fully_supervised", ratio=1.0, seed=seed, arm="fully_supervised")


@pytest.fixture
def run(tmp_path):
    def summarise_to_text(entries):
        summarise(
            StudyPlan(split="test", detectors=entries),
            tmp_path / "out" / "summary.csv",
            tmp_path / "out" / "summary.md",
        )
        return pd.read_csv(tmp_path / "out" / "summary.csv"), (tmp_path / "out" / "summary.md").read_text()

    return summarise_to_text


def cells(text, detector):
    """The cells of the first table row of a detector."""
    line = next(line for line in text.splitlines() if f"| {detector}" in line)
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_two_seeds_two_rounds_and_a_ceiling(make_entry, ceiling, run):
    entries = [
        make_entry(0.10, seed=0),
        make_entry(0.14, seed=0, round=1, quality=(0.6, 0.5)),
        make_entry(0.20, seed=0, round=2, quality=(0.7, 0.6)),
        make_entry(0.20, seed=1),
        make_entry(0.22, seed=1, round=1, quality=(0.8, 0.7)),
        make_entry(0.18, seed=1, round=2, quality=(0.9, 0.8)),
        ceiling(0.35),
    ]
    frame, text = run(entries)
    assert len(frame) == 7
    assert frame["gain_AP"].round(6).tolist() == [0, 0.04, 0.1, 0, 0.02, -0.02, 0]
    assert frame["pseudo_precision_50"].tolist()[1] == 0.6
    assert frame["pseudo_precision_50_car"].tolist()[1] == 0.6
    seen = frame[["seen_positives", "seen_precision_50", "seen_found", "taught_as_background"]]
    assert seen.iloc[1].tolist() == [200, 0.75, 0.5, 0.25]
    assert seen.iloc[0].isna().all()  # round 0 sees no pseudo-labels
    assert frame["seen_found_car"].tolist()[1] == 0.5
    assert frame["AP50_car"].tolist()[0] == 0.2
    assert frame["AP_L"].isna().all()  # COCO's -1: no ground truth of that size

    # Means: baseline 15, round 1 18, round 2 19, ceiling 35: the gap is 20 points.
    assert cells(text, "supervised (round 0)")[:5] == [
        "weakly supervised, 5 %",
        "supervised (round 0)",
        "2",
        "15.0 ± 7.1",
        "30.0 ± 14.1",
    ]
    assert cells(text, "round 2") == [
        "",
        "round 2",
        "2",
        "19.0 ± 1.4",
        "38.0 ± 2.8",
        "19.0 ± 1.4",
        "+4.0 ± 8.5",
        "+8.0 ± 17.0",
        "20 %",
        "20 %",
        "80.0 ± 14.1",
        "70.0 ± 14.1",
    ]
    assert cells(text, "round 1")[6] == "+3.0 ± 1.4"
    # The mean rises, but only one of the two experiments does.
    assert "helped some experiments and harmed others" in text
    assert "AP rose in 1 of 2 experiments, by +4.0 points on average (AP50 in 1, by +8.0)" in text
    assert "With fewer than 3 pairs the spread of this is unknown." in text
    assert "closes 20 % in AP and 20 % in AP50 of the gap from the baseline" in text
    assert "A part of it may be longer training: the study has no control." in text


@pytest.mark.parametrize(
    ("after", "answer"),
    [
        (0.3, "Self-training helped: from the supervised baseline to round 1, AP rose in 1 of 1 experiment, by +20.0"),
        (0.1, "Self-training did not help: from the supervised baseline to round 1, AP rose in 0 of 1 experiment"),
        (0.05, "Self-training did not help: from the supervised baseline to round 1, AP rose in 0 of 1 experiment"),
    ],
)
def test_the_verdict(make_entry, run, after, answer):
    _, text = run([make_entry(0.1), make_entry(after, round=1)])
    assert answer in text
    assert "gap to" not in text  # nothing was trained on all labels


def test_a_ceiling_below_the_baseline_leaves_no_gap(make_entry, ceiling, run):
    entries = [make_entry(0.3), make_entry(0.4, round=1), ceiling(0.2)]
    _, text = run(entries)
    assert cells(text, "round 1")[8] == "no gap"
    assert "gap to" not in text


def controlled(make_entry, gains, control=0.2):
    """Round 0, round 1 and the control of one experiment a gain."""
    for seed, gain in enumerate(gains):
        yield make_entry(0.1, seed=seed)
        yield make_entry(control + gain, seed=seed, round=1)
        yield make_entry(control, seed=seed, arm="control")


def test_the_verdict_is_about_equal_training(make_entry, ceiling, run):
    frame, text = run([*controlled(make_entry, [0.04, 0.05, 0.06]), ceiling(0.3)])
    # Student's t with 2 degrees of freedom: 4.303; 1 point of deviation: 4.303 / sqrt(3) = 2.48.
    assert (
        "Self-training helped: from equally long supervised training (the control) to round 1, AP rose in 3 of 3 "
        "experiments, by +5.0 points on average (AP50 in 3, by +10.0). 95 % confidence intervals of the mean: AP "
        "+2.5 to +7.5, AP50 +5.0 to +15.0. That closes 50 % in AP and 50 % in AP50 of the gap from the control to "
        "training on all labels."
    ) in text
    assert "longer training" not in text
    assert "noise" not in text
    rows = frame.set_index(["arm", "seed", "round"])
    assert rows["gain_AP"].round(6)["main", 0, 1] == 0.14
    assert rows["gain_over_control_AP"].round(6)["main", 0, 1] == 0.04
    assert rows["gain_over_control_AP50"].round(6)["main", 2, 0] == -0.2
    assert rows["gain_AP"].round(6)["control", 0, 0] == 0.1
    assert frame.loc[frame["setting"] == "fully_supervised", "gain_over_control_AP"].isna().all()
    assert cells(text, "round 1")[6:12] == ["+15.0 ± 1.0", "+30.0 ± 2.0", "+5.0 ± 1.0", "+10.0 ± 2.0", "50 %", "50 %"]
    assert cells(text, "control")[6:12] == ["+10.0 ± 0.0", "+20.0 ± 0.0", "", "", "", ""]


@pytest.mark.parametrize(
    ("gains", "answer", "noise"),
    [
        ((0.05, -0.03, 0.04), "Whether self-training helped is open", True),
        ((-0.05, 0.03, -0.04), "Whether self-training helped is open", True),
        ((-0.04, -0.05, -0.06), "Self-training did not help", False),
        ((0.05, 0.06), "Self-training helped", False),
    ],
)
def test_a_gain_is_told_from_noise(make_entry, run, gains, answer, noise):
    _, text = run(list(controlled(make_entry, gains)))
    assert f"{answer}: from equally long supervised training (the control)" in text
    assert ("inside the noise: the interval includes 0" in text) == noise
    assert ("spread of this is unknown" in text) == (len(gains) < 3)


def rounds(make_entry, validated, aps=(0.1, 0.2, 0.3), seeds=(0,)):
    return [
        make_entry(ap, round=number, validation=validation, seed=seed)
        for seed in seeds
        for number, (ap, validation) in enumerate(zip(aps, validated, strict=True))
    ]


def test_the_round_is_chosen_on_the_validation_split(make_entry, run):
    # On the test split round 2 is better, which must not matter.
    frame, text = run(rounds(make_entry, [0.05, 0.12, 0.11]))
    assert frame["validation_AP"].tolist() == [0.05, 0.12, 0.11]
    assert "from the supervised baseline to round 1, AP rose in 1 of 1 experiment, by +10.0" in text
    assert "validation AP 5.0 % in round 0, 12.0 % in round 1, 11.0 % in round 2. Round 1 is chosen." in text
    assert "Round 2 did not pay: its validation AP is not above that of round 1." in text
    assert "Round 1 did not pay" not in text
    assert cells(text, "round 1")[1] == "round 1 (chosen)"


def test_the_choice_is_by_the_mean_of_the_experiments(make_entry, run):
    entries = [
        *rounds(make_entry, [0.05, 0.12, 0.10], seeds=[0]),
        *rounds(make_entry, [0.05, 0.12, 0.16], seeds=[1]),
    ]
    _, text = run(entries)
    assert "12.0 % in round 1, 13.0 % in round 2. Round 2 is chosen." in text
    assert "did not pay" not in text


def test_a_round_that_is_not_above_round_0_did_not_pay(make_entry, run):
    _, text = run(rounds(make_entry, [0.05, 0.05, 0.07]))
    assert "Round 1 did not pay: its validation AP is not above that of round 0." in text


def test_without_validation_the_last_round_is_taken(make_entry, run):
    frame, text = run(rounds(make_entry, [0.05, None, 0.04]))
    assert "not all rounds have validation metrics, so the last one, round 2, is taken" in text
    assert "from the supervised baseline to round 2" in text
    assert frame["validation_AP"].isna().tolist() == [False, True, False]


def test_a_file_that_is_no_account_of_a_training(make_entry, run):
    entry = make_entry(0.1)
    entry.record.write_text("[]")
    with pytest.raises(DataError, match="no account of a training"):
        run([entry])


def test_arms_beside_the_main_chain(make_entry, ceiling, run):
    entries = [*controlled(make_entry, [0.04, 0.05, 0.06]), ceiling(0.4)]
    for seed in range(3):
        entries += [
            make_entry(0.1, seed=seed, arm="oracle"),
            make_entry(0.35, seed=seed, round=1, arm="oracle"),
            make_entry(0.1, seed=seed, arm="long"),
            make_entry(0.2, seed=seed, round=1, arm="long"),
            make_entry(0.22 + 0.01 * seed, seed=seed, round=2, arm="long"),
        ]
    _, text = run(entries)
    assert cells(text, "long, round 2")[:4] == ["", "long, round 2", "3", "23.0 ± 1.0"]
    assert "long, round 1" not in text
    assert cells(text, "oracle")[3] == "35.0 ± 0.0"
    arms = text.split("Arms: the last round")[1]
    # Main: 24, 25, 26; long: 22, 23, 24.
    assert cells(arms, "long")[1:8] == ["long", "2", "3", "-2.0", "-2.0 to -2.0", "0 of 3", "-4.0"]
    assert cells(arms, "oracle")[1:7] == ["oracle", "1", "3", "+10.0", "+7.5 to +12.5", "3 of 3"]
    assert "fully" not in arms


def test_all_labels_as_a_budget_give_the_ceiling(make_entry, run):
    of_all = {"setting": "fully_supervised", "ratio": 1.0}
    entries = [*controlled(make_entry, [0.05]), make_entry(0.25, **of_all), make_entry(0.31, round=1, **of_all)]
    entries.append(make_entry(0.3, arm="control", **of_all))
    _, text = run(entries)
    # The control of all labels is trained as long as the other control: 20 → 30, of which 25 is half.
    assert "That closes 50 % in AP" in text
    assert "AP rose in 2 of 2 experiments" in text


def test_without_rounds_there_is_nothing_to_judge(make_entry, run):
    frame, text = run([make_entry(0.1)])
    assert "no self-training round to judge" in text
    assert frame["pseudo_precision_50"].isna().all()


def test_variants_are_never_compared_with_each_other(make_entry, run):
    entries = [make_entry(0.1), make_entry(0.2, round=1), make_entry(0.3, variant="tta")]
    _, text = run(entries)
    plain, tta = text.split("## test split, tta")
    assert "AP rose in 1 of 1" in plain
    assert "no self-training round to judge" in tta


def test_budgets_are_sorted_and_all_labels_come_last(make_entry, run):
    entries = [
        make_entry(0.4, setting="fully_supervised", ratio=1.0),
        make_entry(0.3, ratio=0.1),
        make_entry(0.2, ratio=0.02),
    ]
    _, text = run(entries)
    positions = [text.index(label) for label in ("weakly supervised, 2 %", "weakly supervised, 10 %", "| all labels")]
    assert positions == sorted(positions)


def test_suggested_labels_are_compared_with_labels_chosen_otherwise(make_entry, ceiling, run):
    def budget(setting, aps, **changes):
        return [make_entry(ap, setting=setting, ratio=1.0, seed=seed, **changes) for seed, ap in enumerate(aps)]

    frame, text = run(
        [
            *budget("random", (0.10, 0.12, 0.11), frames=26, arm="chooser"),
            *budget("random", (0.20, 0.22, 0.21), frames=52),
            *budget("suggested", (0.22, 0.26, 0.25), frames=52, first_frames=26),
            *budget("suggested", (0.19, 0.20, 0.20), frames=52),
            *(make_entry(ap, seed=seed) for seed, ap in enumerate((0.23, 0.24, 0.25))),
            ceiling(0.35),
        ]
    )
    assert frame["frames"].tolist() == 3 * [26] + 9 * [52] + 4 * [0]
    assert cells(text, "chooser")[:3] == ["random, 26 frames", "chooser", "3"]
    rows = [line.split("|") for line in text.splitlines() if "suggested, 52 frames (" in line]
    rows = [row for row in rows if row[2].strip() in ("random, 52 frames", "weakly supervised, 5 %")]
    assert [row[1].strip().removeprefix("suggested, 52 frames ") for row in rows] == 2 * ["(by their events)"] + 2 * [
        "(26 by a detector)"
    ]
    found = [[cell.strip() for cell in row[2:8]] for row in rows[2:]]
    assert found[0] == ["random, 52 frames", "0", "3", "+3.3", "+0.5 to +6.2", "3 of 3"]
    assert found[1] == ["weakly supervised, 5 %", "0", "3", "+0.3", "-3.5 to +4.1", "1 of 3"]


def test_quality_that_could_not_be_measured_is_left_empty(make_entry, run, tmp_path):
    entry = make_entry(0.2, round=1, quality=(0.5, 0.5))
    entry.quality.write_text(json.dumps({"hidden_frames": 0, "note": "nothing hidden"}))
    frame, _ = run([make_entry(0.1), entry])
    assert frame["pseudo_precision_50"].isna().all()


def test_a_missing_evaluation(make_entry, run):
    entry = make_entry(0.1)
    entry.metrics["plain"].unlink()
    with pytest.raises(DataError, match="does not exist"):
        run([entry])


@pytest.mark.parametrize(
    "content", ["{}", "[]", '{"split": "test", "variant": "plain", "metrics": {}, "per_class": {}}']
)
def test_a_file_that_is_no_evaluation(make_entry, run, content):
    entry = make_entry(0.1)
    entry.metrics["plain"].write_text(content)
    with pytest.raises(DataError, match="no evaluation result"):
        run([entry])


def test_an_evaluation_of_another_variant(make_entry, run):
    entry = make_entry(0.1)
    write_metrics(entry.metrics["plain"], 0.1, variant="tta")
    with pytest.raises(DataError, match="'tta'"):
        run([entry])


def test_a_damaged_quality_file(make_entry, run):
    entry = make_entry(0.1, round=1, quality=(0.5, 0.5))
    entry.quality.write_text('{"after_tracking": 3}')
    with pytest.raises(DataError, match="validate_quality"):
        run([entry])


def test_the_same_cell_twice(make_entry, run):
    with pytest.raises(ConfigError, match="two evaluations"):
        run([make_entry(0.1), make_entry(0.1)])


def test_no_entries(run):
    with pytest.raises(ConfigError, match="no evaluation"):
        run([])


def test_entries_are_read_from_json(make_entry, tmp_path):
    entry = make_entry(0.1, round=1, quality=(0.5, 0.5))
    path = tmp_path / "plan.json"
    plan = StudyPlan(split="test", detectors=[entry])
    path.write_text(plan.model_dump_json())
    assert read_plan(path) == plan
    path.write_text(json.dumps({"split": "test", "detectors": [{"experiment": "x", "colour": "red"}]}))
    with pytest.raises(DataError, match="not the plan of a study"):
        read_plan(path)
