"""Stage `summarise`: all evaluations of a study in one CSV file and one readable table."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from leod.config.schema import Identifier, NonNegativeInt, PositiveFraction, Settings
from leod.errors import ConfigError, DataError
from leod.evaluation.coco import METRICS
from leod.evaluation.summary import CELL, EVALUATION, add_gains, summary_text
from leod.files import atomic_file, read_json
from leod.options import FromOptions

_LOGGER = logging.getLogger(__name__)

_QUALITY_COLUMNS = {"precision_50": "pseudo_precision_50", "recall_50": "pseudo_recall_50"}
"""What is taken of the pseudo-labels' quality: mean precision and recall per labelled frame at IoU 0.5."""


class SummaryEntry(Settings):
    """One evaluation and the cell of the study that it belongs to."""

    experiment: Identifier
    setting: Identifier
    ratio: PositiveFraction
    split_offset: NonNegativeInt
    seed: NonNegativeInt
    round: NonNegativeInt
    variant: str
    split: str
    metrics: Path
    quality: Path | None = None


def read_entries(entries: Path) -> list[SummaryEntry]:
    """Read a list of evaluations.

    Args:
        entries: JSON list of the study's evaluations.

    Raises:
        DataError: The file is missing or not such a list.
    """
    content = read_json(entries)
    try:
        return TypeAdapter(list[SummaryEntry]).validate_python(content)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}" for problem in error.errors()[:3]
        )
        raise DataError(entries, f"is not a list of evaluations ({problems}). Delete it and run again.") from None


def summarise(entries: Annotated[Sequence[SummaryEntry], FromOptions(read_entries)], output: Path, table: Path) -> None:
    """Say in one table whether self-training helped, and write one CSV row per evaluation.

    Args:
        entries: The evaluations. Round 0 of an experiment is its supervised baseline; the setting 'fully_supervised' is
            the ceiling.
        output: CSV file: the entry's fields; metrics in 0..1, overall and of each class (``AP_car``); gain over round 0
            of the same experiment; pseudo-label precision and recall at IoU 0.5 (``_car``: of one class). An empty cell
            means that there is no such figure.
        table: Markdown file.

    Raises:
        ConfigError: There are no entries, or one cell occurs twice.
        DataError: A file is missing, damaged, or belongs to another evaluation than its entry says.
        ResourceError: The disk is full or not writable.
    """
    if not entries:
        raise ConfigError("there is no evaluation to summarise; the study needs at least one experiment and variant")
    qualities = {path: _read_quality(path) for path in {entry.quality for entry in entries} if path is not None}
    classes: list[str] = []
    rows = []
    for entry in entries:
        metrics = _read_metrics(entry)
        classes += [name for name in metrics["per_class"] if name not in classes]
        rows.append(
            entry.model_dump(exclude={"metrics", "quality"})
            | _metric_columns(metrics)
            | (qualities[entry.quality] if entry.quality is not None else {})
        )
    evaluations = pd.DataFrame(rows)
    keys = [*CELL, *EVALUATION, "round"]
    if evaluations.duplicated(keys).any():
        twice = evaluations.loc[evaluations.duplicated(keys), "experiment"].iloc[0]
        raise ConfigError(f"experiment {twice!r} has two evaluations of the same round, split and variant")
    for column in _QUALITY_COLUMNS.values():
        if column not in evaluations:
            evaluations[column] = float("nan")

    evaluations = add_gains(evaluations)
    with atomic_file(output) as temporary:
        evaluations.to_csv(temporary, index=False)
    text = summary_text(evaluations, classes)
    with atomic_file(table) as temporary:
        temporary.write_text(text, encoding="utf-8")
    _LOGGER.info("%s: %d evaluations\n%s", table, len(evaluations), text)


def _read_metrics(entry: SummaryEntry) -> dict[str, Any]:
    content = read_json(entry.metrics)
    try:
        found = content["split"], content["variant"]
        complete = set(METRICS) <= set(content["metrics"]) and all(
            set(METRICS) <= set(figures["prophesee"]) for figures in content["per_class"].values()
        )
    except (KeyError, TypeError, AttributeError):
        complete = False
    if not complete:
        raise DataError(entry.metrics, "is no evaluation result. Delete it and rerun the stage evaluate.")
    if found != (entry.split, entry.variant):
        raise DataError(
            entry.metrics,
            f"is the evaluation of split {found[0]!r}, variant {found[1]!r}; expected split {entry.split!r}, variant "
            f"{entry.variant!r}. Delete it and rerun the stage evaluate.",
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


def _read_quality(path: Path) -> dict[str, float | None]:
    """Precision and recall after tracking, over all classes and of each; nothing where nothing could be measured."""
    content = read_json(path)
    try:
        if "after_tracking" not in content:
            return {}
        classes = content["after_tracking"]["classes"]
        return {
            column if name == "all" else f"{column}_{name}": shares[key]
            for name, shares in classes.items()
            for key, column in _QUALITY_COLUMNS.items()
        }
    except (KeyError, TypeError, AttributeError):
        raise DataError(path, "is no pseudo-label quality. Delete it and rerun the stage validate_quality.") from None
