"""Did self-training help? Tables over all evaluations of a study."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from typing import Any

import pandas as pd

from leod.evaluation.coco import METRICS

CELL = ["setting", "ratio", "split_offset", "seed"]
"""Columns that name one experiment."""
EVALUATION = ["split", "variant"]
"""Columns that name one kind of evaluation; figures of different kinds are never compared."""
REFERENCE_SETTING = "fully_supervised"

_HEADLINES = ("AP", "AP50")
LEGEND = """
Figures are per cent: COCO box AP by the Prophesee protocol, mean ± standard deviation over split offsets and seeds.
Gains are in points over the supervised baseline of the same experiment. "Gap closed" is the share of the distance from
the baseline to the detector trained on all labels. Pseudo-label precision and recall are those of the labels that the
round was trained on, against hidden ground truth at IoU 0.5. A class is evaluated on its own, so AP is not the mean of
the classes' APs.
"""
"""How to read the tables."""


def add_gains(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Compare each evaluation with the supervised baseline of its own experiment.

    Args:
        evaluations: One row per evaluation with the columns `CELL`, `EVALUATION`, ``round`` and the metrics in 0..1.

    Returns:
        A copy with the columns ``gain_AP`` and ``gain_AP50``: metric minus that of round 0, NaN without round 0.
    """
    keys = [*CELL, *EVALUATION]
    baseline = evaluations.loc[evaluations["round"] == 0, [*keys, *_HEADLINES]]
    joined = evaluations[keys].merge(baseline, on=keys, how="left", validate="many_to_one")
    with_gains = evaluations.copy()
    for metric in _HEADLINES:
        with_gains[f"gain_{metric}"] = (evaluations[metric].to_numpy() - joined[metric].to_numpy()).astype(float)
    return with_gains


def summary_text(evaluations: pd.DataFrame, classes: SequenceOf[str]) -> str:
    """The study's result as Markdown that is readable as plain text.

    Args:
        evaluations: What `add_gains` returns, with pseudo-label quality in ``pseudo_precision_50`` and
            ``pseudo_recall_50`` (NaN where there is none) and a column ``AP_<class>`` per class.
        classes: Class names.
    """
    lines = ["# Did self-training help?", ""]
    for (split, variant), rows in evaluations.groupby(EVALUATION, sort=False):
        lines += [f"## {split} split, {variant}", "", verdict(rows), ""]
        lines += _markdown_table(list(overview_rows(rows)))
        lines += ["", "AP of each class:", ""]
        lines += _markdown_table(list(class_rows(rows, classes)))
        lines.append("")
    return "\n".join(lines) + LEGEND


def verdict(rows: pd.DataFrame) -> str:
    """One sentence on the last round against round 0, paired over the experiments of one kind of evaluation."""
    self_trained = rows[rows["round"] > 0]
    last = self_trained.loc[self_trained.groupby(CELL)["round"].idxmax()].dropna(subset=["gain_AP"])
    if last.empty:
        return "There is no self-training round to judge."
    count, risen = len(last), int((last["gain_AP"] > 0).sum())
    gain = last["gain_AP"].mean()
    if gain > 0 and 2 * risen > count:
        answer = "Self-training helped"
    elif gain <= 0 and 2 * risen <= count:
        answer = "Self-training did not help"
    else:
        answer = "Self-training helped some experiments and harmed others"
    rounds = sorted(set(last["round"].tolist()))
    up_to = f"round {rounds[0]}" if len(rounds) == 1 else "the last round"
    sentence = (
        f"{answer}: from the supervised baseline to {up_to}, AP rose in {risen} of {count} "
        f"experiment{'s' if count > 1 else ''}, by {_points(gain)} points on average "
        f"(AP50 by {_points(last['gain_AP50'].mean())})"
    )
    ceiling = ceiling_metrics(rows)
    start = last["AP"].mean() - gain
    if gain > 0 and ceiling is not None and ceiling["AP"] > start:
        sentence += f", which closes {100 * gain / (ceiling['AP'] - start):.0f} % of the gap to training on all labels"
    return sentence + "."


def ceiling_metrics(rows: pd.DataFrame) -> pd.Series | None:
    """Mean metrics of the detectors trained on all labels."""
    reference = rows[(rows["setting"] == REFERENCE_SETTING) & (rows["round"] == 0)]
    return None if reference.empty else reference[list(METRICS)].mean()


def budget_name(setting: str, ratio: float) -> str:
    """A label budget in words."""
    return "all labels" if setting == REFERENCE_SETTING else f"{setting.replace('_', ' ')}, {100 * ratio:g} %"


def budgets(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Label budgets with their rows: fewest labels first, all labels last."""
    is_reference = rows["setting"] == REFERENCE_SETTING
    ordered = rows.assign(is_reference=is_reference).sort_values(["is_reference", "setting", "ratio"])
    for (setting, ratio), group in ordered.groupby(["setting", "ratio"], sort=False):
        yield budget_name(setting, ratio), group


def _rounds(group: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for number, runs in group.groupby("round"):
        yield "supervised (round 0)" if number == 0 else f"round {number}", runs


def overview_rows(rows: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    """The table of one kind of evaluation, header first; see `summary_text`, figures per cent."""
    yield (
        "labels",
        "detector",
        "runs",
        *_HEADLINES,
        "AP75",
        *(f"gain {metric}" for metric in _HEADLINES),
        *(f"gap closed {metric}" for metric in _HEADLINES),
        "pseudo precision",
        "pseudo recall",
    )
    ceiling = ceiling_metrics(rows)
    for labels, group in budgets(rows):
        for detector, runs in _rounds(group):
            is_baseline = bool((runs["round"] == 0).all())
            yield (
                labels,
                detector,
                str(len(runs)),
                *(_percent(runs[metric]) for metric in (*_HEADLINES, "AP75")),
                *("" if is_baseline else _percent(runs[f"gain_{metric}"], signed=True) for metric in _HEADLINES),
                *("" if is_baseline else _gap_closed(runs, metric, ceiling) for metric in _HEADLINES),
                _percent(runs["pseudo_precision_50"]),
                _percent(runs["pseudo_recall_50"]),
            )
            labels = ""


def class_rows(rows: pd.DataFrame, classes: SequenceOf[str]) -> Iterator[tuple[str, ...]]:
    """AP of each class, per cent, as a table, header first."""
    yield "labels", "detector", *classes
    for labels, group in budgets(rows):
        for detector, runs in _rounds(group):
            yield labels, detector, *(_percent(runs[f"AP_{name}"]) for name in classes)
            labels = ""


def _gap_closed(runs: pd.DataFrame, metric: str, ceiling: pd.Series | None) -> str:
    """Mean gain as a share of the distance from the mean baseline to the ceiling."""
    gain = runs[f"gain_{metric}"].mean()
    if ceiling is None or pd.isna(gain):
        return ""
    gap = ceiling[metric] - (runs[metric] - runs[f"gain_{metric}"]).mean()
    return f"{100 * gain / gap:.0f} %" if gap > 0 else "no gap"


def _percent(values: pd.Series, signed: bool = False) -> str:
    values = 100 * values.dropna()
    if values.empty:
        return ""
    mean = f"{values.mean():{'+' if signed else ''}.1f}"
    return f"{mean} ± {values.std(ddof=1):.1f}" if len(values) > 1 else mean


def _points(gain: float) -> str:
    return f"{100 * gain:+.1f}"


def _markdown_table(rows: list[tuple[Any, ...]]) -> list[str]:
    """Rows, the first one the header, as a Markdown table whose columns are aligned."""
    widths = [max(3, *(len(row[column]) for row in rows)) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return lines
