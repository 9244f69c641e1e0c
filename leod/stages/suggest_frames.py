"""Tool `suggest_frames`: which moments of recordings are most worth a person's time to label."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from leod.boxes.box_files import read_label_moments
from leod.config.schema import HardwareConfig, NonNegativeInt, PositiveInt, RecordingTimesConfig, SensorSize
from leod.errors import ConfigError, DataError
from leod.files import check_writable
from leod.inference.devices import memory_errors, prepare_for_inference
from leod.inference.on_recordings import adapt, open_for
from leod.labelling.choosing import Candidates, choose, reasons, worth
from leod.labelling.contact_sheet import Tile, paint_events, paint_objects, write_contact_sheet
from leod.labelling.from_recordings import candidates_of_recording
from leod.labelling.moments import Moment, write_moments
from leod.models.checkpoint import load_detector
from leod.models.detector import Detector
from leod.options import Argument, FromOptions, Names
from leod.progress import progress
from leod.recordings.chunk import EventChunk, Recording
from leod.recordings.discovery import RecordingFiles, find_recordings, folder_or_file, is_recording, recording_files
from leod.recordings.recording import open_recording
from leod.sequences.frame_boxes import FrameBoxes
from leod.sequences.writing import read_adjoining_windows
from leod.stages.recording_options import recording_times, sensor_size

logger = logging.getLogger(__name__)

_WINDOW_US = 50_000
_MOST_TILES = 400
_MEMORY_ADVICE = "Run it on the CPU, or with a smaller model; without a detector it needs next to no memory."


@dataclass(frozen=True)
class SuggestionSummary:
    """What a run of `suggest_frames` found.

    Attributes:
        recordings: Recordings that were looked at.
        seconds: Their length together.
        candidates: Moments that could have been chosen.
        chosen: Those that were.
    """

    recordings: int
    seconds: float
    candidates: int
    chosen: int


def suggest_frames(
    recordings: Annotated[list[Path], Argument()],
    output: Path,
    *,
    count: PositiveInt = 50,
    seed: NonNegativeInt = 0,
    checkpoint: Annotated[Path | None, Names("--checkpoint", "--weights")] = None,
    sheet: Path | None = None,
    apart_s: Annotated[float, Names("--apart")] = 1.0,
    window_us: PositiveInt = _WINDOW_US,
    sensor: Annotated[SensorSize | None, FromOptions(sensor_size)] = None,
    times: Annotated[RecordingTimesConfig, FromOptions(recording_times)] = RecordingTimesConfig(),  # noqa: B008
    hardware: HardwareConfig = HardwareConfig(),  # noqa: B008  (immutable)
) -> SuggestionSummary:
    """Choose the moments of recordings that are most worth labelling, and show them on one contact sheet.

    Without a detector, moments are chosen in which much moves, unlike each other in recording, time and place of the
    motion. With one, also those in which its views (mirrored, and read backwards a block at a time) disagree, its
    tracks break or its confidence is middling. Moments right after a recording's first event are left out, since a
    detector's memory is still empty there, and those near existing labels. The best come first: who has time for
    fewer takes the first lines.

    Recordings are read twice, window by window, in bounded memory: once to choose, once for the sheet.

    Args:
        recordings: Files of any supported format, folders of such files, or folders in DSEC's layout. Box files beside
            them (<name>_bbox.npy, .csv or .json) tell what is labelled already.
        output: CSV file to write: recording, t_us (end of the window, on the recording's clock), reason, score.
        count: Moments that are wanted.
        seed: Another seed gives another list, about as good; the same one gives the same list.
        checkpoint: A detector, `model.ckpt`.
        sheet: PNG of the contact sheet; default: the name of the CSV file with .png.
        apart_s: Least seconds between two moments of a recording, and between a moment and an existing label.
        window_us: Length of a window in microseconds; with a detector, its own is taken.
        sensor: Size of the sensor if the recordings do not tell it; without it the detector's is assumed.
        times: Unit and shift of the recordings' clock, and which part is read. The CSV, and box files, are on the clock
            after the shift.
        hardware: Where the detector runs.

    Raises:
        ConfigError: An option is out of range, or a file to write is a folder or has another ending.
        DataError: A recording or box file is missing or damaged, or nothing is left to choose.
        CheckpointError: The detector is missing or damaged.
        ResourceError: Disk or memory is full, or a place is not writable.
    """
    sheet = Path(output).with_suffix(".png") if sheet is None else sheet
    _check_options(output, sheet, apart_s)
    files = _find(recordings)
    detector = None if checkpoint is None else prepare_for_inference(load_detector(checkpoint), hardware)
    if detector is not None:
        window_us = detector.sequence.window_us
    apart_us = round(apart_s * 1e6)

    def open_one(file: RecordingFiles) -> Recording:
        if detector is None:
            return open_recording(file.events, sensor, times)
        return open_for(file.events, sensor, times, detector.sequence)

    with memory_errors("looking for moments", _MEMORY_ADVICE):
        candidates, seconds, objects = _look_through(files, open_one, window_us, apart_us, detector)
    value = worth(candidates)
    if not value.any():
        raise DataError(
            recordings[0] if len(recordings) == 1 else files[0].events.parent,
            "there is no moment to suggest: in no window half a second or more after the first event, and away from "
            f"existing labels (--apart {apart_s:g}), does anything move.",
        )
    choice = choose(
        candidates.recording,
        candidates.t_us,
        candidates.look,
        value,
        count,
        seed,
        apart_us,
        taken=np.flatnonzero(~candidates.eligible),
    )
    moments = [
        Moment(folder_or_file(files[candidates.recording[row]]), int(candidates.t_us[row]), reason, float(score))
        for row, reason, score in zip(choice.rows, reasons(candidates, choice.rows), choice.scores, strict=True)
    ]
    classes = () if detector is None else detector.sequence.classes

    def paint(row: int, events: EventChunk, recording: Recording) -> np.ndarray:
        picture = paint_events(events, recording.height, recording.width)
        seen = objects[candidates.recording[row]]
        if seen is None:
            return picture
        boxes = seen.boxes[seen.frame_indices == candidates.index[row]]
        return paint_objects(picture, boxes, classes, recording.width)

    tiles = _tiles(files, open_one, candidates, choice.rows[:_MOST_TILES], moments, window_us, paint)
    write_contact_sheet(sheet, tiles)
    write_moments(output, moments)
    eligible = int(candidates.eligible.sum())
    if len(moments) < count:
        logger.warning(
            "only %d moments instead of %d: all others are like one of these, or less than %g s (--apart) away from it",
            *(len(moments), count, apart_s),
        )
    logger.info("%s: %d moments out of %d, in %d recordings", output, len(moments), eligible, len(files))
    return SuggestionSummary(recordings=len(files), seconds=seconds, candidates=eligible, chosen=len(moments))


def _check_options(output: Path, sheet: Path, apart_s: float) -> None:
    if not (math.isfinite(apart_s) and 0 <= apart_s <= 1e6):
        raise ConfigError(f"--apart {apart_s:g}: expected seconds, at least 0")
    for path, suffix, what in ((output, ".csv", "list of moments"), (sheet, ".png", "contact sheet")):
        if Path(path).suffix.lower() != suffix:
            raise ConfigError(f"{path}: end the name of the {what} in {suffix}")
        check_writable(path)


def _find(paths: SequenceOf[Path]) -> list[RecordingFiles]:
    """All recordings, each once, in the order of the arguments and, in a folder, of their names."""
    found: dict[Path, RecordingFiles] = {}
    for path in paths:
        of_path = [recording_files(path)] if is_recording(path) else find_recordings(path, unlabelled=True)
        for files in of_path:
            found.setdefault(files.events.resolve(), files)
    if not found:
        raise ConfigError("give at least one recording, or a folder with recordings")
    return list(found.values())


def _look_through(
    files: SequenceOf[RecordingFiles],
    open_one: Callable[[RecordingFiles], Recording],
    window_us: int,
    apart_us: int,
    detector: Detector | None,
) -> tuple[Candidates, float, list[FrameBoxes | None]]:
    """The candidates of all recordings, their length in seconds, and what the detector sees in each."""
    parts, seconds, objects = [], 0.0, []
    for number, file in enumerate(files):
        labelled_us = np.zeros(0, np.int64) if file.boxes is None else read_label_moments(file.boxes)
        with open_one(file) as recording:
            halve = False
            if detector is not None:
                halve = detector.sequence.downsample_by_2
                adapt(detector, recording, halve)
            found = candidates_of_recording(recording, number, window_us, labelled_us, apart_us, detector, halve)
        parts.append(found.candidates)
        objects.append(found.objects)
        seconds += found.duration_s
        eligible = int(found.candidates.eligible.sum())
        if not eligible:
            logger.warning("%s: nothing to suggest; too short, nothing moves, or all of it is labelled", file.events)
        logger.debug("%s: %d candidates of %d windows", file.events, eligible, found.windows)
    return Candidates.joined(parts), seconds, objects


def _tiles(
    files: SequenceOf[RecordingFiles],
    open_one: Callable[[RecordingFiles], Recording],
    candidates: Candidates,
    rows: np.ndarray,
    moments: SequenceOf[Moment],
    window_us: int,
    paint: Callable[[int, EventChunk, Recording], np.ndarray],
) -> list[Tile]:
    """A tile for each of the first moments, in their order."""
    names = _distinct_names(files)
    tiles: list[Tile | None] = [None] * len(rows)
    recordings = sorted({int(number) for number in candidates.recording[rows]})
    for number in progress(recordings, "drawing", unit="recording"):
        wanted = {
            int(candidates.t_us[row]): rank for rank, row in enumerate(rows) if candidates.recording[row] == number
        }
        with open_one(files[number]) as recording:
            for end_us, events in _until(read_adjoining_windows(recording, window_us), max(wanted)):
                if (rank := wanted.get(end_us)) is not None:
                    moment = moments[rank]
                    lines = (
                        f"{rank + 1}   {names[number]}",
                        f"{end_us / 1e6:.2f} s   (score {moment.score:.2f})",
                        moment.reason,
                    )
                    tiles[rank] = Tile(paint(int(rows[rank]), events, recording), lines)
    return [tile for tile in tiles if tile is not None]


def _until(windows: Iterable[tuple[int, EventChunk]], last_us: int) -> Iterator[tuple[int, EventChunk]]:
    """The windows up to the one that ends at ``last_us``."""
    for window in windows:
        yield window
        if window[0] >= last_us:
            return


def _distinct_names(files: SequenceOf[RecordingFiles]) -> list[str]:
    """Names of the recordings, with their folder where two have the same."""
    counts = Counter(file.name for file in files)
    return [
        file.name if counts[file.name] == 1 else f"{folder_or_file(file).resolve().parent.name}/{file.name}"
        for file in files
    ]
