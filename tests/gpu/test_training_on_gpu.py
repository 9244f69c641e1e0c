"""Trainings on a GPU: the losses of the CPU, exact resume, precision, compilation, several GPUs, no waiting.

``LEOD_TEST_DEVICE=cpu pytest tests/gpu`` runs the same on the CPU, to see that the tests are right.
"""

from __future__ import annotations

from contextlib import nullcontext

import pandas
import pytest
import torch
from short_training import DEVICE, ON_DEVICE, train_few_steps
from train_scenario import CPU, settings

from leod.config.schema import ModelConfig, SequenceConfig
from leod.models.detector import build_detector
from leod.models.loss import DetectionLoss
from leod.sampling.training_data import TrainingData, training_loader
from leod.sequences.sequence import open_split
from leod.stages.pretrain import pretrain
from leod.training.control import TrainingControl
from leod.training.module import DetectionTraining
from leod.training.schedule import build_optimizer

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("full_precision")]

FEW = {"steps": 4, "learning_rate": 1e-4}


def curves(folder):
    return pandas.read_csv(folder / "training.csv")


def weights(folder):
    return torch.load(folder / "model.ckpt", weights_only=True)["state_dict"]


def assert_same_losses(folder, expected, tolerance):
    for name in ("loss", "iou_loss", "conf_loss", "cls_loss", "num_fg"):
        assert curves(folder)[name].tolist() == pytest.approx(curves(expected)[name].tolist(), rel=tolerance), name


# ------------------------------------------------------------------------------------------------------------ results


@pytest.mark.parametrize(
    "changes",
    [
        {"sampling": "mixed", "ema_decay": 0.9},
        {"sampling": "random", "burn_in": 1},
        {"sampling": "stream", "accumulate": 2},
    ],
)
def test_losses_are_those_of_the_cpu(changes, data, tmp_path):
    for name, hardware in (("cpu", CPU), ("device", ON_DEVICE.model_copy(update={"num_workers": 1}))):
        pretrain(*data, tmp_path / name, settings(**FEW, **changes), seed=3, hardware=hardware)
    assert_same_losses(tmp_path / "device", tmp_path / "cpu", tolerance=2e-3)
    ours, theirs = weights(tmp_path / "device"), weights(tmp_path / "cpu")
    assert all(torch.allclose(ours[name].float(), theirs[name].float(), rtol=1e-3, atol=5e-4) for name in theirs)


class Crash(BaseException):
    """Ends a training as abruptly as a kill does, but within the test."""


