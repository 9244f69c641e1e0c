"""Did self-training help? Tables over all evaluations of a study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from leod.config.load import CEILING, CHOOSER, CONTROL, MAIN, ORACLE
from leod.evaluation.coco import METRICS
from leod.report.statistics import LEAST_PAIRS, PairedDifference

BUDGET = ["setting", "ratio", "frames", "first_frames"]
"""Columns that name one label budget."""
CELL = [*BUDGET, "split_offset", "seed"]
"""Columns that name one experiment; arms of one experiment have them in common."""
EVALUATION = ["split", "variant"]
"""Columns that name one kind of evaluation; figures of different kinds are never compared."""
REFERENCE_SETTING = "fully_supervised"
SUGGESTED = "suggested"
VALIDATION_AP = "validation_AP"
"""Column with the AP on the validation split, in 0..1, at the step that became the detector."""

_HEADLINES = ("AP", "AP50")
_OVER_CONTROL = "gain_over_control"
LEGEND = """
Figures are per cent: COCO box AP by the Prophesee protocol, mean ± standard deviation over split offsets and seeds.
Gains are in points over the supervised baseline (round 0) of the same experiment. The control is trained on the same
labels, supervised only, for as many steps as all rounds together; the oracle's round on all ground truth in place of
pseudo-labels; the chooser on the first share of suggested labels. "Gap closed" is the share of the distance from the
control, or where there is none from the baseline, to the detector trained on all labels. Pseudo-label precision and
recall are those of the labels that the round was trained on, against hidden ground truth at IoU 0.5. A class is
evaluated on its own, so AP is not the mean of the classes' APs.
"""
"""How to read the tables."""


# ---------------------------------------------------------------------------------------------------- comparisons


def validation_metrics(record: Mapping[str, Any]) -> dict[str, float]:
    """Metrics on the validation split of the step that became the detector; empty where nothing was validated.

    Args:
        record: ``training.json``.
    """
    chosen = record.get("best") if record.get("select") == "best" else record.get("last")
    return dict((chosen or {}).get("metrics") or {})


def add_gains(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Compare each evaluation with the supervised baseline and with the control of its own experiment.

    Args:
        evaluations: One row per evaluation with the columns ``arm``, `CELL`, `EVALUATION`, ``round`` and the metrics in
            0..1.

    Returns:
        A copy with ``gain_AP`` and ``gain_AP50``, metric minus that of round 0 of its arm, of the control minus that of
        the study's own round 0; ``gain_over_control_AP`` and ``gain_over_control_AP50``. NaN where there is no such
        detector.
    """
    keys = [*CELL, *EVALUATION]
    with_gains = evaluations.copy()
    # The control has no rounds: it stands beside the study's own.
    baseline_arm = evaluations["arm"].replace(CONTROL, MAIN)
    baselines = evaluations[(evaluations["round"] == 0) & (evaluations["arm"] != CONTROL)]
    controls = evaluations[evaluations["arm"] == CONTROL]
    for prefix, of, reference, on in (
        ("gain", evaluations.assign(arm=baseline_arm), baselines, [*keys, "arm"]),
        (_OVER_CONTROL, evaluations, controls, keys),
    ):
        joined = of[on].merge(reference[[*on, *_HEADLINES]], on=on, how="left", validate="many_to_one")
        for metric in _HEADLINES:
            with_gains[f"{prefix}_{metric}"] = (evaluations[metric].to_numpy() - joined[metric].to_numpy()).astype(
                float
            )
    return with_gains


def of_arms(rows: pd.DataFrame, *arms: str) -> pd.DataFrame:
    """The rows of these arms."""
    return rows[rows["arm"].isin(arms)]


