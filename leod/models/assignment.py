"""SimOTA label assignment of YOLOX (Ge et al., 2021) with LEOD's ignored boxes, for a whole batch without loops.

Only anchors near some box can match, at most 9 per box and level. They are packed into P slots per image, so that costs
are [B, M, P] however many anchors there are, and nothing has to be copied to the host to learn how many.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from leod.boxes.dtypes import IGNORED_CLASS_ID
from leod.models.head import STRIDES, Anchors

CENTRE_RADIUS = 1.5
"""An anchor is a candidate of a box if its centre lies within this many strides of the box centre, in x and in y."""

MAX_MATCHES = 10
"""Anchors whose IoUs determine how many anchors a box takes, which is also the most it can take."""

IOU_COST_WEIGHT = 3.0
_MAX_CANDIDATES = 9 * len(STRIDES)
_MAX_BCE = 100.0
_MAX_IOU_COST = 64.0


@dataclass(frozen=True)
class Assignment:
    """Which anchor learns which box. M rows per image, N anchors."""

    matched: Tensor
    """bool [B, N], anchors that learn a box."""

    matched_row: Tensor
    """int64 [B, N], row of the box in the targets, -1 where nothing matches."""

    matched_iou: Tensor
    """float [B, N], IoU of the anchor's prediction with its box, 0 where nothing matches."""

    ignored: Tensor
    """bool [B, N], anchors near an ignored box and near no other box."""

    valid: Tensor
    """bool [B, M], rows that are neither padding nor ignored."""

    any_ignored_box: Tensor
    """bool scalar: some box of the batch is ignored."""


def pairwise_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of every box with every other box.

    Args:
        boxes: float [..., M, 4], cx, cy, w, h.
        others: float [..., P, 4], likewise.

    Returns:
        float [..., M, P].
    """
    boxes, others = boxes.unsqueeze(-2), others.unsqueeze(-3)
    top_left = torch.maximum(boxes[..., :2] - boxes[..., 2:] / 2, others[..., :2] - others[..., 2:] / 2)
    bottom_right = torch.minimum(boxes[..., :2] + boxes[..., 2:] / 2, others[..., :2] + others[..., 2:] / 2)
    overlap = (bottom_right - top_left).clamp(min=0.0).prod(dim=-1)
    return overlap / (boxes[..., 2:].prod(dim=-1) + others[..., 2:].prod(dim=-1) - overlap)


def _near_box(boxes: Tensor, anchors: Anchors) -> Tensor:
    """Tell whether, bool [B, M, N], the anchor centre lies strictly within the centre region of the box."""
    radius = CENTRE_RADIUS * anchors.strides
    x, y = anchors.centres.unbind(-1)
    box_x, box_y = boxes[..., 0:1], boxes[..., 1:2]
    return (x > box_x - radius) & (x < box_x + radius) & (y > box_y - radius) & (y < box_y + radius)


def _class_costs(logits: Tensor) -> Tensor:
    """Cost of calling the anchor's object class c, for every c: float [B, C, P] from raw outputs [B, P, 5+C]."""
    # Diverged weights must show up as a loss that is not a number, which training reports, not as an error from here.
    probabilities = (logits[..., 5:].sigmoid() * logits[..., 4:5].sigmoid()).sqrt().nan_to_num()
    classes = probabilities.shape[-1]
    one_hot = torch.eye(classes, device=logits.device)[None, :, None, :]
    shape = (probabilities.shape[0], classes, *probabilities.shape[1:])
    return functional.binary_cross_entropy(
        probabilities[:, None].expand(shape), one_hot.expand(shape), reduction="none"
    ).sum(dim=-1)


