"""COCO average precision of flat box arrays.

Source of matching and accumulation: pycocotools (Lin et al., "Microsoft COCO", ECCV 2014; the public repository
cocodataset/cocoapi, `cocoeval.py`). The tables equal those of faster-coco-eval, the same in C++, in every bit; that one
wants a dictionary for each box, 20 kB for a frame of ten boxes, while here memory is that of the arrays.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from leod.jit import compiled

IOU_THRESHOLDS: npt.NDArray[np.float64] = np.linspace(0.5, 0.95, 10)
RECALL_POINTS: npt.NDArray[np.float64] = np.linspace(0.0, 1.0, 101)
AREA_RANGES: dict[str, tuple[float, float]] = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""Name → smallest and largest box area in pixels, both inclusive."""
MAX_DETECTIONS = 100
"""Detections per class and image, the ones of highest score."""
METRICS = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L")

_SELECTIONS: dict[str, tuple[slice, str]] = {
    "AP": (slice(None), "all"),
    "AP50": (slice(0, 1), "all"),
    "AP75": (slice(5, 6), "all"),
    "AP_S": (slice(None), "small"),
    "AP_M": (slice(None), "medium"),
    "AP_L": (slice(None), "large"),
}


@dataclass(frozen=True)
class PrecisionTable:
    """Everything COCO's average precisions are read from.

    Attributes:
        precision: float64 [IoU thresholds, recall points, classes, area ranges], interpolated precision; -1 where a
            class has no ground truth in an area range.
        score: The same shape, the score at which that recall is reached; 0 where it never is.
    """

    precision: npt.NDArray[np.float64]
    score: npt.NDArray[np.float64]

    def metrics(self, class_index: int | None = None) -> dict[str, float]:
        """The six COCO figures in 0..1, of one class or all; -1 = no ground truth.

        Args:
            class_index: Index of one class in the table; None = the mean over all. Classes without ground truth do not
                count.
        """
        chosen = self.precision if class_index is None else self.precision[:, :, [class_index]]
        areas = list(AREA_RANGES)
        figures = {}
        for name, (thresholds, area) in _SELECTIONS.items():
            values = chosen[thresholds, :, :, areas.index(area)]
            values = values[values > -1]
            figures[name] = float(values.mean()) if values.size else -1.0
        return figures


def no_detection_metrics() -> dict[str, float]:
    """What the Prophesee protocol reports when there is no detection at all: zeros, not -1."""
    return dict.fromkeys(METRICS, 0.0)


@compiled
def _iou(box: npt.NDArray[np.float64], other: npt.NDArray[np.float64], is_crowd: bool) -> float:
    """IoU of a detection (x, y, w, h) and an object; with a crowd, the share of the detection that lies in it."""
    width = min(box[0] + box[2], other[0] + other[2]) - max(box[0], other[0])
    if width <= 0:
        return 0.0
    height = min(box[1] + box[3], other[1] + other[3]) - max(box[1], other[1])
    if height <= 0:
        return 0.0
    shared = width * height
    area = box[2] * box[3]
    union = area if is_crowd else area + other[2] * other[3] - shared
    return shared / union


@compiled
def _match(
    objects: npt.NDArray[np.float64],
    object_areas: npt.NDArray[np.float64],
    is_crowd: npt.NDArray[np.bool_],
    object_starts: npt.NDArray[np.int64],
    detections: npt.NDArray[np.float64],
    detection_areas: npt.NDArray[np.float64],
    detection_starts: npt.NDArray[np.int64],
    thresholds: npt.NDArray[np.float64],
    area_ranges: npt.NDArray[np.float64],
    matched: npt.NDArray[np.uint16],
    ignored: npt.NDArray[np.uint16],
) -> npt.NDArray[np.int64]:
    """Match the detections of one class, best score first in each image, to its objects.

    Boxes [n, 4] are x, y, w, h; those of image i are rows ``starts[i]`` to ``starts[i + 1]``. Bit t of ``matched`` and
    ``ignored`` [areas, detections] is for IoU threshold t. Returns the number of objects that count in each area range.
    """
    images, areas = len(object_starts) - 1, len(area_ranges)
    most_objects = most_detections = 1
    for image in range(images):
        most_objects = max(most_objects, object_starts[image + 1] - object_starts[image])
        most_detections = max(most_detections, detection_starts[image + 1] - detection_starts[image])
    ious = np.empty((most_detections, most_objects))
    order = np.empty(most_objects, np.int64)
    left_out = np.empty(most_objects, np.bool_)
    taken = np.empty(most_objects, np.bool_)
    counted = np.zeros(areas, np.int64)
    for image in range(images):
        first, first_detection = object_starts[image], detection_starts[image]
        count = object_starts[image + 1] - first
        detection_count = detection_starts[image + 1] - first_detection
        for d in range(detection_count):
            for g in range(count):
                ious[d, g] = _iou(detections[first_detection + d], objects[first + g], is_crowd[first + g])
        for a in range(areas):
            low, high = area_ranges[a]
            # Objects that do not count come last: a detection is given one of them only if it fits no other.
            place = 0
            for g in range(count):
                area = object_areas[first + g]
                left_out[g] = is_crowd[first + g] or area < low or area > high
                if not left_out[g]:
                    order[place] = g
                    place += 1
            counted[a] += place
            for g in range(count):
                if left_out[g]:
                    order[place] = g
                    place += 1
            for t in range(len(thresholds)):
                bit = np.uint16(1 << t)
                taken[:count] = False
                for d in range(detection_count):
                    best, match = min(thresholds[t], 1 - 1e-10), -1
                    for index in range(count):
                        g = order[index]
                        if taken[g] and not is_crowd[first + g]:
                            continue
                        if match >= 0 and not left_out[match] and left_out[g]:
                            break
                        if ious[d, g] >= best:
                            best, match = ious[d, g], g
                    row = first_detection + d
                    area = detection_areas[row]
                    if match >= 0:
                        taken[match] = True
                        matched[a, row] |= bit
                        if left_out[match]:
                            ignored[a, row] |= bit
                    elif area < low or area > high:
                        ignored[a, row] |= bit
    return counted


