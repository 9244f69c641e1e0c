"""Where two studies first differ, and in what."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from finished_study import EXPERIMENT, FRAMES, change_json, finished_study
from tiny_sequences import random_detector

from leod.errors import DataError
from leod.files import read_json
from leod.models.checkpoint import read_detector_file, write_detector_file
from leod.stages.compare import compare

IDENTICAL, WITHIN_SPREAD, DIFFERENT = 0, 3, 4


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_study(tmp_path_factory.mktemp("original"))


@pytest.fixture
def copied(original: Path, tmp_path: Path) -> Path:
    """A copy of the study and its data, to be changed."""
    root = tmp_path / "copy"
    shutil.copytree(original.parents[1], root)
    return root / "results" / "tiny"


@pytest.fixture
def compared(original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Compares with the original: exit status, what is printed, what is written as JSON."""

    def run(other: Path, first: Path | None = None) -> tuple[int, str, dict[str, Any]]:
        report = tmp_path / "report.json"
        with pytest.raises(SystemExit) as ended:
            compare(first or original, other, report)
        return ended.value.code, capsys.readouterr().out, read_json(report)

    return run


def first_difference(printed: str) -> str:
    return next(line for line in printed.splitlines() if line.startswith("First difference: "))


def verdicts(report: dict[str, Any]) -> dict[str, str]:
    return {
        f"{entry['stage']} {entry['round']} {entry['part']}".strip(): entry["verdict"] for entry in report["stages"]
    }


def test_a_copy_is_bit_identical(copied: Path, compared) -> None:
    status, printed, report = compared(copied)
    assert status == IDENTICAL
    assert "First difference" not in printed
    assert "Verdict: bit-identical results." in printed
    stages = [entry["stage"] for entry in report["stages"]]
    assert stages == [
        *["preprocess"] * 3,
        *("subsample_labels", "pretrain", "evaluate"),
        *("generate_pseudo_labels", "track_filter", "validate_quality", "self_train", "evaluate"),
        "summarise",
    ]


def test_times_compression_and_file_formats_make_no_difference(copied: Path, compared) -> None:
    experiment = copied / EXPERIMENT
    change_json(experiment / "round_0/training.json", "provenance", "wall_time_s", value=99.5)
    change_json(experiment / "round_0/training.json", "key", value="another program's")
    model = experiment / "round_1/model.ckpt"
    content = read_detector_file(model)
    content.provenance["wall_time_s"] = 7.0
    write_detector_file(model, content)
    sequence = copied.parents[1] / "data/sequences/train/drive"
    with np.load(sequence / "labels_v2/labels.npz") as file:
        arrays = dict(file)
    np.savez_compressed(sequence / "labels_v2/labels.npz", **arrays)
    frames = copied.parents[1] / "data/sequences" / FRAMES
    with h5py.File(frames) as file:
        data = file["data"][()]
    with h5py.File(frames, "w") as file:
        file.create_dataset("data", data=data, compression="gzip")
    status, printed, _ = compared(copied)
    assert (status, "First difference" in printed) == (IDENTICAL, False), printed


def test_a_changed_seed_is_named_at_the_first_training(tmp_path: Path, compared) -> None:
    status, printed, report = compared(finished_study(tmp_path, seeds=[1]))
    assert status == DIFFERENT
    assert first_difference(printed).startswith(
        f"First difference: pretrain, {EXPERIMENT}, round 0: settings: seed: 0 → 1"
    )
    assert verdicts(report)["subsample_labels None"] == "bit-identical"
    assert "B: weakly_supervised-0.5-offset0-seed1" in printed


def test_a_changed_threshold_is_named_at_the_stage_that_uses_it(tmp_path: Path, compared) -> None:
    _, printed, report = compared(finished_study(tmp_path, track_filter={"min_track_length": 2}))
    assert first_difference(printed) == (
        f"First difference: track_filter, {EXPERIMENT}, round 1: settings: track_filter.min_track_length: 6 → 2"
    )
    assert [entry["differences"] for entry in report["stages"] if entry["stage"] != "track_filter"] == [[]] * 11


