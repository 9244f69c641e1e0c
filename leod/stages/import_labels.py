"""Tool `import_labels`: boxes that were drawn in a tool, back on the recordings' clocks."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from leod.boxes.box_files import BOX_FILE_SUFFIXES, read_boxes, write_boxes
from leod.boxes.dtypes import RECORDING_BOX_DTYPE
from leod.config.schema import SensorSize
from leod.errors import DataError
from leod.files import check_writable
from leod.labelling.class_names import ClassNames, parse_classes, parse_mapping
from leod.labelling.formats import read_export
from leod.labelling.manifest import ExportedRecording, Manifest, find_recording, read_manifest
from leod.labelling.merging import MergeCounts, drop_left_out, merge
from leod.labelling.returning import return_boxes
from leod.options import Argument, Names
from leod.recordings.discovery import new_box_file

logger = logging.getLogger(__name__)


@dataclass
class ImportSummary:
    """What an import did.

    Attributes:
        labelled: Pictures that a person has finished.
        empty: Those of them on which nothing is.
        not_labelled: Pictures that came back unfinished.
        missing: Pictures of the manifest that did not come back.
        boxes: Class name → number of boxes.
        cut: Boxes that reached beyond the picture and were cut at its border.
        left_out: Boxes that the mapping leaves out.
        moments: What became of the label moments.
        written: Box files that were written.
        unchanged: Box files that needed no change.
    """

    labelled: int = 0
    empty: int = 0
    not_labelled: int = 0
    missing: int = 0
    boxes: dict[str, int] = field(default_factory=dict)
    cut: int = 0
    left_out: int = 0
    moments: MergeCounts = field(default_factory=MergeCounts)
    written: list[Path] = field(default_factory=list)
    unchanged: list[Path] = field(default_factory=list)


def import_labels(
    export: Annotated[Path, Argument()],
    manifest: Path,
    *,
    formats: Annotated[str | None, Names("--format")] = None,
    mapping: Annotated[list[str] | None, Names("--map")] = None,
    classes: str | None = None,
    unchanged: Literal["error", "labelled", "unlabelled"] = "error",
    annotator: str | None = None,
    on_conflict: Literal["error", "keep", "replace"] = "error",
    output: Path | None = None,
    recordings: Path | None = None,
    dry_run: bool = False,
) -> ImportSummary:
    """Bring labels that were drawn in a tool back, as box files beside the recordings.

    Boxes come back on the recording's clock, at exactly the times of the manifest, and in pixels of the sensor. A
    picture on which a person found nothing becomes a moment that is known to be empty. They are merged into the box
    file that is there already, in its format; a moment is labelled once. All is checked before the first file is
    written, and doing it again changes nothing.

    Args:
        export: What the tool exported: file, folder or zip archive. Label Studio: JSON; CVAT: "CVAT for images 1.1";
            or COCO, YOLO, Pascal VOC of any tool.
        manifest: `manifest.json` of the export, or its folder.
        formats: Format of ``export``: label-studio, coco, cvat, yolo or voc; default: the content tells.
        mapping: What class names stand for: NAME[,NAME...]=CLASS, for example truck,bus=car; =ignored: neither object
            nor background; =null: left out. May be given several times. It holds for the box files that are there, too.
        classes: Class names of the box files in label-id order, separated by commas; default: those of the export.
        unchanged: What pictures are that came back as they went out (empty, or with the proposed boxes), where the
            format does not say whether a person has looked at them: 'labelled' or 'unlabelled'; 'error' asks.
        annotator: Whose annotations count where several persons have labelled a picture: e-mail address or id.
        on_conflict: Where a box file has other boxes for a moment: 'error', 'keep' (those of the file), 'replace'.
        output: Folder for the box files, in place of those of the recordings.
        recordings: Folder below which the recordings lie now, if they were moved.
        dry_run: Only say what would be done.

    Raises:
        ConfigError: An option is wrong.
        DataError: Something does not fit; the message names file, row and remedy.
        ResourceError: The disk is full or not writable.
    """
    opened = read_manifest(manifest)
    class_names = opened.classes if classes is None else parse_classes(classes)
    names = ClassNames(class_names, parse_mapping(mapping or (), class_names))
    drawn, export_ids = read_export(export, formats)
    pictures, counts = return_boxes(opened, drawn, export_ids, names, unchanged, annotator)
    summary = ImportSummary(
        labelled=counts.labelled,
        empty=sum(not len(entry.boxes) for entry in pictures),
        not_labelled=counts.not_labelled,
        missing=len(opened.pictures) - counts.labelled - counts.not_labelled,
        boxes=dict(sorted(counts.classes.items())),
        cut=counts.cut,
        left_out=counts.left_out,
    )
    results: dict[Path, tuple[np.ndarray, SensorSize]] = {}
    for recording in dict.fromkeys(entry.picture.recording for entry in pictures):
        path, is_there = _box_file(opened, recording, output, recordings)
        if path in results or path in summary.unchanged:
            raise DataError(path, "two recordings of this name are in the export. Import without --output.")
        existing, stands = np.zeros(0, RECORDING_BOX_DTYPE), True
        if is_there:
            existing = drop_left_out(read_boxes(path, class_names, names.mapping))
            stands = not names.mapping or _says_so_already(path, class_names, existing)
        else:
            check_writable(path)
        mine = [entry for entry in pictures if entry.picture.recording == recording]
        merged, became = merge(path, existing, mine, on_conflict)
        for key, value in vars(became).items():
            setattr(summary.moments, key, getattr(summary.moments, key) + value)
        if merged is existing and stands:
            summary.unchanged.append(path)
        else:
            results[path] = merged, SensorSize(height=recording.height, width=recording.width)
    for path, (merged, size) in results.items():
        if not dry_run:
            write_boxes(path, merged, class_names, size)
        summary.written.append(path)
    _report(summary, dry_run)
    return summary


def _box_file(
    manifest: Manifest, recording: ExportedRecording, output: Path | None, moved_to: Path | None
) -> tuple[Path, bool]:
    """The box file of a recording, and whether it is there."""
    if output is None:
        files = find_recording(manifest, recording, moved_to)
        if files.boxes is not None:
            return files.boxes, True
        return new_box_file(files), False
    for suffix in BOX_FILE_SUFFIXES:
        path = Path(output) / f"{recording.name}_bbox{suffix}"
        if path.is_file():
            return path, True
    return Path(output) / f"{recording.name}_bbox.csv", False


def _says_so_already(path: Path, classes: tuple[str, ...], boxes: np.ndarray) -> bool:
    """Whether a box file holds ``boxes`` without any mapping."""
    try:
        return np.array_equal(read_boxes(path, classes), boxes)
    except DataError:
        return False


def _report(summary: ImportSummary, dry_run: bool) -> None:
    logger.info(
        "%d pictures are labelled, %d of them empty; %d came back unfinished, %d did not come back",
        *(summary.labelled, summary.empty, summary.not_labelled, summary.missing),
    )
    logger.info(
        "%s",
        ", ".join(f"{count} boxes of class {name}" for name, count in summary.boxes.items()) or "no boxes",
    )
    if summary.cut or summary.left_out:
        logger.info(
            "%d boxes were cut at the border of the picture, %d left out by --map", summary.cut, summary.left_out
        )
    moments = summary.moments
    logger.info(
        "label moments: %d new, %d there already, %d replaced, %d kept as they were",
        *(moments.added, moments.present, moments.replaced, moments.kept),
    )
    for path in summary.written:
        logger.info("%s%s", path, " would be written" if dry_run else "")
    for path in summary.unchanged:
        logger.info("%s needs no change", path)