def ceiling_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Evaluations of what training on all labels gives.

    Where the study has all labels as one of its own budgets, they are those of its control, else of its round 0.
    """
    all_labels = rows[(rows["setting"] == REFERENCE_SETTING) & (rows["round"] == 0)]
    found = [of_arms(all_labels, arm) for arm in (CEILING, CONTROL, MAIN)]
    return next((group for group in found if len(group)), all_labels[:0])


def ceiling_metrics(rows: pd.DataFrame) -> pd.Series | None:
    """Mean metrics of the detectors trained on all labels."""
    reference = ceiling_rows(rows)
    return None if reference.empty else reference[list(METRICS)].mean()


def last_rounds(rows: pd.DataFrame) -> pd.DataFrame:
    """The last round of each arm in each experiment."""
    return rows.loc[rows.groupby(["arm", *CELL, *EVALUATION])["round"].transform("max") == rows["round"]]


def against_main(rows: pd.DataFrame) -> pd.DataFrame:
    """Control, oracle and arms, the last round of each, against the last round of the study's own chain.

    Returns:
        Their rows with ``difference_AP`` and ``difference_AP50``, theirs minus that of the same experiment.
    """
    keys, last = [*CELL, *EVALUATION], last_rounds(rows)
    compared = last[~last["arm"].isin((MAIN, CEILING, CHOOSER))]
    joined = compared[keys].merge(of_arms(last, MAIN)[[*keys, *_HEADLINES]], on=keys, how="left")
    differences = {f"difference_{name}": compared[name].to_numpy() - joined[name].to_numpy() for name in _HEADLINES}
    return compared.assign(**differences)


@dataclass(frozen=True)
class RoundChoice:
    """Which round's detector is the result of a label budget.

    Attributes:
        budget: The label budget in words.
        round: The round.
        validated: Round → mean AP on the validation split, 0 the supervised one; empty if a round has none: then the
            last one is taken.
    """

    budget: str
    round: int
    validated: dict[int, float]

    def in_words(self) -> str:
        """What was chosen and why, and which rounds did not pay."""
        if not self.validated:
            return (
                f"{self.budget}: not all rounds have validation metrics, so the last one, round {self.round}, is taken."
            )
        figures = ", ".join(f"{100 * ap:.1f} % in round {number}" for number, ap in self.validated.items())
        sentences = [f"{self.budget}: validation AP {figures}. Round {self.round} is chosen."]
        for number, ap in self.validated.items():
            before = {earlier: other for earlier, other in self.validated.items() if earlier < number}
            if before and ap <= max(before.values()):
                best = max(before, key=lambda earlier: before[earlier])
                sentences.append(f"Round {number} did not pay: its validation AP is not above that of round {best}.")
        return " ".join(sentences)


def chosen_rounds(rows: pd.DataFrame) -> dict[tuple[str, float, int, int], RoundChoice]:
    """Each label budget with self-training → its best round on the validation split.

    The best is that of the highest mean AP over the experiments, the earliest among equals.

    Args:
        rows: One kind of evaluation, with the column `VALIDATION_AP`.
    """
    choices = {}
    for budget, group in of_arms(rows, MAIN).groupby(BUDGET, sort=False):
        by_round = group.groupby("round")[VALIDATION_AP]
        validated = {int(number): float(values.mean()) for number, values in by_round if values.notna().all()}
        rounds = [int(number) for number in sorted(set(group["round"])) if number > 0]
        if not rounds:
            continue
        complete = all(number in validated for number in rounds)
        best = max(rounds, key=lambda number: validated[number]) if complete else rounds[-1]
        choices[budget] = RoundChoice(budget_name(*budget), best, validated if complete else {})
    return choices


def chosen_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """The evaluations of the chosen rounds of the study's own chain; see `chosen_rounds`."""
    choices = chosen_rounds(rows)
    own = of_arms(rows, MAIN)
    chosen = [
        round > 0 and choices[*budget].round == round
        for *budget, round in zip(*(own[name] for name in (*BUDGET, "round")), strict=True)
    ]
    return own[np.array(chosen, bool)]


# ------------------------------------------------------------------------------------------------------ in words


def summary_text(evaluations: pd.DataFrame, classes: SequenceOf[str]) -> str:
    """The study's result as Markdown that is readable as plain text.

    Args:
        evaluations: What `add_gains` returns, with the column `VALIDATION_AP`, pseudo-label quality in
            ``pseudo_precision_50`` and ``pseudo_recall_50`` (NaN where there is none) and a column ``AP_<class>`` per
            class.
        classes: Class names.
    """
    lines = ["# Did self-training help?", ""]
    for number, ((split, variant), rows) in enumerate(evaluations.groupby(EVALUATION, sort=False)):
        lines += [f"## {split} split, {variant}", "", verdict(rows), ""]
        if number == 0:
            lines += [f"- {choice.in_words()}" for choice in chosen_rounds(rows).values()]
            lines.append("")
        lines += _markdown_table(list(overview_rows(rows)))
        lines += ["", "AP of each class:", ""]
        lines += _markdown_table(list(class_rows(rows, classes)))
        if len(arms := list(arm_rows(rows))) > 1:
            lines += ["", ARMS_LEGEND, ""]
            lines += _markdown_table(arms)
        if len(choices := list(choosing_rows(rows))) > 1:
            lines += ["", CHOICE_LEGEND, ""]
            lines += _markdown_table(choices)
        lines.append("")
    return "\n".join(lines) + LEGEND


