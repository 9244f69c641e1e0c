"""The figures of a report with their captions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from leod.report import figures
from leod.report.figures import RoundValue
from leod.report.results import StudyResults
from leod.report.statistics import LEAST_PAIRS
from leod.report.summary import against_main


@dataclass(frozen=True)
class NamedFigure:
    """A figure of the report.

    Attributes:
        svg: The drawing as an SVG file.
        caption: What it shows and how to read it.
    """

    svg: str
    caption: str


def report_figures(results: StudyResults) -> dict[str, NamedFigure]:
    """All figures of the report by the name of their file, without suffix.

    Those on pseudo-labels are left out where no experiment has a self-training round, that on thresholds where they
    were not chosen, that on arms where there are none.
    """
    classes = results.classes
    curves = [
        RoundValue(run.budget, run.round, _precision(run.metrics)) for run in results.own_runs if not run.is_reference
    ]
    ceiling = [_precision(run.metrics) for run in results.own_runs if run.is_reference]
    qualities, datasets = results.of_rounds("quality"), results.of_rounds("dataset")
    found: dict[str, tuple[Figure, str]] = {
        "average_precision": (
            figures.average_precision(results.main_evaluations),
            "Average precision round by round. Lines are means over split offsets and seeds; where there are several, "
            "dots are the experiments and the band is one standard deviation. Dotted: the control, trained on the same "
            "labels for as many steps as all rounds. Dashed: detectors trained on all labels.",
        ),
        "precision_recall": (
            figures.precision_recall(curves, ceiling, classes),
            "Precision and recall of each class at IoU 0.5, mean over the experiments; bands reach from the lowest to "
            "the highest. Dashed: detectors trained on all labels.",
        ),
        "training": (
            figures.training_curves(results.training_curves()),
            "Training loss, learning rate, and AP on the validation split, of which the best step becomes the "
            "round's detector."
            if results.settings.pretrain.validation.select == "best"
            else "Training loss, learning rate, and AP on the validation split.",
        ),
        "box_sizes": (
            figures.box_sizes(results.box_sizes, classes),
            "Sizes of the boxes that training sees, beside those of all ground truth of the train split "
            f"({results.box_sizes_of}).",
        ),
    }
    if results.settings.arms:
        found["arms"] = (
            figures.arms(against_main(results.main_evaluations)),
            "How the last round of each arm, of the control and of the oracle differs from the last round of the main "
            "chain, paired by experiment. Dots are the experiments, diamonds their means, bars 95 % confidence "
            f"intervals of the mean (from {LEAST_PAIRS} experiments on). A bar that crosses the line is inside the "
            "noise.",
        )
    if qualities:
        found |= {
            "pseudo_label_quality": (
                figures.pseudo_label_quality(qualities, classes),
                "Precision and recall of the pseudo-labels that a round was trained on, against ground truth that was "
                "hidden from it, at IoU 0.5. Dotted with open marks: as detected; solid: after filtering by tracks.",
            ),
            "score_relation": (
                figures.score_relation(qualities, classes),
                "What the scores of pseudo-labels are worth: share of boxes with IoU above 0.5 in each interval of the "
                "score. The larger a dot, the more boxes. On the dotted line a score would be the probability of being "
                "right.",
            ),
        }
    if datasets:
        totals = [RoundValue(value.budget, value.round, value.value["totals"]) for value in datasets]
        found["tracking"] = (
            figures.tracking(totals, classes),
            "What filtering by tracks did: boxes on short tracks become ignored, neither object nor background, and "
            "the gaps of long tracks are filled with ignored boxes.",
        )
    if choices := results.of_rounds("thresholds"):
        found["thresholds"] = (
            figures.thresholds(choices, classes),
            "How score thresholds were chosen on the validation split: the least threshold at which the precision of "
            "the boxes above it reaches what is wanted (dashed). Dotted: share of the ground truth that they cover. Of "
            "several experiments with equal labels the first is shown.",
        )
    return {name: NamedFigure(figures.to_svg(figure, name), caption) for name, (figure, caption) in found.items()}


def _precision(metrics: Mapping[str, Any]) -> dict[str, list[float] | None]:
    curves = metrics["precision_recall"]["classes"]
    return {name: None if curve is None else curve["precision"] for name, curve in curves.items()}
