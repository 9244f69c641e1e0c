import json

import pytest
from tiny_sequences import CONFIG, MODEL, random_detector, random_frames, write_tiny_sequence

from leod.config.schema import DetectionConfig, HardwareConfig
from leod.config.settings import LatencySettings
from leod.errors import CheckpointError, ConfigError
from leod.models.checkpoint import save_detector
from leod.stages.measure_latency import measure_latency

CPU = HardwareConfig(accelerator="cpu", threads=1)
SETTINGS = LatencySettings(sequence=CONFIG, model=MODEL, detection=DetectionConfig())


@pytest.fixture
def study(tmp_path):
    for name, length in (("short", 2), ("long", 7)):
        write_tiny_sequence(tmp_path / "data" / "test" / name, random_frames(0, length), [1])
    save_detector(tmp_path / "model.ckpt", random_detector(), {})
    return tmp_path


def test_milliseconds_of_a_window(study):
    output = study / "latency.json"
    measure_latency(study / "model.ckpt", study / "data", output, SETTINGS, windows=20, hardware=CPU)
    result = json.loads(output.read_text())
    assert 0 < result["median_ms"] <= result["quantile_95_ms"] < 10_000
    assert (result["window_ms"], result["windows"], result["device"]) == (50.0, 20, "cpu")
    assert result["provenance"]["settings"]["model"]["embed_dim"] == MODEL.embed_dim


def test_what_cannot_be_measured_leaves_no_file(study):
    with pytest.raises(CheckpointError, match=r"gone\.ckpt"):
        measure_latency(study / "gone.ckpt", study / "data", study / "latency.json", SETTINGS, hardware=CPU)
    with pytest.raises(ConfigError, match="is a folder"):
        measure_latency(study / "model.ckpt", study / "data", study / "data", SETTINGS, hardware=CPU)
    assert not (study / "latency.json").exists()
