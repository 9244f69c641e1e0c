from __future__ import annotations

import os
import pickle
from collections import OrderedDict, defaultdict

import pytest
import torch
import yaml
from published_files import published_tensors, write_lightning
from small_models import SMALL_MODEL, small_detector, small_sequence

from leod.config.schema import DatasetConfig, ModelConfig
from leod.errors import CheckpointError
from leod.published.weights import (
    NAME_TABLE,
    PUBLISHED_DATASETS,
    PUBLISHED_MODELS,
    our_name,
    published_name,
    read_tensors,
    recognise,
)

SEQUENCE = small_sequence()


def save(path, content):
    torch.save(content, path)
    return path


@pytest.fixture
def tensors():
    return published_tensors(SMALL_MODEL, SEQUENCE)


def test_every_name_has_exactly_one_counterpart():
    ours = list(small_detector().state_dict())
    published = [published_name(name) for name in ours]
    assert None not in published
    assert len(set(published)) == len(ours)
    assert [our_name(name) for name in published] == ours
    assert len({theirs for theirs, _ in NAME_TABLE}) == len({own for _, own in NAME_TABLE}) == len(NAME_TABLE)


def test_known_names():
    assert our_name("backbone.stages.2.att_blocks.0.att_grid.mlp.net.0.0.weight") == (
        "backbone.stages.2.blocks.0.grid.mlp.fc1.weight"
    )
    assert our_name("fpn.C3_n4.m.1.conv2.bn.running_var") == "neck.bottom_up_32.bottlenecks.1.1.norm.running_var"
    assert our_name("yolox_head.reg_convs.2.1.conv.weight") == "head.box_branches.2.1.conv.weight"
    assert our_name("teacher.weight") is None


@pytest.mark.parametrize("model", list(PUBLISHED_MODELS))
@pytest.mark.parametrize("dataset", list(PUBLISHED_DATASETS))
def test_published_sizes_are_recognised(model, dataset, tmp_path):
    tensors = published_tensors(PUBLISHED_MODELS[model], PUBLISHED_DATASETS[dataset])
    weights = recognise(save(tmp_path / "x.ckpt", {"state_dict": tensors}))
    assert (weights.model.name, weights.dataset) == (model, dataset)
    assert weights.published["container"] == "lightning"


@pytest.mark.parametrize("name", list(PUBLISHED_MODELS))
def test_published_sizes_are_those_of_the_model_files(name, pytestconfig):
    file = pytestconfig.rootpath / "configs" / "models" / f"{name}.yaml"
    assert ModelConfig(**yaml.safe_load(file.read_text())) == PUBLISHED_MODELS[name]


@pytest.mark.parametrize("name", list(PUBLISHED_DATASETS))
def test_published_data_sets_are_those_of_the_data_set_files(name, pytestconfig):
    file = pytestconfig.rootpath / "configs" / "datasets" / f"{name}.yaml"
    assert DatasetConfig(**yaml.safe_load(file.read_text())).sequence_config() == PUBLISHED_DATASETS[name]


@pytest.mark.parametrize("prefix", ["mdl.", "", "module.mdl.", "mdl.module.", "_orig_mod.mdl."])
def test_prefixes(prefix, tmp_path):
    tensors = published_tensors(SMALL_MODEL, SEQUENCE, prefix)
    weights = recognise(save(tmp_path / "x.ckpt", tensors), SMALL_MODEL, SEQUENCE)
    assert list(weights.state_dict) == list(small_detector().state_dict())
    assert weights.published == {"container": "bare", "names": list(tensors)}


def test_compiled_backbone_inside_the_name(tensors, tmp_path):
    renamed = OrderedDict((name.replace("backbone.", "backbone._orig_mod."), value) for name, value in tensors.items())
    weights = recognise(save(tmp_path / "x.ckpt", renamed), SMALL_MODEL, SEQUENCE)
    assert list(weights.state_dict) == list(small_detector().state_dict())


