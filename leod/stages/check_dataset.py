"""Stage `check_dataset`: what a data set in RVT's layout holds, and what is wrong with it."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from leod.boxes import operations as boxes
from leod.boxes.dtypes import IGNORED_CLASS_ID
from leod.config.schema import PlausibilityConfig, SequenceConfig
from leod.errors import DataError
from leod.files import check_writable, write_json
from leod.options import Argument
from leod.progress import progress
from leod.sequences.inspection import Problem, SequenceFacts, inspect_sequence
from leod.sequences.layout import SPLITS, list_sequences
from leod.sequences.plausibility import Finding, collect, describe, judge, judge_boxes, judge_split, table, twins
from leod.tables import aligned

_SHOWN_PROBLEMS = 50


@dataclass
class Spread:
    """Smallest, middle and largest of some values."""

    minimum: float
    median: float
    maximum: float

    @classmethod
    def of(cls, values: np.ndarray) -> Spread | None:
        """Summarise ``values``; None if there are none."""
        if len(values) == 0:
            return None
        return cls(*(round(float(value), 3) for value in (values.min(), np.median(values), values.max())))


@dataclass
class ClassReport:
    """Boxes of one class; sides in pixels of the full sensor."""

    boxes: int
    width: Spread | None
    height: Spread | None


@dataclass
class RepresentationReport:
    """One kind of event representation file and how many sequences have it."""

    name: str
    file: str
    dtype: str
    shape: tuple[int, ...]
    compression: str
    sequences: int = 0
    links: int = 0


@dataclass
class SplitReport:
    """What one split holds.

    Attributes:
        split: 'train', 'val' or 'test'.
        link_target: Where the split's folder leads if it is a link.
        sequences: Sequence folders.
        linked_sequences: Those that are links themselves.
        unlabelled_sequences: Those without a labelled frame.
        frames: Frames of all sequences.
        labelled_frames: Labelled frames of all sequences.
        label_rate_hz: Inverse of the median distance between labelled frames.
        window_step_us: Median distance between frames, one value per distinct sequence median.
        time_range_us: First and last time stamp of any sequence.
        ground_truth: Boxes with t > 0.
        pseudo_labels: Boxes with t == 0, the inpainted and ignored ones included.
        ignored: Boxes of class 1024.
        inpainted: Ignored pseudo-labels with scores of zero: boxes that no detection stands for.
        empty_frames: Frames without events; None unless all frames were read.
        empty_labelled_frames: Frames with ground truth but without events; None unless all frames were read.
        plausibility: Counts of recordings and boxes, see `leod.sequences.plausibility.table`.
        findings: What is unlikely about them, see `leod.sequences.plausibility.collect`.
        classes: Class name (or id) -> its boxes, ignored ones left out.
        representations: The event representations.
    """

    split: str
    link_target: str | None = None
    sequences: int = 0
    linked_sequences: int = 0
    unlabelled_sequences: int = 0
    frames: int = 0
    labelled_frames: int = 0
    label_rate_hz: float | None = None
    window_step_us: list[float] = field(default_factory=list)
    time_range_us: tuple[int, int] | None = None
    ground_truth: int = 0
    pseudo_labels: int = 0
    ignored: int = 0
    inpainted: int = 0
    empty_frames: int | None = None
    empty_labelled_frames: int | None = None
    plausibility: list[tuple[str, str]] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)
    classes: dict[str, ClassReport] = field(default_factory=dict)
    representations: list[RepresentationReport] = field(default_factory=list)


@dataclass
class DatasetReport:
    """Result of `inspect_dataset`.

    Attributes:
        root: The data set.
        deep: Whether every frame was read.
        splits: The splits that exist.
        problems: Everything that is wrong; empty for a sound data set.
    """

    root: Path
    deep: bool
    splits: list[SplitReport] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """The whole report as plain JSON data."""
        return {
            "root": str(self.root),
            "deep": self.deep,
            "sound": self.sound,
            "splits": {split.split: asdict(split) for split in self.splits},
            "problems": [{"path": str(entry.path), "problem": entry.problem} for entry in self.problems],
        }

    def render(self) -> str:
        """The report as a table and a list of problems for people."""
        lines = [f"data set {self.root}", "", *_table(self.splits)]
        for split in self.splits:
            lines += [
                f"{split.split}: {entry.name}/{entry.file}  {entry.dtype} {'x'.join(map(str, entry.shape))}  "
                f"{entry.compression}  ({entry.sequences} sequences{f', {entry.links} links' if entry.links else ''})"
                for entry in split.representations
            ]
        lines.append("")
        unlikely = [f"  {split.split}: {describe(finding)}" for split in self.splits for finding in split.findings]
        if unlikely:
            lines += [f"{len(unlikely)} warning(s):", *unlikely]
        if self.sound:
            lines.append(
                "no problems found"
                + (f" beyond {len(unlikely)} warning(s)" if unlikely else "")
                + ("" if self.deep else " (frames were not read)")
            )
        else:
            lines.append(f"{len(self.problems)} problem(s):")
            lines += [f"  {entry.path}: {entry.problem}" for entry in self.problems[:_SHOWN_PROBLEMS]]
            if len(self.problems) > _SHOWN_PROBLEMS:
                lines.append(f"  ... and {len(self.problems) - _SHOWN_PROBLEMS} more")
        return "\n".join(lines)


def check_dataset(
    folder: Annotated[Path, Argument()],
    config: SequenceConfig | None = None,
    deep: bool = False,
    split: str | None = None,
    limits: PlausibilityConfig = PlausibilityConfig(),  # noqa: B008  (immutable)
    output: Path | None = None,
) -> None:
    """Inspect a data set: what it holds, and what is wrong with it, file by file.

    Args:
        folder: Root of a data set in RVT's layout, pseudo-labelled or not.
        config: What the data set should look like; without it any sensor, classes and representation are accepted.
        deep: Also read every frame; finds damaged chunks, and takes as long as reading all files.
        split: Only this split; default: all.
        limits: What counts as unlikely.
        output: Also write the report as JSON.

    Raises:
        ConfigError: ``output`` cannot be a file.
        DataError: Something is wrong with the data set.
        ResourceError: The disk is full or not writable.
    """
    if output is not None:
        check_writable(output)
    report = inspect_dataset(folder, config, deep, split, limits)
    sys.stdout.write(report.render() + "\n")
    if not report.sound:
        raise DataError(folder, f"{len(report.problems)} problem(s), listed above.")
    if output is not None:
        write_json(output, report.to_json())


def inspect_dataset(
    root: Path,
    config: SequenceConfig | None = None,
    deep: bool = False,
    split: str | None = None,
    limits: PlausibilityConfig = PlausibilityConfig(),  # noqa: B008  (immutable)
) -> DatasetReport:
    """Look through a data set: preprocessed by RVT or by us, pseudo-labelled by LEOD or by us.

    The arguments are those of `check_dataset`.

    Returns:
        What was found and everything that is wrong.

    Raises:
        DataError: ``root`` is no data set at all.
    """
    root = Path(root)
    wanted = SPLITS if split is None else (split,)
    existing = [name for name in wanted if (root / name).is_dir()]
    broken = [name for name in wanted if (root / name).is_symlink() and name not in existing]
    if not existing and not broken:
        expected = f"expected the folder(s) {', '.join(wanted)} with sequences in it."
        raise DataError(root, f"is no data set: {expected}" if root.is_dir() else f"no such folder; {expected}")
    report = DatasetReport(root, deep)
    for name in broken:
        target = (root / name).readlink()
        report.problems.append(Problem(root / name, f"is a broken link to {target}. Put the folder back."))
    split_of_sequence: dict[str, str] = {}
    for name in existing:
        try:
            folders = list_sequences(root, name)
        except DataError as error:
            report.problems.append(Problem(error.path, error.problem))
            continue
        for folder in folders:
            other = split_of_sequence.setdefault(folder.name, name)
            if other != name:
                report.problems.append(
                    Problem(folder, f"is also in the {other} split; a sequence must be in one split only.")
                )
        inspected = [
            inspect_sequence(folder, config, deep) for folder in progress(folders, f"checking {name}", unit="sequence")
        ]
        report.splits.append(_summarise(root / name, inspected, config, limits))
        report.problems += [problem for facts in inspected for problem in facts.problems]
    return report


def _findings(
    inspected: list[SequenceFacts], config: SequenceConfig | None, limits: PlausibilityConfig
) -> list[dict[str, Any]]:
    found: list[tuple[str, Finding]] = []
    for facts in inspected:
        if facts.recording is not None and facts.window_us is not None:
            found += [(facts.path.name, finding) for finding in judge(facts.recording, facts.window_us, limits)]
        elif facts.box_file is not None:
            found += [(facts.path.name, finding) for finding in judge_boxes(facts.box_file, limits)]
    box_files = {facts.path.name: facts.box_file for facts in inspected if facts.box_file is not None}
    if config is not None:
        found += judge_split(box_files, config.classes)
    found += twins({facts.path.name: facts.recording for facts in inspected if facts.recording is not None})
    return collect(found)


def _summarise(
    folder: Path, inspected: list[SequenceFacts], config: SequenceConfig | None, limits: PlausibilityConfig
) -> SplitReport:
    labels = np.concatenate([facts.labels for facts in inspected])
    pseudo, ignored = boxes.is_pseudo_label(labels), boxes.is_ignored(labels)
    distances = np.concatenate([np.diff(facts.label_times_us) for facts in inspected])
    ranges = [facts.time_range_us for facts in inspected if facts.time_range_us is not None]
    empty = [facts.empty_frames for facts in inspected if facts.empty_frames is not None]
    empty_labelled = [facts.empty_labelled_frames for facts in inspected if facts.empty_labelled_frames is not None]
    return SplitReport(
        split=folder.name,
        link_target=str(folder.readlink()) if folder.is_symlink() else None,
        sequences=len(inspected),
        linked_sequences=sum(facts.path.is_symlink() for facts in inspected),
        unlabelled_sequences=sum(facts.labelled_frames == 0 for facts in inspected),
        frames=sum(facts.frames for facts in inspected),
        labelled_frames=sum(facts.labelled_frames for facts in inspected),
        label_rate_hz=round(1e6 / float(np.median(distances)), 3) if len(distances) else None,
        window_step_us=sorted({facts.window_step_us for facts in inspected if facts.window_step_us is not None}),
        time_range_us=(min(start for start, _ in ranges), max(stop for _, stop in ranges)) if ranges else None,
        ground_truth=int((~pseudo).sum()),
        pseudo_labels=int(pseudo.sum()),
        ignored=int(ignored.sum()),
        inpainted=int((ignored & pseudo & (labels["objectness"] == 0) & (labels["class_confidence"] == 0)).sum()),
        empty_frames=sum(empty) if empty else None,
        empty_labelled_frames=sum(empty_labelled) if empty_labelled else None,
        plausibility=table(
            [facts.recording for facts in inspected if facts.recording is not None],
            [facts.box_file for facts in inspected if facts.box_file is not None],
        ),
        findings=_findings(inspected, config, limits),
        classes=_classes(labels[~ignored], config),
        representations=_representations(inspected),
    )


def _classes(labels: np.ndarray, config: SequenceConfig | None) -> dict[str, ClassReport]:
    names = dict(enumerate(config.classes)) if config is not None else {}
    ids = sorted({*names, *np.unique(labels["class_id"]).tolist()} - {IGNORED_CLASS_ID})
    of_class = {class_id: labels[labels["class_id"] == class_id] for class_id in ids}
    return {
        names.get(class_id, str(class_id)): ClassReport(len(rows), Spread.of(rows["w"]), Spread.of(rows["h"]))
        for class_id, rows in of_class.items()
    }


def _representations(inspected: list[SequenceFacts]) -> list[RepresentationReport]:
    found: dict[tuple[Any, ...], RepresentationReport] = {}
    for facts in inspected:
        for entry in facts.frames_files:
            key = (entry.representation, entry.file, entry.dtype, entry.shape, entry.compression)
            kind = found.setdefault(key, RepresentationReport(*key))
            kind.sequences += 1
            kind.links += entry.link
    return list(found.values())


def _spread_text(spread: Spread | None) -> str:
    return "-" if spread is None else f"{spread.minimum:g} / {spread.median:g} / {spread.maximum:g}"


def _table(splits: list[SplitReport]) -> list[str]:
    def seconds(split: SplitReport) -> str:
        return (
            "-" if split.time_range_us is None else "{:.2f} .. {:.2f} s".format(*(t / 1e6 for t in split.time_range_us))
        )

    rows: list[tuple[str, list[str]]] = [
        ("", [split.split + (" (link)" if split.link_target else "") for split in splits]),
        ("sequences", [str(split.sequences) for split in splits]),
        ("  of these links", [str(split.linked_sequences) for split in splits]),
        ("  of these unlabelled", [str(split.unlabelled_sequences) for split in splits]),
        ("frames", [str(split.frames) for split in splits]),
        ("  without events", ["-" if split.empty_frames is None else str(split.empty_frames) for split in splits]),
        (
            "  step (ms)",
            [", ".join(f"{step / 1000:g}" for step in split.window_step_us[:3]) or "-" for split in splits],
        ),
        ("labelled frames", [str(split.labelled_frames) for split in splits]),
        (
            "  without events",
            ["-" if split.empty_labelled_frames is None else str(split.empty_labelled_frames) for split in splits],
        ),
        ("  label rate (Hz)", ["-" if split.label_rate_hz is None else f"{split.label_rate_hz:g}" for split in splits]),
        ("time stamps", [seconds(split) for split in splits]),
        ("ground-truth boxes", [str(split.ground_truth) for split in splits]),
        ("pseudo-label boxes", [str(split.pseudo_labels) for split in splits]),
        ("ignored boxes", [str(split.ignored) for split in splits]),
        ("  of these inpainted", [str(split.inpainted) for split in splits]),
    ]
    for name in dict.fromkeys(name for split in splits for name in split.classes):
        entries = [split.classes.get(name, ClassReport(0, None, None)) for split in splits]
        rows.append((f"boxes of {name}", [str(entry.boxes) for entry in entries]))
        rows.append(("  width min / med / max", [_spread_text(entry.width) for entry in entries]))
        rows.append(("  height min / med / max", [_spread_text(entry.height) for entry in entries]))
    # What preprocessing counted: `preprocess` and the report show the same rows.
    counts = [dict(split.plausibility) for split in splits]
    rows.append(("", [""] * len(splits)))
    for title in dict.fromkeys(title for split in splits for title, _ in split.plausibility):
        rows.append((title, [entry.get(title, "-") for entry in counts]))
    return aligned([(title, *cells) for title, cells in rows], numbers=True)