@compiled
def _accumulate(
    matched: npt.NDArray[np.uint16],
    ignored: npt.NDArray[np.uint16],
    threshold: int,
    objects: int,
    scores: npt.NDArray[np.float64],
    recall_points: npt.NDArray[np.float64],
    precision: npt.NDArray[np.float64],
    score: npt.NDArray[np.float64],
) -> None:
    """Read precision and score at the recall points off the detections of one class, best score first.

    ``precision`` and ``score`` [recall points] are filled.
    """
    count = len(scores)
    recalls, precisions = np.empty(count), np.empty(count)
    right = wrong = 0
    for d in range(count):
        if not (ignored[d] >> threshold) & 1:
            if (matched[d] >> threshold) & 1:
                right += 1
            else:
                wrong += 1
        recalls[d] = right / objects
        precisions[d] = right / (right + wrong) if right + wrong else 0.0
    for d in range(count - 1, 0, -1):
        precisions[d - 1] = max(precisions[d - 1], precisions[d])
    places = np.searchsorted(recalls, recall_points)
    for point in range(len(recall_points)):
        reached = places[point] < count
        precision[point] = precisions[places[point]] if reached else 0.0
        score[point] = scores[places[point]] if reached else 0.0


def compute_precision(
    ground_truth: npt.NDArray[np.void],
    ground_truth_images: npt.NDArray[np.int64],
    detections: npt.NDArray[np.void],
    detection_images: npt.NDArray[np.int64],
    num_images: int,
    classes: SequenceOf[int],
    ignored: npt.NDArray[np.void] | None = None,
    ignored_images: npt.NDArray[np.int64] | None = None,
) -> PrecisionTable:
    """Match detections to ground truth as COCO does and return the precision-recall table.

    Detections are ranked by their field ``class_confidence`` (see `leod.evaluation.prophesee` for why); the first of
    equal scores in array order ranks higher.

    Args:
        ground_truth: LABEL_DTYPE [n], pixels.
        ground_truth_images: int64 [n], the image of each box, 0..num_images - 1.
        detections: LABEL_DTYPE [m], pixels.
        detection_images: int64 [m].
        num_images: Images that are evaluated; those without any box may be among them.
        classes: Class ids that are evaluated, ascending; boxes of others do not count.
        ignored: LABEL_DTYPE [k], regions in which detections count as neither right nor wrong; None = none.
        ignored_images: int64 [k], the image of each region.

    Returns:
        The table for ten IoU thresholds .50:.05:.95, 101 recall points, each class, and four area ranges.
    """
    if ignored is None or ignored_images is None:
        ignored, ignored_images = ground_truth[:0], ground_truth_images[:0]
    ranges = np.array(list(AREA_RANGES.values()))
    shape = (len(IOU_THRESHOLDS), len(RECALL_POINTS), len(classes), len(ranges))
    table = PrecisionTable(precision=np.full(shape, -1.0), score=np.full(shape, -1.0))
    for column, class_id in enumerate(classes):
        is_object = ground_truth["class_id"] == class_id
        # Ignored regions are crowds of every class.
        images = np.concatenate([ground_truth_images[is_object], ignored_images])
        order = np.argsort(images, kind="stable")
        objects = np.concatenate([ground_truth[is_object], ignored])[order]
        is_crowd = (np.arange(len(order)) >= is_object.sum())[order]

        is_detection = detections["class_id"] == class_id
        found, found_images = detections[is_detection], detection_images[is_detection]
        scores = found["class_confidence"].astype(np.float64)
        ranked = np.lexsort((-scores, found_images))
        rank = np.arange(len(ranked)) - _starts(found_images[ranked], num_images)[found_images[ranked]]
        ranked = ranked[rank < MAX_DETECTIONS]
        found, found_images, scores = found[ranked], found_images[ranked], scores[ranked]

        matched = np.zeros((len(ranges), len(found)), np.uint16)
        left_out = np.zeros_like(matched)
        counted = _match(
            *_columns(objects),
            is_crowd,
            _starts(images[order], num_images),
            *_columns(found),
            _starts(found_images, num_images),
            IOU_THRESHOLDS,
            ranges,
            matched,
            left_out,
        )
        best_first = np.argsort(-scores, kind="stable")
        scores = scores[best_first]
        for area in np.flatnonzero(counted):
            flags = matched[area, best_first], left_out[area, best_first]
            for threshold in range(len(IOU_THRESHOLDS)):
                place = threshold, slice(None), column, area
                out = table.precision[place], table.score[place]
                _accumulate(*flags, threshold, int(counted[area]), scores, RECALL_POINTS, *out)
    return table


def _starts(images: npt.NDArray[np.int64], num_images: int) -> npt.NDArray[np.int64]:
    """First row of each image in ``images``, which are sorted, and the end: int64 [num_images + 1]."""
    return np.searchsorted(images, np.arange(num_images + 1))


def _columns(boxes: npt.NDArray[np.void]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Boxes float64 [n, 4] and their areas [n], which are float32 products, as in the published evaluation."""
    rows = np.empty((len(boxes), 4))
    for column, name in enumerate(("x", "y", "w", "h")):
        rows[:, column] = boxes[name]
    return rows, (boxes["w"] * boxes["h"]).astype(np.float64)
