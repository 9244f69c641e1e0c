"""The Prophesee evaluation protocol for event-camera detectors (Perot et al., NeurIPS 2020), as RVT and LEOD use it.

Three of its habits are kept because the published figures depend on them:

* Detections are ranked by class confidence alone, although detection thresholds and NMS use objectness × class
  confidence.
* A class is evaluated after everything else was taken away, so frames without ground truth of the class, and the false
  positives in them, do not count. Hence AP is not the mean of the classes' APs, and a class without ground truth or
  detections gets 0. COCO's plain figure of each class is given beside it.
* A frame without any ground truth that is large enough does not count, nor do its false positives.

Ignored boxes in the ground truth, which the published data sets do not have, are treated as COCO treats crowds:
detections that lie in them count as neither right nor wrong, whatever their class.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from leod.boxes.dtypes import LABEL_DTYPE
from leod.boxes.operations import is_ignored
from leod.config.schema import EvaluationFilterConfig
from leod.evaluation.coco import PrecisionTable, compute_precision, no_detection_metrics

TIME_TOLERANCE_US = 50_000
"""A detection belongs to a labelled time at most this far away, inclusive."""


@dataclass(frozen=True)
class _Images:
    """Ground truth, detections and ignored boxes, each with the image (labelled time) they belong to."""

    ground_truth: npt.NDArray[np.void]
    ground_truth_images: npt.NDArray[np.int64]
    detections: npt.NDArray[np.void]
    detection_images: npt.NDArray[np.int64]
    ignored: npt.NDArray[np.void]
    ignored_images: npt.NDArray[np.int64]
    num_images: int

    def only_class(self, class_id: int) -> _Images:
        """What remains when every other class never existed: images without ground truth of the class vanish."""
        ground_truth_kept = self.ground_truth["class_id"] == class_id
        remaining, ground_truth_images = np.unique(self.ground_truth_images[ground_truth_kept], return_inverse=True)
        detections_kept = (self.detections["class_id"] == class_id) & np.isin(self.detection_images, remaining)
        ignored_kept = np.isin(self.ignored_images, remaining)
        return _Images(
            ground_truth=self.ground_truth[ground_truth_kept],
            ground_truth_images=ground_truth_images,
            detections=self.detections[detections_kept],
            detection_images=np.searchsorted(remaining, self.detection_images[detections_kept]),
            ignored=self.ignored[ignored_kept],
            ignored_images=np.searchsorted(remaining, self.ignored_images[ignored_kept]),
            num_images=len(remaining),
        )


def takes_part(boxes: npt.NDArray[np.void], config: EvaluationFilterConfig) -> npt.NDArray[np.bool_]:
    """Tell which boxes take part in the evaluation.

    Args:
        boxes: LABEL_DTYPE [n] in frame pixels.
        config: Boxes up to `skip_us` (inclusive) and those with a shorter diagonal or side are left out.

    Returns:
        bool [n], True = kept.
    """
    width, height = boxes["w"], boxes["h"]
    return (
        (boxes["t"] > config.skip_us)
        & (width**2 + height**2 >= config.min_diagonal**2)
        & (width >= config.min_side)
        & (height >= config.min_side)
    )


def evaluate_detections(
    ground_truth: SequenceOf[npt.NDArray[np.void]],
    detections: SequenceOf[npt.NDArray[np.void]],
    classes: SequenceOf[str],
    filter: EvaluationFilterConfig,
) -> dict[str, Any]:
    """Evaluate detections with the Prophesee protocol.

    In each entry, every time at which ground truth is left after filtering makes one image; the entry's detections at
    most `TIME_TOLERANCE_US` away belong to it, possibly to several. COCO's average precision over these images follows:
    IoU .50:.05:.95, 101 recall points, at most 100 detections per class and image.

    Args:
        ground_truth: One LABEL_DTYPE array per entry (a labelled frame or a whole recording), frame pixels, t in us;
            class id 1024 marks ignored boxes.
        detections: One LABEL_DTYPE array per entry; t must be the time of the frame, scores in 0..1.
        classes: Class names in label-id order.
        filter: Boxes that are left out, of the ground truth and the detections alike.

    Returns:
        JSON-ready: ``metrics`` (AP, AP50, AP75, AP_S, AP_M, AP_L in 0..1, -1 = no ground truth of that size),
        ``per_class`` (name → ``prophesee`` and ``coco`` metrics, numbers of boxes), ``counts``, and
        ``precision_recall`` (precision and class confidence of each class at IoU .5 at recall 0, .01, …, 1, over all
        images as in plain COCO; null where a class has no ground truth).

    Raises:
        ValueError: Different numbers of entries, or class ids outside ``classes``.
    """
    images = _build_images(ground_truth, detections, filter)
    num_classes = len(classes)
    for name, boxes in (("ground truth", images.ground_truth), ("detections", images.detections)):
        if boxes.size and boxes["class_id"].max() >= num_classes:
            raise ValueError(f"{name}: class id {boxes['class_id'].max()}, but there are {num_classes} classes")

    table = _precision(images, range(num_classes))
    per_class = {}
    for class_id, name in enumerate(classes):
        alone = images.only_class(class_id)
        if alone.detections.size:
            prophesee = _precision(alone, [class_id]).metrics()
        else:
            prophesee = no_detection_metrics()
        per_class[name] = {
            "prophesee": prophesee,
            "coco": table.metrics(class_id),
            "images": alone.num_images,
            "ground_truth": int(alone.ground_truth.size),
            "detections": int((images.detections["class_id"] == class_id).sum()),
        }
    return {
        "metrics": table.metrics() if images.detections.size else no_detection_metrics(),
        "per_class": per_class,
        "counts": {
            "entries": len(ground_truth),
            "images": images.num_images,
            "ground_truth": int(images.ground_truth.size),
            "detections": int(images.detections.size),
        },
        "precision_recall": _curves(table, classes),
    }


def _build_images(
    ground_truth: SequenceOf[npt.NDArray[np.void]],
    detections: SequenceOf[npt.NDArray[np.void]],
    filter: EvaluationFilterConfig,
) -> _Images:
    """Filter the boxes and assign them to labelled times."""
    if len(ground_truth) != len(detections):
        raise ValueError(f"{len(ground_truth)} entries of ground truth, but {len(detections)} of detections")
    all_rows, all_entries = _flatten(ground_truth)
    regions = is_ignored(all_rows)
    ignored_rows, ignored_entries = all_rows[regions], all_entries[regions]
    kept = ~regions & takes_part(all_rows, filter)
    ground_truth_rows, ground_truth_entries = all_rows[kept], all_entries[kept]
    detection_rows, detection_entries = _flatten(detections)
    kept = takes_part(detection_rows, filter)
    detection_rows, detection_entries = detection_rows[kept], detection_entries[kept]

    # Entries follow each other on one time axis, far enough apart that no tolerance window reaches another entry. Each
    # one's times are counted from its first box: a clock may show any time, and a product of it would overflow.
    starts = np.full(len(ground_truth), np.iinfo(np.int64).max)
    kinds = (
        (ground_truth_rows, ground_truth_entries),
        (detection_rows, detection_entries),
        (ignored_rows, ignored_entries),
    )
    for rows, entries in kinds:
        np.minimum.at(starts, entries, rows["t"])
    times = [rows["t"] - starts[entries] for rows, entries in kinds]
    distance = max((int(of_kind.max()) for of_kind in times if of_kind.size), default=0) + TIME_TOLERANCE_US + 1
    ground_truth_times, detection_times, ignored_times = (
        of_kind + entries * distance for of_kind, (_, entries) in zip(times, kinds, strict=True)
    )
    by_time = np.argsort(detection_times, kind="stable")
    sorted_times = detection_times[by_time]

    image_times, ground_truth_images = np.unique(ground_truth_times, return_inverse=True)
    first = np.searchsorted(sorted_times, image_times - TIME_TOLERANCE_US, side="left")
    last = np.searchsorted(sorted_times, image_times + TIME_TOLERANCE_US, side="right")
    counts = last - first
    detection_images = np.repeat(np.arange(len(image_times)), counts)
    rank_in_image = np.arange(len(detection_images)) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = by_time[np.repeat(first, counts) + rank_in_image]
    seen = np.isin(ignored_times, image_times)
    return _Images(
        ground_truth=ground_truth_rows,
        ground_truth_images=ground_truth_images,
        detections=detection_rows[chosen],
        detection_images=detection_images,
        ignored=ignored_rows[seen],
        ignored_images=np.searchsorted(image_times, ignored_times[seen]),
        num_images=len(image_times),
    )


def _flatten(
    entries: SequenceOf[npt.NDArray[np.void]],
) -> tuple[npt.NDArray[np.void], npt.NDArray[np.int64]]:
    """The boxes of all entries, and the entry each one comes from."""
    counts = [len(entry) for entry in entries]
    origin = np.repeat(np.arange(len(entries), dtype=np.int64), counts)
    rows = np.empty(len(origin), dtype=LABEL_DTYPE)
    # np.concatenate works out the common type of every pair of structured arrays, which takes longer than the copy.
    for entry, stop in zip(entries, np.cumsum(counts, dtype=np.int64).tolist(), strict=True):
        rows[stop - len(entry) : stop] = entry
    return rows, origin


def _precision(images: _Images, classes: SequenceOf[int]) -> PrecisionTable:
    return compute_precision(
        images.ground_truth,
        images.ground_truth_images,
        images.detections,
        images.detection_images,
        images.num_images,
        classes,
        images.ignored,
        images.ignored_images,
    )


def _curves(table: PrecisionTable, classes: SequenceOf[str]) -> dict[str, Any]:
    """Precision-recall curves at IoU .5 over boxes of every size, rounded to what a plot can show."""
    curves: dict[str, Any] = {}
    for class_id, name in enumerate(classes):
        precision = table.precision[0, :, class_id, 0]
        if (precision < 0).all():
            curves[name] = None
            continue
        curves[name] = {
            "precision": np.round(precision, 4).tolist(),
            "class_confidence": np.round(table.score[0, :, class_id, 0], 4).tolist(),
        }
    return {"iou": 0.5, "recall_step": 0.01, "classes": curves}
