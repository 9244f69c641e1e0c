"""Published weights in and out again."""

from __future__ import annotations

import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import pytorch_lightning as lightning
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "models"))

from published_files import published_tensors, write_lightning
from small_models import SMALL_MODEL, small_detector, small_sequence

from leod.errors import CheckpointError
from leod.models.checkpoint import load_detector, read_detector_file, save_detector
from leod.published.weights import PUBLISHED_DATASETS, PUBLISHED_MODELS, published_name
from leod.stages.export_weights import export_weights
from leod.stages.import_weights import import_weights


def assert_same_tensors(found: OrderedDict, expected: OrderedDict) -> None:
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert found[name].shape == tensor.shape, name
        assert found[name].numpy().tobytes() == tensor.numpy().tobytes(), name


def test_a_released_checkpoint(tmp_path):
    tensors = published_tensors(PUBLISHED_MODELS["rvt-tiny"], PUBLISHED_DATASETS["gen1"])
    write_lightning(tmp_path / "rvt-t.ckpt", tensors)
    import_weights(tmp_path / "rvt-t.ckpt", tmp_path / "model.ckpt")
    detector = load_detector(tmp_path / "model.ckpt", PUBLISHED_MODELS["rvt-tiny"], PUBLISHED_DATASETS["gen1"])
    assert torch.equal(detector.head.class_outputs[1].weight, tensors["mdl.yolox_head.cls_preds.1.weight"])
    assert read_detector_file(tmp_path / "model.ckpt").provenance["stage"] == "import_weights"


@pytest.mark.parametrize("prefix", ["mdl.", "", "mdl.module."])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_round_trip_of_a_bare_state_dict(prefix, dtype, tmp_path):
    tensors = published_tensors(SMALL_MODEL, small_sequence(), prefix)
    tensors = OrderedDict(
        (name, value.to(dtype) if value.is_floating_point() else value) for name, value in tensors.items()
    )
    # Some other order than ours, which the way back has to restore.
    tensors = OrderedDict(sorted(tensors.items()))
    torch.save(tensors, tmp_path / "original.pth")
    import_weights(tmp_path / "original.pth", tmp_path / "model.ckpt", SMALL_MODEL, small_sequence())
    export_weights(tmp_path / "model.ckpt", tmp_path / "back.pth")
    assert_same_tensors(torch.load(tmp_path / "back.pth", weights_only=True), tensors)


def test_round_trip_of_a_lightning_checkpoint(tmp_path):
    tensors = published_tensors(SMALL_MODEL, small_sequence())
    write_lightning(tmp_path / "original.ckpt", tensors)
    import_weights(tmp_path / "original.ckpt", tmp_path / "model.ckpt", SMALL_MODEL, small_sequence())
    export_weights(tmp_path / "model.ckpt", tmp_path / "back.ckpt")
    assert_same_tensors(torch.load(tmp_path / "back.ckpt", weights_only=True)["state_dict"], tensors)
    export_weights(tmp_path / "model.ckpt", tmp_path / "bare.pth", container="bare")
    assert_same_tensors(torch.load(tmp_path / "bare.pth", weights_only=True), tensors)


def test_lightning_loads_what_was_trained_here(tmp_path):
    detector = small_detector()
    save_detector(tmp_path / "model.ckpt", detector)
    export_weights(tmp_path / "model.ckpt", tmp_path / "export.ckpt")

    class Published(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.mdl = torch.nn.Module()
            for name, tensor in detector.state_dict().items():
                *parents, leaf = published_name(name).split(".")
                module = self.mdl
                for parent in parents:
                    if parent not in dict(module.named_children()):
                        module.add_module(parent, torch.nn.Module())
                    module = module.get_submodule(parent)
                module.register_buffer(leaf, torch.zeros_like(tensor))

    loaded = Published.load_from_checkpoint(tmp_path / "export.ckpt", map_location="cpu", weights_only=True)
    weight = loaded.mdl.get_submodule("fpn.C3_p4.conv1.conv").get_buffer("weight")
    assert torch.equal(weight, detector.neck.top_down_16.main.conv.weight)


def test_nothing_is_written_when_the_weights_do_not_fit(tmp_path):
    torch.save(torch.nn.Linear(1, 1).state_dict(), tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError):
        import_weights(tmp_path / "x.ckpt", tmp_path / "model.ckpt")
    assert [file.name for file in tmp_path.iterdir()] == ["x.ckpt"]
