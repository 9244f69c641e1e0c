"""Recordings, their export to a labelling tool, and what a person may draw there."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from leod.boxes.box_files import write_boxes
from leod.boxes.dtypes import RECORDING_BOX_DTYPE
from leod.labelling.moments import Moment, write_moments
from leod.recordings.chunk import EventChunk
from leod.recordings.dat import write_dat
from leod.stages.export_frames import export_frames

CLASSES = ("car", "pedestrian")
HEIGHT, WIDTH = 24, 48
TIMES = {"drive_a": (300_123, 777_777), "drive b": (500_001,)}
"""Name of a recording → its moments."""
SCALE = 8


def write_recording(
    path: Path, seed: int = 0, height: int = HEIGHT, width: int = WIDTH, end_us: int = 1_000_000
) -> EventChunk:
    """A recording of chance events from 0.1 s to ``end_us``."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(100_000, end_us, 4_000))
    x, y = rng.integers(0, width, len(t)), rng.integers(0, height, len(t))
    events = EventChunk(t, x.astype(np.uint16), y.astype(np.uint16), rng.integers(0, 2, len(t)).astype(np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_dat(path, [events], height, width)
    return events


def boxes_of(*rows: tuple[float, ...]) -> np.ndarray:
    """Boxes of a recording: (t, x, y, w, h, class id [, confidence]) each."""
    full = [(*row[:6], 0, row[6] if len(row) > 6 else 1.0) for row in rows]
    return np.array(full, RECORDING_BOX_DTYPE)


def proposals(folder: Path) -> Path:
    """Box files that a detector may have made: two boxes at the first moment, none at the second, one at the third."""
    folder.mkdir(parents=True, exist_ok=True)
    first, _ = TIMES["drive_a"]
    (third,) = TIMES["drive b"]
    write_boxes(
        folder / "drive_a_bbox.csv",
        boxes_of((first, 3.25, 4.5, 10.125, 8.0, 0, 0.9), (first, 20.0, 2.0, 6.5, 15.25, 1, 0.4)),
        CLASSES,
    )
    write_boxes(folder / "drive b_bbox.csv", boxes_of((third, 30.5, 5.5, 12.0, 9.0, 0, 0.7)), CLASSES)
    return folder


def export(folder: Path, formats: str, proposed: bool = True, **options: object) -> Path:
    """Make two recordings in ``folder``/recordings and export their three moments to ``folder``/export."""
    moments = []
    for seed, (name, times) in enumerate(TIMES.items()):
        path = folder / "recordings" / f"{name}_td.dat"
        write_recording(path, seed)
        moments += [Moment(path, t_us, "much moves", 1.0) for t_us in times]
    write_moments(folder / "moments.csv", moments)
    output = folder / "export"
    boxes = [proposals(folder / "proposals")] if proposed else None
    export_frames(
        folder / "moments.csv", output, formats=formats, classes=",".join(CLASSES), boxes=boxes, scale=SCALE, **options
    )
    return output
