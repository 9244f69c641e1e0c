"""COCO average precision of flat box arrays, computed by faster-coco-eval."""

from __future__ import annotations

import logging
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from faster_coco_eval import COCO, COCOeval_faster

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

logger = logging.getLogger(__name__)
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


def compute_precision(
    ground_truth: npt.NDArray[np.void],
    ground_truth_images: npt.NDArray[np.int64],
    detections: npt.NDArray[np.void],
    detection_images: npt.NDArray[np.int64],
    num_images: int,
    classes: SequenceOf[int],
    frame_size: tuple[int, int],
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
        classes: Class ids that are evaluated, ascending; boxes of others must not occur.
        frame_size: (height, width) in pixels.
        ignored: LABEL_DTYPE [k], regions in which detections count as neither right nor wrong; None = none.
        ignored_images: int64 [k], the image of each region.

    Returns:
        The table for ten IoU thresholds .50:.05:.95, 101 recall points, each class, and four area ranges.
    """
    height, width = frame_size
    images = [{"id": index + 1, "height": height, "width": width} for index in range(num_images)]
    categories = [{"id": class_id + 1, "name": str(class_id)} for class_id in classes]
    annotations = _annotations(ground_truth, ground_truth_images)
    if ignored is not None and ignored_images is not None and len(ignored):
        annotations += _crowds(ignored, ignored_images, classes, first_id=len(annotations) + 1)
    evaluator = COCOeval_faster(
        _coco(annotations, images, categories),
        _coco(_annotations(detections, detection_images, scored=True), images, categories),
        "bbox",
        print_function=logger.debug,
    )
    evaluator.params.maxDets = [MAX_DETECTIONS]
    evaluator.params.iouThrs = IOU_THRESHOLDS
    evaluator.params.recThrs = RECALL_POINTS
    evaluator.params.areaRng = [list(bounds) for bounds in AREA_RANGES.values()]
    evaluator.params.areaRngLbl = list(AREA_RANGES)
    evaluator.evaluate()
    evaluator.accumulate()
    # The last axis is the limit of detections per image, of which there is one.
    return PrecisionTable(
        precision=np.asarray(evaluator.eval["precision"], dtype=np.float64)[..., 0],
        score=np.asarray(evaluator.eval["scores"], dtype=np.float64)[..., 0],
    )


def _coco(annotations: list[dict], images: list[dict], categories: list[dict]) -> COCO:
    return COCO(
        {"info": {}, "images": images, "annotations": annotations, "categories": categories},
        print_function=logger.debug,
    )


def _crowds(
    ignored: npt.NDArray[np.void], images: npt.NDArray[np.int64], classes: SequenceOf[int], first_id: int
) -> list[dict[str, object]]:
    """Ignored regions as COCO's crowds, one of each class."""
    crowds = []
    for class_id in classes:
        boxes = ignored.copy()
        boxes["class_id"] = class_id
        for annotation in _annotations(boxes, images):
            crowds.append(annotation | {"id": first_id + len(crowds), "iscrowd": 1})
    return crowds


def _annotations(
    boxes: npt.NDArray[np.void], images: npt.NDArray[np.int64], scored: bool = False
) -> list[dict[str, object]]:
    """Boxes as COCO annotations; areas are float32 products, as in the published evaluation."""
    rows = np.stack([boxes[name] for name in ("x", "y", "w", "h")], axis=1).astype(np.float64).tolist()
    columns = zip(
        range(1, len(boxes) + 1),
        (images + 1).tolist(),
        (boxes["class_id"].astype(np.int64) + 1).tolist(),
        rows,
        (boxes["w"] * boxes["h"]).astype(np.float64).tolist(),
        boxes["class_confidence"].astype(np.float64).tolist(),
        strict=True,
    )
    if scored:
        return [
            {"id": i, "image_id": m, "category_id": c, "bbox": b, "area": a, "iscrowd": 0, "score": s}
            for i, m, c, b, a, s in columns
        ]
    return [
        {"id": i, "image_id": m, "category_id": c, "bbox": b, "area": a, "iscrowd": 0} for i, m, c, b, a, _ in columns
    ]
