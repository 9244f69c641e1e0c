"""The tool that names the moments to label."""

from __future__ import annotations

import errno
import shutil
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from tiny_sequences import CONFIG, random_detector

from leod.boxes.box_files import write_boxes
from leod.boxes.dtypes import IGNORED_CLASS_ID, RECORDING_BOX_DTYPE
from leod.cli import main
from leod.config.schema import RecordingTimesConfig, SensorSize
from leod.errors import CheckpointError, ConfigError, DataError, ResourceError
from leod.labelling.moments import read_moments
from leod.models.checkpoint import save_detector
from leod.recordings.chunk import EventChunk
from leod.recordings.dat import write_dat
from leod.stages.suggest_frames import suggest_frames

HEIGHT, WIDTH = 96, 128


def bar_events(seconds, seed=0, start_us=20_000, moving=((0.0, 1e9),), rate=4_000, height=HEIGHT, width=WIDTH):
    """A bar that crosses the picture in the given spans of seconds, and some noise."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, round(seconds * 1e6), round(seconds * rate)))
    on_bar = (rng.random(len(t)) < 0.8) & np.any([(t >= a * 1e6) & (t < b * 1e6) for a, b in moving], axis=0)
    kept = on_bar | (rng.random(len(t)) < 0.05)
    left = (t / 1e6 * 30 + 40 * seed) % (width - 8)
    x = np.where(on_bar, left + rng.integers(0, 4, len(t)), rng.integers(0, width, len(t)))
    y = np.where(on_bar, rng.integers(10, 70, len(t)), rng.integers(0, height, len(t)))
    events = EventChunk(
        t + start_us, x.astype(np.uint16), y.astype(np.uint16), rng.integers(0, 2, len(t)).astype(np.uint8)
    )
    return EventChunk(*(getattr(events, name)[kept] for name in "txyp"))


def write_recording(path: Path, seconds, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_dat(path, [bar_events(seconds, **options)], HEIGHT, WIDTH)
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    """Ten seconds with motion in the middle, and six with motion all the time."""
    write_recording(tmp_path / "in" / "a_td.dat", 10, moving=((4.0, 7.0),))
    write_recording(tmp_path / "in" / "b_td.dat", 6, seed=1, start_us=1_000_000)
    return tmp_path / "in"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("detector") / "model.ckpt"
    save_detector(path, random_detector())
    return path


def suggest(folder: Path, output: Path, *paths: Path, **options):
    summary = suggest_frames(list(paths) or [folder], output, **options)
    return summary, read_moments(output)


def times_of(moments, name) -> np.ndarray:
    return np.sort([moment.t_us for moment in moments if moment.recording.name == name])


def test_moments_where_something_moves(folder, tmp_path) -> None:
    summary, moments = suggest(folder, tmp_path / "moments.csv", count=8, apart_s=0.5)
    assert summary.recordings == 2
    assert summary.seconds == pytest.approx(16, abs=0.2)
    assert len(moments) == summary.chosen == 8
    first, second = times_of(moments, "a_td.dat"), times_of(moments, "b_td.dat")
    assert len(first)
    assert len(second)
    # The window that ends here shows motion; the recording's first half second is left out.
    assert (first > 4_020_000).all()
    assert (first <= 7_070_000).all()
    assert (second >= 1_500_000).all()
    for times, events in ((first, bar_events(10, moving=((4.0, 7.0),))), (second, bar_events(6, 1, 1_000_000))):
        assert ((times - events.t[0]) % 50_000 == 0).all()
        assert (np.diff(times) >= 500_000).all()
    scores = [moment.score for moment in moments]
    assert scores == sorted(scores, reverse=True)


def test_same_seed_same_file_and_the_first_lines_are_the_best(folder, tmp_path) -> None:
    for name, options in {
        "one": {"count": 8},
        "two": {"count": 8},
        "four": {"count": 4},
        "other": {"count": 8, "seed": 1},
    }.items():
        suggest(folder, tmp_path / f"{name}.csv", apart_s=0.5, **options)
    texts = {name: (tmp_path / f"{name}.csv").read_bytes() for name in ("one", "two", "four", "other")}
    assert texts["one"] == texts["two"]
    assert texts["one"] != texts["other"]
    assert texts["one"].startswith(texts["four"])


def test_contact_sheet_shows_every_moment(folder, tmp_path) -> None:
    _, moments = suggest(folder, tmp_path / "moments.csv", count=5, sheet=tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB")).astype(int)
    assert not (tmp_path / "moments.png").exists()
    # Two rows of tiles, each as wide as the sensor enlarged by 2 with text beneath.
    assert sheet.shape[1] > 4 * 2 * WIDTH
    assert sheet.shape[0] > 2 * (2 * HEIGHT + 40)
    coloured = (np.abs(sheet - sheet.mean(axis=2, keepdims=True)).max(axis=2) > 40).astype(int)
    width = sheet.shape[1] // 4
    painted = [coloured[: sheet.shape[0] // 2, column * width : (column + 1) * width].sum() for column in range(4)]
    assert min(painted) > 200
    assert len(moments) == 5


def test_existing_labels_are_left_alone(folder, tmp_path) -> None:
    boxes = np.zeros(3, RECORDING_BOX_DTYPE)
    boxes["t"] = [2_000_000, 2_500_000, 4_000_000]
    boxes["w"] = boxes["h"] = [10, 10, 0]
    boxes["class_id"] = [0, 1, IGNORED_CLASS_ID]
    boxes["class_confidence"] = 1
    # Names that nobody told the tool.
    write_boxes(folder / "b_bbox.csv", boxes, ("truck", "rider"))
    _, moments = suggest(folder, tmp_path / "moments.csv", count=20, apart_s=0.7)
    times = times_of(moments, "b_td.dat")
    assert len(times) >= 3
    assert np.abs(np.subtract.outer(times, boxes["t"])).min() >= 700_000
    _, alone = suggest(folder, tmp_path / "alone.csv", folder / "b_td.dat", count=20, apart_s=0.7)
    assert np.abs(np.subtract.outer(times_of(alone, "b_td.dat"), boxes["t"])).min() >= 700_000


def test_fewer_moments_than_wanted(folder, tmp_path, caplog) -> None:
    _, moments = suggest(folder, tmp_path / "moments.csv", count=500)
    assert 5 < len(moments) < 20
    assert f"only {len(moments)} moments instead of 500" in caplog.text


def test_files_and_folders_name_each_recording_once(folder, tmp_path) -> None:
    output = tmp_path / "moments.csv"
    summary, moments = suggest(folder, output, folder / "b_td.dat", folder, folder / "a_td.dat", count=4)
    assert summary.recordings == 2
    summary, moments = suggest(folder, output, folder / "b_td.dat", count=4)
    assert summary.recordings == 1
    assert {moment.recording for moment in moments} == {(folder / "b_td.dat").resolve()}


def test_recordings_in_dsec_layout_are_named_by_their_folder(tmp_path) -> None:
    events = bar_events(3)
    path = tmp_path / "split" / "drive" / "events" / "left" / "events.h5"
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        for name in "txyp":
            file[f"events/{name}"] = getattr(events, name)
    for number, given in enumerate((tmp_path / "split", tmp_path / "split" / "drive", path)):
        output = tmp_path / f"{number}.csv"
        _, moments = suggest(given, output, count=2, sensor=SensorSize(height=HEIGHT, width=WIDTH))
        assert {moment.recording for moment in moments} == {tmp_path / "split" / "drive"}


def test_a_detector_chooses_where_it_is_unsure(tmp_path, checkpoint, caplog) -> None:
    path = write_recording(tmp_path / "in" / "a_td.dat", 2.5, moving=((1.0, 2.0),))
    options = {"checkpoint": checkpoint, "count": 3, "apart_s": 0.2}
    _, moments = suggest(path, tmp_path / "moments.csv", **options)
    assert "trained on frames of 24 x 48" in caplog.text
    told = " ".join(moment.reason for moment in moments)
    assert any(reason in told for reason in ("views disagree", "tracks break", "middling confidence"))
    suggest(path, tmp_path / "again.csv", **options)
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "moments.csv").read_bytes()
    times = times_of(moments, "a_td.dat")
    assert ((times > 1_020_000) & (times <= 2_070_000)).all()
    assert ((times - bar_events(2.5, moving=((1.0, 2.0),)).t[0]) % CONFIG.window_us == 0).all()


def test_times_are_on_the_shifted_clock(folder, tmp_path) -> None:
    _, plain = suggest(folder, tmp_path / "plain.csv", folder / "b_td.dat", count=4)
    times = RecordingTimesConfig(offset_us=5_000_000)
    _, shifted = suggest(folder, tmp_path / "shifted.csv", folder / "b_td.dat", count=4, times=times)
    assert [moment.t_us for moment in shifted] == [moment.t_us + 5_000_000 for moment in plain]
    part = RecordingTimesConfig(start_us=3_000_000, end_us=5_000_000)
    _, inside = suggest(folder, tmp_path / "part.csv", folder / "b_td.dat", count=4, times=part)
    assert all(3_500_000 <= moment.t_us <= 5_050_000 for moment in inside)


def test_memory_does_not_grow_with_the_recording(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("leod.sequences.writing._CHUNK_EVENTS", 20_000)
    paths = [write_recording(tmp_path / f"{seconds}_td.dat", seconds, rate=20_000) for seconds in (8, 80)]
    suggest_frames(paths[:1], tmp_path / "moments.csv", count=3)
    peaks = []
    for path in paths:
        tracemalloc.start()
        suggest_frames([path], tmp_path / "moments.csv", count=3)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # The events of the additional 72 s take 16 MB.
    assert peaks[1] - peaks[0] < 3e6


# ------------------------------------------------------------------------------------------------------ bad input


def test_nothing_moves(tmp_path, caplog) -> None:
    path = write_recording(tmp_path / "still_td.dat", 4, moving=())
    with pytest.raises(DataError, match="there is no moment to suggest"):
        suggest_frames([path], tmp_path / "moments.csv")
    assert "nothing to suggest" in caplog.text
    assert not (tmp_path / "moments.csv").exists()
    assert not (tmp_path / "moments.png").exists()


def test_bad_options(folder, tmp_path, checkpoint) -> None:
    for output, options, message in (
        ("moments.txt", {}, "end the name of the list of moments in .csv"),
        ("moments.csv", {"sheet": tmp_path / "sheet.jpg"}, "end the name of the contact sheet in .png"),
        ("moments.csv", {"apart_s": -1.0}, "--apart -1"),
        ("moments.csv", {"apart_s": float("nan")}, "--apart nan"),
    ):
        with pytest.raises(ConfigError, match=message):
            suggest_frames([folder], tmp_path / output, **options)
    with pytest.raises(ConfigError, match="at least one recording"):
        suggest_frames([], tmp_path / "moments.csv")
    with pytest.raises(CheckpointError):
        suggest_frames([folder], tmp_path / "moments.csv", checkpoint=folder / "a_td.dat")


def test_bad_recordings(folder, tmp_path) -> None:
    output = tmp_path / "moments.csv"
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no events")
    write_dat(tmp_path / "nothing.dat", [], HEIGHT, WIDTH)
    for path, message in (
        (tmp_path / "missing.raw", "does not exist"),
        (tmp_path / "empty", "holds no recordings"),
        (tmp_path / "notes.txt", "is no recording"),
        (tmp_path / "nothing.dat", "holds no events"),
    ):
        with pytest.raises(DataError, match=message):
            suggest_frames([path], output)
    with pytest.raises(DataError, match="480 and 640"):
        suggest_frames([folder], output, sensor=SensorSize(height=480, width=640))
    cut = (folder / "a_td.dat").read_bytes()
    (folder / "a_td.dat").write_bytes(cut[:-3])
    with pytest.raises(DataError, match="a_td"):
        suggest_frames([folder], output)
    assert not output.exists()


def test_bad_box_files(folder, tmp_path) -> None:
    output = tmp_path / "moments.csv"
    (folder / "b_boxes.csv").write_text("t_us,x,y,w,h,class\n")
    for given in (folder, folder / "b_td.dat"):
        with pytest.raises(DataError, match="has no box file: boxes are read from b_bbox"):
            suggest_frames([given], output)
    (folder / "b_boxes.csv").rename(folder / "b_bbox.csv")
    shutil.copy(folder / "b_bbox.csv", folder / "b_bbox.json")
    for given in (folder, folder / "b_td.dat"):
        with pytest.raises(DataError, match="Keep one of the two"):
            suggest_frames([given], output)
    (folder / "b_bbox.json").unlink()
    (folder / "b_bbox.csv").write_text("t_us,x,y,w,h,class\nsoon,1,1,4,4,car\n")
    with pytest.raises(DataError, match="line 2: t_us is 'soon'"):
        suggest_frames([folder], output)


def test_a_disk_that_is_full_leaves_nothing(folder, tmp_path, monkeypatch) -> None:
    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(ResourceError, match="no space left"):
        suggest_frames([folder], tmp_path / "moments.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_command(folder, tmp_path, monkeypatch, capsys) -> None:
    def run(*arguments) -> int:
        monkeypatch.setattr("sys.argv", ["leod", "suggest-frames", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0

    output = tmp_path / "moments.csv"
    clock = ("--start-us", 2_000_000, "--sensor", f"{HEIGHT}x{WIDTH}")
    assert run(folder / "b_td.dat", folder, "--output", output, "--count", 3, "--apart", 0.5, "--seed", 2, *clock) == 0
    assert len(read_moments(output)) == 3
    assert (tmp_path / "moments.png").is_file()
    assert run(folder, "--output", output, "--count", 0) != 0
    assert run(folder, "--output", output, "--sensor", "big") == 1
    assert "expected HEIGHTxWIDTH" in capsys.readouterr().err
