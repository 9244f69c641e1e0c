"""Figures of a study's report, drawn with matplotlib and written as SVG.

Every colour is one of `COLOURS`. In a file it is what the light theme shows; in a page it becomes a variable of the
style sheet, so that the same drawing is legible on a light and on a dark background. Text stays text. Percentages and
points of AP are in 0..1 on the way in and per cent in the pictures.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from leod.config.load import CONTROL, MAIN
from leod.report.statistics import PairedDifference
from leod.report.summary import budgets, ceiling_rows, of_arms

COLOURS = {
    "ink": "#1c2128",
    "muted": "#626c77",
    "grid": "#dde2e8",
    "series-0": "#7a828c",
    "series-1": "#2467c9",
    "series-2": "#d1620e",
    "series-3": "#1d8a55",
    "series-4": "#8a48c4",
    "series-5": "#c22f63",
    "series-6": "#0b8291",
}
"""Name → colour on a light background. Series 0 is grey: round 0, what everything is compared with."""

CEILING = "all labels"
_GROUND = '<rect width="100%" height="100%" fill="#ffffff"/>'
_STYLE = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.edgecolor": COLOURS["muted"],
    "axes.labelcolor": COLOURS["ink"],
    "axes.titlecolor": COLOURS["ink"],
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.8,
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "text.color": COLOURS["ink"],
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.0,
}
_WIDTH_IN = 9.0
_ROW_HEIGHT_IN = 2.7
_MARKERS = "osD^vPX"
_CURVE_POINTS = 300


@dataclass(frozen=True)
class RoundValue:
    """One measurement of one experiment.

    Attributes:
        budget: Label budget in words.
        round: Number of the round.
        value: The measurement.
    """

    budget: str
    round: int
    value: Any


# ------------------------------------------------------------------------------------------------------ writing


def to_svg(figure: Figure, name: str) -> str:
    """The figure as an SVG file on a white ground.

    Args:
        figure: The figure.
        name: Makes the identifiers in the file unique among those of other figures, and the same in every run.
    """
    buffer = io.StringIO()
    with mpl.rc_context(_STYLE | {"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", buffer.getvalue(), flags=re.DOTALL)
    end_of_tag = svg.index(">", svg.index("<svg")) + 1
    return f"{svg[:end_of_tag]}\n {_GROUND}{svg[end_of_tag:]}"


def themed(svg: str, description: str) -> str:
    """A figure for a page whose style sheet defines ``--font``, ``--ink``, ``--series-1`` and so on.

    Args:
        svg: What `to_svg` returned.
        description: What it shows, for readers who cannot see it; plain text.

    Returns:
        An SVG element as wide as the page allows.
    """
    svg = svg[svg.index("<svg") :].replace(_GROUND, "")
    for key, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{key})")
    svg = re.sub(r"(font: [^;\"]*?px) [^;\"]+", r"\1 var(--font)", svg)
    svg = re.sub(r"font-family: [^;\"]+", "font-family: var(--font)", svg)
    start = re.sub(r'\s(width|height)="[^"]*"', "", svg[: svg.index(">")])
    start = start.replace("<svg", f'<svg class="plot" role="img" aria-label="{escape(description)}"', 1)
    return start + svg[svg.index(">") :]


# ------------------------------------------------------------------------------------------------------ helpers


def series_colour(number: int) -> str:
    """Colour of a round or of another series; series 0 is grey, later ones repeat the bright colours."""
    bright = len(COLOURS) - 4
    return COLOURS["series-0" if number == 0 else f"series-{(number - 1) % bright + 1}"]


def _grid(rows: SequenceOf[str], columns: SequenceOf[str], height: float = _ROW_HEIGHT_IN) -> tuple[Figure, np.ndarray]:
    """A figure with one panel per row and column; row names appear only if there are several."""
    figure = Figure(figsize=(_WIDTH_IN, 0.35 + height * max(len(rows), 1)), layout="constrained")
    panels = figure.subplots(max(len(rows), 1), max(len(columns), 1), squeeze=False)
    for row, name in enumerate(rows):
        for column, title in enumerate(columns):
            above = name if column == 0 else ""
            panels[row, column].set_title(f"{above}\n{title}" if len(rows) > 1 else title)
    return figure, panels


def _legend(figure: Figure, panels: Iterable[Axes]) -> None:
    """One legend above all panels, each name once."""
    entries: dict[str, Any] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if entries:
        figure.legend(entries.values(), entries.keys(), loc="outside upper left", ncols=min(4, len(entries)))


def _round_name(number: int) -> str:
    return "round 0 (supervised)" if number == 0 else f"round {number}"


def _round_axis(panel: Axes) -> None:
    panel.set_xlabel("round")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    low, high = panel.get_xlim()
    panel.set_xlim(min(low, 0.5 * (low + high) - 0.6), max(high, 0.5 * (low + high) + 0.6))


def _percent_axis(panel: Axes, label: str, whole: bool = False) -> None:
    panel.set_ylabel(label)
    if whole:
        panel.set_ylim(-2, 102)
    else:
        panel.set_ylim(bottom=0, top=max(1.0, panel.get_ylim()[1]))


def _names(values: Iterable[RoundValue]) -> list[str]:
    return list(dict.fromkeys(value.budget for value in values))


def _by_round(values: Iterable[RoundValue], budget: str) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for value in values:
        if value.budget == budget:
            found.setdefault(value.round, []).append(value.value)
    return dict(sorted(found.items()))


def _spread(panel: Axes, x: SequenceOf[float], samples: SequenceOf[SequenceOf[float]], **style: Any) -> None:
    """A line through the means, with the standard deviation around it and every sample as a dot."""
    means = np.array([np.mean(sample) for sample in samples])
    panel.plot(x, means, **style)
    if max(map(len, samples)) > 1:
        deviations = np.array([np.std(sample, ddof=1) if len(sample) > 1 else 0.0 for sample in samples])
        panel.fill_between(x, means - deviations, means + deviations, color=style["color"], alpha=0.15, linewidth=0)
        for position, sample in zip(x, samples, strict=True):
            panel.scatter([position] * len(sample), sample, s=9, color=style["color"], alpha=0.55, linewidths=0)


def _empty(panel: Axes, text: str) -> None:
    panel.text(0.5, 0.5, text, transform=panel.transAxes, ha="center", va="center", color=COLOURS["muted"])


# ------------------------------------------------------------------------------------------------------ figures


def average_precision(evaluations: pd.DataFrame) -> Figure:
    """AP and AP50 round by round, with their spread over experiments and the ceiling.

    Args:
        evaluations: Rows of one kind of evaluation of a study's summary, metrics in 0..1.
    """
    with mpl.rc_context(_STYLE):
        figure, panels = _grid([""], ["AP", "AP50"], height=3.2)
        for panel, metric in zip(panels[0], ("AP", "AP50"), strict=True):
            reference = ceiling_rows(evaluations)
            for number, (budget, rows) in enumerate(budgets(evaluations)):
                own = of_arms(rows, MAIN)
                if set(own["experiment"]) <= set(reference["experiment"]):
                    continue
                rounds = {key: list(100 * group) for key, group in own.groupby("round")[metric] if group.notna().all()}
                style = {"color": series_colour(number + 1), "marker": _MARKERS[number % len(_MARKERS)]}
                if rounds:
                    _spread(panel, list(rounds), list(rounds.values()), label=budget, **style)
                control = 100 * of_arms(rows, CONTROL)[metric].dropna()
                if len(control):
                    style = {"color": style["color"], "linestyle": ":", "linewidth": 1.4, "label": f"{budget}: control"}
                    panel.axhline(control.mean(), **style)
            values = 100 * reference[metric].dropna()
            if len(values):
                panel.axhline(values.mean(), color=COLOURS["ink"], linestyle=(0, (5, 3)), linewidth=1.2, label=CEILING)
            _percent_axis(panel, f"{metric} in %")
            _round_axis(panel)
        _legend(figure, panels.flat)
    return figure


def arms(differences: pd.DataFrame) -> Figure:
    """Points that arms differ by from the study's own chain, with their spread and how sure the mean is.

    Args:
        differences: What `leod.report.summary.against_main` returns for one kind of evaluation.
    """
    found = [(budget, dict(list(rows.groupby("arm", sort=False)))) for budget, rows in budgets(differences)]
    most = max((len(by_arm) for _, by_arm in found), default=1)
    with mpl.rc_context(_STYLE):
        figure, panels = _grid([budget for budget, _ in found], ["AP", "AP50"], height=0.9 + 0.28 * most)
        for row, (_, by_arm) in enumerate(found):
            for panel, metric in zip(panels[row], ("AP", "AP50"), strict=True):
                panel.axvline(0, color=COLOURS["muted"], linewidth=1)
                for position, rows in enumerate(by_arm.values()):
                    values = rows[f"difference_{metric}"].dropna()
                    if values.empty:
                        continue
                    colour, difference = series_colour(1), PairedDifference.of(values)
                    if difference.interval is not None:
                        ends = [100 * end for end in difference.interval]
                        panel.plot(ends, [position] * 2, color=colour, linewidth=2.2, label="95 % interval of the mean")
                    panel.scatter(100 * values, [position] * len(values), s=12, color=COLOURS["series-0"], zorder=3,
                                  linewidths=0, label="experiment")  # fmt: skip
                    panel.plot(100 * difference.mean, position, "D", color=colour, zorder=4, label="mean")
                panel.set_yticks(range(len(by_arm)), list(by_arm))
                panel.set_ylim(len(by_arm) - 0.4, -0.6)
                panel.grid(axis="y", visible=False)
                panel.set_xlabel(f"difference in {metric}, points")
        _legend(figure, panels.flat)
    return figure


def precision_recall(curves: SequenceOf[RoundValue], ceiling: SequenceOf[Any], classes: SequenceOf[str]) -> Figure:
    """Precision-recall curves per class, one line per round.

    Args:
        curves: Of each experiment and round: class name → precision at recall 0, .01, …, 1, or None.
        ceiling: The same of the detectors trained on all labels.
        classes: Class names.
    """
    recall = np.linspace(0, 100, 101)
    rows = _names(curves)
    with mpl.rc_context(_STYLE):
        figure, panels = _grid(rows, classes)
        for row, budget in enumerate(rows):
            for panel, class_name in zip(panels[row], classes, strict=True):
                for number, runs in _by_round(curves, budget).items():
                    found = [100 * np.asarray(run[class_name]) for run in runs if run.get(class_name) is not None]
                    if found:
                        colour = series_colour(number)
                        panel.plot(recall, _until_zero(found), color=colour, label=_round_name(number))
                        if len(found) > 1:
                            low, high = np.min(found, axis=0), np.max(found, axis=0)
                            panel.fill_between(recall, low, high, color=colour, alpha=0.12, linewidth=0)
                found = [100 * np.asarray(run[class_name]) for run in ceiling if run.get(class_name) is not None]
                if found:
                    style = {"color": COLOURS["ink"], "linestyle": (0, (5, 3)), "linewidth": 1.2, "label": CEILING}
                    panel.plot(recall, _until_zero(found), **style)
                _percent_axis(panel, "precision in %", whole=True)
                panel.set_xlim(-2, 102)
                panel.set_xlabel("recall in %")
        _legend(figure, panels.flat)
    return figure


def _until_zero(curves: SequenceOf[npt.NDArray[np.floating]]) -> npt.NDArray[np.floating]:
    """The mean curve, cut off at the recall that no detector reaches."""
    mean = np.mean(curves, axis=0)
    return np.where(mean > 0, mean, np.nan)


def pseudo_label_quality(qualities: SequenceOf[RoundValue], classes: SequenceOf[str]) -> Figure:
    """Precision and recall of pseudo-labels at IoU 0.5, before and after tracking.

    Args:
        qualities: What `validate_quality` wrote for each experiment and round.
        classes: Class names.
    """
    rows, measures = _names(qualities), ("precision", "recall")
    with mpl.rc_context(_STYLE):
        figure, panels = _grid(rows, measures)
        for row, budget in enumerate(rows):
            by_round = _by_round(qualities, budget)
            for panel, measure in zip(panels[row], measures, strict=True):
                for number, class_name in enumerate(classes):
                    for key, label, line, face in (
                        ("before_tracking", "before tracking", ":", "none"),
                        ("after_tracking", "after tracking", "-", None),
                    ):
                        found = {
                            round: samples
                            for round, runs in by_round.items()
                            if (samples := _shares(runs, key, class_name, f"{measure}_50"))
                        }
                        if found:
                            style = {"color": series_colour(number + 1), "marker": _MARKERS[number % len(_MARKERS)]}
                            style |= {"linestyle": line, "label": f"{class_name}, {label}"}
                            style |= {} if face is None else {"markerfacecolor": face}
                            _spread(panel, list(found), list(found.values()), **style)
                if not panel.lines:
                    _empty(panel, "no hidden ground truth to compare with")
                _percent_axis(panel, f"{measure} in %", whole=True)
                _round_axis(panel)
        _legend(figure, panels.flat)
    return figure


def _shares(runs: Iterable[Mapping[str, Any]], key: str, class_name: str, measure: str) -> list[float]:
    shares = [run[key]["classes"][class_name][measure] for run in runs if key in run]
    return [100 * share for share in shares if share is not None]


def score_relation(qualities: SequenceOf[RoundValue], classes: SequenceOf[str]) -> Figure:
    """How often pseudo-labels of a score are right, against the score.

    Args:
        qualities: What `validate_quality` wrote for each experiment and round.
        classes: Class names.
    """
    rows = _names(qualities)
    with mpl.rc_context(_STYLE):
        figure, panels = _grid(rows, classes)
        for row, budget in enumerate(rows):
            for panel, class_name in zip(panels[row], classes, strict=True):
                panel.plot([0, 1], [0, 100], color=COLOURS["muted"], linewidth=1, linestyle=":", label="right = score")
                for number, runs in _by_round(qualities, budget).items():
                    bins = [run["score_relation"][class_name]["product"] for run in runs if "score_relation" in run]
                    if not bins:
                        continue
                    counts = np.array([one["count"] for one in bins], float)
                    shares = np.array([[share or 0.0 for share in one["share_above_50"]] for one in bins])
                    total = counts.sum(axis=0)
                    filled = total > 0
                    centre = (np.flatnonzero(filled) + 0.5) / len(total)
                    right = 100 * (counts * shares).sum(axis=0)[filled] / total[filled]
                    colour = series_colour(number)
                    size = 8 + 80 * np.sqrt(total[filled] / total.max())
                    panel.plot(centre, right, color=colour, linewidth=1.2, label=_round_name(number))
                    panel.scatter(centre, right, s=size, color=colour, alpha=0.5, linewidths=0)
                panel.set_xlim(-0.02, 1.02)
                panel.set_xlabel("score (objectness × class confidence)")
                _percent_axis(panel, "right at IoU 0.5 in %", whole=True)
        _legend(figure, panels.flat)
    return figure


def tracking(datasets: SequenceOf[RoundValue], classes: SequenceOf[str]) -> Figure:
    """What the tracks made of the pseudo-labels: numbers of boxes that stayed, were ignored, and were inpainted.

    Args:
        datasets: What `track_filter` counted in each experiment and round.
        classes: Class names.
    """
    rows = _names(datasets)
    any_weak = any(any(entry.value.get("weak", {}).values()) for entry in datasets)
    kinds = (
        ("kept", "pseudo-labels kept", "series-1"),
        ("ignored", f"ignored: {'weak or ' if any_weak else ''}not on a long track", "series-0"),
        ("inpainted", "inpainted: gaps of long tracks, ignored as well", "series-2"),
    )
    most = max((len(_by_round(datasets, budget)) for budget in rows), default=1)
    with mpl.rc_context(_STYLE):
        figure, panels = _grid(rows, classes, height=0.9 + 0.4 * most)
        for row, budget in enumerate(rows):
            by_round = _by_round(datasets, budget)
            for panel, class_name in zip(panels[row], classes, strict=True):
                left = np.zeros(len(by_round))
                for key, label, colour in kinds:
                    counts = np.array([np.mean([run[key][class_name] for run in runs]) for runs in by_round.values()])
                    panel.barh(range(len(counts)), counts, 0.62, left, color=COLOURS[colour], label=label)
                    left += counts
                panel.set_yticks(range(len(by_round)), [f"round {number}" for number in by_round])
                panel.invert_yaxis()
                panel.grid(axis="y", visible=False)
                panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
                panel.set_xlabel("boxes" if max(map(len, by_round.values())) == 1 else "boxes, mean of the experiments")
        _legend(figure, panels.flat)
    return figure


def box_sizes(sizes: Mapping[str, Mapping[str, npt.NDArray[np.floating]]], classes: SequenceOf[str]) -> Figure:
    """How large the boxes are that training sees.

    Args:
        sizes: Kind of label → class name → diagonals in pixels of the sensor. The first kind is drawn as an area.
        classes: Class names.
    """
    with mpl.rc_context(_STYLE):
        figure, panels = _grid([""], classes)
        for panel, class_name in zip(panels[0], classes, strict=True):
            diagonals = [kind[class_name] for kind in sizes.values() if len(kind[class_name])]
            if not diagonals:
                _empty(panel, "no boxes")
                continue
            everything = np.concatenate(diagonals)
            low, high = max(float(everything.min()), 1.0), float(everything.max()) + 1.0
            edges = np.geomspace(low, high, 25)
            for number, (kind, by_class) in enumerate(sizes.items()):
                values = by_class[class_name]
                if not len(values):
                    continue
                share = 100 * np.histogram(values, edges)[0] / len(values)
                colour = series_colour(number)
                if number == 0:
                    panel.stairs(share, edges, color=colour, alpha=0.3, fill=True, label=kind)
                else:
                    panel.stairs(share, edges, color=colour, linewidth=1.6, label=kind)
            panel.set_xscale("log")
            ticks = [tick for tick in (5, 10, 20, 50, 100, 200, 500, 1000) if low <= tick <= high]
            panel.set_xticks(ticks, [str(tick) for tick in ticks])
            panel.minorticks_off()
            panel.set_xlabel("diagonal in pixels")
            _percent_axis(panel, "share of boxes in %")
        _legend(figure, panels.flat)
    return figure


def training_curves(curves: SequenceOf[RoundValue]) -> Figure:
    """Loss, learning rate and validation AP over the steps; one line per training.

    Args:
        curves: The table ``training.csv`` of each training.
    """
    rows = _names(curves)
    columns = ("loss", "learning rate", "validation AP in %")
    with mpl.rc_context(_STYLE):
        figure, panels = _grid(rows, columns)
        for row, budget in enumerate(rows):
            for number, runs in _by_round(curves, budget).items():
                style = {
                    "color": series_colour(number),
                    "label": _round_name(number),
                    "alpha": 0.9 if len(runs) == 1 else 0.6,
                }
                for table in runs:
                    for panel, column in zip(panels[row], ("loss", "learning_rate"), strict=False):
                        panel.plot(*_thinned(table, column), linewidth=1.2, **style)
                    validated = table.dropna(subset=["validation_AP"]) if "validation_AP" in table else table.iloc[:0]
                    if len(validated):
                        steps, values = validated["step"], 100 * validated["validation_AP"]
                        panels[row, 2].plot(steps, values, marker="o", markersize=3.5, linewidth=1.2, **style)
            for panel in panels[row]:
                panel.set_xlabel("step")
                panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            panels[row, 1].yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
            _percent_axis(panels[row, 2], "")
        _legend(figure, panels.flat)
    return figure


def _thinned(table: pd.DataFrame, column: str) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]:
    """Steps and values, means of neighbours where there are more than can be seen."""
    rows = table[["step", column]].dropna().to_numpy(float) if column in table else np.zeros((0, 2))
    parts = np.array_split(rows, min(_CURVE_POINTS, len(rows))) if len(rows) else []
    means = np.array([part.mean(axis=0) for part in parts]).reshape(-1, 2)
    return means[:, 0], means[:, 1]


def thresholds(choices: SequenceOf[RoundValue], classes: SequenceOf[str]) -> Figure:
    """How score thresholds were chosen: precision and recall on the validation split against the threshold.

    Args:
        choices: What `choose_thresholds` wrote for each experiment and round; of each budget and round the first.
        classes: Class names.
    """
    rows = _names(choices)
    with mpl.rc_context(_STYLE):
        figure, panels = _grid(rows, classes)
        for row, budget in enumerate(rows):
            for panel, class_name in zip(panels[row], classes, strict=True):
                for number, runs in _by_round(choices, budget).items():
                    choice = runs[0]["classes"][class_name]
                    curve, colour = choice["curve"], series_colour(number)
                    x = curve["threshold"]
                    panel.plot(
                        x, 100 * np.asarray(curve["precision"]), color=colour, label=f"round {number}: precision"
                    )
                    style = {"color": colour, "linewidth": 1.1, "linestyle": ":", "label": f"round {number}: recall"}
                    panel.plot(x, 100 * np.asarray(curve["recall"]), **style)
                    if choice["precision"] is not None:
                        at = choice["threshold"], 100 * choice["precision"]
                        panel.plot([at[0], at[0]], [0, at[1]], color=colour, linewidth=0.8)
                        panel.plot(*at, "o", color=colour, markersize=7, label=f"round {number}: chosen")
                    if "keep" in runs[0]:
                        style = {"color": colour, "linewidth": 1.1, "linestyle": "--"}
                        least = runs[0]["thresholds"][class_name]
                        panel.axvline(least, ymax=0.15, label=f"round {number}: weak above", **style)
                    target = 100 * choice["target_precision"]
                panel.axhline(
                    target, color=COLOURS["muted"], linewidth=1, linestyle=(0, (5, 3)), label="wanted precision"
                )
                panel.set_xlim(-0.02, 1.02)
                panel.set_xlabel("threshold of both scores")
                _percent_axis(panel, "per cent", whole=True)
        _legend(figure, panels.flat)
    return figure
