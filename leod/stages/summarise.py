"""Stage `summarise`: all evaluations of a study in one CSV file and one readable table."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import pandas as pd

from leod.errors import ConfigError, DataError
from leod.evaluation.coco import METRICS
from leod.files import atomic_file, read_json
from leod.options import FromOptions
from leod.report.summary import CELL, EVALUATION, VALIDATION_AP, add_gains, summary_text, validation_metrics
from leod.study.plan import Cell, StudyPlan, read_plan

logger = logging.getLogger(__name__)

_QUALITY_COLUMNS = {"precision_50": "pseudo_precision_50", "recall_50": "pseudo_recall_50"}
"""What is taken of the pseudo-labels' quality: mean precision and recall per labelled frame at IoU 0.5."""

_SEEN_COLUMNS = {
    "positives": "seen_positives",
    "precision_50": "seen_precision_50",
    "found": "seen_found",
    "taught_as_background": "taught_as_background",
}
"""What is taken of `seen_by_training`: what the round's training makes of the pseudo-labels."""


def summarise(plan: Annotated[StudyPlan, FromOptions(read_plan)], output: Path, table: Path) -> None:
    """Say in one table whether self-training helped, and write one CSV row per evaluation.

    Args:
        plan: The study's detectors and their files. Round 0 of an experiment is its supervised baseline; the arm
            'control' is trained on the same labels for as many steps as all rounds; the arm 'fully_supervised' is the
            ceiling.
        output: CSV file: cell, arm, variant and split; metrics in 0..1, overall and of each class (``AP_car``); AP on
            the validation split; gain over round 0 and over the control of the same experiment; pseudo-label precision
            and recall at IoU 0.5 (``_car``: of one class), and what training sees of the pseudo-labels
            (`leod.pseudo_labels.seen_by_training`). An empty cell means that there is no such figure. What arms share
            has a row in each.
        table: Markdown file.

    Raises:
        ConfigError: There are no evaluations, or one cell occurs twice.
        DataError: A file is missing, damaged, or belongs to another evaluation than the plan says.
        ResourceError: The disk is full or not writable.
    """
    evaluated = list(plan.evaluations())
    if not evaluated:
        raise ConfigError("there is no evaluation to summarise; the study needs at least one experiment and variant")
    qualities = {detector.quality: _read_quality(detector.quality) for detector, *_ in evaluated if detector.quality}
    validated = {detector.record: _read_validation_ap(detector.record) for detector, *_ in evaluated}
    classes: list[str] = []
    rows = []
    for detector, variant, path in evaluated:
        metrics = _read_metrics(path, plan.split, variant)
        classes += [name for name in metrics["per_class"] if name not in classes]
        rows.append(
            detector.model_dump(include=set(Cell.model_fields))
            | {"variant": variant, "split": plan.split, VALIDATION_AP: validated[detector.record]}
            | _metric_columns(metrics)
            | qualities.get(detector.quality, {})
        )
    evaluations = pd.DataFrame(rows)
    keys = ["arm", *CELL, *EVALUATION, "round"]
    if evaluations.duplicated(keys).any():
        twice = evaluations.loc[evaluations.duplicated(keys), "experiment"].iloc[0]
        raise ConfigError(f"experiment {twice!r} has two evaluations of the same round, split and variant")
    for column in (*_QUALITY_COLUMNS.values(), *_SEEN_COLUMNS.values()):
        if column not in evaluations:
            evaluations[column] = float("nan")

    evaluations = add_gains(evaluations)
    with atomic_file(output) as temporary:
        evaluations.to_csv(temporary, index=False)
    text = summary_text(evaluations, classes)
    with atomic_file(table) as temporary:
        temporary.write_text(text, encoding="utf-8")
    logger.info("%s: %d evaluations\n%s", table, len(evaluations), text)


def _read_metrics(path: Path, split: str, variant: str) -> dict[str, Any]:
    content = read_json(path)
    try:
        found = content["split"], content["variant"]
        complete = set(METRICS) <= set(content["metrics"]) and all(
            set(METRICS) <= set(figures["prophesee"]) for figures in content["per_class"].values()
        )
    except (KeyError, TypeError, AttributeError):
        complete = False
    if not complete:
        raise DataError(path, "is no evaluation result. Delete it and rerun the stage evaluate.")
    if found != (split, variant):
        raise DataError(
            path,
            f"is the evaluation of split {found[0]!r}, variant {found[1]!r}; expected split {split!r}, variant "
            f"{variant!r}. Delete it and rerun the stage evaluate.",
        )
    return content


def _metric_columns(content: dict[str, Any]) -> dict[str, float | None]:
    """Overall metrics and, class by class, those of the Prophesee protocol."""
    columns = {name: _figure(content["metrics"][name]) for name in METRICS}
    for class_name, figures in content["per_class"].items():
        columns |= {f"{name}_{class_name}": _figure(figures["prophesee"][name]) for name in METRICS}
    return columns


def _figure(value: float) -> float | None:
    """None for COCO's -1, which says that there is no ground truth."""
    return None if value < 0 else float(value)


def _read_validation_ap(path: Path) -> float:
    """AP on the validation split at the step that became the detector; NaN where there is none."""
    content = read_json(path)
    try:
        ap = float(validation_metrics(content).get("AP", -1))
    except (TypeError, ValueError, AttributeError):
        raise DataError(path, "is no account of a training. Delete it and rerun the stage that makes it.") from None
    return float("nan") if ap < 0 else ap


def _read_quality(path: Path) -> dict[str, float | None]:
    """Quality after tracking, over all classes and of each; nothing where nothing could be measured."""
    content = read_json(path)
    try:
        if "after_tracking" not in content:
            return {}
        return {
            column if name == "all" else f"{column}_{name}": shares[key]
            for classes, columns in (
                (content["after_tracking"]["classes"], _QUALITY_COLUMNS),
                (content["seen_by_training"], _SEEN_COLUMNS),
            )
            for name, shares in classes.items()
            for key, column in columns.items()
        }
    except (KeyError, TypeError, AttributeError):
        raise DataError(path, "is no pseudo-label quality. Delete it and rerun the stage validate_quality.") from None
