"""Stage `choose_thresholds`: score thresholds of pseudo-labels from the validation split."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from collections.abc import Sequence as SequenceOf
from pathlib import Path
from typing import Any

import numpy as np

from leod.boxes.operations import has_area, is_ground_truth, is_ignored
from leod.config.schema import HardwareConfig, ThresholdChoiceConfig
from leod.config.settings import ChooseThresholdsSettings
from leod.errors import DataError
from leod.files import check_writable, write_json
from leod.inference.devices import prepare_for_inference
from leod.inference.merge import ViewCollector, detect_views
from leod.inference.views import views_of
from leod.models.checkpoint import load_detector
from leod.models.detector import Detector
from leod.provenance import Stopwatch
from leod.pseudo_labels.filtering import ScoreThresholds, select_pseudo_labels
from leod.pseudo_labels.quality import decided, overlaps
from leod.pseudo_labels.seen_by_training import COVERED_IOU
from leod.pseudo_labels.thresholds import (
    Matches,
    ThresholdChoice,
    choose_point,
    choose_threshold,
    curve_of_trials,
    highest_within,
    match,
    thresholds_to_try,
)
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
    pseudo-labels, but for those few whose survival of non-maximum suppression depends on the threshold itself. Where
    views are fused, every threshold is tried out, because it decides what is fused.

    With ``max_background`` a second, lower threshold decides which boxes there are at all: the highest one, the same
    for all classes but never above the one that reaches the precision, that leaves at most that share of the objects
    without any box (IoU above `leod.pseudo_labels.seen_by_training.COVERED_IOU`, whatever the class). The precision is
    then reached by the merged boxes above the threshold for keeping; `track_filter` takes the others as weak.

    Args:
        checkpoint: The detector whose pseudo-labels are wanted, `model.ckpt`.
        sequences: Folder of the data set.
        output: JSON file to write: ``thresholds`` (class name → what both scores must exceed) and ``classes`` with the
            precision and recall that led to them, curve included. With ``max_background`` also ``keep``: class name →
            what both scores of a merged box must exceed not to be weak; ``classes`` are then about those, and
            ``background`` tells how the thresholds of generating came about.
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
    validation = _Validation(prepare_for_inference(detector, hardware), labelled, settings, hardware.num_workers)
    choices = _choose_for_views(validation, settings)
    thresholds = {name: choice.threshold for name, choice in choices.items()}
    second: dict[str, Any] = {}
    limit = settings.choice.max_background
    if limit is not None:
        thresholds, second["background"] = _choose_for_coverage(validation, thresholds, limit, settings.choice)
        choices = _choose_among_merged(validation.matches(thresholds), settings.choice)
        second["keep"] = {name: choice.threshold for name, choice in choices.items()}
    for name, choice in choices.items():
        _tell(name, choice)
    provenance = stopwatch.provenance(
        "choose_thresholds", settings, {"checkpoint": checkpoint, "sequences": Path(sequences) / SPLIT}
    )
    write_json(
        output,
        {
            "provenance": provenance,
            "split": SPLIT,
            "labelled_frames": sum(len(sequence.labelled_frames) for sequence in labelled),
            "thresholds": thresholds,
            **second,
            "classes": {name: choice.summary() for name, choice in choices.items()},
        },
    )


class _Validation:
    """Boxes of the validation split's labelled frames, view by view, beside the ground truth.

    Args:
        detector: In evaluation mode.
        labelled: Sequences with labels.
        settings: Views, merging, least threshold.
        num_workers: Loader processes.
    """

    def __init__(
        self, detector: Detector, labelled: SequenceOf[Sequence], settings: ChooseThresholdsSettings, num_workers: int
    ) -> None:
        self._settings = settings
        classes, frame_size = settings.sequence.classes, settings.sequence.frame_size
        least = ScoreThresholds.from_settings(dict.fromkeys(classes, settings.choice.minimum), classes)
        self._found: list[tuple[FrameBoxes, Sequence, ViewCollector]] = [
            (_ground_truth(sequence), sequence, collector)
            for sequence, collector in detect_views(
                detector,
                labelled,
                settings.sequence,
                settings.detection,
                views=views_of(settings.views),
                frames="labelled",
                to_labels=lambda detections: select_pseudo_labels(detections, frame_size, least, settings.box_filter)[
                    0
                ],
                num_workers=num_workers,
                description="choosing thresholds",
            )
        ]

    def _merged(self, sequence: Sequence, collector: ViewCollector, thresholds: Mapping[str, float]) -> FrameBoxes:
        """What `generate_pseudo_labels` would predict in the labelled frames with these thresholds."""
        settings = self._settings
        scores = ScoreThresholds.from_settings(thresholds, settings.sequence.classes)
        found = collector.merged(
            settings.detection.confidence_threshold,
            settings.detection.nms_threshold,
            settings.merging,
            lambda boxes: scores.passed(
                boxes["class_id"].astype(np.int64), boxes["objectness"], boxes["class_confidence"]
            ),
        )
        return found.in_frames(sequence.labelled_frames)

    def matches(self, thresholds: Mapping[str, float]) -> dict[str, Matches]:
        """Class name → predictions with these thresholds beside the ground truth."""
        classes = self._settings.sequence.classes
        parts = []
        for truth, sequence, collector in self._found:
            counted = decided(truth, self._merged(sequence, collector, thresholds))
            objects = truth.select(~is_ignored(truth.boxes))
            parts.append(match(objects, counted, classes, self._settings.choice.iou_threshold))
        return {name: Matches.joined([part[name] for part in parts]) for name in classes}

    def background(self, thresholds: Mapping[str, float]) -> tuple[dict[str, int], dict[str, int]]:
        """Class name → objects, and those among them that no prediction with these thresholds overlaps."""
        classes = self._settings.sequence.classes
        objects, uncovered = dict.fromkeys(classes, 0), dict.fromkeys(classes, 0)
        for truth, sequence, collector in self._found:
            of_interest = truth.select(~is_ignored(truth.boxes))
            best = overlaps(of_interest, self._merged(sequence, collector, thresholds)).ground_truth_any_class
            for class_id, name in enumerate(classes):
                is_one = of_interest.boxes["class_id"] == class_id
                objects[name] += int(is_one.sum())
                uncovered[name] += int((best[is_one] <= np.float32(COVERED_IOU)).sum())
        return objects, uncovered


def _target(name: str, settings: ThresholdChoiceConfig) -> float:
    target = settings.target_precision
    return target[name] if isinstance(target, dict) else target


def _choose_among_merged(matches: Mapping[str, Matches], settings: ThresholdChoiceConfig) -> dict[str, ThresholdChoice]:
    """Choose by the scores of merged boxes."""
    return {
        name: choose_threshold(found, _target(name, settings), settings.minimum, settings.minimum_boxes)
        for name, found in matches.items()
    }


def _choose_for_views(validation: _Validation, settings: ChooseThresholdsSettings) -> dict[str, ThresholdChoice]:
    """Choose what the scores in each view must exceed so that the merged boxes are as precise as wanted."""
    classes, choice = settings.sequence.classes, settings.choice
    if settings.merging.method == "nms":
        return _choose_among_merged(validation.matches(dict.fromkeys(classes, choice.minimum)), choice)
    # A fused box has other scores than its members, so no threshold of theirs can be read off it.
    thresholds = thresholds_to_try(choice.minimum)
    trials = [validation.matches(dict.fromkeys(classes, threshold)) for threshold in thresholds]
    return {
        name: choose_point(
            curve_of_trials(thresholds, [trial[name] for trial in trials]),
            len(trials[0][name].found_at),
            _target(name, choice),
            choice.minimum_boxes,
        )
        for name in classes
    }


def _choose_for_coverage(
    validation: _Validation, most: Mapping[str, float], limit: float, settings: ThresholdChoiceConfig
) -> tuple[dict[str, float], dict[str, Any]]:
    """Choose the thresholds of generating, class by class at most ``most``, and tell how that went.

    ``limit`` is the share of the objects that may be without a box.
    """

    def capped(threshold: float) -> dict[str, float]:
        return {name: min(threshold, limit) for name, limit in most.items()}

    def share(threshold: float) -> float:
        objects, uncovered = validation.background(capped(threshold))
        return sum(uncovered.values()) / max(sum(objects.values()), 1)

    objects, _ = validation.background(capped(settings.minimum))
    threshold, reached = settings.minimum, False
    if sum(objects.values()) >= settings.minimum_boxes:
        threshold, reached = highest_within(thresholds_to_try(settings.minimum), share, limit)
    objects, uncovered = validation.background(capped(threshold))
    total = sum(objects.values())
    found = sum(uncovered.values()) / total if total else None
    if reached:
        logger.info("generating: threshold %.3f leaves %.3f of the objects without a box", threshold, found)
    elif total < settings.minimum_boxes:
        logger.warning(
            "generating: only %d objects on the %s split, too few to choose by; the threshold is the minimum, %.3f",
            *(total, SPLIT, threshold),
        )
    else:
        logger.warning(
            "generating: no threshold leaves at most %.3f of the objects without a box; at %.3f, the least, it is %.3f",
            *(limit, threshold, found),
        )
    account = {
        "max_background": limit,
        "threshold": threshold,
        "reached": reached,
        "share": found,
        "objects": total,
        "classes": {name: uncovered[name] / count if count else None for name, count in objects.items()},
    }
    return capped(threshold), account


def _tell(name: str, choice: ThresholdChoice) -> None:
    if choice.point is None:
        logger.warning("%s: no detection on the %s split; there will be no pseudo-labels of it", name, SPLIT)
    elif not choice.reached:
        logger.warning(
            "%s: no threshold reaches a precision of %.3f; the best is %.3f, at %.3f",
            *(name, choice.target_precision, choice.precision, choice.threshold),
        )
    else:
        logger.info("%s: threshold %.3f, precision %.3f", name, choice.threshold, choice.precision)


def _ground_truth(sequence: Sequence) -> FrameBoxes:
    """Ground truth of a sequence in frame pixels, ignored boxes among it."""
    boxes = sequence.labels
    frames = np.repeat(sequence.labelled_frames, sequence.sequence_labels.counts)
    if not is_ground_truth(boxes).all():
        raise DataError(sequence.path, "holds pseudo-labels; precision needs ground truth.")
    return FrameBoxes(boxes, frames).select(has_area(boxes))
