import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 -- registers the filter
import numpy as np
import pytest
from event_frames import stacked_histogram

from leod.boxes.dtypes import RECORDING_BOX_DTYPE
from leod.config.schema import BoxFilterConfig, DatasetConfig, RepresentationConfig, SensorSize, WindowsConfig
from leod.config.settings import PreprocessSettings
from leod.errors import ConfigError, DataError, LockedError, ResourceError
from leod.files import locked
from leod.recordings.chunk import EventChunk
from leod.recordings.dat import write_dat
from leod.sequences.frame_file import FrameFile
from leod.stages.preprocess import preprocess

HEIGHT, WIDTH = 24, 32
REPRESENTATION = Path("event_representations_v2") / "stacked_histogram_dt=50_nbins=10"


def make_settings(**changes):
    values = {
        "name": "test",
        "sequences": "sequences",
        "sensor": SensorSize(height=HEIGHT, width=WIDTH),
        "classes": ("car", "pedestrian"),
        "windows": WindowsConfig(origin="clock_zero", train_until="last_label"),
        "label_filter": BoxFilterConfig(min_side=3),
        "max_train_width_fraction": 0.9,
    }
    return PreprocessSettings.from_dataset(DatasetConfig(**(values | changes)))


def make_recording(folder, name, boxes=((200_000, 4, 5, 10, 10, 0), (450_000, 6, 5, 10, 10, 1)), seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    count = 3000
    events = EventChunk(
        t=np.sort(rng.integers(0, 500_000, count)),
        x=rng.integers(0, WIDTH, count).astype(np.uint16),
        y=rng.integers(0, HEIGHT, count).astype(np.uint16),
        p=rng.integers(0, 2, count).astype(np.uint8),
    )
    write_dat(folder / f"{name}_td.dat", [events], HEIGHT, WIDTH)
    if boxes is not None:
        rows = np.zeros(len(boxes), RECORDING_BOX_DTYPE)
        for row, (t, x, y, w, h, class_id) in zip(rows, boxes, strict=True):
            row["t"], row["x"], row["y"], row["w"], row["h"], row["class_id"] = t, x, y, w, h, class_id
        np.save(folder / f"{name}_bbox.npy", rows)
    return events


class Study:
    """A folder with recordings, and where its sequences go."""

    def __init__(self, root):
        self.recordings, self.output, self.manifest = root / "recordings", root / "sequences", root / "manifest.json"
        self.train = self.recordings / "train"

    def run(self, split="train", **options):
        settings = options.pop("settings", make_settings())
        preprocess(self.recordings, self.output, split, self.manifest, settings, **options)
        return json.loads(self.manifest.read_text())

    def sequences(self, split="train"):
        folder = self.output / split
        return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []

    def inodes(self):
        """Tell which files were written anew."""
        return {path: path.stat().st_ino for path in self.output.rglob("*") if path.is_file()}


@pytest.fixture
def study(tmp_path):
    return Study(tmp_path)


def test_frames_labels_and_manifest(study):
    events = make_recording(study.train, "a")
    manifest = study.run()
    folder = study.output / "train" / "a"
    ends = np.load(folder / REPRESENTATION / "timestamps_us.npy")
    # 50 ms is dropped as the earliest; then five windows to the second label.
    assert ends.tolist() == [100_000, 150_000, 200_000, 250_000, 300_000, 350_000, 400_000, 450_000]
    assert np.load(folder / REPRESENTATION / "objframe_idx_2_repr_idx.npy").tolist() == [2, 7]
    with np.load(folder / "labels_v2" / "labels.npz") as labels:
        assert labels["labels"]["t"].tolist() == [200_000, 450_000]
        assert labels["objframe_idx_2_label_idx"].tolist() == [0, 1]
    with h5py.File(folder / REPRESENTATION / "event_representations.h5") as file:
        frames = file["data"][:]
    for frame, end in zip(frames, ends, strict=True):
        inside = (events.t >= end - 50_000) & (events.t <= end)
        columns = [getattr(events, name)[inside] for name in "txyp"]
        np.testing.assert_array_equal(frame, stacked_histogram(*columns, HEIGHT, WIDTH))
    assert manifest["sequences"] == [{"name": "a", "frames": 8, "labelled_frames": 2, "boxes": 2}]
    assert manifest["split"] == "train"
    assert manifest["provenance"]["stage"] == "preprocess"


def test_mixed_density_and_downsampling_use_the_same_layout(study):
    make_recording(study.train, "a")
    representation = RepresentationConfig(kind="mixed_density", count_cutoff=32)
    study.run(settings=make_settings(representation=representation, downsample_by_2=True))
    folder = study.output / "train" / "a" / "event_representations_v2" / "mixeddensity_stack_dt=50_nbins=10_cutoff=32"
    with h5py.File(folder / "event_representations_ds2_nearest.h5") as file:
        assert file["data"].shape == (8, 10, HEIGHT // 2, WIDTH // 2)
        assert file["data"].dtype == np.int8


def test_second_run_keeps_what_is_complete_and_redoes_what_changed(study):
    make_recording(study.train, "a")
    make_recording(study.train, "b", seed=1)
    study.run()
    before = study.inodes()
    study.run(settings=make_settings(skip_recordings=("elsewhere",)))
    assert study.inodes() == before

    make_recording(study.train, "b", seed=2)
    study.run()
    after = study.inodes()
    assert {path.relative_to(study.output).parts[1] for path in after if after[path] != before.get(path)} == {"b"}

    study.run(settings=make_settings(window_us=25_000))
    assert sorted(path.name for path in (study.output / "train" / "a" / "event_representations_v2").iterdir()) == [
        "stacked_histogram_dt=25_nbins=10"
    ]


def test_sequences_of_another_program_are_made_again(study, monkeypatch):
    make_recording(study.train, "a")
    with monkeypatch.context() as patch:
        patch.setattr("leod.reuse.program_digest", lambda: "an older version")
        study.run()
    before = study.inodes()
    study.run()
    assert not set(before.values()) & {inode for path, inode in study.inodes().items() if "train/a/" in str(path)}


def test_recordings_whose_labels_are_filtered_out_make_no_sequence(study):
    make_recording(study.train, "a")
    make_recording(study.train, "small", boxes=((200_000, 4, 5, 2, 2, 0),))
    make_recording(study.train, "wide", boxes=((200_000, 0, 5, 30, 10, 0),))
    make_recording(study.train, "early", boxes=((99_999, 4, 5, 10, 10, 0),))
    make_recording(study.train, "empty", boxes=())
    manifest = study.run()
    assert study.sequences() == ["a"]
    assert {entry["name"]: entry["reason"] for entry in manifest["removed"]} == {
        "small": "no box is left after filtering",
        "wide": "no box is left after filtering",
        "early": "no label at or after 100000 us is left",
        "empty": "the box file is empty",
    }
    # A looser filter brings one back, a tighter one takes it away again.
    study.run(settings=make_settings(label_filter=BoxFilterConfig()))
    assert study.sequences() == ["a", "small"]
    study.run()
    assert study.sequences() == ["a"]


def test_width_limit_is_for_the_train_split_only(study):
    for split in ("train", "val"):
        boxes = ((200_000, 0, 5, 30, 10, 0), (250_000, 4, 5, 10, 10, 0))
        make_recording(study.recordings / split, split, boxes, seed=len(split))
        study.run(split)
    counts = [
        len(np.load(study.output / split / split / "labels_v2/labels.npz")["labels"]) for split in ("train", "val")
    ]
    assert counts == [1, 2]


def test_unlabelled_recordings(study):
    events = make_recording(study.train, "a", boxes=None)
    with pytest.raises(DataError, match=r"expected a_bbox\.npy"):
        study.run()
    manifest = study.run(settings=make_settings(unlabelled_recordings=True))
    assert manifest["sequences"] == [{"name": "a", "frames": 10, "labelled_frames": 0, "boxes": 0}]
    folder = study.output / "train" / "a"
    start = int(events.t[0])
    assert np.load(folder / REPRESENTATION / "timestamps_us.npy").tolist() == [start + 50_000 * n for n in range(1, 11)]
    assert np.load(folder / REPRESENTATION / "objframe_idx_2_repr_idx.npy").shape == (0,)
    with np.load(folder / "labels_v2" / "labels.npz") as labels:
        assert len(labels["labels"]) == len(labels["objframe_idx_2_label_idx"]) == 0


def test_shards_share_the_work_and_processes_change_nothing(study):
    for seed, name in enumerate("abcde"):
        make_recording(study.train, name, seed=seed)
    names = [[entry["name"] for entry in study.run(shard=shard, shards=2)["sequences"]] for shard in (1, 0)]
    assert names == [["b", "d"], ["a", "c", "e"]]
    other = Study(study.recordings.parent / "other")
    other.recordings, other.train = study.recordings, study.train
    other.manifest.parent.mkdir()
    assert [entry["name"] for entry in other.run(processes=2)["sequences"]] == list("abcde")
    for path in study.inodes():
        if path.suffix in (".h5", ".npz", ".npy"):
            assert path.read_bytes() == (other.output / path.relative_to(study.output)).read_bytes(), path


def spoil_boxes(change):
    def spoil(folder):
        boxes = np.load(folder / "b_bbox.npy")
        change(boxes)
        np.save(folder / "b_bbox.npy", boxes)

    return spoil


def truncate(folder):
    with (folder / "b_td.dat").open("rb+") as file:
        file.truncate(file.seek(0, os.SEEK_END) - 3)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncate, "b_td.dat: is cut off"),
        (lambda folder: (folder / "b_bbox.npy").unlink(), "b_td.dat: has no boxes"),
        (lambda folder: (folder / "b_td.dat").unlink(), "b_bbox.npy: has no recording"),
        (lambda folder: (folder / "b_bbox.npy").write_bytes(b"spoilt"), "b_bbox.npy: cannot be read"),
        (spoil_boxes(lambda boxes: boxes["class_id"].__setitem__(1, 2)), "b_bbox.npy: row 1 .* unknown class id 2"),
        (spoil_boxes(lambda boxes: boxes["w"].__setitem__(1, np.nan)), "b_bbox.npy: row 1: w is nan"),
    ],
)
def test_damaged_input_is_named_and_leaves_nothing_incomplete(study, spoil, message):
    for name in "ab":
        make_recording(study.train, name)
    spoil(study.train)
    with pytest.raises(DataError, match=message):
        study.run()
    assert study.sequences() in ([], ["a"])
    assert not study.manifest.exists()
    make_recording(study.train, "b")
    study.run()
    assert study.sequences() == ["a", "b"]


