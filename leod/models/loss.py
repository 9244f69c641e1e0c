"""Detection loss of YOLOX with LEOD's treatment of uncertain pseudo-labels (Wu et al., "LEOD", CVPR 2024)."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as SequenceOf

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from leod.boxes.dtypes import IGNORED_CLASS_ID
from leod.config.schema import LossConfig
from leod.errors import ConfigError
from leod.models.assignment import Assignment, assign
from leod.models.head import Anchors, decode_boxes
from leod.models.weighting import parse_weighting

LOSS_NAMES = ("loss", "iou_loss", "conf_loss", "cls_loss", "l1_loss", "num_fg")
"""Keys of the losses: total, boxes (weighted), objectness, classes, unused (0), matched anchors per box."""

BOX_LOSS_WEIGHT = 5.0


class DetectionLoss(nn.Module):
    """Boxes, objectness and classes in one number.

    Args:
        config: Settings of the loss.
        classes: Class names in label-id order, to which `ignore_thresholds` refers.
        sum_over_processes: Adds a tensor up over all processes of distributed training; with it and `processes`,
            averaging the gradients gives what one process with the whole batch would have computed.
        processes: Number of processes that `sum_over_processes` adds up.

    Raises:
        ConfigError: A threshold names an unknown class, or the box weighting cannot be read.
    """

    def __init__(
        self,
        config: LossConfig,
        classes: SequenceOf[str],
        sum_over_processes: Callable[[Tensor], Tensor] | None = None,
        processes: int = 1,
    ) -> None:
        super().__init__()
        self.config = config
        self.sum_over_processes = sum_over_processes
        self.processes = processes
        thresholds = config.ignore_thresholds or {}
        unknown = sorted(set(thresholds) - set(classes))
        if unknown:
            raise ConfigError(
                f"loss.ignore_thresholds: unknown class {', '.join(unknown)}. The data set has {', '.join(classes)}."
            )
        values = torch.tensor([thresholds.get(name, 0.0) for name in classes])
        self.register_buffer("ignore_thresholds", values, persistent=False)
        self._weighting = parse_weighting(config.box_weighting) if config.box_weighting else None

    def mark_ignored(self, targets: Tensor) -> Tensor:
        """Give boxes with a low score the ignored class.

        Args:
            targets: float32 [B, M, 7] yolox rows. Ground truth has scores 1 and always stays.

        Returns:
            A copy in which boxes whose objectness or class confidence lies below their class's threshold have id 1024.
        """
        if self.config.ignore_thresholds is None:
            return targets
        class_ids = targets[..., 0]
        known = (class_ids >= 0) & (class_ids < len(self.ignore_thresholds)) & (targets != 0).any(dim=-1)
        threshold = self.ignore_thresholds[torch.where(known, class_ids, 0.0).long()]
        low = known & (targets[..., 5:7] < threshold[..., None]).any(dim=-1)
        return torch.cat((class_ids.masked_fill(low, IGNORED_CLASS_ID)[..., None], targets[..., 1:]), dim=-1)

    @torch.autocast("cuda", enabled=False)
    @torch.autocast("cpu", enabled=False)
    def forward(self, raw: Tensor, targets: Tensor, anchors: Anchors) -> dict[str, Tensor]:
        """Compute the loss, in 32 bits whatever precision the network uses.

        Args:
            raw: float [B, N, 5+C], raw head outputs: offset and log size in cells, objectness logit, class logits.
            targets: float32 [B, M, 7] yolox rows: class_id, cx, cy, w, h in pixels, objectness, class_confidence; zero
                rows are padding, class id 1024 is an ignored box.
            anchors: The N anchors.

        Returns:
            Scalars under `LOSS_NAMES`, in that order; `loss` is the one to differentiate.
        """
        raw, targets = raw.float(), self.mark_ignored(targets.float())
        if targets.shape[1] == 0:
            targets = targets.new_zeros(len(targets), 1, targets.shape[2])
        assignment = assign(raw, decode_boxes(raw[..., :4].detach(), anchors), targets, anchors)
        matched = assignment.matched
        target = targets.gather(1, assignment.matched_row.clamp(min=0)[..., None].expand(-1, -1, targets.shape[-1]))

        weights = matched.float()
        if self._weighting is not None:
            weights = torch.where(matched, self._weighting(target[..., 5], target[..., 6]), 0.0)
        foreground, boxes, weight_sum = self._sums(matched.sum(), assignment.valid.sum(), weights.sum())
        normaliser = foreground.clamp(min=1.0) / self.processes
        if self._weighting is not None:
            weights = weights * (foreground / weight_sum.clamp(min=1e-8))

        box_loss = (weights * self._box_losses(raw, target, matched, anchors)).sum() / normaliser
        objectness_loss = self._objectness_losses(raw[..., 4], assignment).sum() / normaliser
        class_loss = (weights * self._class_losses(raw[..., 5:], target, assignment)).sum() / normaliser
        box_loss = BOX_LOSS_WEIGHT * box_loss
        total = box_loss + objectness_loss + class_loss
        matches_per_box = foreground.clamp(min=1.0) / boxes.clamp(min=1.0)
        values = (total, box_loss, objectness_loss, class_loss, torch.zeros_like(total), matches_per_box)
        return dict(zip(LOSS_NAMES, values, strict=True))

    def _sums(self, *counts: Tensor) -> SequenceOf[Tensor]:
        sums = torch.stack([count.detach().float() for count in counts])
        if self.sum_over_processes is not None:
            sums = self.sum_over_processes(sums)
        return sums.unbind()

    @staticmethod
    def _box_losses(raw: Tensor, target: Tensor, matched: Tensor, anchors: Anchors) -> Tensor:
        """1 - IoU^2 of every anchor, float [B, N]; meaningless where nothing matches."""
        # Replaced before the exponential: an overflow at an unmatched anchor would put NaN into the gradient.
        predicted = decode_boxes(raw[..., :4].masked_fill(~matched[..., None], 0.0), anchors)
        goal = target[..., 1:5]
        top_left = torch.maximum(predicted[..., :2] - predicted[..., 2:] / 2, goal[..., :2] - goal[..., 2:] / 2)
        bottom_right = torch.minimum(predicted[..., :2] + predicted[..., 2:] / 2, goal[..., :2] + goal[..., 2:] / 2)
        overlaps = (top_left < bottom_right).all(dim=-1)
        overlap = (bottom_right - top_left).prod(dim=-1) * overlaps
        union = predicted[..., 2:].prod(dim=-1) + goal[..., 2:].prod(dim=-1) - overlap
        return 1.0 - (overlap / (union + 1e-16)).square()

    def _objectness_losses(self, logits: Tensor, assignment: Assignment) -> Tensor:
        """Binary cross-entropy or focal loss of every anchor, float [B, N]; 0 where it does not count."""
        goal = assignment.matched.float()
        if self.config.objectness_focal:
            losses = sigmoid_focal_loss(logits, goal, alpha=0.25, gamma=2.0)
        else:
            losses = functional.binary_cross_entropy_with_logits(logits, goal, reduction="none")
        left_out = assignment.ignored
        if self.config.ignore_background_fraction > 0.0:
            left_out = left_out | self._confident_background(logits.detach(), assignment)
        return losses.masked_fill(left_out, 0.0)

    def _confident_background(self, logits: Tensor, assignment: Assignment) -> Tensor:
        """Select per image, bool [B, N], the given share of unmatched anchors with the largest objectness.

        As in the published code nothing is selected if any box of the batch is ignored (kept for comparability).
        """
        unmatched = ~assignment.matched
        count = (unmatched.sum(dim=1, keepdim=True).double() * self.config.ignore_background_fraction).long()
        order = logits.masked_fill(assignment.matched, -torch.inf).argsort(dim=1, descending=True)
        first = torch.arange(logits.shape[1], device=logits.device) < count
        return torch.zeros_like(unmatched).scatter_(1, order, first) & ~assignment.any_ignored_box

    @staticmethod
    def _class_losses(logits: Tensor, target: Tensor, assignment: Assignment) -> Tensor:
        """Cross-entropy of every anchor, summed over classes, float [B, N]; the goal is the IoU at the box's class."""
        class_ids = torch.where(assignment.matched, target[..., 0], 0.0).long()
        classes = torch.arange(logits.shape[-1], device=logits.device)
        goal = (class_ids[..., None] == classes) * assignment.matched_iou[..., None]
        return functional.binary_cross_entropy_with_logits(logits, goal, reduction="none").sum(dim=-1)