def test_the_same_tensor_under_two_prefixes(tensors, tmp_path):
    tensors["mdl.module.fpn.reduce_conv1.bn.weight"] = tensors["mdl.fpn.reduce_conv1.bn.weight"]
    with pytest.raises(CheckpointError, match=r"'fpn.reduce_conv1.bn.weight' twice"):
        recognise(save(tmp_path / "x.ckpt", tensors), SMALL_MODEL, SEQUENCE)


def test_objects_of_unknown_classes_become_placeholders(tensors, tmp_path):
    path = tmp_path / "x.ckpt"
    write_lightning(path, tensors)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    container, read = read_tensors(path)
    assert container == "lightning"
    assert list(read) == list(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(read[name], tensor)
        assert read[name].dtype == tensor.dtype


def test_filled_default_dictionaries(tensors, tmp_path):
    cache = defaultdict(dict)
    cache["resolver"]["key"] = 1
    _, read = read_tensors(save(tmp_path / "x.ckpt", {"state_dict": tensors, "hyper_parameters": cache}))
    assert list(read) == list(tensors)


def touch(path):
    with open(path, "w"):  # noqa: PTH123
        pass


class Malicious:
    """Runs a function when unpickled."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("function", [touch, eval, os.system])
def test_nothing_in_a_file_is_executed(function, tensors, tmp_path):
    victim = tmp_path / "victim"
    argument = {touch: str(victim), eval: f"open({str(victim)!r}, 'w')", os.system: f"touch {victim}"}[function]
    path = save(tmp_path / "x.ckpt", {"state_dict": tensors, "callbacks": Malicious(function, argument)})
    try:
        recognise(path, SMALL_MODEL, SEQUENCE)
    except CheckpointError as error:
        assert "without running code" in str(error)  # noqa: PT017
    assert not victim.exists()
    torch.load(path, weights_only=False)
    assert victim.exists()


def test_another_size_is_refused_with_a_table(tmp_path):
    path = save(tmp_path / "x.ckpt", published_tensors(SMALL_MODEL, small_sequence(classes=("a", "b", "c", "d"))))
    with pytest.raises(CheckpointError) as caught:
        recognise(path, SMALL_MODEL.model_copy(update={"embed_dim": 16}), SEQUENCE)
    message = str(caught.value)
    assert "channels of the stages  (8, 16, 32, 64)  (16, 32, 64, 128)" in message
    assert "classes                 4                2" in message
    assert "bottlenecks" not in message


def test_another_size_is_compared_with_the_nearest_published_one(tmp_path):
    tiny = PUBLISHED_MODELS["rvt-tiny"]
    path = save(tmp_path / "x.ckpt", published_tensors(tiny, small_sequence(classes=("a", "b", "c"))))
    with pytest.raises(CheckpointError, match="'rvt-tiny' for one_mpx") as caught:
        recognise(path)
    assert "channels of a frame  4           20" in str(caught.value)
    assert "channels of the stages" not in str(caught.value)


def test_missing_and_superfluous_tensors_are_named(tensors, tmp_path):
    del tensors["mdl.fpn.bu_conv1.bn.weight"]
    tensors["mdl.mask_token"] = torch.zeros(3)
    with pytest.raises(CheckpointError) as caught:
        recognise(save(tmp_path / "x.ckpt", tensors), SMALL_MODEL, SEQUENCE)
    assert "neck.downsample_16.norm.weight  missing" in str(caught.value)
    assert "mask_token" in str(caught.value)
    assert "not there" in str(caught.value)


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], {"a": 1}, {1: torch.zeros(1)}, torch.zeros(3)])
def test_files_without_weights(content, tmp_path):
    with pytest.raises(CheckpointError, match=r"x.ckpt: (holds no weights|is no state dict)"):
        read_tensors(save(tmp_path / "x.ckpt", content))


def test_other_weights(tmp_path):
    path = save(tmp_path / "x.ckpt", torch.nn.Linear(2, 3).state_dict())
    with pytest.raises(CheckpointError, match="missing"):
        recognise(path)