def test_interrupted_training_ends_with_the_same_bits(data, tmp_path, monkeypatch):
    hardware = ON_DEVICE.model_copy(update={"deterministic": True})
    changes = {"sampling": "mixed", "ema_decay": 0.9}
    pretrain(*data, tmp_path / "whole", settings(**changes), seed=3, hardware=hardware)
    remaining, original = [2, 5], DetectionTraining.training_step

    def training_step(self, batch, batch_idx):
        if self.batches_done in remaining:
            remaining.remove(self.batches_done)
            raise Crash
        return original(self, batch, batch_idx)

    monkeypatch.setattr(DetectionTraining, "training_step", training_step)
    for _ in range(2):
        with pytest.raises(Crash):
            pretrain(*data, tmp_path / "parts", settings(**changes), seed=3, hardware=hardware)
    pretrain(*data, tmp_path / "parts", settings(**changes), seed=3, hardware=hardware)
    ours, theirs = weights(tmp_path / "parts"), weights(tmp_path / "whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert (tmp_path / "parts" / "training.csv").read_text() == (tmp_path / "whole" / "training.csv").read_text()


@pytest.mark.filterwarnings("ignore")
def test_compiled_training_has_the_same_losses(data, tmp_path):
    torch.compiler.reset()
    for name, compiled in (("eager", False), ("compiled", True)):
        hardware = ON_DEVICE.model_copy(update={"compile": compiled})
        pretrain(*data, tmp_path / name, settings(**FEW), seed=3, hardware=hardware)
    assert_same_losses(tmp_path / "compiled", tmp_path / "eager", tolerance=2e-3)
    assert weights(tmp_path / "compiled").keys() == weights(tmp_path / "eager").keys()


@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed"])
def test_mixed_precision_clips_what_the_optimiser_gets(precision, data, tmp_path, monkeypatch):
    """Gradients that were still scaled, or clipped before they were unscaled, would be much larger or smaller."""
    clip_value, largest = 1e-3, []

    def watched(parameters, training):
        optimizer = build_optimizer(parameters, training)

        def look(optimizer, *_):
            parameters = optimizer.param_groups[0]["params"]
            largest.append(max(p.grad.abs().max().item() for p in parameters if p.grad is not None))

        optimizer.register_step_post_hook(look)
        return optimizer

    monkeypatch.setattr("leod.training.module.build_optimizer", watched)
    # The scale of the loss begins at 65536; steps in which that is too much are left out.
    changes = {"steps": 12, "learning_rate": 1e-4, "clip_value": clip_value, "precision": precision}
    pretrain(*data, tmp_path, settings(**changes), seed=3, hardware=ON_DEVICE)
    assert largest
    assert max(largest) == pytest.approx(clip_value, rel=1e-3)
    assert all(torch.isfinite(tensor.float()).all() for tensor in weights(tmp_path).values())
    assert curves(tmp_path)["loss"].notna().all()


@pytest.mark.gpu(2)
@pytest.mark.parametrize("changes", [{}, {"precision": "bf16-mixed"}])
def test_two_gpus_train_like_one(changes, data, tmp_path, give_up_claims):
    chosen = settings(**{**FEW, "batch_size": 4, **changes})
    for name, devices in (("one", 1), ("two", 2)):
        give_up_claims()
        hardware = ON_DEVICE.model_copy(update={"devices": devices})
        pretrain(*data, tmp_path / name, chosen, seed=3, hardware=hardware)
    assert_same_losses(tmp_path / "two", tmp_path / "one", tolerance=0.05 if changes else 2e-3)


# ------------------------------------------------------------------------------------------------- waiting and memory


def set_sync_debug_mode(mode):
    if DEVICE != "cpu":
        torch.cuda.set_sync_debug_mode(mode)


class Armed(TrainingControl):
    """Lets PyTorch raise an error wherever the host waits for the device, from the end of the first step on."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if self.progress.step == 1:
            set_sync_debug_mode("error")

    def on_train_end(self, trainer, pl_module):
        set_sync_debug_mode("default")

    def on_exception(self, trainer, pl_module, exception):
        set_sync_debug_mode("default")


@pytest.mark.parametrize(
    "changes",
    [
        {"sampling": "mixed", "ema_decay": 0.9},
        {"sampling": "random", "burn_in": 1, "clip_value": 0.5},
        {"sampling": "stream", "accumulate": 2, "precision": "bf16-mixed"},
    ],
)
def test_no_step_waits_for_the_gpu(changes, data, tmp_path):
    """16-mixed is not among them: the host has to know whether the step is left out."""
    hardware = ON_DEVICE.model_copy(update={"num_workers": 1})
    _, control = train_few_steps(data, tmp_path, Armed, hardware, 5, nullcontext, **changes)
    assert control.progress.step == 5


def test_a_step_that_waits_would_be_found(data, tmp_path, monkeypatch):
    if DEVICE == "cpu":
        pytest.skip("only CUDA tells where the host waits; test_waiting_for_device.py does without it")
    original = DetectionLoss.forward

    def forward(self, raw, targets, anchors):
        raw.sum().item()
        return original(self, raw, targets, anchors)

    monkeypatch.setattr(DetectionLoss, "forward", forward)
    with pytest.raises(RuntimeError, match="synchroniz"):
        train_few_steps(data, tmp_path, Armed, ON_DEVICE, 5, nullcontext)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_batches_lie_in_page_locked_memory(num_workers, data):
    chosen = settings()
    sequences = open_split(data[0], "train", chosen.sequence)
    batches = TrainingData(sequences, None, chosen.training, chosen.sequence, seed=3)
    for batch in training_loader(batches, 0, 2, num_workers, pin_memory=DEVICE != "cpu"):
        assert all(tensor.is_pinned() == (DEVICE != "cpu") for tensor in (batch.frames, batch.targets, batch.is_first))


def memory_of_a_step(detector, frames):
    """Bytes at the most, beyond what there was before; on a CPU those that are kept for the backward pass."""
    kept = []

    def step():
        features, _ = detector.forward_sequence(frames)
        sum(maps.sum() for maps in features).backward()

    if DEVICE == "cpu":
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: (kept.append(tensor.numel() * tensor.element_size()), tensor)[1], lambda tensor: tensor
        ):
            step()
        return sum(kept)
    step()  # Libraries take their workspaces.
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    return torch.cuda.max_memory_allocated() - before


def test_gradient_checkpointing_needs_less_memory():
    sequence = SequenceConfig(sensor={"height": 128, "width": 160}, classes=("car",))
    detector = build_detector(ModelConfig(name="small", embed_dim=16, dim_head=16), sequence).to(DEVICE)
    frames = torch.ones(4, 2, sequence.representation.channels, 128, 160, dtype=torch.uint8, device=DEVICE)
    plain = memory_of_a_step(detector, frames)
    detector.set_gradient_checkpointing(True)
    assert memory_of_a_step(detector, frames) < 0.9 * plain
