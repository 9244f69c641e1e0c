"""Stage `choose_thresholds`: score thresholds of pseudo-labels from the validation split."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from pathlib import Path

import numpy as np

from leod.boxes.operations import has_area, is_ground_truth, is_ignored
from leod.config.schema import HardwareConfig, ThresholdChoiceConfig
from leod.config.settings import ChooseThresholdsSettings
from leod.errors import DataError
from leod.files import check_writable, write_json
from leod.inference.devices import prepare_for_inference
from leod.inference.merge import detect_merged
from leod.inference.views import views_of
from leod.models.checkpoint import load_detector
from leod.models.detector import Detector
from leod.provenance import Stopwatch
from leod.pseudo_labels.filtering import ScoreThresholds, select_pseudo_labels
from leod.pseudo_labels.quality import decided
from leod.pseudo_labels.thresholds import Matches, ThresholdChoice, choose_threshold, match
from leod.sequences.frame_boxes import FrameBoxes
from leod.sequences.sequence import Sequence, open_split

logger = logging.getLogger(__name__)

SPLIT = "val"


def choose_thresholds(
    checkpoint: Path,
    sequences: Path,
    output: Path,
    settings: ChooseThresholdsSettings,
    hardware: HardwareConfig = HardwareConfig(),  # noqa: B008  (immutable)
) -> None:
    """Choose score thresholds on the validation split, so that pseudo-labels are as precise as wanted.

    They are the least ones, class by class, that reach the wanted precision. The detector runs over the labelled frames
    of the validation split as it will over the train split: the same views, box filter and merging, only with the least
    threshold that is considered. What is measured is therefore the precision of the very boxes that become
    pseudo-labels, but for those few whose survival of the merging depends on the threshold itself.

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
    detector = prepare_for_inference(detector, hardware)
    parts = list(_matches(detector, labelled, settings, hardware.num_workers))
    choices = {
        name: _choose(name, Matches.joined([part[name] for part in parts]), settings.choice)
        for name in settings.sequence.classes
    }
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


def _matches(
    detector: Detector, labelled: SequenceOf[Sequence], settings: ChooseThresholdsSettings, num_workers: int
) -> Iterator[dict[str, Matches]]:
    """Detections above the least threshold beside the ground truth, sequence by sequence."""
    classes, frame_size = settings.sequence.classes, settings.sequence.frame_size
    least = ScoreThresholds.from_settings(dict.fromkeys(classes, settings.choice.minimum), classes)
    results = detect_merged(
        detector,
        labelled,
        settings.sequence,
        settings.detection,
        views=views_of(settings.views),
        merging=settings.merging,
        frames="labelled",
        to_labels=lambda detections: select_pseudo_labels(detections, frame_size, least, settings.box_filter)[0],
        num_workers=num_workers,
        description="choosing thresholds",
    )
    for sequence, found in results:
        truth = _ground_truth(sequence)
        counted = decided(truth, found.in_frames(sequence.labelled_frames))
        objects = truth.select(~is_ignored(truth.boxes))
        yield match(objects, counted, classes, settings.choice.iou_threshold)


def _choose(name: str, matches: Matches, settings: ThresholdChoiceConfig) -> ThresholdChoice:
    """Choose the threshold of one class and tell how that went."""
    target = settings.target_precision
    wanted = target[name] if isinstance(target, dict) else target
    choice = choose_threshold(matches, wanted, settings.minimum, settings.minimum_boxes)
    if choice.point is None:
        logger.warning("%s: no detection on the %s split; there will be no pseudo-labels of it", name, SPLIT)
    elif not choice.reached:
        logger.warning(
            "%s: no threshold reaches a precision of %.3f; the best is %.3f, at %.3f",
            *(name, choice.target_precision, choice.precision, choice.threshold),
        )
    else:
        logger.info("%s: threshold %.3f, precision %.3f", name, choice.threshold, choice.precision)
    return choice


def _ground_truth(sequence: Sequence) -> FrameBoxes:
    """Ground truth of a sequence in frame pixels, ignored boxes among it."""
    boxes = sequence.labels
    frames = np.repeat(sequence.labelled_frames, sequence.sequence_labels.counts)
    if not is_ground_truth(boxes).all():
        raise DataError(sequence.path, "holds pseudo-labels; precision needs ground truth.")
    return FrameBoxes(boxes, frames).select(has_area(boxes))
