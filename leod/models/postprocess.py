"""From prediction rows to detections: score threshold and class-wise non-maximum suppression."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import batched_nms

from leod.models.suppression import suppress


@torch.no_grad()
def postprocess(predictions: Tensor, confidence_threshold: float, nms_threshold: float) -> list[Tensor]:
    """Select the detections of every image (golden semantics: section 3).

    Args:
        predictions: float [B, N, 5+C] prediction rows: cx, cy, w, h in pixels, objectness, class probabilities;
            they are not changed.
        confidence_threshold: Least objectness times probability of the likeliest class.
        nms_threshold: IoU above which the weaker of two boxes of a class is suppressed.

    Returns:
        Per image float32 [n, 7] detection rows: x1, y1, x2, y2 in pixels, objectness, class_confidence, class_id;
        sorted by objectness times class_confidence, descending; n may be 0.
    """
    predictions = predictions.float()
    centre, half_size = predictions[..., :2], predictions[..., 2:4] / 2
    class_confidence, class_id = predictions[..., 5:].max(dim=-1, keepdim=True)
    objectness = predictions[..., 4:5]
    rows = torch.cat(
        (centre - half_size, centre + half_size, objectness, class_confidence, class_id.to(predictions.dtype)), dim=-1
    )
    scores = (objectness * class_confidence).squeeze(-1)
    # Boxes whose size overflowed would turn the offsets of the class-wise suppression into NaN for the others.
    keep = (scores >= confidence_threshold) & rows.isfinite().all(dim=-1)
    # How many rows are kept decides about shapes, so the host waits for a GPU: here twice, whatever the number of
    # images, and once for the suppression of each image with several boxes. A single suppression for all images would
    # wait once, but tell them apart by large offsets, which cost the boxes' coordinates their last digits.
    counts = keep.sum(dim=1).tolist()
    kept = keep.flatten().nonzero().squeeze(1)
    kept_rows, kept_scores = rows.flatten(0, 1).index_select(0, kept), scores.flatten().index_select(0, kept)
    if rows.device.type == "cpu":
        images = np.repeat(np.arange(len(counts)), counts)
        boxes, classes = kept_rows[:, :4].numpy(), kept_rows[:, 6].long().numpy()
        chosen = suppress(boxes, kept_scores.numpy(), classes, images, nms_threshold)
        counts = np.bincount(images[chosen], minlength=len(counts)).tolist()
        return list(kept_rows[torch.from_numpy(chosen)].split(counts))
    detections = []
    for image_rows, image_scores in zip(kept_rows.split(counts), kept_scores.split(counts), strict=True):
        if len(image_rows) > 1:
            image_rows = image_rows[batched_nms(image_rows[:, :4], image_scores, image_rows[:, 6], nms_threshold)]
        detections.append(image_rows)
    return detections
