from __future__ import annotations

import multiprocessing
import os
import signal

import pytest

from leod import gpus


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A machine whose GPUs are claimed by nobody."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    yield
    gpus.release_gpus()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", ["0"]),
        ("2,GPU-8932f937", ["2", "GPU-8932f937"]),
        ("", []),  # hidden on purpose
        ("-1", []),  # hidden on purpose
        ("1,-1,0", ["1"]),  # CUDA stops at the first entry that is no device
    ],
)
def test_the_variable_tells_which_gpus_may_be_used(monkeypatch, value, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert gpus.visible_gpus() == expected


def test_without_the_variable_the_device_files_are_counted(tmp_path, monkeypatch):
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    monkeypatch.setattr(gpus, "_DEVICE_FILES", tmp_path)
    assert gpus.visible_gpus() == ["0", "1"]


def test_what_a_scheduler_has_given_is_taken_without_asking_others(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert gpus.claim_gpus(1) == ["3"]
    assert list(tmp_path.glob("leod-gpus-*")) == []


def _claim_and_stay(folder, visible, count, connection):
    import tempfile

    tempfile.tempdir = folder
    os.environ["CUDA_VISIBLE_DEVICES"] = visible
    gpus._POLL_S = 0.05
    gpus.claim_gpus(count)
    connection.send(os.environ["CUDA_VISIBLE_DEVICES"])
    connection.recv()


def test_jobs_take_different_gpus_and_wait_for_free_ones(tmp_path):
    context = multiprocessing.get_context("spawn")
    jobs = []
    for count in (1, 1, 2):
        ours, theirs = context.Pipe()
        process = context.Process(target=_claim_and_stay, args=(str(tmp_path), "4,5,6", count, theirs))
        process.start()
        theirs.close()
        jobs.append((process, ours))
        if count == 1:
            assert ours.poll(60)
    (first, first_end), (_second, second_end), (_third, third_end) = jobs
    taken = {first_end.recv(), second_end.recv()}
    assert taken == {"4", "5"}
    # One is free, two are needed.
    assert not third_end.poll(2.0)
    os.kill(first.pid, signal.SIGKILL)
    assert third_end.poll(60)
    assert third_end.recv() == "4,6"
    for process, end in jobs[1:]:
        end.send("end")
        process.join()
    del second_end


def test_a_job_keeps_what_it_has_claimed(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert gpus.claim_gpus(1) == ["0"]
    assert gpus.claim_gpus(1) == ["0"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
