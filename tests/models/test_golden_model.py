"""The network against forward passes of the published code."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

from leod.config.schema import ModelConfig, RepresentationConfig, SensorSize, SequenceConfig
from leod.models.detector import build_detector
from leod.published.weights import our_name, published_name


@pytest.fixture(scope="module")
def published_models(golden_dir):
    return json.loads((golden_dir / "model_keys.json").read_text())


def sequence_of(entry: dict) -> SequenceConfig:
    height, width = entry["in_res_hw"]
    return SequenceConfig(
        sensor=SensorSize(height=height, width=width),
        classes=tuple(f"class{index}" for index in range(entry["num_classes"])),
        representation=RepresentationConfig(bins=entry["in_channels"] // 2),
        partition_split_32=height // 32 // entry["partition_size"][0],
    )


def test_parameters_names_and_shapes(published_models):
    for name, entry in published_models.items():
        model = ModelConfig(
            name=name, embed_dim=entry["embed_dim"], dim_head=entry["dim_head"], fpn_depth=entry["fpn_depth"]
        )
        sequence = sequence_of(entry)
        with torch.device("meta"):
            detector = build_detector(model, sequence)
        parts = {"backbone": detector.backbone, "fpn": detector.neck, "yolox_head": detector.head}
        for part, count in entry["params_by_part"].items():
            assert sum(parameter.numel() for parameter in parts[part].parameters()) == count, (name, part)
        assert sum(parameter.numel() for parameter in detector.parameters()) == entry["params"], name
        state = [
            [published_name(key), list(tensor.shape), str(tensor.dtype).removeprefix("torch.")]
            for key, tensor in detector.state_dict().items()
        ]
        assert state == entry["state"], name
        assert list(sequence.partition_size) == entry["partition_size"], name


def test_names_are_mapped_one_to_one(published_models):
    for entry in published_models.values():
        published = [key for key, _, _ in entry["state"]]
        ours = [our_name(key) for key in published]
        assert len(set(ours)) == len(published)
        assert [published_name(key) for key in ours] == published


def read_weights(golden_dir) -> dict[str, torch.Tensor]:
    arrays, order = {}, None
    for file in sorted(golden_dir.glob("model_forward_weights_*.npz")):
        with np.load(file, allow_pickle=False) as content:
            arrays.update({key.removeprefix("w/"): content[key] for key in content.files if key.startswith("w/")})
            order = list(content["key_order"]) if "key_order" in content.files else order
    return {
        key: torch.from_numpy(arrays[key].astype(np.float32) if arrays[key].dtype == np.float16 else arrays[key])
        for key in order
    }


@pytest.fixture(scope="module")
def golden_forward(golden_dir):
    published = read_weights(golden_dir)
    with np.load(golden_dir / "model_forward_io.npz", allow_pickle=False) as file:
        io = {key: file[key] for key in file.files}
    stem = published["backbone.stages.0.downsample_cf2cl.conv.weight"]
    height, width = (int(value) for value in io["in_res_hw"])
    sequence = SequenceConfig(
        sensor=SensorSize(height=height, width=width),
        classes=tuple(f"class{index}" for index in range(io["preds"].shape[-1] - 5)),
        representation=RepresentationConfig(bins=stem.shape[1] // 2),
        partition_split_32=height // 32 // int(io["partition_size"][0]),
    )
    bottlenecks = len({key for key in published if re.fullmatch(r"fpn\.C3_p4\.m\.\d+\.conv1\.conv\.weight", key)})
    model = ModelConfig(
        name="golden",
        embed_dim=stem.shape[0],
        # Attention heads leave no trace in the shapes.
        dim_head=int(io.get("dim_head", 8)),
        fpn_depth=bottlenecks / 3,
    )
    detector = build_detector(model, sequence)
    detector.load_state_dict({our_name(key): tensor for key, tensor in published.items()})
    return detector.eval(), io


def close(values: torch.Tensor, reference: np.ndarray) -> None:
    np.testing.assert_allclose(values.numpy(), reference, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_frame_by_frame(golden_forward):
    detector, io = golden_forward
    states = None
    for step, frames in enumerate(torch.from_numpy(io["ev_repr"])):
        features, states = detector.forward_backbone(frames, states)
        predictions, _ = detector.forward_head(features)
        close(predictions, io["preds"][step])
    for stage, (hidden, cell) in enumerate(states, start=1):
        close(hidden, io[f"state_h_{stage}"])
        close(cell, io[f"state_c_{stage}"])
    for stride, maps in zip((8, 16, 32), detector.neck(features), strict=True):
        close(maps, io[f"fpn_{stride}"])


@torch.inference_mode()
def test_whole_sequence_at_once(golden_forward):
    detector, io = golden_forward
    features, states = detector.forward_sequence(torch.from_numpy(io["ev_repr"]))
    predictions, _ = detector.forward_head([maps.flatten(0, 1) for maps in features])
    close(predictions.view(io["preds"].shape), io["preds"])
    for stage, (hidden, cell) in enumerate(states, start=1):
        close(hidden, io[f"state_h_{stage}"])
        close(cell, io[f"state_c_{stage}"])
