"""Stage `choose_thresholds`: score thresholds of pseudo-labels from the validation split."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt

from leod.config.schema import HardwareConfig
from leod.config.stages import ChooseThresholdsSettings
from leod.data.sequence import Sequence, open_split
from leod.errors import DataError
from leod.files import check_writable, write_json
from leod.inference.devices import prepare_for_inference
from leod.inference.merge import detect_merged
from leod.inference.views import views_of
from leod.labels.boxes import has_area, is_ground_truth, is_ignored
from leod.labels.frame_boxes import FrameBoxes
from leod.models.checkpoint import load_detector
from leod.provenance import Stopwatch
from leod.pseudo_labels.filtering import ScoreThresholds, select_pseudo_labels
from leod.pseudo_labels.quality import decided
from leod.pseudo_labels.thresholds import Matches, choose_threshold, match

logger = logging.getLogger(__name__)

SPLIT = "val"


def choose_thresholds(
    checkpoint: Path,
    sequences: Path,
    output: Path,
    settings: ChooseThresholdsSettings,
    hardware: HardwareConfig = HardwareConfig(),  # noqa: B008  (immutable)
) -> None:
    """Choose per class the least score threshold at which pseudo-labels reach the wanted precision.

    The detector runs over the labelled frames of the validation split as it will over the train split: the same views,
    box filter and merging, only with the least threshold that is considered. What is measured is therefore the
    precision of the very boxes that become pseudo-labels, but for those few whose survival of the merging depends on
    the threshold itself.

    Args:
        checkpoint: The detector whose pseudo-labels are wanted, `model.ckpt`.
        sequences: Folder of the data set.
        output: JSON file to write: ``thresholds`` (class name → what both scores must exceed) and ``classes`` with the
            precision and recall that led to them, curve included.
        settings: Wanted precision, views, post-processing.
        hardware: How the machine is used.

    Raises:
        ConfigError: ``output`` cannot be a file.
        CheckpointError: The checkpoint is damaged or belongs to another model or data set.
        DataError: The validation split is missing, damaged, without labels, or holds pseudo-labels.
        ResourceError: Out of memory or disk.
    """
    stopwatch = Stopwatch()
    check_writable(output)
    detector = load_detector(checkpoint, settings.model, settings.sequence)
    labelled = [s for s in open_split(sequences, SPLIT, settings.sequence) if len(s.labelled_frames)]
    if not labelled:
        raise DataError(
            Path(sequences) / SPLIT,
            "no sequence has labels, so no threshold can be chosen. Give pseudo_labels.score_thresholds instead of "
            "choose_thresholds, or label some validation recordings.",
        )
    classes = settings.sequence.classes
    least = ScoreThresholds.from_settings(dict.fromkeys(classes, settings.choice.minimum), classes)

    def to_labels(detections: npt.NDArray[np.float32]) -> np.ndarray:
        return select_pseudo_labels(detections, settings.sequence.frame_size, least, settings.box_filter)[0]

    results = detect_merged(
        prepare_for_inference(detector, hardware),
        labelled,
        settings.sequence,
        settings.detection,
        views=views_of(settings.views),
        frames="labelled",
        to_labels=to_labels,
        num_workers=hardware.num_workers,
        description="choosing thresholds",
    )
    parts: list[dict[str, Matches]] = []
    for sequence, found in results:
        truth = _ground_truth(sequence)
        counted = decided(truth, found.in_frames(sequence.labelled_frames))
        objects = truth.select(~is_ignored(truth.boxes))
        parts.append(match(objects, counted, classes, settings.choice.iou_threshold))

    target = settings.choice.target_precision
    choices = {
        name: choose_threshold(
            Matches.joined([part[name] for part in parts]),
            target[name] if isinstance(target, dict) else target,
            settings.choice.minimum,
            settings.choice.minimum_boxes,
        )
        for name in classes
    }
    for name, choice in choices.items():
        if choice.point is None:
            logger.warning("%s: no detection on the %s split; there will be no pseudo-labels of it", name, SPLIT)
        elif not choice.reached:
            logger.warning(
                "%s: no threshold reaches a precision of %.3f; the best is %.3f, at %.3f",
                name,
                choice.target_precision,
                choice.precision,
                choice.threshold,
            )
        else:
            logger.info("%s: threshold %.3f, precision %.3f", name, choice.threshold, choice.precision)
    provenance = stopwatch.provenance(
        "choose_thresholds", settings, {"checkpoint": checkpoint, "sequences": Path(sequences) / SPLIT}
    )
    write_json(
        output,
        {
            "provenance": provenance,
            "split": SPLIT,
            "labelled_frames": sum(len(sequence.labelled_frames) for sequence in labelled),
            "thresholds": {name: choice.threshold for name, choice in choices.items()},
            "classes": {name: choice.summary() for name, choice in choices.items()},
        },
    )


def _ground_truth(sequence: Sequence) -> FrameBoxes:
    """Ground truth of a sequence in frame pixels, ignored boxes among it."""
    boxes = sequence.labels
    frames = np.repeat(sequence.labelled_frames, sequence.sequence_labels.counts)
    if not is_ground_truth(boxes).all():
        raise DataError(sequence.path, "holds pseudo-labels; precision needs ground truth.")
    return FrameBoxes(boxes, frames).select(has_area(boxes))
