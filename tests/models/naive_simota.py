"""SimOTA written down box by box and anchor by anchor in float64, for comparison with the batched version."""

from __future__ import annotations

import math

import numpy as np

IGNORED = 1024


def sigmoid(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-value))


def iou(box, other) -> float:
    overlap = 1.0
    for axis in (0, 1):
        low = max(box[axis] - box[axis + 2] / 2, other[axis] - other[axis + 2] / 2)
        high = min(box[axis] + box[axis + 2] / 2, other[axis] + other[axis + 2] / 2)
        overlap *= max(high - low, 0.0)
    return overlap / (box[2] * box[3] + other[2] * other[3] - overlap)


def naive_assignment(raw, targets, grid, strides):
    """One image: raw [N, 5+C], targets [M, 7] → matched row or -1, IoU, ignored, each a list of length N."""
    raw, targets = np.asarray(raw, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    centres = [((x + 0.5) * s, (y + 0.5) * s) for (x, y), s in zip(grid, strides, strict=True)]
    predicted = [
        ((r[0] + x) * s, (r[1] + y) * s, math.exp(r[2]) * s, math.exp(r[3]) * s)
        for r, (x, y), s in zip(raw, grid, strides, strict=True)
    ]
    rows = [row for row in range(len(targets)) if targets[row].any()]
    valid = [row for row in rows if targets[row, 0] != IGNORED]

    def near(row, anchor):
        (x, y), stride = centres[anchor], strides[anchor]
        return abs(x - targets[row, 1]) < 1.5 * stride and abs(y - targets[row, 2]) < 1.5 * stride

    anchors = range(len(raw))
    candidates = [anchor for anchor in anchors if any(near(row, anchor) for row in valid)]
    ignored = [
        anchor not in candidates and any(near(row, anchor) for row in rows if row not in valid) for anchor in anchors
    ]
    overlaps, costs, wanted_by = {}, {}, {anchor: [] for anchor in candidates}
    for row in valid:
        for anchor in candidates:
            overlaps[row, anchor] = iou(targets[row, 1:5], predicted[anchor])
            cost = -3.0 * math.log(overlaps[row, anchor] + 1e-8) + (0.0 if near(row, anchor) else 1e6)
            for index, logit in enumerate(raw[anchor, 5:]):
                probability = math.sqrt(sigmoid(logit) * sigmoid(raw[anchor, 4]))
                cost -= math.log(probability if index == targets[row, 0] else 1.0 - probability)
            costs[row, anchor] = cost
        if candidates:
            largest = sorted((overlaps[row, anchor] for anchor in candidates), reverse=True)[:10]
            take = max(1, int(sum(largest)))
            for anchor in sorted(candidates, key=lambda anchor: costs[row, anchor])[:take]:
                wanted_by[anchor].append(row)
    matched = [-1] * len(raw)
    for anchor, suitors in wanted_by.items():
        if len(suitors) == 1:
            matched[anchor] = suitors[0]
        elif suitors:
            matched[anchor] = min(valid, key=lambda row: costs[row, anchor])
    ious = [overlaps[row, anchor] if row >= 0 else 0.0 for anchor, row in enumerate(matched)]
    return matched, ious, ignored


def naive_loss(raw, matched, ious, ignored, targets, weights=None):
    """Total loss of a batch from the assignments of its images (lists over images), all boxes weighing the same."""
    foreground = max(1, sum(row >= 0 for image in matched for row in image))
    box = objectness = classes = 0.0
    for image, rows in enumerate(matched):
        for anchor, row in enumerate(rows):
            logits = np.asarray(raw[image][anchor], dtype=np.float64)
            if not ignored[image][anchor]:
                probability = sigmoid(logits[4])
                objectness -= math.log(probability if row >= 0 else 1.0 - probability)
            if row < 0:
                continue
            box += 1.0 - ious[image][anchor] ** 2
            for index, logit in enumerate(logits[5:]):
                goal = ious[image][anchor] if index == targets[image][row][0] else 0.0
                probability = sigmoid(logit)
                classes -= goal * math.log(probability) + (1.0 - goal) * math.log(1.0 - probability)
    return (5.0 * box + objectness + classes) / foreground
