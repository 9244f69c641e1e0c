"""Stage `report`: one page that tells a colleague what a study did and what came out."""

from __future__ import annotations

import logging
from collections.abc import Sequence as SequenceOf
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import pandas as pd

from leod.boxes.kept_labels import KeptLabels
from leod.boxes.operations import is_ground_truth, is_ignored, is_pseudo_label
from leod.config.load import MAIN
from leod.config.schema import DatasetConfig, HardwareConfig, NonNegativeInt
from leod.config.settings import ReportSettings
from leod.errors import ConfigError, DataError
from leod.files import atomic_file, check_writable, read_json
from leod.options import FromOptions
from leod.provenance import Stopwatch
from leod.report.captioned import report_figures
from leod.report.content import report_page
from leod.report.results import Plausibility, Run, StageTime, StudyResults
from leod.report.samples import detection_samples, pseudo_label_samples
from leod.sequences.layout import list_sequences, read_labels
from leod.sequences.plausibility import RecordingFacts, describe, findings_of, table
from leod.study.plan import Benchmark, DetectorFiles, StudyPlan, read_plan

logger = logging.getLogger(__name__)

T = TypeVar("T")

_MOST_SEQUENCES = 200
"""Box sizes are taken from at most so many sequences, evenly spaced."""


def report(
    plan: Annotated[StudyPlan, FromOptions(read_plan)],
    summary: Path,
    output: Path,
    figures: Path,
    settings: ReportSettings,
    threads: NonNegativeInt = 0,
) -> None:
    """Write the report of a study: settings, tables, figures and sample frames in one page.

    Args:
        plan: The study's detectors and their files.
        summary: What `summarise` wrote, ``summary.csv``.
        output: HTML file to write. It needs no other file and no connection.
        figures: Folder for ``<name>.svg``, see `leod.report.content.report_figures`; not emptied before.
        settings: The study.
        threads: CPU threads of the detectors that the sample frames are made with; 0 = PyTorch's choice.

    Raises:
        ConfigError: There is no detector, or ``output`` cannot be a file.
        DataError: A file is missing or damaged.
        ResourceError: The disk is full or not writable.
    """
    stopwatch = Stopwatch()
    if not plan.detectors:
        raise ConfigError("there is no detector to report on; the study needs at least one experiment")
    check_writable(output)
    results = _gather(plan, summary, settings, HardwareConfig(accelerator="cpu", threads=threads))
    drawn = report_figures(results)
    for name, entry in drawn.items():
        _write(Path(figures) / f"{name}.svg", entry.svg)
    _write(output, report_page(results, drawn))
    logger.info("%s: %d detectors, %d figures, %.1f s", output, len(plan.detectors), len(drawn), stopwatch.elapsed_s)


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _gather(plan: StudyPlan, summary: Path, settings: ReportSettings, hardware: HardwareConfig) -> StudyResults:
    # Several arms may have the same detector: the first one comes first in the plan.
    distinct = {entry.record: entry for entry in reversed(plan.detectors)}
    runs = [_read_run(entry) for entry in reversed(distinct.values())]
    jsons = [
        part for run in runs for part in (run.record, run.metrics, run.quality, run.dataset, run.thresholds) if part
    ]
    shown = _shown_experiment(plan.detectors)
    return StudyResults(
        settings=settings,
        evaluations=_read_table(summary, "arm", "experiment"),
        runs=runs,
        sequences=_count_sequences(plan),
        plausibility=_plausibility(plan, settings.dataset),
        box_sizes=_box_sizes(shown, settings),
        box_sizes_of=shown[0].experiment,
        samples=detection_samples([(run.round, run.model) for run in shown], settings, hardware),
        pseudo_samples=pseudo_label_samples(
            [(run.round, run.dataset) for run in shown if run.dataset is not None], shown[0].labels, settings
        ),
        times=_stage_times(plan.benchmarks),
        provenances=[content["provenance"] for content in jsons if "provenance" in content],
    )


def _shown_experiment(runs: SequenceOf[DetectorFiles]) -> list[DetectorFiles]:
    """All rounds of the experiment that sample frames are shown of: the study's first one with most rounds."""
    own = [run for run in runs if run.arm == MAIN] or runs
    last = max(own, key=lambda run: run.round)
    return sorted((run for run in runs if run.experiment == last.experiment), key=lambda run: run.round)


def _read_run(entry: DetectorFiles) -> Run:
    def content(path: Path | None, *keys: str) -> dict[str, Any] | None:
        if path is None:
            return None
        found = read_json(path)
        if not isinstance(found, dict) or any(key not in found for key in keys):
            raise DataError(path, f"lacks {' or '.join(keys)}. Delete it and rerun the stage that makes it.")
        return found

    return Run(
        cell=entry,
        kept_frames=KeptLabels.read(entry.labels).labelled_frames,
        curves=_read_table(entry.curves),
        record=content(entry.record) or {},
        metrics=content(next(iter(entry.metrics.values())), "precision_recall") or {},
        quality=content(entry.quality),
        dataset=content(entry.manifest, "totals"),
        thresholds=content(entry.thresholds, "classes"),
    )