def test_a_changed_package_is_named_once_and_not_as_another_result(
    tmp_path: Path, compared, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"python": "3.11.7", "leod": "0.1.0", "torch": "9.9"}
    monkeypatch.setattr("leod.provenance.versions", lambda: found | {"torch": "9.8"})
    older = finished_study(tmp_path / "older")
    monkeypatch.setattr("leod.provenance.versions", lambda: found)
    status, printed, report = compared(finished_study(tmp_path / "newer"), older)
    assert status == IDENTICAL
    assert first_difference(printed) == "First difference: preprocess, train-0: versions: torch: 9.8 → 9.9"
    assert printed.count("9.8 → 9.9") == 2  # the row of the first stage, and this line
    assert "though not everything that they were made from is the same" in printed
    assert all(entry["differences"] for entry in report["stages"] if entry["stage"] != "summarise")


def test_another_program_and_machine_are_named(copied: Path, compared) -> None:
    record = copied / EXPERIMENT / "round_0/training.json"
    change_json(record, "provenance", "source", value="f" * 64)
    change_json(record, "provenance", "machine", "processor", value="Abacus")
    status, printed, _ = compared(copied)
    assert status == IDENTICAL
    assert "program: source: " in first_difference(printed)
    assert "→ Abacus" in first_difference(printed)


def test_a_flipped_byte_in_a_metrics_file(copied: Path, compared) -> None:
    metrics = copied / EXPERIMENT / "round_0/metrics/test_plain.json"
    text = metrics.read_bytes()
    place = text.index(b'"AP": 0.3') + len('"AP": 0.')
    metrics.write_bytes(text[:place] + bytes([text[place] ^ 4]) + text[place + 1 :])
    status, printed, report = compared(copied)
    assert status == DIFFERENT
    assert first_difference(printed) == (
        f"First difference: evaluate, test_plain, {EXPERIMENT}, round 0: results: metrics: metrics.AP: 0.3 → 0.7"
    )
    assert [name for name, verdict in verdicts(report).items() if verdict != "bit-identical"] == [
        "evaluate 0 test_plain"
    ]


def test_a_flipped_byte_that_makes_a_file_unreadable(copied: Path, compared) -> None:
    metrics = copied / EXPERIMENT / "round_0/metrics/test_plain.json"
    metrics.write_bytes(b"[" + metrics.read_bytes()[1:])
    status, printed, _ = compared(copied)
    assert status == DIFFERENT
    assert "is not valid JSON" in first_difference(printed)
    assert first_difference(printed).startswith(f"First difference: evaluate, test_plain, {EXPERIMENT}, round 0")


def test_a_flipped_byte_in_a_frame_file(copied: Path, compared) -> None:
    frames = copied.parents[1] / "data/sequences" / FRAMES
    with h5py.File(frames) as file:
        offset = file["data"].id.get_chunk_info(5).byte_offset + 100
    content = bytearray(frames.read_bytes())
    content[offset] ^= 1
    frames.write_bytes(content)
    status, printed, report = compared(copied)
    assert status == DIFFERENT
    assert first_difference(printed).startswith(f"First difference: preprocess, train-0: results: {FRAMES}: ")
    assert verdicts(report)["preprocess None train-0"] == "different"
    # What reads them says so.
    assert "inputs: sequences of preprocess, train-0" in printed or any(
        entry["kind"] == "inputs" for stage in report["stages"] for entry in stage["differences"]
    )


def test_damaged_frames_are_named(copied: Path, compared) -> None:
    frames = copied.parents[1] / "data/sequences" / FRAMES
    frames.write_bytes(frames.read_bytes()[:-4000])
    status, printed, _ = compared(copied)
    assert status == DIFFERENT
    assert FRAMES in first_difference(printed)
    assert "cannot be read" in first_difference(printed)


