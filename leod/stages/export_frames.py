"""Tool `export_frames`: pictures of moments, to be labelled in a tool, with a detector's boxes to start from."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image

from leod.boxes.box_files import BOX_FILE_SUFFIXES, read_boxes
from leod.boxes.conversion import load_arrays
from leod.boxes.dtypes import IGNORED_CLASS_ID, LABEL_DTYPE
from leod.boxes.operations import is_empty_moment
from leod.config.schema import SHOWN_CONFIDENCE, HardwareConfig, RecordingTimesConfig, SensorSize
from leod.drawing.pictures import THEMES
from leod.errors import ConfigError, DataError
from leod.files import atomic_directory, check_writable
from leod.labelling.annotations import Box, Export, PictureToLabel
from leod.labelling.class_names import parse_classes
from leod.labelling.formats import parse_formats, write_formats
from leod.labelling.manifest import (
    MANIFEST_NAME,
    ExportedPicture,
    ExportedRecording,
    beginning_digest,
    class_name,
    drawable_classes,
    picture_name,
    write_manifest,
)
from leod.labelling.moments import Moment, read_moments
from leod.labelling.pictures import MomentPictures, PictureStyle, labelling_scale, moment_pictures
from leod.models.checkpoint import load_detector
from leod.options import Argument, FromOptions, Names
from leod.progress import progress
from leod.recordings.discovery import RecordingFiles, recording_files
from leod.recordings.recording import open_recording
from leod.stages.detect import detect
from leod.stages.recording_options import recording_times, sensor_size

logger = logging.getLogger(__name__)

_IMAGES, _CONTEXT = "images", "context"
_LARGEST_SCALE = 32
_NEAR_US = 50_000
"""Boxes of windows that end this close to a moment are proposed for it."""


@dataclass(frozen=True)
class ExportSummary:
    """What an export holds.

    Attributes:
        export_id: See `leod.labelling.manifest.Manifest`.
        pictures: Number of pictures.
        recordings: Number of recordings that they show.
        boxes: Number of boxes that are proposed.
        empty: Names of pictures that show no event.
    """

    export_id: str
    pictures: int
    recordings: int
    boxes: int
    empty: tuple[str, ...]


def export_frames(
    moments: Annotated[Path, Argument()],
    output: Path,
    *,
    formats: Annotated[str, Names("--format")] = "label-studio",
    classes: str | None = None,
    checkpoint: Annotated[Path | None, Names("--checkpoint", "--weights")] = None,
    boxes: list[Path] | None = None,
    confidence_threshold: Annotated[float | None, Names("--confidence")] = None,
    count: int | None = None,
    windows_ms: str = "200,500",
    neighbours: int = 2,
    neighbour_step_ms: float = 100.0,
    scale: int = 0,
    theme: str = "light",
    picture_url: str | None = None,
    sensor: Annotated[SensorSize | None, FromOptions(sensor_size)] = None,
    times: Annotated[RecordingTimesConfig, FromOptions(recording_times)] = RecordingTimesConfig(),  # noqa: B008
    hardware: HardwareConfig = HardwareConfig(),  # noqa: B008  (immutable)
) -> ExportSummary:
    """Write pictures of chosen moments for a labelling tool, with boxes to start from.

    The folder holds `images/` (a clean picture of each moment), `context/` (a sheet beside it: what was before and
    after, longer windows), a folder for each format, and `manifest.json`, with which `import-labels` brings the boxes
    back. Each recording is read once, up to its last moment; a few moments are in memory at a time.

    Args:
        moments: CSV of moments: `recording`, `t_us` [, `reason`, `score`], as `suggest-frames` writes it.
        output: Folder to make.
        formats: Formats, separated by commas: label-studio, coco, cvat, yolo, voc.
        classes: Class names in label-id order, separated by commas; default: those of the detector.
        checkpoint: Detector (`model.ckpt`) that proposes boxes.
        boxes: Box files, `<recording>_bbox.csv` (.npy, .json), or folders of them, that propose boxes in place of a
            detector; may be given several times.
        confidence_threshold: Weaker boxes are not proposed; default: 0.3 for a detector, all that are in box files.
        count: Only so many moments, from the beginning of the list.
        windows_ms: Lengths of the windows that end at the moment, milliseconds: first that of the picture to label,
            in which events older than 50 ms are pale; others stand in the sheet. Slow objects need long ones.
        neighbours: Windows of up to 50 ms before the moment in the sheet, and windows after it.
        neighbour_step_ms: How far they are apart, milliseconds.
        scale: Enlargement of the picture to label, a whole number; 0: such that small sensors can be labelled.
        theme: 'light' or 'dark'.
        picture_url: Label Studio: address of a web server that serves the folder; without it pictures are part of the
            tasks.
        sensor: Size of the sensor if the recordings do not tell it.
        times: Unit and shift of the recordings' clocks.
        hardware: Where the detector runs.

    Raises:
        ConfigError: An option is out of range, or ``output`` exists.
        DataError: A file is missing or damaged, a moment lies outside its recording, or box files do not fit.
        CheckpointError: The detector is missing or damaged.
        ResourceError: Disk or memory is full, or a place is not writable.
    """
    names = parse_formats(formats)
    style = _style(windows_ms, neighbours, neighbour_step_ms, scale, theme)
    output = Path(output)
    _check_output(output, checkpoint, boxes, count)
    chosen = read_moments(moments)[:count]
    class_names = _classes(classes, checkpoint)
    recordings = {path: recording_files(path) for path in dict.fromkeys(moment.recording for moment in chosen)}
    proposals = _Proposals(class_names, checkpoint, boxes, confidence_threshold)
    proposals.check(recordings.values())
    with atomic_directory(output) as folder:
        (folder / _IMAGES).mkdir()
        made: dict[Moment, tuple[ExportedPicture, str | None]] = {}
        empty: list[str] = []
        shown: dict[str, Path] = {}
        for path, files in recordings.items():
            of_recording = {moment.t_us: moment for moment in chosen if moment.recording == path}
            _check_times(path, of_recording)
            with open_recording(files.events, sensor, times) as opened:
                recording = ExportedRecording(
                    files.name, path, beginning_digest(files.events), opened.height, opened.width
                )
                size = SensorSize(height=opened.height, width=opened.width)
                proposed = proposals.of(files, max(of_recording), size, times, hardware)
                found = moment_pictures(opened, list(of_recording), style)
                for pictures in progress(found, f"drawing {files.name}", total=len(of_recording), unit="picture"):
                    moment = of_recording[pictures.t_us]
                    near = _nearest(proposed, moment.t_us)
                    made[moment] = _save(folder, recording, moment, pictures, style, near)
                    name = made[moment][0].file
                    if name in shown:
                        raise DataError(path, f"is the same recording as {shown[name]}. Name its moments once.")
                    shown[name] = path
                    if not pictures.events:
                        empty.append(name)
        ordered = [made[moment] for moment in chosen]
        manifest = write_manifest(folder / MANIFEST_NAME, class_names, [picture for picture, _ in ordered], home=output)
        export = Export(
            manifest.export_id,
            tuple(drawable_classes(class_names)),
            tuple(_to_label(picture, sheet, class_names) for picture, sheet in ordered),
            folder / _IMAGES,
            folder / _CONTEXT,
            proposals.model,
            None if picture_url is None else picture_url.rstrip("/") + "/",
        )
        write_formats(folder, export, names)
    summary = ExportSummary(
        manifest.export_id,
        len(ordered),
        len(recordings),
        sum(len(picture.boxes) for picture, _ in ordered),
        tuple(empty),
    )
    if empty:
        logger.warning(
            "%d pictures show no event (%s%s); a longer window may help: --windows-ms",
            *(len(empty), empty[0], " …" if len(empty) > 1 else ""),
        )
    logger.info(
        "%s: %d pictures of %d recordings with %d boxes to start from, export %s; formats: %s",
        *(output, summary.pictures, summary.recordings, summary.boxes, summary.export_id, ", ".join(names)),
    )
    return summary


def _style(windows_ms: str, neighbours: int, neighbour_step_ms: float, scale: int, theme: str) -> PictureStyle:
    try:
        windows_us = tuple(round(float(text) * 1000) for text in windows_ms.split(","))
    except ValueError:
        windows_us = ()
    if not windows_us or min(windows_us) < 1 or max(windows_us) > 60_000_000:
        raise ConfigError(
            f"--windows-ms {windows_ms!r}: expected lengths in milliseconds above 0 and up to 60000, separated by "
            "commas, for example 200,500"
        )
    if not 0 <= neighbours <= 10 or not 0 < neighbour_step_ms <= 60_000:
        raise ConfigError(
            f"--neighbours must lie in 0..10 and --neighbour-step-ms in 0..60000; got {neighbours} and "
            f"{neighbour_step_ms:g}"
        )
    if not 0 <= scale <= _LARGEST_SCALE:
        raise ConfigError(f"--scale must lie in 0..{_LARGEST_SCALE}; got {scale}")
    if theme not in THEMES:
        raise ConfigError(f"theme {theme!r} does not exist; possible are {', '.join(THEMES)}")
    return PictureStyle(windows_us, neighbours, max(1, round(neighbour_step_ms * 1000)), scale, theme)


def _check_output(output: Path, checkpoint: Path | None, boxes: list[Path] | None, count: int | None) -> None:
    if output.exists():
        raise ConfigError(
            f"{output}: exists already, and labels may lie in it. Give another folder, or remove this one."
        )
    check_writable(output / MANIFEST_NAME)
    if checkpoint is not None and boxes:
        raise ConfigError("boxes to start from come from --checkpoint or from --boxes; give one of them")
    if count is not None and count < 1:
        raise ConfigError(f"--count must be at least 1; got {count}")


def _classes(classes: str | None, checkpoint: Path | None) -> tuple[str, ...]:
    if classes is not None:
        return parse_classes(classes)
    if checkpoint is None:
        raise ConfigError("give the names of the classes: --classes car,pedestrian (or a detector: --checkpoint)")
    return tuple(load_detector(checkpoint).sequence.classes)


def _check_times(path: Path, moments: Iterable[int]) -> None:
    if min(moments) < 1:
        raise ConfigError(f"{path}: the moment {min(moments)} µs cannot be labelled; times of labels are at least 1 µs")


class _Proposals:
    """Boxes to start from.

    Args:
        classes: Class names in label-id order.
        checkpoint: The detector, or None.
        boxes: Box files and folders of them, or None.
        confidence_threshold: Least score; None: what is usual for a detector, all boxes of files.
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        checkpoint: Path | None,
        boxes: list[Path] | None,
        confidence_threshold: float | None,
    ) -> None:
        self._classes = classes
        self._checkpoint = checkpoint
        self._sources = list(boxes or ())
        usual = 0.0 if checkpoint is None else SHOWN_CONFIDENCE
        self._threshold = usual if confidence_threshold is None else confidence_threshold
        self._files: dict[str, Path] = {}
        self.model = "boxes"
        if checkpoint is not None:
            known = tuple(load_detector(checkpoint).sequence.classes)
            foreign = [name for name in known if name not in classes]
            if foreign:
                raise ConfigError(
                    f"{checkpoint}: knows the class {foreign[0]!r}, which is not in --classes {','.join(classes)}"
                )
            self._ids = np.array([classes.index(name) for name in known])
            self.model = f"{checkpoint.parent.name}/{checkpoint.name}"

    def check(self, recordings: Iterable[RecordingFiles]) -> None:
        """Find the box files of the recordings.

        Raises:
            DataError: There are two for one, or none for any.
        """
        if not self._sources:
            return
        names = {files.name for files in recordings}
        candidates = []
        for source in self._sources:
            if not source.exists():
                raise DataError(source, "does not exist; expected a box file or a folder of box files.")
            candidates += sorted(source.iterdir()) if source.is_dir() else [source]
        for path in candidates:
            name = path.stem.removesuffix("_bbox")
            if path.suffix.lower() in BOX_FILE_SUFFIXES and path.stem != name and name in names:
                if name in self._files:
                    raise DataError(path, f"there is also {self._files[name]} for {name!r}. Give one of the two.")
                self._files[name] = path
        if not self._files:
            raise DataError(
                self._sources[0],
                f"holds no boxes of the recordings; expected {min(names)}_bbox.csv (or "
                f"{', '.join(BOX_FILE_SUFFIXES)}).",
            )
        for name in sorted(names - self._files.keys()):
            logger.warning("no box file for %s: nothing is proposed there", name)

    def of(
        self,
        files: RecordingFiles,
        last_us: int,
        sensor: SensorSize,
        times: RecordingTimesConfig,
        hardware: HardwareConfig,
    ) -> np.ndarray:
        """Boxes of a recording up to a time, `LABEL_DTYPE` [n] in pixels of the sensor."""
        if self._checkpoint is not None:
            return self._detected(files, last_us, sensor, times, hardware)
        path = self._files.get(files.name)
        if path is None:
            return np.zeros(0, LABEL_DTYPE)
        rows = read_boxes(path, self._classes)
        rows = rows[~is_empty_moment(rows)]
        unknown = (rows["class_id"] >= len(self._classes)) & (rows["class_id"] != IGNORED_CLASS_ID)
        if unknown.any():
            raise DataError(
                path,
                f"holds the class id {rows['class_id'][unknown][0]}; --classes names {len(self._classes)} classes, "
                f"ids 0 to {len(self._classes) - 1}.",
            )
        found = np.zeros(len(rows), LABEL_DTYPE)
        for name in LABEL_DTYPE.names:
            found[name] = 1.0 if name == "objectness" else rows[name]
        return found[found["class_confidence"] >= self._threshold]

    def _detected(
        self,
        files: RecordingFiles,
        last_us: int,
        sensor: SensorSize,
        times: RecordingTimesConfig,
        hardware: HardwareConfig,
    ) -> np.ndarray:
        end_us = last_us + _NEAR_US
        end_us = end_us if times.end_us is None else min(end_us, times.end_us)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "found.npy"
            detect(
                files.events,
                self._checkpoint,
                boxes=path,
                confidence_threshold=self._threshold,
                sensor=sensor,
                times=times.model_copy(update={"end_us": end_us}),
                hardware=hardware,
            )
            (found,) = load_arrays(path)
        found["class_id"] = self._ids[found["class_id"]]
        return found


