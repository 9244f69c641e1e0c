"""Assignment, loss and gradients against the published code."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from leod.config.schema import LossConfig
from leod.models.assignment import assign
from leod.models.head import STRIDES, Anchors, DecoupledHead, decode_boxes, decode_predictions
from leod.models.loss import LOSS_NAMES, DetectionLoss
from leod.published.weights import our_name


def read(path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


@pytest.fixture(scope="module")
def cases(golden_dir):
    return read(golden_dir / "loss.npz")


def loss_of(config: dict, num_classes: int) -> DetectionLoss:
    classes = tuple(f"class{index}" for index in range(num_classes))
    thresholds = config["ignore_bbox_thresh"]
    settings = LossConfig(
        ignore_thresholds=dict(zip(classes, thresholds, strict=True)) if thresholds else None,
        box_weighting=config["bbox_loss_weighting"] or None,
        ignore_background_fraction=max(config["ignore_bg_k"], 0),
        objectness_focal=config["obj_focal_loss"],
    )
    return DetectionLoss(settings, classes)


def test_every_case(cases):
    grid = np.stack((cases["anchor_x"], cases["anchor_y"]), axis=-1)
    anchors = Anchors(torch.from_numpy(grid), torch.from_numpy(cases["anchor_stride"]))
    assert list(cases["loss_order"]) == list(LOSS_NAMES)
    for name in cases["case_names"]:
        case = {key.removeprefix(f"{name}/"): value for key, value in cases.items() if key.startswith(f"{name}/")}
        loss = loss_of(json.loads(str(case["config"])), int(case["num_classes"]))
        raw = torch.from_numpy(case["raw"]).requires_grad_()
        targets = torch.from_numpy(case["labels_in"])

        marked = loss.mark_ignored(targets)
        np.testing.assert_array_equal(marked, case["labels_after"], err_msg=name)
        boxes = decode_boxes(raw.detach()[..., :4], anchors)
        assignment = assign(raw.detach(), boxes, marked, anchors)
        np.testing.assert_array_equal(assignment.matched, case["fg_mask"], err_msg=name)
        np.testing.assert_array_equal(assignment.matched_row, case["matched_label_row"], err_msg=name)
        np.testing.assert_array_equal(assignment.ignored, case["ignore_mask_assign"], err_msg=name)

        losses = loss(raw, targets, anchors)
        losses["loss"].backward()
        values = [float(value.detach()) for value in losses.values()]
        np.testing.assert_allclose(values, case["losses"], rtol=1e-5, atol=1e-7, err_msg=name)
        np.testing.assert_allclose(raw.grad, case["grad_raw"], rtol=1e-4, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(float(raw.grad.double().norm()), case["grad_norm"], rtol=1e-5, err_msg=name)


def test_full_head_in_training(golden_dir):
    data = read(golden_dir / "loss_full_head.npz")
    features = [torch.from_numpy(data[f"feat_{stride}"].astype(np.float32)).requires_grad_() for stride in STRIDES]
    num_classes = data["train_outputs"].shape[-1] - 5
    head = DecoupledHead([maps.shape[1] for maps in features], num_classes).train()
    names = [our_name(f"yolox_head.{key}").removeprefix("head.") for key in data["key_order"]]
    state = {
        ours: torch.from_numpy(data[f"w/{key}"].astype(np.float32))
        if data[f"w/{key}"].dtype == np.float16
        else torch.from_numpy(data[f"w/{key}"])
        for ours, key in zip(names, data["key_order"], strict=True)
    }
    head.load_state_dict(state)
    config = {"ignore_bbox_thresh": [0.7, 0.35], "bbox_loss_weighting": "", "ignore_bg_k": 0, "obj_focal_loss": False}
    raw, anchors = head(features)
    losses = loss_of(config, num_classes)(raw, torch.from_numpy(data["labels"]), anchors)
    losses["loss"].backward()

    values = [float(value.detach()) for value in losses.values()]
    np.testing.assert_allclose(values, data["losses"], rtol=1e-5, atol=1e-7)
    predictions = decode_predictions(raw.detach(), anchors)
    np.testing.assert_allclose(predictions, data["train_outputs"], rtol=1e-4, atol=1e-4)
    for maps, stride, norm in zip(features, STRIDES, data["grad_norms"], strict=True):
        np.testing.assert_allclose(maps.grad, data[f"grad_feat_{stride}"], rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(float(maps.grad.double().norm()), norm, rtol=1e-4)
    gradients = {name: parameter.grad for name, parameter in head.named_parameters()}
    for key, norm in zip(data["param_grad_names"], data["param_grad_norms"], strict=True):
        gradient = gradients[our_name(f"yolox_head.{key}").removeprefix("head.")]
        np.testing.assert_allclose(float(gradient.double().norm()), norm, rtol=1e-3, atol=1e-6, err_msg=str(key))
    buffers = dict(head.named_buffers())
    for key in (key for key in data if key.startswith("after/")):
        ours = our_name(f"yolox_head.{key.removeprefix('after/')}").removeprefix("head.")
        np.testing.assert_allclose(buffers[ours], data[key], rtol=1e-4, atol=1e-5, err_msg=key)