def test_errors_cross_processes(study):
    for name in "ab":
        make_recording(study.train, name)
    truncate(study.train)
    with pytest.raises(DataError, match=r"b_td\.dat: is cut off") as caught:
        study.run(processes=2)
    assert caught.value.path.name == "b_td.dat"


def test_sensor_of_configuration_and_recording_must_agree(study):
    make_recording(study.train, "a")
    with pytest.raises(DataError, match="24 pixels high and 32 wide, the configuration says 240 and 304"):
        study.run(settings=make_settings(sensor=SensorSize(height=240, width=304)))


def test_missing_split_and_wrong_arguments(study):
    with pytest.raises(DataError, match="train: the folder does not exist"):
        study.run()
    study.train.mkdir(parents=True)
    with pytest.raises(DataError, match="holds no recordings"):
        study.run()
    with pytest.raises(ConfigError, match="'dev' is unknown"):
        study.run("dev")
    with pytest.raises(ConfigError, match="shard"):
        study.run(shard=2, shards=2)


def test_foreign_folders_are_neither_used_nor_overwritten(study):
    make_recording(study.train, "a")
    study.run()
    make_recording(study.train, "b")
    foreign = study.output / "train" / "b"
    foreign.mkdir()
    with pytest.raises(DataError, match=r"was not made by this stage"):
        study.run()
    foreign.rename(foreign.with_name("c"))
    with pytest.raises(DataError, match="1 folders that belong to no recording: c"):
        study.run()
    foreign.with_name("c").rmdir()
    study.run()
    study.run(settings=make_settings(skip_recordings=("b",)))
    assert study.sequences() == ["a"]


