"""Atomic writing and locks: an interruption or a full disk leaves nothing that looks complete."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from leod.errors import ConfigError, DataError, LockedError, ResourceError
from leod.files import (
    TEMPORARY_PREFIX,
    atomic_directory,
    atomic_file,
    check_writable,
    locked,
    read_json,
    remove_leftovers,
    write_json,
)


def test_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise ValueError
    assert read_json(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["result.json"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_a_clear_error(tmp_path: Path, number: int) -> None:
    path = tmp_path / "result.bin"
    with pytest.raises(ResourceError, match=r"result\.bin: no space left"), atomic_file(path) as temporary:
        temporary.write_bytes(b"half")
        raise OSError(number, os.strerror(number))
    assert os.listdir(tmp_path) == []


def test_full_disk_as_hdf5_reports_it(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="no space left"), atomic_file(tmp_path / "a.h5"):
        raise OSError("Can't write data (file write failed: errno = 28, error message = 'No space left on device')")


def test_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "sequence"
    with atomic_directory(target) as folder:
        (folder / "old").write_text("")
    with atomic_directory(target) as folder:
        (folder / "new").write_text("")
    assert os.listdir(target) == ["new"]
    with pytest.raises(ValueError), atomic_directory(target) as folder:
        (folder / "broken").write_text("")
        raise ValueError
    assert os.listdir(target) == ["new"]
    assert os.listdir(tmp_path) == ["sequence"]


def _write_slowly(path: Path) -> None:
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        while True:
            file.write(b"x" * 1000)
            file.flush()
            time.sleep(0.001)


def test_killed_writer_leaves_no_file_with_the_final_name(tmp_path: Path) -> None:
    path = tmp_path / "result.bin"
    process = multiprocessing.get_context("spawn").Process(target=_write_slowly, args=(path,))
    process.start()
    while not list(tmp_path.glob(f"{TEMPORARY_PREFIX}*")):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not path.exists()
    remove_leftovers(tmp_path, of={"other.bin"})
    assert len(os.listdir(tmp_path)) == 1
    remove_leftovers(tmp_path, of={"result.bin", "other.bin"})
    assert os.listdir(tmp_path) == []


def _hold(folder: Path, held: multiprocessing.synchronize.Event) -> None:
    with locked(folder):
        held.set()
        time.sleep(60)


def test_lock_refuses_a_second_process_and_dies_with_its_holder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    process = context.Process(target=_hold, args=(tmp_path, held))
    process.start()
    assert held.wait(30)
    with pytest.raises(LockedError, match="another process is writing here"), locked(tmp_path):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with locked(tmp_path, timeout=10):
        pass


def test_damaged_json_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text("{")
    with pytest.raises(DataError, match=r"labels\.json: is not valid JSON"):
        read_json(path)
    with pytest.raises(DataError, match="does not exist"):
        read_json(tmp_path / "none.json")


def test_nan_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"AP": float("nan")})
    assert os.listdir(tmp_path) == []


def test_a_writable_place_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text("old")
    check_writable(tmp_path / "old.csv")
    check_writable(tmp_path / "folders" / "to" / "make" / "new.csv")
    assert os.listdir(tmp_path) == ["old.csv"]
    assert (tmp_path / "old.csv").read_text() == "old"


def test_folders_and_places_below_files_take_no_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a folder; expected the name of a file"):
        check_writable(tmp_path)
    with pytest.raises(ConfigError, match="file is not a folder"):
        check_writable(tmp_path / "file" / "deeper" / "boxes.csv")


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="a folder in which not even root may write")
def test_place_without_permission_is_a_clear_error() -> None:
    with pytest.raises(ResourceError, match="cannot write here"):
        check_writable(Path("/sys/kernel/boxes.csv"))