def verdict(rows: pd.DataFrame) -> str:
    """Whether self-training helped, by one kind of evaluation.

    The chosen rounds are compared with the control or, without one, with round 0, paired by label budget, split offset
    and seed.
    """
    chosen = chosen_rows(rows)
    controlled = bool(chosen[f"{_OVER_CONTROL}_AP"].notna().any())
    prefix = _OVER_CONTROL if controlled else "gain"
    chosen = chosen.dropna(subset=[f"{prefix}_AP"])
    if chosen.empty:
        return "There is no self-training round to judge."
    gains = {metric: PairedDifference.of(chosen[f"{prefix}_{metric}"]) for metric in _HEADLINES}
    ap, ap50 = gains["AP"], gains["AP50"]
    rounds = sorted(set(chosen["round"].tolist()))
    start = "equally long supervised training (the control)" if controlled else "the supervised baseline"
    end = f"round {rounds[0]}" if len(rounds) == 1 else "the chosen round"
    sentences = [
        f"{_answer(ap)}: from {start} to {end}, AP rose in {ap.risen} of {ap.count} "
        f"experiment{'s' if ap.count > 1 else ''}, by {_points(ap.mean)} points on average "
        f"(AP50 in {ap50.risen}, by {_points(ap50.mean)}).",
        _spread_in_words(gains),
        _gap_in_words(rows, chosen, prefix, "control" if controlled else "baseline"),
        "" if controlled else "A part of it may be longer training: the study has no control.",
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _answer(gain: PairedDifference) -> str:
    if gain.is_noise:
        return "Whether self-training helped is open"
    if gain.mean > 0 and (gain.interval is not None or 2 * gain.risen > gain.count):
        return "Self-training helped"
    if gain.mean <= 0 and (gain.interval is not None or 2 * gain.risen <= gain.count):
        return "Self-training did not help"
    return "Self-training helped some experiments and harmed others"


def _spread_in_words(gains: Mapping[str, PairedDifference]) -> str:
    if any(gain.interval is None for gain in gains.values()):
        return f"With fewer than {LEAST_PAIRS} pairs the spread of this is unknown."
    intervals = ", ".join(f"{metric} {_interval(gain)}" for metric, gain in gains.items())
    text = f"95 % confidence intervals of the mean: {intervals}."
    noise = " and ".join(metric for metric, gain in gains.items() if gain.is_noise)
    return f"{text} The difference in {noise} is inside the noise: the interval includes 0." if noise else text


def _gap_in_words(rows: pd.DataFrame, chosen: pd.DataFrame, prefix: str, start_name: str) -> str:
    few = chosen[chosen["setting"] != REFERENCE_SETTING]
    ceiling = ceiling_metrics(rows)
    if ceiling is None or few.empty:
        return ""
    shares = []
    for metric in _HEADLINES:
        gain = few[f"{prefix}_{metric}"].mean()
        gap = ceiling[metric] - (few[metric].mean() - gain)
        if gain > 0 and gap > 0:
            shares.append(f"{100 * gain / gap:.0f} % in {metric}")
    if not shares:
        return ""
    return f"That closes {' and '.join(shares)} of the gap from the {start_name} to training on all labels."


def budget_name(setting: str, ratio: float, frames: int | None, first_frames: int = 0) -> str:
    """A label budget in words.

    Args:
        setting: How labels are chosen.
        ratio: Their share.
        frames: Their number, where the budget is one; else 0 or None.
        first_frames: How many of them train the detector that suggests the rest.
    """
    if setting == REFERENCE_SETTING:
        return "all labels"
    name = f"{setting.replace('_', ' ')}, {f'{frames} frames' if frames else f'{100 * ratio:g} %'}"
    if setting != SUGGESTED:
        return name
    return f"{name} ({frames - first_frames} by a detector)" if first_frames else f"{name} (by their events)"


def budgets(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Label budgets with their rows: fewest labels first, all labels last."""
    is_reference = rows["setting"] == REFERENCE_SETTING
    ordered = rows.assign(is_reference=is_reference).sort_values(["is_reference", *BUDGET], kind="stable")
    for budget, group in ordered.groupby(BUDGET, sort=False):
        yield budget_name(*budget), group


# -------------------------------------------------------------------------------------------------------- tables

ARMS_LEGEND = (
    "Arms: the last round of each, and how it differs from the last round of the main chain, paired by experiment, in "
    f"points, with the 95 % confidence interval of the mean where there are at least {LEAST_PAIRS} pairs:"
)


CHOICE_LEGEND = "Suggested labels against labels chosen otherwise, paired by split offset and seed, in points:"


def _detectors(group: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Rows of one label budget by detector: rounds of the main chain, references, the last round of each arm."""
    choice = next(iter(chosen_rounds(group).values()), None)
    for number, runs in of_arms(group, MAIN).groupby("round"):
        marked = choice is not None and choice.validated and number == choice.round
        yield "supervised (round 0)" if number == 0 else f"round {number}{' (chosen)' if marked else ''}", runs
    for arm, runs in last_rounds(group).groupby("arm", sort=False):
        if arm == CEILING:
            yield "ceiling", runs
        elif arm != MAIN:
            yield arm if arm in (CONTROL, ORACLE, CHOOSER) else f"{arm}, round {runs['round'].max()}", runs


def overview_rows(rows: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    """The table of one kind of evaluation, header first; see `summary_text`, figures per cent."""
    controlled = bool(rows[f"{_OVER_CONTROL}_AP"].notna().any())
    yield (
        "labels",
        "detector",
        "runs",
        *_HEADLINES,
        "AP75",
        *(f"gain {metric}" for metric in _HEADLINES),
        *(f"over control {metric}" for metric in _HEADLINES if controlled),
        *(f"gap closed {metric}" for metric in _HEADLINES),
        "pseudo precision",
        "pseudo recall",
    )
    ceiling = ceiling_metrics(rows)
    for labels, group in budgets(rows):
        for detector, runs in _detectors(group):
            is_control = bool((runs["arm"] == CONTROL).all())
            is_baseline = bool((runs["round"] == 0).all()) and not is_control
            starts = _OVER_CONTROL if controlled else "gain"
            yield (
                labels,
                detector,
                str(len(runs)),
                *(_percent(runs[metric]) for metric in (*_HEADLINES, "AP75")),
                *("" if is_baseline else _percent(runs[f"gain_{name}"], signed=True) for name in _HEADLINES),
                *(
                    "" if is_baseline or is_control else _percent(runs[f"{_OVER_CONTROL}_{name}"], signed=True)
                    for name in _HEADLINES
                    if controlled
                ),
                *("" if is_baseline or is_control else _gap_closed(runs, name, starts, ceiling) for name in _HEADLINES),
                _percent(runs["pseudo_precision_50"]),
                _percent(runs["pseudo_recall_50"]),
            )
            labels = ""


def class_rows(rows: pd.DataFrame, classes: SequenceOf[str]) -> Iterator[tuple[str, ...]]:
    """AP of each class, per cent, as a table, header first."""
    yield "labels", "detector", *classes
    for labels, group in budgets(rows):
        for detector, runs in _detectors(group):
            yield labels, detector, *(_percent(runs[f"AP_{name}"]) for name in classes)
            labels = ""


def arm_rows(rows: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    """Control, oracle and arms against the main chain as a table, header first; see `ARMS_LEGEND`."""
    yield (
        "labels",
        "arm",
        "round",
        "runs",
        *(f"{a} {b}" for b in _HEADLINES for a in ("difference", "interval", "rose")),
    )
    for labels, group in budgets(against_main(rows)):
        for arm, runs in group.groupby("arm", sort=False):
            cells: list[str] = []
            for metric in _HEADLINES:
                values = runs[f"difference_{metric}"].dropna()
                if values.empty:
                    cells += ["", "", ""]
                    continue
                difference = PairedDifference.of(values)
                cells += [_points(difference.mean), _interval(difference), f"{difference.risen} of {difference.count}"]
            yield labels, arm, str(runs["round"].max()), str(len(runs)), *cells
            labels = ""


def choosing_rows(rows: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    """Suggested labels against those of the study that were chosen otherwise, as a table, header first."""
    yield (
        "labels",
        "against",
        "round",
        "pairs",
        *(f"{a} {b}" for b in _HEADLINES for a in ("difference", "interval", "rose")),
    )
    on = ["split_offset", "seed", "round", *EVALUATION]
    own = dict(budgets(of_arms(rows, MAIN)))
    suggested = [name for name, group in own.items() if (group["setting"] == SUGGESTED).all()]
    for labels in suggested:
        for other, group in own.items():
            if other in suggested or (group["setting"] == REFERENCE_SETTING).all():
                continue
            pairs = own[labels].merge(group, on=on, suffixes=("", "_other"))
            for round, runs in pairs.groupby("round"):
                differences = [PairedDifference.of(runs[name] - runs[f"{name}_other"]) for name in _HEADLINES]
                cells = [
                    text
                    for difference in differences
                    for text in (
                        _points(difference.mean),
                        _interval(difference),
                        f"{difference.risen} of {difference.count}",
                    )
                ]
                yield labels, other, str(round), str(len(runs)), *cells


def _interval(difference: PairedDifference) -> str:
    if difference.interval is None:
        return "unknown"
    return " to ".join(_points(end) for end in difference.interval)


def _gap_closed(runs: pd.DataFrame, metric: str, prefix: str, ceiling: pd.Series | None) -> str:
    """Mean gain over control or baseline as a share of the distance from there to the ceiling."""
    gain = runs[f"{prefix}_{metric}"].mean()
    if ceiling is None or pd.isna(gain):
        return ""
    gap = ceiling[metric] - (runs[metric] - runs[f"{prefix}_{metric}"]).mean()
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