def _nearest(proposed: np.ndarray, t_us: int) -> np.ndarray:
    """The boxes of the time nearest to a moment; none if it is further away than `_NEAR_US`."""
    if not len(proposed):
        return proposed
    distance = np.abs(proposed["t"] - t_us)
    nearest = proposed["t"][np.argmin(distance)]
    return proposed[proposed["t"] == nearest] if distance.min() <= _NEAR_US else proposed[:0]


def _save(
    folder: Path,
    recording: ExportedRecording,
    moment: Moment,
    pictures: MomentPictures,
    style: PictureStyle,
    proposed: np.ndarray,
) -> tuple[ExportedPicture, str | None]:
    """Write the pictures of a moment; the entry in the manifest, and the name of the sheet if there is one."""
    scale = style.scale or labelling_scale(recording.width)
    name = picture_name(recording, moment.t_us, scale, style.windows_us)
    Image.fromarray(pictures.picture).save(folder / _IMAGES / name)
    sheet = None
    if pictures.sheet is not None:
        (folder / _CONTEXT).mkdir(exist_ok=True)
        sheet = name
        Image.fromarray(pictures.sheet).save(folder / _CONTEXT / sheet)
    proposed = proposed.copy()
    proposed["t"] = moment.t_us
    size = pictures.picture.shape[0], pictures.picture.shape[1]
    return (
        ExportedPicture(name, recording, moment.t_us, scale, 0, 0, size, style.windows_us, moment.reason, proposed),
        sheet,
    )


def _to_label(picture: ExportedPicture, sheet: str | None, classes: tuple[str, ...]) -> PictureToLabel:
    """What tools get, in pixels of the picture."""
    scale = picture.scale
    boxes = tuple(
        Box(
            float(box["x"]) * scale + picture.left,
            float(box["y"]) * scale + picture.top,
            float(box["w"]) * scale,
            float(box["h"]) * scale,
            class_name(int(box["class_id"]), classes),
            round(float(box["objectness"]) * float(box["class_confidence"]), 4),
        )
        for box in picture.boxes
    )
    facts = {"recording": picture.recording.name, "t_us": picture.t_us, "reason": picture.reason}
    return PictureToLabel(picture.file, sheet, picture.size, boxes, facts)
