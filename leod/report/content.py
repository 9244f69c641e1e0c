"""The page of a report: its sections in words, tables and figures, in one file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as SequenceOf
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from leod.config.load import CEILING, CONTROL, MAIN, ORACLE
from leod.config.schema import ScoreThreshold
from leod.config.settings import ReportSettings
from leod.report import figures
from leod.report.captioned import NamedFigure
from leod.report.page import (
    Section,
    definitions,
    details,
    page,
    paragraph,
    plot,
    preformatted,
    table,
    themed_picture,
    tiles,
)
from leod.report.results import Plausibility, Run, StudyResults
from leod.report.schematic import study_schematic
from leod.report.summary import (
    ARMS_LEGEND,
    CHOICE_LEGEND,
    EVALUATION,
    LEGEND,
    arm_rows,
    budget_name,
    budgets,
    ceiling_metrics,
    choosing_rows,
    chosen_rounds,
    class_rows,
    of_arms,
    overview_rows,
    validation_metrics,
    verdict,
)

_ALL_CLASSES = "all"
_REFERENCES = {
    CONTROL: "control: the same labels, supervised only, as many steps as all rounds",
    CEILING: "ceiling: all labels",
    ORACLE: "oracle: one round on all ground truth in place of pseudo-labels",
}


def report_page(results: StudyResults, drawn: Mapping[str, NamedFigure]) -> str:
    """The report as one HTML file.

    Args:
        results: What it shows.
        drawn: What `report_figures` made of them.
    """
    plots = {name: plot(figures.themed(entry.svg, entry.caption), entry.caption) for name, entry in drawn.items()}
    sections = [
        Section("result", "Did self-training help?", _result(results, plots)),
        Section("study", "The study", _study(results)),
        Section("classes", "Precision and recall", plots["precision_recall"] + _class_table(results)),
    ]
    if "pseudo_label_quality" in plots or "tracking" in plots:
        sections.append(Section("pseudo-labels", "Pseudo-labels", _pseudo_labels(results, plots)))
    if "thresholds" in plots:
        sections.append(Section("thresholds", "Score thresholds", _thresholds(results) + plots["thresholds"]))
    sections += [
        Section("labels", "Labels", _labels(results) + plots["box_sizes"]),
        Section("training", "Training", plots["training"] + _trainings(results)),
    ]
    if results.samples or results.pseudo_samples:
        sections.append(Section("frames", "Sample frames", _samples(results)))
    sections.append(Section("provenance", "Provenance", _provenance(results)))
    name = results.settings.name
    return page(f"{name}: report", _header(results), sections)


def _header(results: StudyResults) -> str:
    settings = results.settings
    rows = results.main_evaluations
    answer = verdict(rows)
    tone = " good" if answer.startswith("Self-training helped:") else " bad" if "did not help" in answer else ""
    experiments = len({run.cell.experiment for run in results.own_runs if not run.is_reference})
    subtitle = (
        f"Label-efficient detection on {settings.dataset.name} with {settings.model.name}: "
        f"{_count(experiments, 'experiment')}, {_count(settings.rounds, 'round')} of self-training, "
        f"evaluated on the {settings.evaluate.split} split."
    )
    return (
        f"<h1>Study {escape(settings.name)}</h1>\n"
        f"{paragraph(subtitle, 'subtitle')}"
        f'<div class="verdict{tone}">{escape(answer)}</div>\n'
    )


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def _result(results: StudyResults, plots: Mapping[str, str]) -> str:
    rows = results.main_evaluations
    parts = [tiles(_headline(rows)), plots["average_precision"]]
    parts += [paragraph(choice.in_words()) for choice in chosen_rounds(rows).values()]
    for number, ((split, variant), group) in enumerate(results.evaluations.groupby(list(EVALUATION), sort=False)):
        overview = table(list(overview_rows(group)), text_columns=2)
        if len(compared := list(arm_rows(group))) > 1:
            overview += paragraph(ARMS_LEGEND, "note") + table(compared, text_columns=2)
        if len(choices := list(choosing_rows(group))) > 1:
            overview += paragraph(CHOICE_LEGEND, "note") + table(choices, text_columns=2)
        if number == 0:
            parts += [f"<h3>{escape(f'{split} split, {variant}')}</h3>", overview, plots.get("arms", "")]
        else:
            parts.append(details(f"{split} split, {variant}", paragraph(verdict(group)) + overview))
    return "".join(parts) + paragraph(" ".join(LEGEND.split()), "note")


def _headline(rows: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """The most telling figures, of the experiments with fewest labels."""
    for budget, group in budgets(rows):
        choice = next(iter(chosen_rounds(group).values()), None)
        if choice is None:
            continue
        own, control = of_arms(group, MAIN), of_arms(group, CONTROL)
        first, chosen = (100 * own.loc[own["round"] == number, "AP"].mean() for number in (0, choice.round))
        start, name = first, "supervised"
        yield f"{first:.1f} %", f"AP, supervised on {budget}"
        if len(control):
            start, name = 100 * control["AP"].mean(), "the control"
            yield f"{start:.1f} %", "AP of the control, supervised for as long as all rounds"
        yield f"{chosen:.1f} %", f"AP after round {choice.round}"
        yield f"{chosen - start:+.1f}", f"points gained over {name}"
        break
    if (ceiling := ceiling_metrics(rows)) is not None:
        yield f"{100 * ceiling['AP']:.1f} %", "AP with all labels, the ceiling"


def _study(results: StudyResults) -> str:
    settings, dataset = results.settings, results.settings.dataset
    schematic = study_schematic(
        settings.rounds,
        dataset.simulate is not None,
        settings.pseudo_labels.choose_thresholds is not None,
        CEILING in settings.references,
    )
    views = settings.pseudo_labels.views
    names = [name for name, used in (("mirrored", views.mirror), ("time-reversed", views.time_reversal)) if used]
    tracks = settings.track_filter
    entries = [
        (
            "Data set",
            f"{dataset.name}, {dataset.sensor.width}×{dataset.sensor.height} pixels, {', '.join(dataset.classes)}",
        ),
        (
            "Event representation",
            f"{dataset.representation.kind.replace('_', ' ')}, {_count(dataset.representation.bins, 'bin')}, "
            f"windows of {dataset.window_us / 1000:g} ms" + (", halved" if dataset.downsample_by_2 else ""),
        ),
        ("Detector", f"{settings.model.name}, {_parameters(results)}"),
        (
            "Labels",
            "; ".join(
                budget_name(budget.setting, budget.ratio, budget.frames, budget.first_frames)
                for budget in settings.labels
            ),
        ),
        ("Split offsets, seeds", f"{_listed(settings.split_offsets)}; {_listed(settings.seeds)}"),
        ("Pretraining", _training_words(settings.pretrain)),
        ("Self-training", f"{_count(settings.rounds, 'round')}, each {_training_words(settings.self_train)}"),
        (
            "Test-time augmentation",
            (" and ".join(names) or "plain only")
            + (", merged by weighted box fusion" if names and _is_fused(settings) else ""),
        ),
        ("Score thresholds", _threshold_words(settings)),
        (
            "Filter by tracks",
            f"tracks of at least {tracks.min_track_length} frames, {tracks.direction.replace('_', ' ')}, "
            f"{'gaps inpainted' if tracks.inpaint else 'gaps left'}"
            + (f", smoothed over ± {_count(tracks.smooth_frames, 'frame')}" if tracks.smooth_frames else "")
            if tracks.enabled
            else "off",
        ),
        ("Evaluation", f"{settings.evaluate.split} split; {', '.join(settings.evaluate.variants).replace('_', '-')}"),
        ("References", "; ".join(_REFERENCES[name] for name in settings.references) or "none"),
        *((f"Arm {name}", json.dumps(changes).replace('"', "")) for name, changes in settings.arms.items()),
    ]
    caption = (
        "The stages of an experiment. Each round's detector labels the data that the next one is trained on; only the "
        "kept labels are ground truth."
    )
    if settings.rounds > 3:
        caption += f" Rounds 3 to {settings.rounds - 1} are left out of the drawing."
    return (
        definitions(entries)
        + plot(schematic, caption)
        + details("All settings", preformatted(settings.model_dump_json(indent=2, by_alias=True)))
    )


def _listed(values: SequenceOf[int]) -> str:
    return ", ".join(str(value) for value in values)


def _training_words(training: Any) -> str:
    if training.from_checkpoint is not None:
        return f"none: weights of {training.from_checkpoint}"
    return (
        f"{training.steps} steps of {training.batch_size} × {training.sequence_length} windows, "
        f"learning rate {training.learning_rate:g}"
    )


def _is_fused(settings: ReportSettings) -> bool:
    return settings.pseudo_labels.merging.method == "weighted_box_fusion"


def _threshold_words(settings: ReportSettings) -> str:
    config = settings.pseudo_labels
    if config.choose_thresholds is not None:
        target = config.choose_thresholds.target_precision
        wanted = ", ".join(f"{k} {v:g}" for k, v in target.items()) if isinstance(target, dict) else f"{target:g}"
        words = f"chosen on the validation split for a precision of {wanted}"
        limit = config.choose_thresholds.max_background
        return (
            words
            if limit is None
            else f"{words}; weak boxes such that at most {100 * limit:g} % of the objects have none"
        )
    return ", ".join(
        f"{name} {value.objectness:g}/{value.class_confidence:g}"
        if isinstance(value, ScoreThreshold)
        else f"{name} {value:g}"
        for name, value in config.score_thresholds.items()
    )


def _parameters(results: StudyResults) -> str:
    counts = {run.record["parameters"] for run in results.runs if run.record.get("parameters")}
    return f"{max(counts) / 1e6:.1f} million parameters" if counts else "size not recorded"


def _class_table(results: StudyResults) -> str:
    heading = "<h3>Average precision of each class, in %</h3>"
    return heading + table(list(class_rows(results.main_evaluations, results.classes)), text_columns=2)


def _pseudo_labels(results: StudyResults, plots: Mapping[str, str]) -> str:
    parts = []
    runs = [run for run in results.own_runs if run.quality is not None]
    measured = [run for run in runs if "after_tracking" in (run.quality or {})]
    if measured:
        parts += [plots["pseudo_label_quality"], table(_quality_rows(results, measured), text_columns=3)]
        parts.append(
            paragraph(
                "Shares in %, means of the experiments, at IoU 0.5. Precision and recall are means over frames that "
                "hold the class. Removed right: share of the boxes ignored by tracking that were right. Inpainted "
                "right: share of the inpainted boxes that cover ground truth of any class.",
                "note",
            )
        )
        parts += [
            "<h3>What training sees</h3>",
            table(_seen_rows(results, measured), text_columns=3),
            paragraph(
                "Hidden labelled frames, means of the experiments; shares in %. Positives: labels that the loss takes "
                "as objects. Precise: share of them that are right at IoU 0.5. Doubled: right ones beyond the first on "
                "one object. Found: share of the objects that a positive of their class overlaps above IoU 0.5. Taught "
                "as background: share that no label, positive or ignored, overlaps above IoU 0.4, in frames with "
                "labels.",
                "note",
            ),
            plots["score_relation"],
        ]
    else:
        parts.append(paragraph("No labelled frame was hidden from training, so the quality cannot be measured."))
    if "tracking" in plots:
        parts.append(plots["tracking"])
    return "".join(parts)


def _quality_rows(results: StudyResults, runs: SequenceOf[Run]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        (
            "labels",
            "round",
            "class",
            "precision before",
            "precision after",
            "recall before",
            "recall after",
            "AP50 after",
            "removed right",
            "inpainted right",
        )
    ]
    for budget in dict.fromkeys(run.budget for run in runs):
        first_of_budget = budget
        for number in sorted({run.round for run in runs if run.budget == budget}):
            found = [run.quality for run in runs if run.budget == budget and run.round == number and run.quality]
            first_of_round = f"round {number}"
            for name in (*results.classes, _ALL_CLASSES):
                shares = [
                    [one[when]["classes"][name][f"{measure}_50"] for one in found]
                    for measure in ("precision", "recall")
                    for when in ("before_tracking", "after_tracking")
                ]
                ap50 = [one["after_tracking"]["average_precision"][name]["AP50"] for one in found]
                removed = [one["ignored_by_tracking"][name]["correct_50"] for one in found]
                inpainted = (
                    [one["inpainted"]["covers_ground_truth_50"] for one in found] if name == _ALL_CLASSES else []
                )
                figures_of_row = (*shares, [value for value in ap50 if value >= 0], removed, inpainted)
                rows.append(
                    (
                        first_of_budget,
                        first_of_round,
                        "all classes" if name == _ALL_CLASSES else name,
                        *map(_mean_percent, figures_of_row),
                    )
                )
                first_of_budget = first_of_round = ""
    return rows


def _seen_rows(results: StudyResults, runs: SequenceOf[Run]) -> list[tuple[str, ...]]:
    """What training sees of the hidden objects, by label budget, round and class."""
    rows: list[tuple[str, ...]] = [
        ("labels", "round", "class", "positives", "precise", "doubled", "found", "taught as background")
    ]
    for budget, number in dict.fromkeys((run.budget, run.round) for run in runs):
        of_round = [run for run in runs if (run.budget, run.round) == (budget, number)]
        for name in (*results.classes, _ALL_CLASSES):
            seen = [run.quality["seen_by_training"][name] for run in of_round if run.quality]
            rows.append(
                (
                    budget if name == results.classes[0] else "",
                    f"round {number}" if name == results.classes[0] else "",
                    "all classes" if name == _ALL_CLASSES else name,
                    _grouped(round(np.mean([one["positives"] for one in seen]))),
                    _mean_percent([one["precision_50"] for one in seen]),
                    _grouped(round(np.mean([one["doubled"] for one in seen]))),
                    *(_mean_percent([one[key] for one in seen]) for key in ("found", "taught_as_background")),
                )
            )
    return rows


def _mean_percent(shares: SequenceOf[float | None]) -> str:
    known = [share for share in shares if share is not None]
    return f"{100 * np.mean(known):.1f}" if known else "–"


def _thresholds(results: StudyResults) -> str:
    rows: list[tuple[str, ...]] = [
        (
            *("experiment", "round", "class", "threshold", "weak above"),
            *("wanted precision", "precision", "recall", "boxes"),
        )
    ]
    missed = any_weak = False
    for run in results.own_runs:
        weak_above = (run.thresholds or {})["thresholds"] if "keep" in (run.thresholds or {}) else {}
        any_weak |= bool(weak_above)
        for name, choice in (run.thresholds or {"classes": {}})["classes"].items():
            missed |= not choice["reached"]
            rows.append(
                (
                    run.cell.experiment,
                    str(run.round),
                    name,
                    f"{choice['threshold']:.3f}" + ("" if choice["reached"] else " *"),
                    f"{weak_above[name]:.3f}" if weak_above else "–",
                    f"{100 * choice['target_precision']:.1f}",
                    _mean_percent([choice["precision"]]),
                    _mean_percent([choice["recall"]]),
                    str(choice["boxes"]),
                )
            )
    notes = ["* No threshold reaches the wanted precision; the most precise one was taken."] if missed else []
    if any_weak:
        notes.append(
            "Weak above: boxes between this threshold and the other one continue tracks and are ignored by training. "
            + " ".join(_background_words(results))
        )
    return table(rows, text_columns=3) + "".join(paragraph(note, "note") for note in notes)


def _background_words(results: StudyResults) -> Iterator[str]:
    """Where the limit of objects without a box was missed."""
    for run in results.runs:
        account = (run.thresholds or {}).get("background")
        if account is not None and not account["reached"]:
            yield (
                f"{run.cell.experiment}, round {run.round}: no threshold was found that leaves at most "
                f"{100 * account['max_background']:g} % of the objects without a box; the least was taken."
            )


def _plausibility(splits: Mapping[str, Plausibility]) -> str:
    """Counts of recordings and box files, unfolded on demand; what is unlikely is always to be seen."""
    if not splits:
        return ""
    warnings = [f"{split}: {finding}" for split, entry in splits.items() for finding in entry.findings]
    counts = {split: dict(entry.rows) for split, entry in splits.items()}
    titles = dict.fromkeys(title for entry in splits.values() for title, _ in entry.rows)
    rows = [("", *splits), *((title.strip(), *(counts[split].get(title, "-") for split in splits)) for title in titles)]
    return "".join(paragraph(f"Warning: {warning}", "note") for warning in warnings) + details(
        "Recordings and box files in figures", table(rows)
    )


def _labels(results: StudyResults) -> str:
    parts = []
    if results.sequences:
        keys = ("sequences", "frames", "labelled_frames", "boxes")
        parts.append(
            table(
                [
                    ("split", *(key.replace("_", " ") for key in keys)),
                    *(
                        (split, *(_grouped(counts.get(key)) for key in keys))
                        for split, counts in results.sequences.items()
                    ),
                ]
            )
        )
    parts.append(_plausibility(results.plausibility))
    classes = results.classes
    rows: list[tuple[str, ...]] = [
        (
            "experiment",
            "round",
            "kept labelled frames",
            "pseudo-labelled frames",
            *(f"{name}: ground truth" for name in classes),
            *(f"{name}: pseudo-labels" for name in classes),
        )
    ]
    for run in results.compared_runs:
        if run.dataset is not None:
            totals = run.dataset["totals"]
            rows.append(
                (
                    run.cell.experiment,
                    str(run.round),
                    _grouped(run.kept_frames),
                    _grouped(totals["pseudo_labelled_frames"]),
                    *(_grouped(totals["ground_truth"][name]) for name in classes),
                    *(_grouped(totals["kept"][name]) for name in classes),
                )
            )
        elif run.round == 0:
            rows.append(
                (run.cell.experiment, "0", _grouped(run.kept_frames), *("" for _ in range(1 + 2 * len(classes))))
            )
    return "".join(parts) + "<h3>Labels that each round is trained on</h3>" + table(rows, text_columns=2)


def _grouped(number: int | None) -> str:
    return "–" if number is None else f"{number:,}".replace(",", " ")


def _trainings(results: StudyResults) -> str:
    rows: list[tuple[str, ...]] = [
        ("experiment", "round", "seed", "steps", "chosen step", "validation AP in %", "time")
    ]
    for run in results.runs:
        record = run.record
        ap = validation_metrics(record).get("AP")
        rows.append(
            (
                run.cell.experiment,
                str(run.round),
                str(run.cell.seed),
                str(record.get("steps", "–")),
                str(record.get("selected_step", "–")),
                "–" if ap is None else f"{100 * ap:.1f}",
                _duration(record.get("provenance", {}).get("wall_time_s")),
            )
        )
    return details("All trainings", table(rows, text_columns=2))


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 90:
        return f"{seconds:.1f} s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.1f} min" if minutes < 90 else f"{hours:.1f} h"


def _samples(results: StudyResults) -> str:
    threshold = results.settings.report.confidence_threshold
    parts = []
    for heading, note, samples in (
        (
            "Detections",
            f"Frames of the {results.settings.evaluate.split} split with ground truth and detections of at least "
            f"{threshold:g} (objectness × class confidence), of experiment {results.box_sizes_of}.",
            results.samples,
        ),
        (
            "Pseudo-labels",
            "Frames of the train split whose ground truth was hidden from training, with the pseudo-labels of each "
            "round. Ignored and inpainted boxes are neither object nor background to the training.",
            results.pseudo_samples,
        ),
    ):
        if not samples:
            continue
        parts += [f"<h3>{heading}</h3>", paragraph(note, "note")]
        for sample in samples:
            width = f"minmax(min(100%, {60 // (len(sample.pictures) + 1)}rem), 1fr)"
            inside = "".join(
                f"<figure>{themed_picture(picture.light, picture.dark, f'{sample.title}: {picture.title}')}"
                f"<figcaption>{escape(picture.title)}</figcaption></figure>"
                for picture in sample.pictures
            )
            parts.append(paragraph(sample.title, "note"))
            parts.append(
                f'<div class="frames" style="grid-template-columns: repeat(auto-fit, {width})">{inside}</div>\n'
            )
    return "".join(parts)


def _provenance(results: StudyResults) -> str:
    parts = []
    if results.times:
        rows: list[tuple[str, ...]] = [("stage", "jobs", "wall time of all", "longest", "peak memory")]
        for time in sorted(results.times, key=lambda time: -sum(time.seconds)):
            memory = "–" if time.peak_memory_mb is None else f"{time.peak_memory_mb / 1024:.1f} GB"
            seconds = _duration(sum(time.seconds)), _duration(max(time.seconds))
            rows.append((time.stage.replace("_", " "), str(len(time.seconds)), *seconds, memory))
        parts += ["<h3>What the stages took</h3>", table(rows)]
    commits = _distinct(record.get("git_commit") for record in results.provenances)
    entries = [("Git commit", ", ".join(commits) or "not from a checkout")]
    if len(commits) > 1:
        entries.append(("Note", "The results were made by several versions of the code."))
    packages = dict.fromkeys(name for record in results.provenances for name in record.get("versions", {}))
    entries += [
        (name, ", ".join(_distinct(record.get("versions", {}).get(name) for record in results.provenances)))
        for name in packages
    ]
    entries.append(("Seeds", _listed(results.settings.seeds)))
    return "".join(parts) + "<h3>Versions</h3>" + definitions(entries)


def _distinct(values: Iterator[str | None]) -> list[str]:
    return list(dict.fromkeys(value for value in values if value))
