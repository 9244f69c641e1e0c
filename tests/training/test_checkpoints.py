"""Working checkpoints: the newest readable one of the same training wins."""

from __future__ import annotations

import pytest
import torch

from leod.errors import ResourceError
from leod.training.checkpoints import WorkingCheckpoints, working_folder


@pytest.fixture
def checkpoints(tmp_path):
    return WorkingCheckpoints(tmp_path / "checkpoints", "fingerprint")


def names(checkpoints):
    return sorted(path.name for path in checkpoints.folder.iterdir())


def test_nothing_saved_nothing_loaded(checkpoints):
    assert checkpoints.load_newest() is None


def test_newest_wins_and_older_ones_are_deleted(checkpoints):
    for step in (1, 5, 20, 100):
        checkpoints.save(step, {"value": torch.tensor([float(step)]), "plain": [1, (2.5, "text"), None, {3: True}]})
    state = checkpoints.load_newest()
    assert state["value"].item() == 100.0
    assert state["plain"] == [1, (2.5, "text"), None, {3: True}]
    assert names(checkpoints) == ["step-000000020.ckpt", "step-000000100.ckpt"]


@pytest.mark.parametrize("damage", ["cut short", "one bit altered", "empty", "something else"])
def test_damaged_one_is_set_aside_and_the_older_one_wins(damage, checkpoints, caplog):
    checkpoints.save(1, {"value": torch.arange(100.0)})
    newest = checkpoints.save(2, {"value": torch.arange(200.0)})
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 4
    damaged = {"cut short": content[:500], "one bit altered": content, "empty": b"", "something else": b"PK hello"}
    newest.write_bytes(bytes(damaged[damage]))
    assert len(checkpoints.load_newest()["value"]) == 100
    assert names(checkpoints) == ["step-000000001.ckpt", "step-000000002.ckpt.damaged"]
    assert "step-000000002.ckpt.damaged" in caplog.text


def test_one_of_other_settings_is_set_aside(checkpoints, caplog):
    WorkingCheckpoints(checkpoints.folder, "another").save(7, {})
    assert checkpoints.load_newest() is None
    assert names(checkpoints) == ["step-000000007.ckpt.other-settings"]
    assert "other settings" in caplog.text


def test_leftovers_of_a_killed_process_are_deleted(checkpoints):
    checkpoints.save(1, {})
    (checkpoints.folder / ".incomplete-12345678-step-000000002.ckpt").write_bytes(b"half")
    assert checkpoints.load_newest() == {}
    assert names(checkpoints) == ["step-000000001.ckpt"]


def test_full_disk_keeps_the_older_ones(checkpoints, monkeypatch):
    checkpoints.save(1, {"value": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("leod.files.os.fsync", full)
    with pytest.raises(ResourceError, match="no space left"):
        checkpoints.save(2, {"value": 2})
    monkeypatch.undo()
    assert names(checkpoints) == ["step-000000001.ckpt"]
    assert checkpoints.load_newest() == {"value": 1}


def test_remove_keeps_what_was_set_aside(checkpoints):
    checkpoints.save(1, {})
    (checkpoints.folder / "step-000000000.ckpt.damaged").write_bytes(b"")
    checkpoints.remove()
    assert names(checkpoints) == ["step-000000000.ckpt.damaged"]


def test_scratch_folder_follows_from_the_results_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scratch = tmp_path / "scratch"
    assert working_folder(tmp_path / "a" / "round_0", None) == tmp_path / "a" / "round_0" / "checkpoints"
    absolute = working_folder(tmp_path / "a" / "round_0", scratch)
    assert absolute.parent == scratch
    assert working_folder("a/round_0", scratch) == absolute
    assert working_folder(tmp_path / "b" / "round_0", scratch) != absolute