def _read_table(path: Path, *names: str) -> pd.DataFrame:
    """Read a CSV table; the columns ``names`` hold names, whatever they look like."""
    try:
        return pd.read_csv(path, converters=dict.fromkeys(names, str))
    except FileNotFoundError:
        raise DataError(path, "the file does not exist. Run the stage that makes it first.") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(path, f"is not a CSV table ({error}). Delete it and rerun the stage that makes it.") from None


def _count_sequences(plan: StudyPlan) -> dict[str, dict[str, int]]:
    """Numbers of sequences, frames, labelled frames and boxes of each split, from the manifests of preprocessing."""
    counts = {}
    for split, paths in plan.manifests.items():
        entries = [entry for path in paths for entry in read_json(path).get("sequences", [])]
        if entries:
            sums = {key: sum(entry[key] for entry in entries) for key in ("frames", "labelled_frames", "boxes")}
            counts[split] = {"sequences": len(entries)} | sums
    return counts


def _plausibility(plan: StudyPlan, dataset: DatasetConfig) -> dict[str, Plausibility]:
    """What preprocessing counted, and what is unlikely about it, split by split."""
    found = {}
    for split, paths in plan.manifests.items():
        manifests = [read_json(path) for path in paths]
        facts = {
            name: RecordingFacts.from_json(entry)
            for manifest in manifests
            for name, entry in manifest.get("facts", {}).items()
        }
        if not facts:
            continue
        findings = findings_of(facts, dataset.window_us, dataset.classes, dataset.plausibility)
        known = {finding["kind"] for finding in findings}
        # Those on files and on other splits.
        findings += [
            finding for manifest in manifests for finding in manifest["findings"] if finding["kind"] not in known
        ]
        rows = table(list(facts.values()), [entry.box_file for entry in facts.values() if entry.box_file is not None])
        found[split] = Plausibility(rows, [describe(finding) for finding in findings])
    return found


def _evenly(items: SequenceOf[T], count: int) -> list[T]:
    """At most ``count`` evenly spaced ones."""
    chosen = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).astype(int))
    return [items[index] for index in chosen]


def _box_sizes(runs: SequenceOf[DetectorFiles], settings: ReportSettings) -> dict[str, dict[str, np.ndarray]]:
    """Diagonals of all ground truth, the kept part of it, and each round's pseudo-labels, by class."""
    classes = settings.dataset.classes
    kept = KeptLabels.read(runs[0].labels)
    found: dict[str, list[np.ndarray]] = {"all ground truth": [], "kept ground truth": []}
    for source in _evenly(list_sequences(settings.dataset.sequences, "train"), _MOST_SEQUENCES):
        labels = read_labels(source, len(classes))
        rows = labels.labels[is_ground_truth(labels.labels) & ~is_ignored(labels.labels)]
        found["all ground truth"].append(rows)
        indices = kept.indices_within(source.name, len(labels))
        found["kept ground truth"] += [labels.frame(int(index)) for index in indices]
        for run in runs:
            if run.dataset is not None:
                boxes = read_labels(run.dataset / "train" / source.name).labels
                rows = boxes[is_pseudo_label(boxes) & ~is_ignored(boxes)]
                found.setdefault(f"pseudo-labels of round {run.round}", []).append(rows)

    def diagonals(parts: list[np.ndarray], class_id: int) -> np.ndarray:
        chosen = [part[part["class_id"] == class_id] for part in parts]
        return np.concatenate([np.zeros(0), *(np.hypot(part["w"], part["h"]) for part in chosen)])

    return {
        kind: {name: diagonals(parts, class_id) for class_id, name in enumerate(classes)}
        for kind, parts in found.items()
    }


def _stage_times(benchmarks: SequenceOf[Benchmark]) -> list[StageTime]:
    found: dict[str, list[pd.DataFrame]] = {}
    for benchmark in benchmarks:
        if benchmark.path.exists():
            table = pd.read_csv(benchmark.path, sep="\t")
            if len(table):
                found.setdefault(benchmark.stage, []).append(table)
    times = []
    for stage, tables in found.items():
        # Snakemake writes NA where a job was too short to measure its memory.
        memory = pd.to_numeric(pd.concat([table["max_rss"] for table in tables]), errors="coerce").max()
        seconds = [float(table["s"].sum()) for table in tables]
        times.append(StageTime(stage, seconds, None if pd.isna(memory) else float(memory)))
    return times
