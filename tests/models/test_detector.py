from __future__ import annotations

import math

import pytest
import torch
from small_models import SMALL_MODEL, random_frames, random_targets, small_detector, small_sequence
from torch import nn

from leod.config.schema import LossConfig
from leod.models.detector import build_detector
from leod.models.loss import DetectionLoss
from leod.models.neck import fold_batch_norms
from leod.models.states import reset_states

CLASSES = ("car", "pedestrian")


@pytest.mark.parametrize(
    ("height", "width", "split", "anchors"),
    [
        (64, 96, 1, 96 + 24 + 6),  # no padding
        (60, 90, 1, 96 + 24 + 6),
        (260, 346, 1, 36 * 44 + 18 * 22 + 9 * 11),  # padded to 288 x 352
        (100, 130, 2, 16 * 24 + 8 * 12 + 4 * 6),  # padded to 128 x 192, windows of 2 x 3
    ],
)
@torch.inference_mode()
def test_any_frame_size(height, width, split, anchors):
    detector = small_detector(sequence=small_sequence(height, width, ("a", "b", "c"), partition_split_32=split)).eval()
    predictions, states = detector(random_frames(2, 4, height, width))
    assert predictions.shape == (2, anchors, 8)
    assert predictions.isfinite().all()
    assert len(states) == 4


@torch.inference_mode()
def test_padding_is_zeros_at_the_right_and_bottom():
    detector = small_detector().eval()
    frames = random_frames(1, 4, 60, 90)
    padded = torch.zeros(1, 4, 64, 96)
    padded[..., :60, :90] = frames
    torch.testing.assert_close(detector(frames)[0], detector(padded)[0])


@torch.inference_mode()
def test_convolutions_that_normalise_detect_the_same():
    detector = small_detector()
    frames = random_frames(3, 2, 4, 60, 90)
    for _ in range(5):
        # Statistics that are those of features, not the fresh ones.
        detector(frames[0].float() * 3)
    numbers = torch.Generator().manual_seed(1)
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.uniform_(0.5, 2.0, generator=numbers)
            module.bias.normal_(generator=numbers)
    detector.eval()
    features, _ = detector.forward_sequence(frames)
    flat = [maps.flatten(0, 1) for maps in features]
    expected, _ = detector.forward_head(flat)
    for _ in range(2):
        fold_batch_norms(detector)
        torch.testing.assert_close(detector.forward_head(flat)[0], expected, rtol=1e-4, atol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in detector.modules())


def test_frames_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"\(60, 90\).*\(48, 90\)"):
        small_detector().forward_backbone(torch.zeros(1, 4, 48, 90))


def test_fresh_detectors_expect_little():
    predictions = small_detector().eval()(random_frames(1, 4, 60, 90))[0]
    assert float(predictions[..., 4:].mean().detach()) == pytest.approx(0.01, rel=0.5)


@torch.inference_mode()
def test_a_sequence_at_once_equals_frame_by_frame_with_states_carried_on():
    detector = small_detector().eval()
    frames = random_frames(5, 2, 4, 60, 90)
    states, each = None, []
    for frame in frames:
        features, states = detector.forward_backbone(frame, states)
        each.append(features)
    first, carried = detector.forward_sequence(frames[:3])
    second, carried = detector.forward_sequence(frames[3:], carried)
    for level in range(3):
        together = torch.cat((first[level], second[level]))
        torch.testing.assert_close(together, torch.stack([features[level] for features in each]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(carried, states, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_a_reset_slot_starts_anew_and_the_other_goes_on():
    detector = small_detector().eval()
    before, after = random_frames(2, 4, 60, 90, seed=1), random_frames(2, 4, 60, 90, seed=2)
    _, states = detector(before)
    continued, _ = detector(after, states)
    fresh, _ = detector(after)
    mixed, _ = detector(after, reset_states(states, torch.tensor([True, False])))
    torch.testing.assert_close(mixed[0], fresh[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mixed[1], continued[1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(fresh[1], continued[1])


def training_step(detector, frames, targets):
    features, _ = detector.forward_sequence(frames)
    loss = DetectionLoss(LossConfig(), CLASSES)
    _, losses = detector.forward_head([maps.flatten(0, 1) for maps in features], targets.flatten(0, 1), loss)
    return losses


def toy_batch():
    targets = random_targets(4, 3, (60, 90), 2, torch.Generator().manual_seed(7)).unflatten(0, (2, 2))
    return random_frames(2, 2, 4, 60, 90), targets


def test_training_lowers_the_loss():
    detector, (frames, targets) = small_detector().train(), toy_batch()
    optimiser = torch.optim.AdamW(detector.parameters(), lr=1e-2)
    values = []
    for _ in range(15):
        losses = training_step(detector, frames, targets)
        optimiser.zero_grad()
        losses["loss"].backward()
        optimiser.step()
        values.append(float(losses["loss"].detach()))
    assert min(values[-3:]) < 0.8 * values[0]


def test_every_parameter_learns():
    detector, (frames, targets) = small_detector().train(), toy_batch()
    training_step(detector, frames, targets)["loss"].backward()
    without = [name for name, parameter in detector.named_parameters() if parameter.grad is None]
    assert not without


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    detector, (frames, targets) = small_detector().train(), toy_batch()
    expected = training_step(detector, frames, targets)["loss"]
    with torch.autocast("cpu", dtype=dtype):
        losses = training_step(detector, frames, targets)
    losses["loss"].backward()
    assert losses["loss"].dtype == torch.float32
    assert float(losses["loss"].detach()) == pytest.approx(float(expected.detach()), rel=0.05)
    assert all(parameter.grad.isfinite().all() for parameter in detector.parameters())


def test_gradient_checkpointing_changes_nothing():
    plain, recomputing, (frames, targets) = small_detector().train(), small_detector().train(), toy_batch()
    recomputing.set_gradient_checkpointing(True)
    training_step(plain, frames, targets)["loss"].backward()
    training_step(recomputing, frames, targets)["loss"].backward()
    for (name, parameter), other in zip(plain.named_parameters(), recomputing.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_targets_need_a_loss():
    detector = small_detector()
    features, _ = detector.forward_backbone(random_frames(1, 4, 60, 90))
    with pytest.raises(ValueError, match="loss"):
        detector.forward_head(features, torch.zeros(1, 1, 7))


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_backbone_computes_the_same(backend):
    torch.compiler.reset()
    detector, (frames, targets) = small_detector().train(), toy_batch()
    expected = training_step(detector, frames, targets)["loss"]
    names = list(detector.state_dict())
    compiled = small_detector().train()
    compiled.compile_backbone(backend)
    losses = training_step(compiled, frames, targets)
    losses["loss"].backward()
    torch.testing.assert_close(losses["loss"], expected, rtol=1e-3, atol=1e-4)
    assert list(compiled.state_dict()) == names


def test_without_layer_scale():
    model = SMALL_MODEL.model_copy(update={"layer_scale": None, "blocks_per_stage": (1, 2, 1, 1)})
    names = build_detector(model, small_sequence()).state_dict()
    assert not any("ls1" in name for name in names)
    assert "backbone.stages.1.blocks.1.window.norm1.weight" in names
    assert "backbone.stages.1.blocks.0.window.norm1.weight" not in names


def test_head_bias_is_the_prior():
    bias = small_detector().head.objectness_outputs[0].bias
    assert float(bias.detach()) == pytest.approx(math.log(0.01 / 0.99))
