"""What users see when their input is wrong: one clear message, status 1, no traceback, nothing half-written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from tiny_sequences import MODEL
from working_folder import TRAINING, run, write_boxes, write_study, write_working_folder

from leod.sequences.layout import label_file, representations_dir

STUDY_FILE = "--study study.yaml"
PREPROCESS = f"preprocess --recordings recordings --output out --split train --manifest out/train.json {STUDY_FILE}"
SUBSAMPLE = f"subsample-labels --sequences sequences --output out/labels.json {STUDY_FILE}"
PRETRAIN = f"pretrain --sequences sequences --labels labels.json --output out {STUDY_FILE}"
SELF_TRAIN = f"self-train --dataset sequences --sequences sequences --previous model.ckpt --output out {STUDY_FILE}"
EVALUATE = f"evaluate --checkpoint model.ckpt --sequences sequences --output out/test.json {STUDY_FILE}"


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_working_folder()
    out = Path("out")
    out.mkdir()
    (out / "older.txt").write_text("results of another time")
    return tmp_path


def truncate_recording():
    path = Path("recordings/train/drive_td.dat")
    path.write_bytes(path.read_bytes()[:-3])


def unknown_class():
    write_boxes(class_id=7)


def box_of_nan():
    write_boxes(w=np.nan)


def no_boxes():
    Path("recordings/train/drive_bbox.npy").unlink()


def label_of_nan():
    path = label_file(Path("sequences/train/drive"))
    with np.load(path) as file:
        content = dict(file)
    content["labels"]["x"][0] = np.nan
    np.savez(path, **content)


def frames_missing():
    path = next(Path("sequences/test/drive").rglob("*.h5"))
    with h5py.File(path, "r+") as file:
        frames = file["data"][:13]
        del file["data"]
        file.create_dataset("data", data=frames, chunks=(1, *frames.shape[1:]))


def label_beyond_the_frames():
    folder = next(representations_dir(Path("sequences/test/drive")).iterdir())
    np.save(folder / "objframe_idx_2_repr_idx.npy", np.array([11, 99]))


def unknown_key():
    write_study(pretrain={**TRAINING, "step": 3})


def ratio_of_zero():
    write_study(labels=[{"setting": "weakly_supervised", "ratio": 0}])


def larger_model():
    write_study(model=MODEL.model_dump() | {"embed_dim": 16})


def empty_train_split():
    Path("sequences/train/drive").rename("elsewhere")


def cut_checkpoint():
    path = Path("model.ckpt")
    path.write_bytes(path.read_bytes()[:2000])


def vanished_split_of_record():
    Path("labels.json").unlink()


CASES = {
    # damage → (command, what the message has to say)
    truncate_recording: (PREPROCESS, ["drive_td.dat", "cut"]),
    unknown_class: (PREPROCESS, ["drive_bbox.npy", "7"]),
    box_of_nan: (PREPROCESS, ["drive_bbox.npy", "is nan"]),
    no_boxes: (PREPROCESS, ["drive", "unlabelled_recordings"]),
    label_of_nan: (PRETRAIN, ["drive", "labels.npz", "is nan"]),
    frames_missing: (EVALUATE, ["objframe_idx_2_repr_idx.npy", "14", "expected 0..12"]),
    label_beyond_the_frames: (EVALUATE, ["drive", "objframe_idx_2_repr_idx.npy", "99"]),
    unknown_key: (PRETRAIN, ["study.yaml", "'pretrain.step'", "did you mean 'steps'?"]),
    ratio_of_zero: (SUBSAMPLE, ["study.yaml", "ratio"]),
    larger_model: (SELF_TRAIN, ["model.ckpt", "embed_dim"]),
    empty_train_split: (PRETRAIN, ["sequences/train"]),
    cut_checkpoint: (EVALUATE, ["model.ckpt"]),
    vanished_split_of_record: (PRETRAIN, ["labels.json", "does not exist"]),
}


def assert_clear_error(status, stderr):
    message = stderr[stderr.index("error: ") :]
    assert status == 1
    assert message == stderr or stderr[: -len(message)].endswith("\n")
    assert "Traceback" not in stderr
    return message


def files(folder):
    """Contents of all files but locks."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.mark.parametrize("damage", CASES, ids=lambda damage: damage.__name__)
def test_wrong_input_is_a_clear_error_and_leaves_nothing(study, damage, monkeypatch, capsys):
    command, parts = CASES[damage]
    damage()
    before = files(study)
    message = assert_clear_error(*run(monkeypatch, capsys, command))
    assert [part for part in parts if part not in message] == [], message
    assert files(study) == before


@pytest.mark.parametrize("command", [PREPROCESS, EVALUATE, PRETRAIN], ids=lambda command: command.split()[0])
@pytest.mark.parametrize(
    ("number", "says"), [(errno.ENOSPC, "no space left"), (errno.EROFS, "cannot write here")], ids=["full", "read-only"]
)
def test_disk_that_takes_nothing_leaves_nothing(study, command, number, says, monkeypatch, capsys):
    def refuse(_):
        raise OSError(number, os.strerror(number))

    before = files(study)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", refuse)
        message = assert_clear_error(*run(monkeypatch, capsys, command))
    assert says in message
    assert "out/" in message
    assert files(study) == before
    # Once there is space, the same command succeeds.
    status, stderr = run(monkeypatch, capsys, command)
    assert status == 0, stderr
    assert files(study).keys() > before.keys()