def test_other_weights_are_judged_by_what_they_score(tmp_path: Path, compared, monkeypatch: pytest.MonkeyPatch) -> None:
    original = finished_study(tmp_path / "a", seeds=[0, 1, 2])
    monkeypatch.setattr("leod.provenance.machine", lambda: {"processor": "Abacus"})
    near = finished_study(tmp_path / "b", seeds=[0, 1, 2], shift=0.004)
    far = finished_study(tmp_path / "c", seeds=[0, 1, 2], shift=0.2)
    status, printed, report = compared(near, original)
    assert status == WITHIN_SPREAD
    assert "Verdict: equal within the spread of seeds (seeds scatter by 1.0 AP" in printed
    assert verdicts(report)["self_train 1"] == "within the spread"
    # Six evaluations: 95 % for all of them together, four degrees of freedom, two runs.
    assert report["spread"]["degrees"] == 4
    # Another machine explains what differs.
    assert report["spread"]["limit"] == pytest.approx(0.01 * np.sqrt(2) * 4.851, rel=1e-3)
    status, printed, _ = compared(far, original)
    assert status == DIFFERENT


def test_the_same_detector_cannot_score_otherwise_by_chance(tmp_path: Path, compared) -> None:
    original = finished_study(tmp_path / "a", seeds=[0, 1, 2])
    other = finished_study(tmp_path / "b", seeds=[0, 1, 2])
    change_json(other / EXPERIMENT / "round_0/metrics/test_plain.json", "metrics", "AP", value=0.3001)
    status, printed, _ = compared(other, original)
    assert status == DIFFERENT
    assert "metrics.AP: 0.3 → 0.3001" in first_difference(printed)


def test_the_spread_of_one_seed_is_not_known(tmp_path: Path, compared) -> None:
    status, printed, _ = compared(finished_study(tmp_path, shift=0.0001))
    assert status == DIFFERENT
    assert "the spread of seeds is not known" in printed


def test_other_weights_alone_are_no_identity(copied: Path, compared) -> None:
    model = copied / EXPERIMENT / "round_0/model.ckpt"
    content = read_detector_file(model)
    other = {name: tensor.clone() for name, tensor in random_detector(5).state_dict().items()}
    write_detector_file(model, type(content)(content.model, content.sequence, other, content.provenance))
    status, printed, _ = compared(copied)
    assert status == WITHIN_SPREAD
    assert "results: weights differ" in first_difference(printed)


def test_what_only_one_study_has_is_named(tmp_path: Path, compared) -> None:
    status, printed, _ = compared(finished_study(tmp_path, rounds=2))
    assert status == DIFFERENT
    assert f"generate_pseudo_labels, shard 0, {EXPERIMENT}, round 2: results: only in B" in first_difference(printed)
    assert f"{EXPERIMENT}: 5 stage runs, generate_pseudo_labels to evaluate" in printed


def test_a_missing_file_is_a_difference(copied: Path, compared) -> None:
    (copied / EXPERIMENT / "round_1/predictions/0.h5").unlink()
    status, printed, _ = compared(copied)
    assert status == DIFFERENT
    assert "predictions is missing in B" in first_difference(printed)


def test_sequences_that_are_not_at_hand_are_said_to_be_left_out(copied: Path, compared) -> None:
    shutil.rmtree(copied.parents[1] / "data/sequences/train")
    status, printed, _ = compared(copied)
    assert status == IDENTICAL
    assert "Note: the train sequences of B are not at hand, so their files were not compared." in printed


@pytest.mark.parametrize("place", ["nothing", "a folder without a plan"])
def test_what_is_no_study_is_an_error(tmp_path: Path, original: Path, place: str) -> None:
    (tmp_path / "a folder without a plan").mkdir()
    with pytest.raises(DataError, match=r"does not exist|holds no plan\.json"):
        compare(original, tmp_path / place)


def test_the_report_is_json_that_a_script_can_use(copied: Path, compared) -> None:
    change_json(copied / EXPERIMENT / "round_0/metrics/test_plain.json", "metrics", "AP", value=0.9)
    status, _, report = compared(copied)
    assert report["exit_code"] == status
    stage = next(entry for entry in report["stages"] if entry["verdict"] == "different")
    assert stage["differences"] == [
        {"kind": "results", "what": "metrics: metrics.AP", "a": 0.3, "b": 0.9, "new": True, "incomplete": False}
    ]
    assert json.loads(json.dumps(report)) == report
