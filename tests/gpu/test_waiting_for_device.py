"""No training step waits for its device: shown without a GPU, on PyTorch's meta device.

Tensors there have shapes but no values, so that all that asks for a value, or for a shape that hangs on values, fails
by itself; `NoWaiting` forbids what does not fail there and still makes the host wait for a GPU. The loop, the loader
and all that is done between two steps are the real ones.
"""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.strategies import SingleDeviceStrategy
from short_training import train_few_steps
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from train_scenario import CPU

from leod.models.loss import DetectionLoss
from leod.training.control import TrainingControl

STEPS = 2
ADAMW = torch.optim.AdamW

EVERYTHING_OF_THE_LOSS = {
    "ignore_thresholds": {"car": 0.5, "pedestrian": 0.5},
    "box_weighting": "objxcls-w**2",
    "objectness_focal": True,
    "ignore_background_fraction": 0.1,
}


class NoTensorsFromLists(TorchFunctionMode):
    """Forbids what makes a tensor of the host's numbers on the device: PyTorch copies them, and waits for it."""

    def __init__(self, watch):
        super().__init__()
        self.watch = watch

    def __torch_function__(self, function, types, arguments=(), named=None):
        result = function(*arguments, **(named or {}))
        makers = (torch.tensor, torch.as_tensor, torch.asarray, torch.Tensor.new_tensor)
        if self.watch.begun and function in makers and result.device.type == "meta":
            raise RuntimeError("the host waits for a tensor that is made of its numbers")
        return result


class NoWaiting(TorchDispatchMode):
    """Forbids copies from the host that wait, and operators on tensors of both the host and the device.

    Only once the first step is about to begin: a training may wait before.
    """

    begun = False

    def __torch_dispatch__(self, operator, types, arguments=(), named=None):
        tensors = [leaf for leaf in tree_leaves((arguments, named or {})) if isinstance(leaf, torch.Tensor)]
        result = operator(*arguments, **(named or {}))
        if not self.begun:
            return result
        name = operator.overloadpacket.__name__
        if name in ("_to_copy", "copy_"):
            non_blocking = (named or {}).get("non_blocking", False) or (name == "copy_" and True in arguments[2:])
            if tensors[-1].device.type == "cpu" and result.device.type == "meta" and not non_blocking:
                raise RuntimeError("the host waits for a copy to the device")
        elif {tensor.device.type for tensor in tensors if tensor.ndim} == {"cpu", "meta"}:
            raise RuntimeError(f"{name} reads tensors of the host and of the device")
        elif name.startswith("index") and any(t.dtype is torch.bool and t.device.type == "meta" for t in tensors[1:]):
            raise RuntimeError(f"the host waits for the number of places that {name} selects")
        return result


class WatchedControl(TrainingControl):
    def on_train_start(self, trainer, pl_module):
        super().on_train_start(trainer, pl_module)
        self.watch.begun = True


class AnyDevice(CPUAccelerator):
    def setup_device(self, device):
        pass


class MetaDevice(SingleDeviceStrategy):
    """Trains on the meta device; nothing comes back from there."""

    def __init__(self):
        super().__init__("meta", accelerator=AnyDevice())

    def reduce(self, tensor, *arguments, **named):
        """Before training Lightning asks all processes for the number of batches."""
        return torch.ones((), dtype=tensor.dtype)

    def teardown(self):
        pass


@pytest.fixture
def train_without_values(data, tmp_path, monkeypatch):
    """A training of a few steps on the meta device; returns its module and its control."""
    # What PyTorch has of the fused optimiser for GPUs does not run here; it is the same for each step.
    monkeypatch.setattr("torch.optim.AdamW", lambda *a, **k: ADAMW(*a, **{**k, "fused": False, "foreach": True}))
    real = pl.Trainer
    monkeypatch.setattr(
        "leod.training.trainer.pl.Trainer",
        lambda **k: real(**{**k, "accelerator": "auto", "devices": "auto", "strategy": MetaDevice()}),
    )

    @contextmanager
    def watching(control):
        with NoWaiting() as control.watch, NoTensorsFromLists(control.watch):
            yield

    def train(**changes):
        return train_few_steps(data, tmp_path, WatchedControl, CPU, STEPS, watching, **changes)

    return train


@pytest.mark.parametrize(
    "changes",
    [
        {"sampling": "mixed", "ema_decay": 0.9},
        {"sampling": "stream", "accumulate": 2},
        {"sampling": "random", "burn_in": 1, "clip_value": 0.5, "loss": EVERYTHING_OF_THE_LOSS},
    ],
)
def test_training_does_not_wait(changes, train_without_values):
    module, control = train_without_values(**changes)
    assert control.progress.step == STEPS
    assert all(parameter.device.type == "meta" for parameter in module.parameters())


CULPRITS = {
    "item": lambda values: values.sum().item(),
    "if": lambda values: 1.0 if values.sum() > 0 else 2.0,
    "int": lambda values: int(values.sum()),
    "cpu": lambda values: values.cpu(),
    "numpy": lambda values: values.detach().numpy(),
    "tolist": lambda values: values.tolist(),
    "nonzero": lambda values: torch.nonzero(values),
    "mask": lambda values: values[values > 0],
    "assignment through a mask": lambda values: values.detach().index_put_((values > 0,), torch.zeros_like(values[:1])),
    "tensor from a list": lambda values: torch.tensor([1.0, 2.0], device=values.device),
    "copy that waits": lambda values: torch.ones(2).to(values.device),
    "index on the host": lambda values: values.flatten()[torch.tensor([0])],
}


@pytest.mark.parametrize("culprit", CULPRITS.values(), ids=CULPRITS)
def test_what_waits_would_be_found(culprit, train_without_values, monkeypatch):
    original, steps = DetectionLoss.forward, []

    def forward(self, raw, targets, anchors):
        steps.append(raw.device.type)
        if len(steps) == STEPS - 1:
            culprit(raw)
        return original(self, raw, targets, anchors)

    monkeypatch.setattr(DetectionLoss, "forward", forward)
    with pytest.raises((RuntimeError, TypeError), match=r"wait|meta|host"):
        train_without_values()
    assert steps == ["meta"] * (STEPS - 1)
