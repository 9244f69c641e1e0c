"""Moments of recordings that are worth a person's time: the CSV file that `suggest-frames` writes.

A header and a line per moment: `recording` (path, relative to the folder of the file where both share a root), `t_us`
(microseconds on the clock of the recording, as it stands in the file), `reason`, `score` (the greater the more it is
worth; comparable within one file). The lines stand in the order in which they were chosen: the first n lines are the
best n moments.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from pathlib import Path

from leod.errors import DataError
from leod.files import atomic_file

COLUMNS = ("recording", "t_us", "reason", "score")


@dataclass(frozen=True)
class Moment:
    """One moment of a recording.

    Attributes:
        recording: The file, or the folder in DSEC's layout.
        t_us: Time in microseconds on the recording's clock: the end of the window that is looked at.
        reason: Why it was chosen, in few words.
        score: How much it is worth, the more the better.
    """

    recording: Path
    t_us: int
    reason: str
    score: float


def write_moments(path: Path, moments: SequenceOf[Moment]) -> None:
    """Write moments, atomically; ``path`` may be moved together with the recordings.

    Raises:
        ResourceError: The disk is full or not writable.
    """
    folder = path.resolve().parent
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for moment in moments:
            recording = Path(os.path.relpath(moment.recording.resolve(), folder)).as_posix()
            writer.writerow((recording, moment.t_us, moment.reason, f"{moment.score:.6g}"))


def read_moments(path: Path) -> list[Moment]:
    """Read moments, in the order of the file.

    Returns:
        Recordings have the path that they have now; whether they are there is not looked at.

    Raises:
        DataError: The file is missing, lacks a column, or a line is wrong or doubled.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS[:2] if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(path, f"column {missing[0]!r} is missing; expected {', '.join(COLUMNS)}")
            moments = [_moment(path, reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(path, f"cannot be read as a list of moments ({error})") from error
    if not moments:
        raise DataError(path, "names no moment")
    seen: dict[tuple[Path, int], int] = {}
    for line, moment in enumerate(moments, start=2):
        first = seen.setdefault((moment.recording, moment.t_us), line)
        if first != line:
            raise DataError(
                path, f"entry {line - 1}: {moment.t_us} µs of {moment.recording} stands in entry {first - 1}, too"
            )
    return moments


def _moment(path: Path, line: int, row: dict[str, str]) -> Moment:
    """One line of the file."""
    try:
        t_us, score = int(row["t_us"]), float(row.get("score") or 0.0)
    except (TypeError, ValueError) as error:
        raise DataError(path, f"line {line}: t_us must be a whole number, score a number ({error})") from error
    if not math.isfinite(score):
        raise DataError(path, f"line {line}: score must be finite, not {score}")
    if not row["recording"]:
        raise DataError(path, f"line {line}: names no recording")
    recording = (path.resolve().parent / row["recording"]).resolve()
    return Moment(recording, t_us, row.get("reason") or "", score)
