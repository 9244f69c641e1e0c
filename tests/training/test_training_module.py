"""The training module: which frames carry gradients, and what happens to the recurrent states."""

from __future__ import annotations

import pytest
import torch

from leod.config.schema import ModelConfig, SequenceConfig, TrainingConfig
from leod.models.detector import build_detector
from leod.models.loss import DetectionLoss
from leod.sampling.batch import Batch
from leod.training.module import CURVE_NAMES, DetectionTraining
from leod.training.processes import Processes

SEQUENCE = SequenceConfig(sensor={"height": 32, "width": 64}, classes=("car", "pedestrian"), representation={"bins": 2})
MODEL = ModelConfig(name="tiny", embed_dim=8, dim_head=8, stage_multipliers=(1, 1, 2, 2))
TRAINING = TrainingConfig(steps=4, learning_rate=1e-3, batch_size=2, sequence_length=4)


def new_module(training=TRAINING):
    torch.manual_seed(0)
    detector = build_detector(MODEL, SEQUENCE)
    return DetectionTraining(detector, DetectionLoss(training.loss, SEQUENCE.classes), training, 0, Processes())


def new_batch(labelled, is_first=(True, True), seed=0, length=4):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.zeros(length, 2, dtype=torch.bool)
    for step, slot in labelled:
        mask[step, slot] = True
    targets = torch.zeros(length, 2, 1, 7)
    targets[:, :, 0][mask] = torch.tensor([1.0, 30.0, 16.0, 20.0, 18.0, 1.0, 1.0])
    return Batch(
        frames=torch.randint(0, 5, (length, 2, 4, 32, 64), generator=generator, dtype=torch.uint8),
        is_first=torch.tensor(is_first),
        targets=targets,
        labelled=mask,
        frame_indices=torch.arange(length)[:, None].expand(length, 2),
        sequence_ids=torch.zeros(2, dtype=torch.int64),
    )


def test_head_sees_each_labelled_frame_with_its_own_labels(monkeypatch):
    module = new_module()
    batch = new_batch([(0, 1), (2, 0)])
    batch.targets[0, 1, 0, 0], batch.targets[2, 0, 0, 0] = 0, 1
    seen = {}
    original = module.detector.forward_head

    def forward_head(features, targets, loss):
        seen.update(features=[level.detach() for level in features], targets=targets)
        return original(features, targets, loss)

    monkeypatch.setattr(module.detector, "forward_head", forward_head)
    module.training_step(batch, 0)
    expected, _ = module.detector.forward_sequence(batch.frames)
    assert seen["targets"][:, 0, 0].tolist() == [0, 1]
    for ours, whole in zip(seen["features"], expected, strict=True):
        assert torch.allclose(ours, torch.stack([whole[0, 1], whole[2, 0]]), atol=1e-5)


def test_windows_after_the_last_label_move_the_states_on():
    short, whole = new_module(), new_module()
    short.training_step(new_batch([(1, 0)]), 0)
    whole.training_step(new_batch([(1, 0), (3, 1)]), 0)
    for ours, theirs in zip(short.states, whole.states, strict=True):
        assert all(torch.allclose(a, b, atol=1e-5) and not a.requires_grad for a, b in zip(ours, theirs, strict=True))


def test_states_are_carried_where_a_sequence_goes_on_and_zeroed_where_one_begins():
    module = new_module()
    module.training_step(new_batch([(3, 0)], seed=1), 0)
    carried = [tuple(part.clone() for part in pair) for pair in module.states]
    batch = new_batch([(3, 0)], is_first=(False, True), seed=2)
    module.training_step(batch, 0)
    for slot, start in ((0, [(h[:1], c[:1]) for h, c in carried]), (1, None)):
        _, expected = module.detector.forward_sequence(batch.frames[:, slot : slot + 1], start)
        for ours, theirs in zip(module.states, expected, strict=True):
            assert torch.allclose(ours[0][slot], theirs[0][0], atol=1e-5)


def test_burn_in_moves_the_states_on_without_gradient_or_loss():
    burning = new_module(TrainingConfig.model_validate(TRAINING.model_dump() | {"sampling": "random", "burn_in": 2}))
    plain = new_module()
    early, late = new_batch([(0, 1), (3, 0)]), new_batch([(3, 0)])
    ours, reference = burning.training_step(early, 0), plain.training_step(late, 0)
    assert torch.allclose(ours, reference, atol=1e-4)
    ours.backward()
    reference.backward()
    stem = (
        burning.detector.backbone.stages[0].downsample.conv.weight,
        plain.detector.backbone.stages[0].downsample.conv.weight,
    )
    assert not torch.allclose(stem[0].grad, stem[1].grad, atol=1e-6)
    for left, right in zip(burning.states, plain.states, strict=True):
        assert all(torch.allclose(a, b, atol=1e-5) and not a.requires_grad for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("change", [{"sampling": "mixed", "burn_in": 1}, {"sampling": "random", "burn_in": 4}])
def test_burn_in_that_cannot_work_is_refused(change):
    with pytest.raises(ValueError, match="burn_in"):
        TrainingConfig.model_validate(TRAINING.model_dump() | change)


def test_batch_without_labels_gives_zero_gradients():
    module = new_module()
    loss = module.training_step(new_batch([]), 0)
    loss.backward()
    assert loss.item() == 0.0
    assert all((parameter.grad == 0).all() for parameter in module.detector.parameters())
    assert module.states is not None


def test_curves_are_means_since_the_last_row_and_survive_a_resume():
    batches = [new_batch([(3, 0)], seed=seed) for seed in range(3)]
    module = new_module()
    losses = [module.training_step(batch, 0).item() for batch in batches[:2]]
    resumed = new_module()
    resumed.load_progress_state(module.progress_state())
    losses.append(resumed.training_step(batches[2], 0).item())
    row = resumed.read_interval()
    assert tuple(row) == CURVE_NAMES
    assert row["loss"] == pytest.approx(sum(losses) / 3, rel=1e-5)
    resumed.training_step(batches[0], 0)
    assert resumed.read_interval()["loss"] == pytest.approx(losses[0], rel=1e-3)
