"""The stage `simulate`: complete files, resumable, independent of processes and of the number of recordings."""

import json

import numpy as np
import pytest

from leod.boxes.dtypes import RECORDING_BOX_DTYPE
from leod.config.schema import SensorSize, SimulationConfig
from leod.config.settings import SimulateSettings
from leod.errors import ConfigError, DataError
from leod.recordings.recording import open_recording
from leod.stages import simulate as stage
from leod.stages.simulate import simulate

INTERRUPTED_AT = [("train", 0), ("train", 1), ("val", 0)]


def settings(counts=(2, 1, 1), classes=("car", "pedestrian"), **changes):
    simulation = {
        "recordings": dict(zip(("train", "val", "test"), counts, strict=True)),
        "duration_s": 1.0,
        "render_rate_hz": 60.0,
        "objects_per_second": 2.0,
    } | changes
    return SimulateSettings(
        sensor=SensorSize(height=48, width=64), classes=classes, simulation=SimulationConfig(**simulation)
    )


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix in (".dat", ".npy")
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("simulated")
    simulate(root / "recordings", root / "manifest.json", settings(), processes=1)
    return root


def test_writes_exactly_the_recordings_and_their_boxes(finished):
    assert list(contents(finished / "recordings")) == [
        "test/simulated_test_0000_bbox.npy",
        "test/simulated_test_0000_td.dat",
        "train/simulated_train_0000_bbox.npy",
        "train/simulated_train_0000_td.dat",
        "train/simulated_train_0001_bbox.npy",
        "train/simulated_train_0001_td.dat",
        "val/simulated_val_0000_bbox.npy",
        "val/simulated_val_0000_td.dat",
    ]


def test_the_manifest_tells_what_is_in_the_files(finished):
    manifest = json.loads((finished / "manifest.json").read_text())
    assert manifest["provenance"]["stage"] == "simulate"
    assert [len(manifest["splits"][split]) for split in ("train", "val", "test")] == [2, 1, 1]
    for split, entries in manifest["splits"].items():
        for entry in entries:
            folder = finished / "recordings" / split
            boxes = np.load(folder / f"{entry['name']}_bbox.npy")
            assert boxes.dtype == RECORDING_BOX_DTYPE
            assert len(boxes) == entry["boxes"]
            with open_recording(folder / f"{entry['name']}_td.dat") as recording:
                assert (recording.height, recording.width) == (48, 64)
                assert sum(len(chunk) for chunk in recording.chunks()) == entry["events"] > 0


def test_processes_and_the_number_of_recordings_change_nothing(finished, tmp_path):
    simulate(tmp_path / "recordings", tmp_path / "manifest.json", settings((3, 1, 1)), processes=2)
    more, fewer = contents(tmp_path / "recordings"), contents(finished / "recordings")
    assert len(more) == len(fewer) + 2
    assert all(more[name] == content for name, content in fewer.items())


def test_class_ids_follow_the_data_sets_order(finished, tmp_path):
    simulate(tmp_path / "r", tmp_path / "m.json", settings((1, 1, 1), classes=("pedestrian", "two_wheeler", "car")), 1)
    swapped = np.load(tmp_path / "r/train/simulated_train_0000_bbox.npy")
    original = np.load(finished / "recordings/train/simulated_train_0000_bbox.npy")
    assert len(original) > 0
    assert np.array_equal(np.array([2, 0])[original["class_id"]], swapped["class_id"])


def test_a_killed_run_resumes_at_the_recording(finished, tmp_path, monkeypatch):
    """The third recording is interrupted while its events are written: two are kept, nothing half-written stays."""
    output = tmp_path / "recordings"
    original = stage.RecordingSimulator
    made = []

    class Interrupted(original):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(arguments[-2:])

        def chunks(self):
            for number, chunk in enumerate(super().chunks()):
                if made == INTERRUPTED_AT and number == 2:
                    raise KeyboardInterrupt
                yield chunk

    monkeypatch.setattr(stage, "RecordingSimulator", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        simulate(output, tmp_path / "manifest.json", settings(), processes=1)
    assert len(contents(output)) == 4
    assert not (tmp_path / "manifest.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in output.rglob("*.dat")}
    made.clear()
    simulate(output, tmp_path / "manifest.json", settings(), processes=1)
    assert made == [("val", 0), ("test", 0)]
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert contents(output) == contents(finished / "recordings")


def test_changed_settings_make_everything_anew_and_fewer_recordings_remove_the_rest(tmp_path):
    output = tmp_path / "recordings"
    simulate(output, tmp_path / "manifest.json", settings((2, 1, 1)), processes=1)
    before = contents(output)
    simulate(output, tmp_path / "manifest.json", settings((1, 1, 1), noise_rate_hz=5.0), processes=1)
    after = contents(output)
    assert set(before) - set(after) == {
        "train/simulated_train_0001_bbox.npy",
        "train/simulated_train_0001_td.dat",
    }
    assert all(after[name] != before[name] for name in after if name.endswith(".dat"))


def test_recordings_of_another_program_are_made_again(tmp_path, monkeypatch):
    output = tmp_path / "recordings"
    with monkeypatch.context() as patch:
        patch.setattr("leod.reuse.program_digest", lambda: "an older version")
        simulate(output, tmp_path / "manifest.json", settings((1, 1, 1)), processes=1)
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*.dat")}
    simulate(output, tmp_path / "manifest.json", settings((1, 1, 1)), processes=1)
    assert all(path.stat().st_mtime_ns != time for path, time in before.items())


def test_a_truncated_file_is_made_again(finished, tmp_path):
    output = tmp_path / "recordings"
    simulate(output, tmp_path / "manifest.json", settings((1, 1, 1)), processes=1)
    damaged = output / "train/simulated_train_0000_td.dat"
    damaged.write_bytes(damaged.read_bytes()[:-8])
    simulate(output, tmp_path / "manifest.json", settings((1, 1, 1)), processes=1)
    assert contents(output)["train/simulated_train_0000_td.dat"] == damaged.read_bytes()
    assert damaged.read_bytes() == (finished / "recordings/train/simulated_train_0000_td.dat").read_bytes()


def test_refuses_a_folder_with_real_recordings(tmp_path):
    real = tmp_path / "recordings/train/drive_td.dat"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"precious")
    with pytest.raises(DataError, match=r"drive_td\.dat.*not made by the simulator"):
        simulate(tmp_path / "recordings", tmp_path / "manifest.json", settings(), processes=1)
    assert real.read_bytes() == b"precious"


def test_refuses_a_data_set_without_its_classes(tmp_path):
    with pytest.raises(ConfigError, match="'pedestrian'"):
        simulate(tmp_path / "recordings", tmp_path / "manifest.json", settings(classes=("car",)), processes=1)