@torch.no_grad()
def assign(raw: Tensor, predicted_boxes: Tensor, targets: Tensor, anchors: Anchors) -> Assignment:
    """Assign boxes to anchors (golden semantics: section 2; source: the YOLOX head in Wuziyi616/LEOD).

    A box takes its k cheapest anchors, k = the sum of its ten largest IoUs, rounded down, at least 1. An anchor that
    several boxes want goes to the cheapest of all boxes of the image. A box without any candidate anchor in its image
    matches nothing (the published code fails there).

    Args:
        raw: float32 [B, N, 5+C], raw head outputs.
        predicted_boxes: float32 [B, N, 4], their decoded boxes: cx, cy, w, h in pixels.
        targets: float32 [B, M > 0, 7] yolox rows: class_id, cx, cy, w, h, objectness, class_confidence; zero rows
            are padding, class id 1024 is an ignored box.
        anchors: The N anchors.
    """
    batch, rows = targets.shape[:2]
    number = raw.shape[1]
    filled = (targets != 0).any(dim=-1)
    is_ignored = filled & (targets[..., 0] == IGNORED_CLASS_ID)
    valid = filled & ~is_ignored
    boxes = targets[..., 1:5]

    near = _near_box(boxes, anchors)
    candidate = (near & valid[..., None]).any(dim=1)
    ignored = (near & is_ignored[..., None]).any(dim=1) & ~candidate

    # Pack candidates into slots, keeping their order; unused slots point at a dummy anchor behind the last one.
    slots = min(number, _MAX_CANDIDATES * rows)
    position = torch.where(candidate, candidate.cumsum(dim=1) - 1, slots)
    anchor_numbers = torch.arange(number, device=raw.device).expand(batch, number)
    slot_anchor = torch.full((batch, slots + 1), number, device=raw.device)
    slot_anchor = slot_anchor.scatter_(1, position, anchor_numbers)[:, :slots]
    usable = slot_anchor < number
    readable = slot_anchor.clamp(max=number - 1)

    def at_slots(values: Tensor) -> Tensor:
        return values.gather(1, readable[..., None].expand(-1, -1, values.shape[-1]))

    pair = valid[..., None] & usable[:, None, :]
    iou = pairwise_iou(boxes, at_slots(predicted_boxes)).nan_to_num(nan=0.0).masked_fill(~pair, 0.0)
    class_costs = _class_costs(at_slots(raw))
    class_ids = torch.where(valid, targets[..., 0], 0.0).long()
    # The published code adds 1e6 to pairs that are no candidates, which rounds their other costs to 1/16 and leaves
    # ties to chance. The least number that no other cost can reach orders them the same way and keeps the digits.
    apart = _MAX_BCE * class_costs.shape[1] + _MAX_IOU_COST
    near_slots = near.gather(2, readable[:, None, :].expand(-1, rows, -1))
    cost = (
        class_costs.gather(1, class_ids[..., None].expand(-1, -1, slots))
        - IOU_COST_WEIGHT * (iou + 1e-8).log()
        + apart * ~near_slots
    )
    cost = cost.masked_fill(~pair, torch.inf)

    most = min(MAX_MATCHES, slots)
    takes = iou.topk(most, dim=-1).values.sum(dim=-1).int().clamp(min=1)
    cheapest = cost.topk(most, dim=-1, largest=False)
    taken = (torch.arange(most, device=raw.device) < takes[..., None]) & cheapest.values.isfinite()
    wanted = torch.zeros_like(pair).scatter_(2, cheapest.indices, taken)

    suitors = wanted.sum(dim=1)
    row = torch.where(suitors > 1, cost.argmin(dim=1), wanted.byte().argmax(dim=1))
    slot_iou = iou.gather(1, row[:, None, :]).squeeze(1)
    slot_matched = suitors > 0

    def to_anchors(values: Tensor, fill: float) -> Tensor:
        whole = torch.full((batch, number + 1), fill, dtype=values.dtype, device=values.device)
        return whole.scatter_(1, slot_anchor, values)[:, :number]

    return Assignment(
        matched=to_anchors(slot_matched, False),
        matched_row=to_anchors(row.masked_fill(~slot_matched, -1), -1),
        matched_iou=to_anchors(slot_iou.masked_fill(~slot_matched, 0.0), 0.0),
        ignored=ignored,
        valid=valid,
        any_ignored_box=is_ignored.any(),
    )
