"""Stage `export_labels`: labels, pseudo-labels or detections of a whole split as COCO JSON or CSV."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TextIO

import numpy as np

from leod.boxes.dtypes import IGNORED_CLASS_ID
from leod.config.schema import SequenceConfig
from leod.errors import ConfigError, DataError
from leod.files import atomic_file, check_writable
from leod.options import Argument
from leod.progress import progress
from leod.pseudo_labels.predictions import PredictionsFile
from leod.sequences.layout import (
    check_class_ids,
    check_same_length,
    label_file,
    list_sequences,
    read_labelled_frames,
    read_labels,
    read_timestamps,
)
from leod.sequences.representations import representation_name

logger = logging.getLogger(__name__)

_IGNORED_NAME = "ignored"
_COLUMNS = ("sequence", "frame", "t_us", "x", "y", "w", "h", "class", "confidence", "objectness", "kind")


@dataclass(frozen=True)
class _SequenceBoxes:
    """Boxes of one sequence.

    Attributes:
        name: Name of the sequence.
        frames: int64 [K], frames with labels or boxes, strictly increasing.
        times_us: int64 [K], ends of their windows; None if unknown.
        boxes: K arrays of `LABEL_DTYPE` in pixels of the full sensor.
    """

    name: str
    frames: np.ndarray
    times_us: np.ndarray | None
    boxes: list[np.ndarray]


def export_labels(
    source: Annotated[Path, Argument()],
    output: Path,
    config: SequenceConfig,
    *,
    split: str = "train",
    sequences: Path | None = None,
) -> int:
    """Write all labels or detections of a split into one COCO JSON or CSV file.

    One sequence at a time is in memory. COCO JSON: an image per labelled frame with `sequence`, `frame` (index),
    `timestamp_us` (end of the window); an annotation per box with `bbox` in pixels of the full sensor, `score` (class
    confidence), `objectness` and `kind`: ground_truth, pseudo_label, detection or ignored. Ignored boxes have the
    category 'ignored' and `iscrowd` 1. CSV: the same, one line per box.

    Args:
        source: Folder of a preprocessed or pseudo-labelled data set, or a file of predictions (`*.h5`).
        output: A name ending in .json or .csv.
        config: The data set's classes and windows.
        split: Which split of a folder: train, val or test.
        sequences: For predictions: folder of the preprocessed data set, which knows the time stamps; without it there
            are none.

    Returns:
        Number of boxes.

    Raises:
        ConfigError: ``output`` has another suffix, or cannot be a file.
        DataError: A file is missing or damaged, or a class id is unknown.
        ResourceError: The disk is full or not writable.
    """
    output, source = Path(output), Path(source)
    writers = {".json": _write_coco, ".csv": _write_csv}
    if output.suffix not in writers:
        raise ConfigError(f"{output}: end the name in {' or '.join(writers)}")
    check_writable(output)
    name = representation_name(config.representation, config.window_us)
    if source.is_dir():
        opened = _SplitReader(list_sequences(source, split), name, len(config.classes))
    else:
        opened = _PredictionsReader(source, None if sequences is None else Path(sequences) / split, name, config)
    with atomic_file(output) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        count = writers[output.suffix](file, opened, config)
    logger.info("%s: %d boxes of %d sequences", output, count, len(opened))
    return count


class _SplitReader:
    """Sequences of a preprocessed or pseudo-labelled split."""

    def __init__(self, folders: list[Path], representation: str, class_count: int) -> None:
        self._folders = folders
        self._representation = representation
        self._class_count = class_count

    def __len__(self) -> int:
        return len(self._folders)

    def __iter__(self) -> Iterator[_SequenceBoxes]:
        for folder in self._folders:
            labels = read_labels(folder, self._class_count)
            frames = read_labelled_frames(folder, self._representation)
            check_same_length(folder, labels, frames)
            times = read_timestamps(folder, self._representation)
            if len(frames) and frames[-1] >= len(times):
                raise DataError(label_file(folder), f"has a label at frame {frames[-1]} of {len(times)}.")
            yield _SequenceBoxes(folder.name, frames, times[frames], [labels.frame(k) for k in range(len(labels))])

    def kind(self, box: np.void) -> str:
        """What a box is."""
        if box["class_id"] == IGNORED_CLASS_ID:
            return "ignored"
        return "ground_truth" if box["t"] > 0 else "pseudo_label"


class _PredictionsReader:
    """Sequences of a file of predictions."""

    def __init__(self, path: Path, folder: Path | None, representation: str, config: SequenceConfig) -> None:
        self._path = path
        self._folder = folder
        self._representation = representation
        self._class_count = len(config.classes)
        with PredictionsFile(path) as file:
            self._count = len(file.names)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[_SequenceBoxes]:
        with PredictionsFile(self._path) as file:
            for found in file:
                check_class_ids(self._path, found.boxes["class_id"], self._class_count)
                frames, starts = np.unique(found.frame_indices, return_index=True)
                times = None
                if self._folder is not None:
                    times = read_timestamps(self._folder / found.name, self._representation)
                    if len(times) != found.num_frames:
                        raise DataError(
                            self._path, f"sequence {found.name!r} has {found.num_frames} frames, not {len(times)}."
                        )
                    times = times[frames]
                boxes = np.split(found.boxes, starts[1:]) if len(frames) else []
                yield _SequenceBoxes(found.name, frames, times, boxes)

    def kind(self, box: np.void) -> str:
        """What a box is."""
        return "ignored" if box["class_id"] == IGNORED_CLASS_ID else "detection"


def _write_csv(file: TextIO, source: _SplitReader | _PredictionsReader, config: SequenceConfig) -> int:
    writer = csv.writer(file)
    writer.writerow(_COLUMNS)
    count = 0
    for sequence in progress(source, "exporting", total=len(source), unit="sequence"):
        for k, frame in enumerate(sequence.frames.tolist()):
            time = "" if sequence.times_us is None else int(sequence.times_us[k])
            for box in sequence.boxes[k]:
                kind = source.kind(box)
                name = _IGNORED_NAME if kind == "ignored" else config.classes[box["class_id"]]
                numbers = [f"{box[field]:.9g}" for field in ("x", "y", "w", "h")]
                scores = [f"{box[field]:.9g}" for field in ("class_confidence", "objectness")]
                writer.writerow([sequence.name, frame, time, *numbers, name, *scores, kind])
                count += 1
    return count


def _write_coco(file: TextIO, source: _SplitReader | _PredictionsReader, config: SequenceConfig) -> int:
    # COCO counts from 1.
    categories = [{"id": class_id + 1, "name": name} for class_id, name in enumerate(config.classes)]
    categories.append({"id": IGNORED_CLASS_ID + 1, "name": _IGNORED_NAME})
    file.write('{"categories": ' + json.dumps(categories))
    file.write(',\n"images": [')
    _write_entries(file, _images(source, config))
    file.write('],\n"annotations": [')
    count = _write_entries(file, _annotations(source))
    file.write("]}\n")
    return count


def _write_entries(file: TextIO, entries: Iterable[dict[str, Any]]) -> int:
    count = 0
    for entry in entries:
        file.write((",\n" if count else "\n") + json.dumps(entry, allow_nan=False))
        count += 1
    return count


def _images(source: _SplitReader | _PredictionsReader, config: SequenceConfig) -> Iterator[dict[str, Any]]:
    number = 0
    for sequence in source:
        for k, frame in enumerate(sequence.frames.tolist()):
            number += 1
            time = {} if sequence.times_us is None else {"timestamp_us": int(sequence.times_us[k])}
            yield {
                "id": number,
                "file_name": f"{sequence.name}/{frame:06d}",
                "sequence": sequence.name,
                "frame": frame,
                **time,
                **config.sensor.model_dump(),
            }


def _annotations(source: _SplitReader | _PredictionsReader) -> Iterator[dict[str, Any]]:
    image = number = 0
    for sequence in progress(source, "exporting", total=len(source), unit="sequence"):
        for boxes in sequence.boxes:
            image += 1
            for box in boxes:
                number += 1
                kind = source.kind(box)
                yield {
                    "id": number,
                    "image_id": image,
                    "category_id": int(box["class_id"]) + 1,
                    "bbox": [float(box[name]) for name in ("x", "y", "w", "h")],
                    "area": float(box["w"]) * float(box["h"]),
                    "iscrowd": int(kind == "ignored"),
                    "score": float(box["class_confidence"]),
                    "objectness": float(box["objectness"]),
                    "kind": kind,
                }
