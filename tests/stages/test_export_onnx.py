import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_sequences import CONFIG, HEIGHT, WIDTH, random_detector

from leod.errors import CheckpointError, ConfigError
from leod.models.checkpoint import save_detector
from leod.stages import export_onnx as stage
from leod.stages.export_onnx import export_onnx

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("detector") / "model.ckpt"
    save_detector(path, random_detector())
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory, checkpoint):
    output = tmp_path_factory.mktemp("exported") / "detector.onnx"
    assert export_onnx(checkpoint, output) < 1e-3
    assert [entry.name for entry in output.parent.iterdir()] == ["detector.onnx"]
    return output


def test_carries_its_state_like_pytorch(exported):
    session = onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    inputs = {entry.name: entry for entry in session.get_inputs()}
    assert list(inputs)[:3] == ["frames", "hidden_0", "cell_0"]
    assert inputs["frames"].shape == [1, CONFIG.representation.channels, HEIGHT, WIDTH]
    names = [entry.name for entry in session.get_outputs()]
    assert names == ["predictions", *(f"new_{name}" for name in list(inputs)[1:])]
    assert session.get_modelmeta().custom_metadata_map["classes"] == '["car", "pedestrian"]'

    detector = random_detector()
    feed = {name: np.zeros(entry.shape, np.float32) for name, entry in inputs.items() if name != "frames"}
    states = None
    frames = np.random.default_rng(5).poisson(0.4, (4, *inputs["frames"].shape)).astype(np.uint8)
    with torch.inference_mode():
        for frame in frames:
            expected, states = detector(torch.from_numpy(frame), states)
            found = dict(zip(names, session.run(None, {"frames": frame, **feed}), strict=True))
            np.testing.assert_allclose(found["predictions"], expected.numpy(), rtol=1e-3, atol=1e-3)
            feed = {name: found[f"new_{name}"] for name in feed}


def test_a_difference_leaves_no_file(tmp_path, checkpoint, exported, monkeypatch):
    # The export takes seconds; here only what follows it matters.
    monkeypatch.setattr("torch.onnx.export", lambda *given, **_: Path(given[2]).write_bytes(exported.read_bytes()))
    monkeypatch.setattr(stage, "_compare", lambda *arguments: float("inf"))
    with pytest.raises(CheckpointError, match="differs from PyTorch by inf"):
        export_onnx(checkpoint, tmp_path / "detector.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_comparison_notices_lost_memory():
    detector = random_detector()
    frames = stage._random_frames(detector)
    module = stage._StatelessDetector(detector)
    with torch.inference_mode():
        _, states = detector(frames[0])
        zeros = [torch.zeros_like(tensor) for pair in states for tensor in pair]

    class Session:
        """PyTorch behind the interface of ONNX Runtime."""

        def __init__(self, forgets):
            self.forgets = forgets

        def get_inputs(self):
            return [type("Input", (), {"name": str(number)}) for number in range(9)]

        def run(self, _, feed):
            frame, *given = (torch.from_numpy(value) for value in feed.values())
            return [tensor.numpy() for tensor in module(frame, *(zeros if self.forgets else given))]

    assert stage._compare(module, Session(forgets=False), frames, zeros) == 0
    assert stage._compare(module, Session(forgets=True), frames, zeros) > 1e-3


def test_says_what_to_install_and_checks_the_name(tmp_path, checkpoint, monkeypatch):
    with pytest.raises(ConfigError, match=r"end the name in \.onnx"):
        export_onnx(checkpoint, tmp_path / "detector.pt")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"needs onnxruntime: pip install '\.\[export\]'"):
        export_onnx(checkpoint, tmp_path / "detector.onnx")
