"""Stage `visualize`: look at a sequence, its labels and what a detector makes of it."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image

from leod.boxes import operations as box_operations
from leod.boxes.dtypes import LABEL_DTYPE
from leod.config.schema import SHOWN_CONFIDENCE, DetectionConfig, HardwareConfig, SequenceConfig
from leod.drawing.pictures import THEMES, BoxKind, Theme, comfortable_scale, compose, kind_of, paint_frame
from leod.drawing.video import write_video
from leod.errors import ConfigError, DataError
from leod.files import atomic_directory, atomic_file, check_writable
from leod.inference.devices import prepare_for_inference
from leod.inference.runner import detect_sequences
from leod.models.checkpoint import load_detector
from leod.options import Argument, Names
from leod.progress import progress
from leod.pseudo_labels.predictions import PredictionsFile
from leod.sequences.sequence import Sequence

logger = logging.getLogger(__name__)

_FASTEST_VIDEO_HZ = 30.0
_FRAMES_READ_AT_ONCE = 32
_SHEET_COLUMNS = 3
_SHEET_PICTURE_WIDTH = 480
_SHEET_BORDER = 3


@dataclass(frozen=True)
class _Layer:
    """Boxes over time.

    Attributes:
        frames: int64 [K], strictly increasing: frames that have boxes.
        boxes: K arrays of `LABEL_DTYPE` rows in frame pixels.
        kind: What the boxes are; None: each row tells.
        hold: Frames for which boxes stay in the picture.
    """

    frames: np.ndarray
    boxes: list[np.ndarray]
    kind: BoxKind | None
    hold: int

    def at(self, frame: int) -> np.ndarray:
        """Boxes that belong into the picture of ``frame``."""
        latest = int(np.searchsorted(self.frames, frame, side="right")) - 1
        if latest < 0 or frame - self.frames[latest] >= self.hold:
            return np.zeros(0, LABEL_DTYPE)
        return self.boxes[latest]

    def kinds(self) -> set[BoxKind]:
        """Kinds of boxes that occur."""
        if self.kind is not None:
            return {self.kind}
        return {kind_of(box) for boxes in self.boxes for box in boxes}


def visualize(
    sequence: Annotated[Path, Argument()],
    output: Path,
    config: SequenceConfig,
    *,
    ground_truth: Path | None = None,
    predictions: Path | None = None,
    checkpoint: Path | None = None,
    confidence_threshold: Annotated[float, Names("--confidence")] = SHOWN_CONFIDENCE,
    start_s: Annotated[float, Names("--start")] = 0.0,
    duration_s: Annotated[float | None, Names("--duration")] = None,
    speed: float = 1.0,
    pictures: int = 12,
    hold_frames: int = 2,
    theme: str = "light",
    scale: int = 0,
    hardware: HardwareConfig = HardwareConfig(),  # noqa: B008  (immutable)
) -> None:
    """Draw a sequence with its labels, and detections if asked, as video or pictures.

    The sequence's own labels are drawn as what they are: ground truth, pseudo-labels, ignored or inpainted boxes.

    Args:
        sequence: Folder of a preprocessed or pseudo-labelled sequence.
        output: ``*.mp4``: video. ``*.png``: contact sheet of evenly spaced (labelled, if there are any) frames. A name
            without suffix: folder of one PNG a frame, replaced when it exists.
        config: What the data set's frames and classes look like.
        ground_truth: Folder of the same sequence in another set; its labels are drawn as ground truth on top.
        predictions: File of merged detections (`leod.pseudo_labels.predictions`) to draw.
        checkpoint: A detector (`model.ckpt`) to run over the sequence from its start.
        confidence_threshold: Detections and predictions below are left out (objectness times class confidence).
        start_s: First second that is shown.
        duration_s: Seconds that are shown; default: to the end.
        speed: Video: seconds of the recording per second of playing; above real time frames are left out.
        pictures: Contact sheet: number of frames.
        hold_frames: Frames for which the labels of a labelled frame stay; labels rarer than frames only flash else.
        theme: 'light' or 'dark'.
        scale: Enlargement of the sensor's pixels; 0: such that text is legible.
        hardware: Where the detector runs.

    Raises:
        ConfigError: An option is out of range, or ``output`` cannot be a file or folder of that name.
        DataError: A file is missing or damaged, or ``predictions`` does not hold the sequence.
        CheckpointError: The detector does not fit the data set.
        ResourceError: Disk full or not writable.
    """
    output = Path(output)
    _check_options(output, speed, pictures, hold_frames, theme, scale)
    check_writable(output if output.suffix else output / "picture")
    opened = Sequence(sequence, config)
    layers = [_label_layer(opened, None, hold_frames)]
    if ground_truth is not None:
        layers.append(_label_layer(Sequence(ground_truth, config), BoxKind.GROUND_TRUTH, hold_frames))
    if predictions is not None:
        layers.append(_prediction_layer(predictions, opened.name, config, confidence_threshold))
    if checkpoint is not None:
        layers.append(_detection_layer(checkpoint, opened, config, confidence_threshold, hardware))

    first, stop = _span(opened, config, start_s, duration_s)
    colours = THEMES[theme]
    if output.suffix == ".mp4":
        rate = speed * 1e6 / config.window_us
        step = max(1, math.ceil(rate / _FASTEST_VIDEO_HZ))
        frames = np.arange(first, stop, step)
        scale = scale or comfortable_scale(config.frame_size[1])
        write_video(output, _compose_all(opened, frames, layers, config, colours, scale), rate / step)
    elif output.suffix == ".png":
        frames = _evenly_spaced(opened, first, stop, pictures)
        scale = scale or max(1, round(_SHEET_PICTURE_WIDTH / config.frame_size[1]))
        _write_picture(
            output, _contact_sheet(list(_compose_all(opened, frames, layers, config, colours, scale)), colours)
        )
    else:
        scale = scale or comfortable_scale(config.frame_size[1])
        frames = np.arange(first, stop)
        with atomic_directory(output) as folder:
            for frame, picture in zip(
                frames, _compose_all(opened, frames, layers, config, colours, scale), strict=True
            ):
                Image.fromarray(picture).save(folder / f"frame_{frame:06d}.png")
    logger.info("%s: %d frames of %s", output, len(frames), opened.name)


def _check_options(output: Path, speed: float, pictures: int, hold_frames: int, theme: str, scale: int) -> None:
    if output.suffix not in (".mp4", ".png", ""):
        raise ConfigError(
            f"{output}: a name ending in .mp4 makes a video, one in .png a contact sheet, one without an ending a "
            f"folder of pictures; {output.suffix!r} is none of these"
        )
    if theme not in THEMES:
        raise ConfigError(f"theme {theme!r} does not exist; possible are {', '.join(THEMES)}")
    if speed <= 0 or pictures < 1 or hold_frames < 1 or scale < 0:
        raise ConfigError("speed must be positive, pictures and hold_frames at least 1, scale at least 0")


def _span(sequence: Sequence, config: SequenceConfig, start_s: float, duration_s: float | None) -> tuple[int, int]:
    per_second = 1e6 / config.window_us
    first = max(0, round(start_s * per_second))
    stop = sequence.num_frames
    if duration_s is not None:
        stop = min(stop, first + max(1, round(duration_s * per_second)))
    if first >= stop:
        raise ConfigError(
            f"there is nothing to show from second {start_s:g} on: {sequence.name} ends after "
            f"{sequence.num_frames / per_second:g} seconds"
        )
    return first, stop


def _evenly_spaced(sequence: Sequence, first: int, stop: int, count: int) -> np.ndarray:
    labelled = sequence.labelled_frames[(sequence.labelled_frames >= first) & (sequence.labelled_frames < stop)]
    candidates = labelled if len(labelled) else np.arange(first, stop)
    return candidates[np.unique(np.linspace(0, len(candidates) - 1, min(count, len(candidates))).round().astype(int))]


def _label_layer(sequence: Sequence, kind: BoxKind | None, hold: int) -> _Layer:
    frames = sequence.labelled_frames
    return _Layer(frames, [sequence.frame_labels(k) for k in range(len(frames))], kind, hold)


def _group(frame_indices: np.ndarray, boxes: np.ndarray, threshold: float) -> _Layer:
    keep = boxes["objectness"] * boxes["class_confidence"] >= threshold
    frame_indices, boxes = frame_indices[keep], boxes[keep]
    frames, starts = np.unique(frame_indices, return_index=True)
    return _Layer(frames, np.split(boxes, starts[1:]) if len(frames) else [], BoxKind.DETECTION, hold=1)


def _prediction_layer(path: Path, name: str, config: SequenceConfig, threshold: float) -> _Layer:
    with PredictionsFile(path) as file:
        if name not in file.names:
            raise DataError(path, f"holds no predictions for the sequence {name!r}. Choose the shard that does.")
        predicted = file[name]
    frames, boxes = predicted.frame_indices, predicted.boxes
    if config.downsample_by_2:
        halved = box_operations.scale_all(boxes, (config.sensor.height, config.sensor.width), 0.5)
        keep = box_operations.has_area(halved)
        frames, boxes = frames[keep], halved[keep]
    return _group(frames, boxes, threshold)


def _detection_layer(
    checkpoint: Path, sequence: Sequence, config: SequenceConfig, threshold: float, hardware: HardwareConfig
) -> _Layer:
    detector = prepare_for_inference(load_detector(checkpoint, expected_sequence=config), hardware)
    detection = DetectionConfig(confidence_threshold=threshold, batch_size=1)
    (result,) = detect_sequences(detector, [sequence], detection)
    return _group(result.frame_indices, result.boxes, threshold)


def _compose_all(
    sequence: Sequence,
    frames: np.ndarray,
    layers: list[_Layer],
    config: SequenceConfig,
    theme: Theme,
    scale: int,
) -> Iterator[np.ndarray]:
    """Yield one picture for each of ``frames``, uint8 [H, W, 3]."""
    occurring = set().union(*(layer.kinds() for layer in layers))
    legend = [kind for kind in BoxKind if kind in occurring]
    block_start, block = 0, np.empty((0,))
    for frame in progress([int(frame) for frame in frames], "drawing", unit="frame"):
        if not block_start <= frame < block_start + len(block):
            block_start = frame
            block = sequence.read_frames(frame, min(frame + _FRAMES_READ_AT_ONCE, sequence.num_frames))
        seconds = sequence.timestamps_us[frame] * 1e-6
        yield compose(
            paint_frame(block[frame - block_start], theme, scale),
            [(layer.at(frame), layer.kind) for layer in layers],
            config.classes,
            scale,
            f"{sequence.name}   {seconds:.2f} s",
            legend,
            theme,
        )


def _contact_sheet(tiles: list[np.ndarray], theme: Theme) -> np.ndarray:
    columns = min(_SHEET_COLUMNS, len(tiles))
    border = ((0, _SHEET_BORDER), (0, _SHEET_BORDER), (0, 0))
    framed = [np.pad(tile, border, constant_values=128) for tile in tiles]
    empty = np.full_like(framed[0], theme.background)
    framed += [empty] * (-len(framed) % columns)
    rows = [np.concatenate(framed[start : start + columns], axis=1) for start in range(0, len(framed), columns)]
    return np.concatenate(rows)


def _write_picture(path: Path, picture: np.ndarray) -> None:
    with atomic_file(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")
