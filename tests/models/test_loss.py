from __future__ import annotations

import numpy as np
import pytest
import torch
from naive_simota import naive_assignment, naive_loss
from small_models import random_targets

from leod.config.schema import LossConfig
from leod.errors import ConfigError
from leod.models.head import make_anchors
from leod.models.loss import LOSS_NAMES, DetectionLoss

SIZE = (64, 96)
CLASSES = ("car", "pedestrian")
ANCHORS = make_anchors([(8, 12), (4, 6), (2, 3)], (8, 16, 32), "cpu")


def batch(seed, images=3, rows=5, ignored=0.0):
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(images, 126, 7, generator=generator)
    return raw, random_targets(images, rows, SIZE, 2, generator, ignored)


def loss(**settings):
    return DetectionLoss(LossConfig(**settings), CLASSES)


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_naive_version(seed):
    raw, targets = batch(seed, ignored=0.3)
    grid, strides = ANCHORS.grid.tolist(), ANCHORS.strides.tolist()
    images = [naive_assignment(raw[image], targets[image], grid, strides) for image in range(len(raw))]
    matched, ious, ignored = zip(*images, strict=True)
    expected = naive_loss(raw, matched, ious, ignored, targets)
    losses = loss()(raw, targets, ANCHORS)
    assert float(losses["loss"]) == pytest.approx(expected, rel=1e-4)
    assert tuple(losses) == LOSS_NAMES
    parts = losses["iou_loss"] + losses["conf_loss"] + losses["cls_loss"]
    assert float(parts) == pytest.approx(float(losses["loss"]))


def test_gradient_is_the_slope_of_the_loss():
    raw, targets = batch(1)
    raw = raw.requires_grad_()
    loss()(raw, targets, ANCHORS)["loss"].backward()
    direction = torch.randn(raw.shape, generator=torch.Generator().manual_seed(3))
    step = 1e-3
    with torch.no_grad():
        # Goals of the class loss follow the predicted IoU without a gradient: leave boxes where they are.
        direction[..., :4] = 0.0
        up = loss()(raw + step * direction, targets, ANCHORS)["loss"].double()
        down = loss()(raw - step * direction, targets, ANCHORS)["loss"].double()
    slope = float((raw.grad * direction).sum())
    assert float(up - down) / (2 * step) == pytest.approx(slope, rel=2e-2)


def test_low_scores_are_ignored_per_class():
    targets = torch.zeros(1, 5, 7)
    targets[0, :4, 1:5] = 30.0
    targets[0, :, 0] = torch.tensor([0, 0, 1, 1, 0])
    targets[0, :4, 5] = torch.tensor([0.69, 0.71, 0.4, 0.9])
    targets[0, :4, 6] = torch.tensor([0.9, 0.7, 0.34, 0.35])
    marked = loss(ignore_thresholds={"car": 0.7, "pedestrian": 0.35}).mark_ignored(targets)
    assert marked[0, :, 0].tolist() == [1024, 0, 1024, 1, 0]
    assert targets[0, 0, 0] == 0
    only_cars = loss(ignore_thresholds={"car": 0.7}).mark_ignored(targets)
    assert only_cars[0, :, 0].tolist() == [1024, 0, 1, 1, 0]


def test_equal_weights_change_nothing():
    raw, targets = batch(2)
    targets[..., 5:] = 0.5 * (targets[..., 3:4] > 0)
    plain, weighted = loss()(raw, targets, ANCHORS), loss(box_weighting="objxcls")(raw, targets, ANCHORS)
    for name in LOSS_NAMES:
        assert float(plain[name]) == pytest.approx(float(weighted[name]), rel=1e-5)


def test_an_expression_weighs_like_its_score():
    raw, targets = batch(2)
    square, product = loss(box_weighting="cls-w*w"), loss(box_weighting="cls-(w**2) * 3 + 0")
    assert float(square(raw, targets, ANCHORS)["loss"]) == pytest.approx(
        float(product(raw, targets, ANCHORS)["loss"]), rel=1e-5
    )
    linear = loss(box_weighting="cls")(raw, targets, ANCHORS)["iou_loss"]
    assert float(linear) != pytest.approx(float(square(raw, targets, ANCHORS)["iou_loss"]), rel=1e-5)


def test_background_that_looks_like_an_object_is_left_out():
    raw, targets = torch.full((1, 126, 7), -5.0), torch.zeros(1, 1, 7)
    raw[..., :4] = 0.0
    raw[0, 7, 4] = 3.0
    everything = loss()(raw, targets, ANCHORS)["conf_loss"]
    without_it = loss(ignore_background_fraction=0.01)(raw, targets, ANCHORS)["conf_loss"]
    assert float(everything - without_it) == pytest.approx(np.log1p(np.exp(3.0)), rel=1e-5)


def test_averaged_gradients_of_two_processes_equal_one_process():
    raw, targets = batch(4, images=4, ignored=0.2)
    settings = {"box_weighting": "objxcls", "ignore_thresholds": {"car": 0.3}}
    whole = raw.clone().requires_grad_()
    total = loss(**settings)(whole, targets, ANCHORS)
    total["loss"].backward()

    # The first process has three images, the second one; a dry run collects their sums.
    parts, sums = (slice(0, 3), slice(3, 4)), []
    for part in parts:
        DetectionLoss(LossConfig(**settings), CLASSES, lambda values: sums.append(values) or values)(
            raw[part], targets[part], ANCHORS
        )
    shared = DetectionLoss(LossConfig(**settings), CLASSES, lambda _: sums[0] + sums[1], processes=2)
    halves = raw.clone().requires_grad_()
    losses = [shared(halves[part], targets[part], ANCHORS) for part in parts]
    (sum(part["loss"] for part in losses) / 2).backward()
    torch.testing.assert_close(halves.grad, whole.grad)
    for name in ("loss", "iou_loss", "conf_loss", "cls_loss"):
        assert float(sum(part[name] for part in losses).detach()) / 2 == pytest.approx(float(total[name].detach()))


def test_gradients_stay_finite_when_an_unmatched_box_overflows():
    raw, targets = batch(0)
    raw[:, -1, 2:4] = 200.0
    raw = raw.requires_grad_()
    loss()(raw, targets, ANCHORS)["loss"].backward()
    assert raw.grad.isfinite().all()


def test_a_batch_without_any_row():
    raw = batch(0)[0].requires_grad_()
    losses = loss(box_weighting="cls")(raw, torch.zeros(3, 0, 7), ANCHORS)
    losses["loss"].backward()
    assert losses["iou_loss"].item() == losses["cls_loss"].item() == 0.0
    assert raw.grad.isfinite().all()


def test_a_threshold_for_an_unknown_class():
    with pytest.raises(ConfigError, match=r"cyclist.*car, pedestrian"):
        loss(ignore_thresholds={"cyclist": 0.5})
