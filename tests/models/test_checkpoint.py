from __future__ import annotations

import pytest
import torch
from small_models import SMALL_MODEL, random_frames, small_detector, small_sequence

from leod.config.schema import DatasetConfig, RepresentationConfig
from leod.errors import CheckpointError
from leod.models.checkpoint import load_detector, read_detector_file, save_detector


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "round_0" / "model.ckpt"
    save_detector(path, small_detector(), {"stage": "pretrain", "seed": 3})
    return path


def test_round_trip(path):
    detector = load_detector(path, SMALL_MODEL, small_sequence())
    for (name, tensor), other in zip(
        detector.state_dict().items(), small_detector().state_dict().values(), strict=True
    ):
        assert torch.equal(tensor, other), name
    frames = random_frames(1, 4, 60, 90)
    with torch.inference_mode():
        assert torch.equal(detector.eval()(frames)[0], small_detector().eval()(frames)[0])
    content = read_detector_file(path)
    assert content.provenance == {"stage": "pretrain", "seed": 3}
    assert content.published is None
    assert [file.name for file in path.parent.iterdir()] == ["model.ckpt"]


def test_the_file_is_readable_without_trust(path):
    assert torch.load(path, weights_only=True)["model"]["embed_dim"] == SMALL_MODEL.embed_dim


def test_what_does_not_matter_may_differ(path):
    dataset = DatasetConfig(
        name="other", sequences="somewhere", **small_sequence(time_reversal_label_offset=-2).model_dump()
    )
    load_detector(path, SMALL_MODEL.model_copy(update={"name": "renamed"}), dataset)


def test_another_model(path):
    with pytest.raises(CheckpointError) as caught:
        load_detector(path, SMALL_MODEL.model_copy(update={"embed_dim": 16}), small_sequence())
    assert str(path) in str(caught.value)
    assert "embed_dim  8           16" in str(caught.value)
    assert "dim_head" not in str(caught.value)


def test_other_frames_and_classes(path):
    expected = small_sequence(classes=("car", "bus", "tram")).model_copy(
        update={"representation": RepresentationConfig(kind="mixed_density", bins=4)}
    )
    with pytest.raises(CheckpointError) as caught:
        load_detector(path, SMALL_MODEL, expected)
    message = str(caught.value)
    assert "classes" in message
    assert "tram" in message
    assert "representation.kind" in message
    assert "mixed_density" in message
    assert "sensor" not in message


def test_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"model.ckpt: the file does not exist"):
        load_detector(tmp_path / "model.ckpt")


@pytest.mark.parametrize("kept", [0, 10, 5000, -1])
def test_cut_off_file(kept, path):
    content = path.read_bytes()
    path.write_bytes(content[:kept])
    with pytest.raises(CheckpointError, match="damaged"):
        load_detector(path)


def test_one_flipped_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        load_detector(path)


@pytest.mark.parametrize("content", [{"state_dict": {}}, [], torch.zeros(1), object])
def test_other_torch_files(content, tmp_path):
    path = tmp_path / "x.ckpt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="import_weights"):
        load_detector(path)


def test_a_newer_format(path):
    record = torch.load(path, weights_only=True)
    torch.save({**record, "format_version": 99}, path)
    with pytest.raises(CheckpointError, match="newer version"):
        load_detector(path)


def test_a_description_that_is_wrong(path):
    record = torch.load(path, weights_only=True)
    torch.save({**record, "model": {"embed_dim": -1}}, path)
    with pytest.raises(CheckpointError, match="embed_dim"):
        load_detector(path)


def test_tensors_that_contradict_the_description(path):
    record = torch.load(path, weights_only=True)
    record["state_dict"].pop("head.stems.0.norm.weight")
    torch.save(record, path)
    with pytest.raises(CheckpointError, match=r"head.stems.0.norm.weight +missing"):
        load_detector(path)
