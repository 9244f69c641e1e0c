"""Results of a study that never ran, with figures such as a real one could have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from leod.config.load import load_study
from leod.config.settings import ReportSettings
from leod.evaluation.coco import METRICS
from leod.report.results import Picture, Run, SampleFrame, StageTime, StudyResults
from leod.report.summary import add_gains
from leod.study.plan import Cell

REPOSITORY = Path(__file__).resolve().parents[1]
CLASSES = ("car", "pedestrian")
PROVENANCE = {"git_commit": "0123456789abcdef", "versions": {"python": "3.11.7", "torch": "2.9"}, "wall_time_s": 321.0}


def made_up_settings(*overrides):
    study = load_study(REPOSITORY / "configs" / "quickstart.yaml", overrides)
    return ReportSettings.from_study(study)


def _precision_recall(ap, rng):
    recall = np.linspace(0, 1, 101)
    precision = np.clip(1 - recall ** (1 + 6 * ap) * (1.2 - ap) - 0.03 * rng.random(101).cumsum() / 20, 0, 1)
    precision = np.where(recall > 0.35 + ap, 0.0, np.minimum.accumulate(precision))
    curve = {"precision": precision.round(4).tolist(), "class_confidence": (1 - recall).tolist()}
    return {"iou": 0.5, "recall_step": 0.01, "classes": dict.fromkeys(CLASSES, curve)}


def _shares(precision, recall):
    return {f"precision_{iou}": precision for iou in (25, 50, 75)} | {f"recall_{iou}": recall for iou in (25, 50, 75)}


def _quality(round, rng):
    names = (*CLASSES, "all")
    bins = np.arange(20)
    count = (1000 * np.exp(-((bins - 14) ** 2) / 20)).astype(int)
    share = np.clip((bins + 0.5) / 20 - 0.1 + 0.05 * round + 0.03 * rng.standard_normal(20), 0, 1)
    relation = {
        "count": count.tolist(),
        "mean_iou": [float(s) if c else None for s, c in zip(share, count, strict=True)],
        "share_above_50": [float(s) if c else None for s, c in zip(share, count, strict=True)],
    }
    average_precision = {"frames": 500} | {name: {"AP50": 0.4 + 0.05 * round} for name in names}
    return {
        "provenance": PROVENANCE,
        "hidden_frames": 500,
        "before_tracking": {
            "classes": {
                name: _shares(0.62 + 0.05 * round - 0.08 * number, 0.5 + 0.06 * round - 0.05 * number)
                for number, name in enumerate(names)
            },
            "average_precision": average_precision,
        },
        "after_tracking": {
            "classes": {
                name: _shares(0.74 + 0.05 * round - 0.08 * number, 0.47 + 0.06 * round - 0.05 * number)
                for number, name in enumerate(names)
            },
            "average_precision": average_precision,
        },
        "ignored_by_tracking": {name: {"boxes": 100, "correct_50": 0.2} for name in names},
        "seen_by_training": {
            name: {
                "positives": 3000 + 100 * round,
                "precision_50": 0.8,
                "doubled": 12,
                "found": 0.55,
                "taught_as_background": 0.25 / (1 + round),
            }
            for name in names
        },
        "inpainted": {"boxes": 50, "covers_ground_truth_50": 0.7},
        "score_relation": {name: {"product": relation} for name in names},
    }


def _dataset(round):
    return {
        "provenance": PROVENANCE,
        "totals": {
            "pseudo_labelled_frames": 5200 + 300 * round,
            "labelled_frames": 60,
            "ground_truth": {"car": 70, "pedestrian": 55},
            "kept": {"car": 4100 + 500 * round, "pedestrian": 2600 + 400 * round},
            "ignored": {"car": 700, "pedestrian": 900},
            "inpainted": {"car": 240, "pedestrian": 310},
        },
    }


def _thresholds(round, weak):
    scores = np.linspace(0.05, 0.98, 60)
    curve = {
        "threshold": scores.tolist(),
        "boxes": (600 * (1.02 - scores)).astype(int).tolist(),
        "precision": (0.3 + 0.68 * scores**0.6 + 0.02 * round).clip(0, 1).tolist(),
        "recall": (0.9 - 0.85 * scores**2).tolist(),
    }
    chosen = {"threshold": scores[30], "precision": curve["precision"][30], "recall": curve["recall"][30], "boxes": 250}
    second = {
        "thresholds": {"car": 0.15, "pedestrian": 0.125},
        "keep": dict.fromkeys(CLASSES, scores[30]),
        "background": {"max_background": 0.1, "reached": round > 1, "share": 0.12},
    }
    return {
        "provenance": PROVENANCE,
        **(second if weak else {}),
        "classes": {
            "car": chosen | {"target_precision": 0.75, "reached": True, "curve": curve},
            "pedestrian": chosen | {"target_precision": 0.99, "reached": False, "curve": curve},
        },
    }


def _curves(steps, rng):
    step = np.arange(1, steps + 1)
    validation = np.where(step % 100 == 0, 0.3 * step / steps, np.nan)
    return pd.DataFrame(
        {
            "step": step,
            "learning_rate": 2e-3 * np.minimum(step / 20, 1 - step / (steps + 1)),
            "loss": 4 + 8 * np.exp(-step / 120) + 0.6 * rng.standard_normal(steps),
            "validation_AP": validation,
        }
    )


def _picture(title, rng):
    light = np.full((110, 160, 3), 255, np.uint8)
    light[rng.random((110, 160)) < 0.2] = (44, 92, 206)
    return Picture(title, light, 255 - light)


ARMS = {"no_tracks": -0.02, "long": 0.01}
"""Arm → AP above that of the main chain."""


def made_up_results(
    budgets=(0.05,), seeds=(0,), rounds=2, chosen=False, hidden=True, arms=False, control=True, weak=False
):
    """A study in which self-training helps."""
    rng = np.random.default_rng(1)
    overrides = [f"rounds={rounds}", f"seeds={list(seeds)}"]
    overrides.append("labels=[" + ",".join(f"{{setting: weakly_supervised, ratio: {r}}}" for r in budgets) + "]")
    if chosen:
        overrides.append("pseudo_labels.choose_thresholds={target_precision: {car: 0.75, pedestrian: 0.99}}")
    overrides += (
        ["arms={no_tracks: {track_filter: {enabled: false}}, long: {self_train: {steps: 600}}}"] if arms else []
    )
    if weak:
        overrides.append("pseudo_labels.choose_thresholds.max_background=0.1")
    settings = made_up_settings(*overrides)
    runs, rows = [], []
    few = [("weakly_supervised", ratio, seed) for ratio in budgets for seed in seeds]
    cells = [(*cell, rounds, "main") for cell in few]
    cells += [(*cell, 0, "control") for cell in few] if control and rounds else []
    cells += [("fully_supervised", 1.0, seed, 0, "fully_supervised") for seed in seeds]
    cells += [(*cell, rounds, arm) for arm in ARMS for cell in few] if arms else []
    for setting, ratio, seed, last, arm in cells:
        name = f"{setting}-{ratio:g}-seed{seed}" + ("" if arm in ("main", "fully_supervised") else f"-{arm}")
        for round in range(last + 1):
            ap = 0.42 if setting == "fully_supervised" else 0.14 + ratio + 0.05 * np.sqrt(round)
            ap += (0.02 if arm == "control" else ARMS.get(arm, 0.0)) + 0.012 * rng.random()
            cell = {"arm": arm, "setting": setting, "ratio": ratio, "frames": 0, "first_frames": 0, "split_offset": 0}
            cell |= {"seed": seed, "round": round}
            figures = {metric: ap * (1.9 if metric == "AP50" else 1.0) for metric in METRICS}
            by_class = {f"AP_{c}": ap + 0.05 - 0.1 * number for number, c in enumerate(CLASSES)}
            quality = {"pseudo_precision_50": 0.7 if round else np.nan, "pseudo_recall_50": 0.5 if round else np.nan}
            for variant, bonus in (("plain", 0.0), ("tta", 0.02)):
                row = {key: value + bonus for key, value in (figures | by_class).items()}
                rows.append(
                    {"experiment": name, "split": "test", "variant": variant, "validation_AP": ap}
                    | cell
                    | row
                    | quality,
                )
            record = {
                "provenance": PROVENANCE,
                "select": "best",
                "steps": 400,
                "selected_step": 300,
                "best": {"step": 300, "metrics": {"AP": ap}},
                "parameters": 1_115_093,
            }
            metrics = {"provenance": PROVENANCE, "precision_recall": _precision_recall(ap, rng)}
            quality = _quality(round, rng) if hidden else {"provenance": PROVENANCE, "hidden_frames": 0, "note": "none"}
            runs.append(
                Run(
                    Cell(experiment=name, **cell),
                    kept_frames=60,
                    curves=_curves(400, rng),
                    record=record,
                    metrics=metrics,
                    quality=quality if round else None,
                    dataset=_dataset(round) if round else None,
                    thresholds=_thresholds(round, weak) if round and chosen else None,
                )
            )
    sizes = {
        kind: {name: np.exp(rng.normal(3 - 0.3 * number, 0.4, 500)) for number, name in enumerate(CLASSES)}
        for kind in (
            "all ground truth",
            "kept ground truth",
            *(f"pseudo-labels of round {r + 1}" for r in range(rounds)),
        )
    }
    pictures = [_picture(f"round {round}", rng) for round in range(rounds + 1)]
    return StudyResults(
        settings=settings,
        evaluations=add_gains(pd.DataFrame(rows)),
        runs=runs,
        sequences={"train": {"sequences": 30, "frames": 6000, "labelled_frames": 1200, "boxes": 2400}},
        box_sizes=sizes,
        box_sizes_of=runs[0].cell.experiment,
        samples=[SampleFrame("a <sequence>, 2.5 s", pictures)],
        times=[StageTime("pretrain", [120.0, 130.5], 900.0), StageTime("evaluate", [5.0], None)],
        provenances=[PROVENANCE],
    )