def test_two_runs_of_one_shard_exclude_each_other(study):
    make_recording(study.train, "a")
    with locked(study.output / ".preprocess" / "train-0-of-1"), pytest.raises(LockedError):
        study.run()


def test_full_disk_keeps_nothing_half_written(study, monkeypatch):
    for name in "ab":
        make_recording(study.train, name)
    write, written = FrameFile.write, []

    def run_out_of_space(self, index, chunk):
        written.append(index)
        if len(written) > 11:  # in the second sequence
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, index, chunk)

    monkeypatch.setattr(FrameFile, "write", run_out_of_space)
    with pytest.raises(ResourceError, match="no space left"):
        study.run()
    assert study.sequences() == ["a"]
    assert not study.manifest.exists()
    monkeypatch.undo()
    study.run()
    assert study.sequences() == ["a", "b"]


RUN_SLOWLY = """
import sys, time
from pathlib import Path
sys.path[:0] = [sys.argv[1], str(Path(sys.argv[1]).parent)]
from leod.sequences.frame_file import FrameFile
from test_preprocess import Study
write = FrameFile.write
def slowly(self, index, chunk):
    write(self, index, chunk)
    time.sleep(0.1)
FrameFile.write = slowly
Study(Path(sys.argv[2])).run()
"""


def test_killed_run_leaves_only_complete_sequences_and_is_taken_up_again(study, tmp_path):
    for seed, name in enumerate("ab"):
        make_recording(study.train, name, seed=seed)
    process = subprocess.Popen(
        [sys.executable, "-c", RUN_SLOWLY, str(Path(__file__).parent), str(tmp_path)], stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        # Kill while the second sequence is being written.
        while not any(name.endswith("-b") for name in study.sequences()):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    names = study.sequences()
    assert [name for name in names if not name.startswith(".")] == ["a"]
    assert not study.manifest.exists()
    complete = {path: inode for path, inode in study.inodes().items() if "train/a/" in str(path)}
    study.run()
    assert study.sequences() == ["a", "b"]
    assert complete.items() <= study.inodes().items()
