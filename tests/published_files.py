"""Checkpoints as the published code writes them, made from random tensors."""

from __future__ import annotations

import sys
import types
from collections import OrderedDict
from contextlib import contextmanager
from pathlib import Path

import torch

from leod.config.schema import ModelConfig, SequenceConfig
from leod.models.detector import build_detector
from leod.published.weights import published_name


def published_tensors(model: ModelConfig, sequence: SequenceConfig, prefix: str = "mdl.") -> OrderedDict:
    """Random tensors under the published names, in the published order."""
    generator = torch.Generator().manual_seed(1)
    tensors = OrderedDict()
    for name, tensor in build_detector(model, sequence).state_dict().items():
        values = torch.rand(tensor.shape, generator=generator)
        tensors[prefix + published_name(name)] = values if tensor.is_floating_point() else torch.tensor(12345)
    return tensors


@contextmanager
def foreign_classes(module_name: str, *class_names: str):
    """Yield classes of a module that exists inside the block only, so that no reader can import them later."""
    module = types.ModuleType(module_name)
    for name in class_names:
        setattr(module, name, type(name, (), {"__module__": module_name}))
    sys.modules[module_name] = module
    try:
        yield tuple(getattr(module, name) for name in class_names)
    finally:
        del sys.modules[module_name]


def write_lightning(path: Path, tensors: OrderedDict) -> None:
    """A Lightning checkpoint whose hyper-parameters are objects of a package that is not installed."""
    with foreign_classes("package_that_is_not_installed", "DictConfig", "Metadata") as (dict_config, metadata):
        config = dict_config()
        config.content = {"model": {"name": "rnndet"}, "sizes": [1, 2, (3, 4)]}
        config.metadata = metadata()
        config.metadata.key_type = int
        checkpoint = {
            "epoch": 3,
            "global_step": 400_000,
            "pytorch-lightning_version": "1.8.6",
            "state_dict": tensors,
            "loops": {"fit_loop": {"state_dict": {}}},
            "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 2e-4}]}],
            "hyper_parameters": {"full_config": config, "path": Path("/somewhere")},
        }
        torch.save(checkpoint, path)
