"""Stage `validate_quality`: pseudo-labels against the ground truth that training never saw."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt

from leod.boxes.dtypes import LABEL_DTYPE
from leod.boxes.kept_labels import KeptLabels
from leod.boxes.operations import clamp, has_area, is_ignored, is_pseudo_label
from leod.config.schema import SequenceConfig
from leod.config.settings import QualitySettings
from leod.errors import DataError
from leod.evaluation.coco import compute_precision, no_detection_metrics
from leod.files import check_writable, write_json
from leod.options import Argument
from leod.progress import progress
from leod.provenance import Stopwatch
from leod.pseudo_labels.predictions import PredictionShards, SequencePredictions
from leod.pseudo_labels.quality import ALL_CLASSES, IOU_THRESHOLDS, QualityTally, ScoreRelation, decided, overlaps
from leod.pseudo_labels.seen_by_training import TrainingTally
from leod.pseudo_labels.writer import is_inpainted
from leod.sequences.frame_boxes import FrameBoxes, read_frame_boxes
from leod.sequences.layout import label_file, list_sequences, read_labelled_frames
from leod.sequences.representations import representation_name

logger = logging.getLogger(__name__)

MAX_AP_FRAMES = 20_000
"""Average precision needs all boxes at once; of more frames than this, evenly spaced ones are taken."""


def validate_quality(
    predictions: Annotated[list[Path], Argument()],
    dataset: Path,
    sequences: Path,
    labels: Path,
    output: Path,
    settings: QualitySettings,
) -> None:
    """Measure pseudo-labels against the hidden ground truth, before and after tracking.

    Written is JSON: precision and recall at 25, 50 and 75 % IoU per class (`leod.pseudo_labels.quality`), COCO's
    average precision, the relation of scores and IoU, and whether the boxes that tracking ignored were wrong and those
    that it inpainted cover ground truth; and what the loss of the next training makes of the labels
    (`leod.pseudo_labels.seen_by_training`). Without hidden ground truth (own recordings, all labels kept) the JSON says
    so. The precision of pseudo-labels predicts what the next round gains (LEOD paper, Sec. 4.4).

    Args:
        predictions: All shards of `generate_pseudo_labels`.
        dataset: The pseudo-labelled data set that `track_filter` made of them.
        sequences: Folder of the original data set.
        labels: The split of record, `labels.json`.
        output: JSON file to write.
        settings: Sensor, classes, representation, and which labels the loss ignores.

    Raises:
        ConfigError: ``output`` cannot be a file.
        DataError: A file is damaged, or data set, predictions and sequences do not belong together.
        ResourceError: The disk is full or not writable.
    """
    stopwatch = Stopwatch()
    check_writable(output)
    kept_labels = KeptLabels.read(labels)
    representation = representation_name(settings.sequence.representation, settings.sequence.window_us)
    sources = list_sequences(sequences, "train")
    hidden_frames = {source.name: _hidden_frames(source, representation, kept_labels) for source in sources}
    frame_count = sum(len(positions) for positions in hidden_frames.values())
    measures = _Measures(settings, every=-(-frame_count // MAX_AP_FRAMES) if frame_count else 1)
    with PredictionShards(predictions) as shards:
        for source in progress(sources, "quality", unit="sequence"):
            positions = hidden_frames[source.name]
            if len(positions):
                truth = _hidden_ground_truth(source, representation, positions, settings.sequence)
                frames = read_labelled_frames(source, representation)[positions]
                found = shards[source.name]
                judged, added = _tracked(dataset, source.name, representation, found, settings.smooth_frames > 0)
                measures.add(truth, frames, found, judged, added)
    provenance = stopwatch.provenance(
        "validate_quality",
        settings,
        {"predictions": predictions, "dataset": dataset, "sequences": sequences, "labels": labels},
    )
    content: dict[str, Any] = {"provenance": provenance, "hidden_frames": frame_count}
    if frame_count:
        content |= measures.summary()
    else:
        content["note"] = "No labelled frame was hidden from training, so there is nothing to compare with."
        logger.info("no hidden ground truth: quality is not measured")
    write_json(Path(output), content)


def _hidden_frames(source: Path, representation: str, kept_labels: KeptLabels) -> npt.NDArray[np.int64]:
    """Labelled frames (counted among the sequence's labelled frames) that are not kept."""
    count = len(read_labelled_frames(source, representation))
    return np.setdiff1d(np.arange(count), kept_labels.indices_within(source.name, count))


def _hidden_ground_truth(
    source: Path, representation: str, labelled_frames: npt.NDArray[np.int64], config: SequenceConfig
) -> FrameBoxes:
    """Hidden ground truth, cut at the border of the sensor; ignored boxes among it."""
    found = read_frame_boxes(source, representation, labelled_frames, len(config.classes))
    inside = FrameBoxes(clamp(found.boxes, (config.sensor.height, config.sensor.width)), found.frame_indices)
    return inside.select(has_area(inside.boxes))


def _tracked(
    dataset: Path, name: str, representation: str, predictions: SequencePredictions, are_smoothed: bool
) -> tuple[FrameBoxes, FrameBoxes]:
    """Pseudo-labels of the data set: those that were predicted, and the inpainted ones.

    Ignored boxes have lost their class and smoothed ones their place; all else must be as predicted.

    Raises:
        DataError: The data set was not made from these predictions.
    """
    folder = Path(dataset) / "train" / name
    found = read_frame_boxes(folder, representation)
    found = found.select(is_pseudo_label(found.boxes))
    inpainted = is_inpainted(found.boxes)
    predicted = found.select(~inpainted)
    same = np.array_equal(predicted.frame_indices, predictions.frame_indices) and all(
        np.array_equal(predicted.boxes[field], predictions.boxes[field])
        for field in LABEL_DTYPE.names
        if field != "class_id" and not (are_smoothed and field in ("x", "y", "w", "h"))
    )
    same = same and bool(
        (is_ignored(predicted.boxes) | (predicted.boxes["class_id"] == predictions.boxes["class_id"])).all()
    )
    if not same:
        raise DataError(
            label_file(folder),
            f"its pseudo-labels ({len(predicted)} without inpainted ones) are not the predictions "
            f"({len(predictions.boxes)}). Run track_filter again.",
        )
    return predicted, found.select(inpainted)


class _Measures:
    """Everything that is measured, gathered sequence by sequence.

    Args:
        settings: Classes and sizes, and which labels the loss ignores.
        every: Of the hidden frames every so many count for the average precision.
    """

    def __init__(self, settings: QualitySettings, every: int) -> None:
        config = settings.sequence
        self._classes = config.classes
        self._before, self._after = QualityTally(config.classes), QualityTally(config.classes)
        self._relation = ScoreRelation(config.classes)
        self._average_precision = [_AveragePrecision(config, every) for _ in range(2)]
        self._ignored = {name: _Shares() for name in (*config.classes, ALL_CLASSES)}
        self._inpainted = _Shares()
        self._seen = TrainingTally(config.classes, settings.ignore_thresholds)

    def add(
        self,
        truth: FrameBoxes,
        frames: npt.NDArray[np.int64],
        predictions: SequencePredictions,
        judged: FrameBoxes,
        added: FrameBoxes,
    ) -> None:
        """Add one sequence.

        Args:
            truth: Its hidden ground truth; pseudo-labels in ignored boxes of it do not count.
            frames: int64 [k], the hidden labelled frames.
            predictions: All its predictions.
            judged: What became of them, in the same order.
            added: The inpainted boxes.
        """
        self._seen.add(truth, judged.merge(added).in_frames(frames))
        is_ignored_now = is_ignored(judged.boxes)
        predicted = FrameBoxes(predictions.boxes, predictions.frame_indices)
        tracked = FrameBoxes(judged.boxes.copy(), judged.frame_indices)
        tracked.boxes["class_id"] = predictions.boxes["class_id"]
        before, after, ignored, inpainted = (
            decided(truth, boxes.in_frames(frames))
            for boxes in (predicted, tracked.select(~is_ignored_now), tracked.select(is_ignored_now), added)
        )
        truth = truth.select(~is_ignored(truth.boxes))
        self._before.add(truth, before)
        self._after.add(truth, after)
        self._relation.add(truth, before)
        for average_precision, pseudo in zip(self._average_precision, (before, after), strict=True):
            average_precision.add(truth, frames, pseudo)

        ious = overlaps(truth, ignored).pseudo
        self._ignored[ALL_CLASSES].add(ious)
        for class_id, name in enumerate(self._classes):
            self._ignored[name].add(ious[ignored.boxes["class_id"] == class_id])
        self._inpainted.add(overlaps(truth, inpainted).pseudo_any_class)

    def summary(self) -> dict[str, Any]:
        """All measures as plain JSON data."""
        before, after = self._average_precision
        return {
            "before_tracking": {"classes": self._before.summary(), "average_precision": before.summary()},
            "after_tracking": {"classes": self._after.summary(), "average_precision": after.summary()},
            "ignored_by_tracking": {name: shares.summary("correct") for name, shares in self._ignored.items()},
            "seen_by_training": self._seen.summary(),
            "inpainted": self._inpainted.summary("covers_ground_truth"),
            "score_relation": self._relation.summary(),
        }


class _Shares:
    """Shares of boxes whose best IoU is above each threshold."""

    def __init__(self) -> None:
        self._count = 0
        self._above = np.zeros(len(IOU_THRESHOLDS), np.int64)

    def add(self, ious: npt.NDArray[np.float32]) -> None:
        """Add boxes by their best IoU, float32 [n]."""
        self._count += len(ious)
        self._above += (ious[:, None] > np.array(IOU_THRESHOLDS, np.float32)).sum(axis=0)

    def summary(self, name: str) -> dict[str, Any]:
        """Number of boxes and the shares; None without boxes."""
        shares = {
            f"{name}_{threshold * 100:.0f}": int(above) / self._count if self._count else None
            for threshold, above in zip(IOU_THRESHOLDS, self._above, strict=True)
        }
        return {"boxes": self._count, **shares}


class _AveragePrecision:
    """COCO's average precision of pseudo-labels on evenly spaced hidden frames, in pixels of the (halved) frame."""

    def __init__(self, config: SequenceConfig, every: int) -> None:
        self._config = config
        self._every = every
        self._seen = 0
        self._images = 0
        self._truth: list[FrameBoxes] = []
        self._pseudo: list[FrameBoxes] = []

    def add(self, truth: FrameBoxes, frames: npt.NDArray[np.int64], pseudo: FrameBoxes) -> None:
        """Add the hidden frames of one sequence."""
        chosen = frames[(np.arange(len(frames)) + self._seen) % self._every == 0]
        for boxes, collected in ((truth.in_frames(chosen), self._truth), (pseudo.in_frames(chosen), self._pseudo)):
            collected.append(FrameBoxes(boxes.boxes, np.searchsorted(chosen, boxes.frame_indices) + self._images))
        self._seen += len(frames)
        self._images += len(chosen)

    def summary(self) -> dict[str, Any]:
        """The six figures over all classes and for each (-1 = no ground truth), and the number of frames."""
        truth, pseudo = (FrameBoxes.joined(parts) for parts in (self._truth, self._pseudo))
        if self._config.downsample_by_2:
            for name in ("x", "y", "w", "h"):
                truth.boxes[name] *= np.float32(0.5)
                pseudo.boxes[name] *= np.float32(0.5)
        classes = self._config.classes
        if len(pseudo) == 0 or len(truth) == 0:
            figures = [no_detection_metrics() for _ in range(len(classes) + 1)]
        else:
            table = compute_precision(
                truth.boxes,
                truth.frame_indices,
                pseudo.boxes,
                pseudo.frame_indices,
                self._images,
                range(len(classes)),
            )
            figures = [table.metrics(), *(table.metrics(class_id) for class_id in range(len(classes)))]
        return {"frames": self._images, **dict(zip((ALL_CLASSES, *classes), figures, strict=True))}
