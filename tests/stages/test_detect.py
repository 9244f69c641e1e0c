import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from tiny_sequences import CONFIG, HEIGHT, MODEL, WIDTH, random_detector

from leod.boxes.box_files import read_boxes
from leod.cli import main
from leod.config.schema import RecordingTimesConfig, SensorSize
from leod.errors import ConfigError, DataError
from leod.models.checkpoint import save_detector
from leod.models.detector import build_detector
from leod.models.postprocess import postprocess
from leod.recordings.chunk import EventChunk
from leod.recordings.dat import write_dat
from leod.recordings.recording import open_recording
from leod.sequences.representations import FrameBuilder
from leod.stages.detect import detect

SAMPLES = Path(os.environ.get("LEOD_SAMPLES", Path(__file__).resolve().parents[3] / "shared" / "data"))
THRESHOLD = 0.4


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("detector") / "model.ckpt"
    save_detector(path, random_detector())
    return path


def write_recording(path, times_us, height=HEIGHT, width=WIDTH):
    rng = np.random.default_rng(0)
    t = np.sort(np.asarray(times_us, dtype=np.int64))
    x, y = rng.integers(0, width, len(t)), rng.integers(0, height, len(t))
    events = EventChunk(t, x.astype(np.uint16), y.astype(np.uint16), rng.integers(0, 2, len(t)).astype(np.uint8))
    write_dat(path, [events], height, width)
    return events


@pytest.fixture
def recording(tmp_path):
    """0.4 s from 0.1 s on, with a gap of three windows in the middle."""
    rng = np.random.default_rng(1)
    path = tmp_path / "drive_td.dat"
    times = np.concatenate([[100_000], rng.integers(100_001, 180_000, 3_000), rng.integers(330_000, 490_000, 3_000)])
    return path, write_recording(path, times)


def detect_by_hand(events, detector):
    """Window by window with the plain parts: (end, box row) of every detection."""
    builder = FrameBuilder(CONFIG.representation, HEIGHT, WIDTH)
    found, states, end = [], None, 100_000
    with torch.inference_mode():
        while end < events.t[-1]:
            end += CONFIG.window_us
            inside = (events.t >= end - CONFIG.window_us) & (events.t <= end)
            frame = builder.build(EventChunk(*(getattr(events, name)[inside] for name in "txyp")))
            predictions, states = detector(torch.from_numpy(frame)[None], states)
            found += [(end, row) for row in postprocess(predictions, THRESHOLD, 0.45)[0].tolist()]
    return found


def test_finds_what_the_parts_find_and_writes_it_in_every_format(tmp_path, checkpoint, recording):
    path, events = recording
    expected = [
        (end, max(x1, 0), max(y1, 0), class_id)
        for end, (x1, y1, x2, y2, _, _, class_id) in detect_by_hand(events, random_detector())
        if min(x2, WIDTH - 1) > max(x1, 0) and min(y2, HEIGHT - 1) > max(y1, 0)
    ]
    assert len({end for end, *_ in expected}) == 8  # also in the three windows without events
    read = {}
    for suffix in (".npy", ".csv", ".json"):
        output = tmp_path / f"boxes{suffix}"
        summary = detect(path, checkpoint, boxes=output, confidence_threshold=THRESHOLD)
        read[suffix] = read_boxes(output, CONFIG.classes)
    assert summary.windows == 8
    assert 0 < summary.median_ms <= summary.quantile_95_ms
    assert summary.recording_s == pytest.approx((events.t[-1] - events.t[0]) / 1e6)
    boxes = read[".npy"]
    found = list(zip(*(boxes[name].tolist() for name in ("t", "x", "y", "class_id")), strict=True))
    assert len(found) == len(expected)
    np.testing.assert_allclose(sorted(found), sorted(expected), atol=0.01)
    for other in (".csv", ".json"):
        np.testing.assert_array_equal(read[other], boxes)
    images = json.loads((tmp_path / "boxes.json").read_text())["images"]
    assert images[0] == {"id": 1, "timestamp_us": 150_000, "height": HEIGHT, "width": WIDTH}


def test_memory_is_carried_however_windows_are_grouped(tmp_path, checkpoint, recording, monkeypatch):
    found = []
    for frames_per_call in (1, 3, 8):
        monkeypatch.setattr("leod.stages.detect._FRAMES_PER_CALL", frames_per_call)
        detect(recording[0], checkpoint, boxes=tmp_path / "a.npy", confidence_threshold=THRESHOLD)
        found.append(read_boxes(tmp_path / "a.npy", CONFIG.classes))
    for other in found[1:]:
        assert len(other) == len(found[0])
        np.testing.assert_allclose(other["x"], found[0]["x"], atol=0.01)


@pytest.mark.parametrize("speed", [1.0, 2.0])
def test_video_has_a_picture_per_window_up_to_30_hz(tmp_path, checkpoint, recording, speed):
    import av

    detect(recording[0], checkpoint, video=tmp_path / "a.mp4", speed=speed, scale=2)
    with av.open(str(tmp_path / "a.mp4")) as video:
        pictures = [picture.to_ndarray(format="rgb24") for picture in video.decode(video=0)]
        rate = video.streams.video[0].average_rate
    assert (len(pictures), rate) == ((8, 20) if speed == 1 else (4, 20))
    assert pictures[0].shape[1] == 2 * WIDTH
    assert len(np.unique(pictures[0])) > 1


def test_other_sensor_sizes_keep_the_attention_windows(tmp_path, checkpoint, caplog):
    path = tmp_path / "a.dat"
    write_recording(path, np.arange(0, 120_000, 20), height=70, width=101)
    summary = detect(path, checkpoint, boxes=tmp_path / "a.npy", confidence_threshold=THRESHOLD)
    assert summary.windows == 3
    assert "trained on frames of 24 x 48 pixels (height x width), this recording's are 70 x 101" in caplog.text
    boxes = read_boxes(tmp_path / "a.npy", CONFIG.classes)
    assert (boxes["x"] + boxes["w"]).max() > WIDTH  # the part beyond the trained size is looked at, too
    assert (boxes["x"] + boxes["w"]).max() <= 100
    assert (boxes["y"] + boxes["h"]).max() <= 69


def test_boxes_of_halved_frames_are_in_sensor_pixels(tmp_path, checkpoint):
    path = tmp_path / "a.dat"
    write_recording(path, np.arange(0, 120_000, 20), height=2 * HEIGHT, width=2 * WIDTH)
    detect(path, checkpoint, boxes=tmp_path / "a.npy", confidence_threshold=0.2, downsample_by_2=True)
    boxes = read_boxes(tmp_path / "a.npy", CONFIG.classes)
    assert WIDTH < (boxes["x"] + boxes["w"]).max() <= 2 * WIDTH - 1


def test_detectors_with_more_padding_and_padding_size(tmp_path):
    # 3 x 2 cells of 32 pixels in an attention window: frames are padded to multiples of 96 x 64.
    config = CONFIG.model_copy(update={"sensor": SensorSize(height=90, width=60)})
    detector = build_detector(MODEL, config)
    assert config.partition_size == (3, 2)
    detector.accept_frame_size(100, 130)
    assert detector.padded_size == (192, 192)
    predictions, _ = detector(torch.zeros(1, config.representation.channels, 100, 130, dtype=torch.uint8))
    assert predictions.shape[1] == 24 * 24 + 12 * 12 + 6 * 6


def test_silent_header(tmp_path, checkpoint, caplog):
    path = tmp_path / "a.dat"
    write_recording(path, np.arange(0, 90_000, 50))
    path.write_bytes(path.read_bytes().replace(b"% Height 24\n% Width 48\n", b""))
    assert detect(path, checkpoint).windows == 2
    assert "taking 24 x 48 (height x width) of the detector's data set" in caplog.text
    assert detect(path, checkpoint, sensor=SensorSize(height=30, width=50)).windows == 2
    with pytest.raises(DataError, match="outside the sensor"):
        detect(path, checkpoint, sensor=SensorSize(height=10, width=50))


def test_times_of_boxes_are_on_the_clock_after_the_shift(tmp_path, checkpoint, recording):
    path, _ = recording
    shifted = tmp_path / "shifted.csv"
    detect(path, checkpoint, boxes=tmp_path / "plain.csv", confidence_threshold=THRESHOLD)
    times = RecordingTimesConfig(offset_us=7_000_000)
    detect(path, checkpoint, boxes=shifted, confidence_threshold=THRESHOLD, times=times)
    plain = read_boxes(tmp_path / "plain.csv", CONFIG.classes)
    plain["t"] += 7_000_000
    np.testing.assert_array_equal(read_boxes(shifted, CONFIG.classes), plain)


def test_command_takes_unit_shift_and_part(tmp_path, checkpoint, recording, monkeypatch, capsys):
    path, events = recording
    fractional = tmp_path / "seconds.h5"
    with h5py.File(fractional, "w") as file:
        for name in "txyp":
            file[f"events/{name}"] = events.t / 1e6 if name == "t" else getattr(events, name)

    def run(*options):
        command = ["leod", "detect", str(options[0]), "--weights", str(checkpoint), "--boxes", str(tmp_path / "a.csv")]
        monkeypatch.setattr("sys.argv", [*command, "--confidence", str(THRESHOLD), *map(str, options[1:])])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0

    clock = ("--time-unit", "s", "--time-offset-us", 900_000, "--start-us", 1_230_000, "--end-us", 1_300_000)
    assert run(fractional, *clock) == 0
    times = np.unique(read_boxes(tmp_path / "a.csv", CONFIG.classes)["t"])
    first = int(events.t[events.t >= 330_000][0]) + 900_000
    assert set(times.tolist()) <= {first + CONFIG.window_us, first + 2 * CONFIG.window_us}
    assert run(path, "--time-unit", "ns") == 1
    assert "DAT defines itself what times count" in capsys.readouterr().err
    assert run(path, "--start-us", 5, "--end-us", 4) == 1
    assert "start_us 5 must not lie after end_us 4" in capsys.readouterr().err
    assert run(path, "--time-unit", "h") == 1
    assert "unit" in capsys.readouterr().err


def test_no_events_leaves_no_files(tmp_path, checkpoint):
    path = tmp_path / "a.dat"
    write_dat(path, [], HEIGHT, WIDTH)
    with pytest.raises(DataError, match="holds no events"):
        detect(path, checkpoint, video=tmp_path / "a.mp4", boxes=tmp_path / "a.csv")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.dat"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"video": Path("a.avi")}, "MP4"),
        ({"boxes": Path("a.txt")}, "end the name of the box file"),
        ({"confidence_threshold": 1.5}, "thresholds lie in 0..1"),
        ({"theme": "pink"}, "'pink' does not exist"),
        ({"speed": 0.0}, "speed must lie"),
    ],
)
def test_options_are_checked_before_any_work(options, message):
    with pytest.raises(ConfigError, match=message):
        detect(Path("missing.dat"), Path("missing.ckpt"), **options)


@pytest.mark.parametrize("option", ["video", "boxes"])
def test_outputs_are_tried_before_the_detector_is_loaded(tmp_path, option):
    (tmp_path / "file").touch()
    name = {"video": "a.mp4", "boxes": "a.csv"}[option]
    with pytest.raises(ConfigError, match=rf"{name}: cannot be written, since .*file is not a folder"):
        detect(Path("missing.dat"), Path("missing.ckpt"), **{option: tmp_path / "file" / name})


@pytest.mark.parametrize(
    ("name", "sensor", "windows"),
    [("evt3_sample.raw", None, 1), ("sample_ncars.dat", SensorSize(height=100, width=120), 2)],
)
def test_real_recordings(tmp_path, checkpoint, name, sensor, windows):
    path = SAMPLES / name
    if not path.is_file():
        pytest.skip(f"{path} not found")
    summary = detect(path, checkpoint, sensor=sensor, video=tmp_path / "a.mp4", boxes=tmp_path / "a.json")
    assert summary.windows == windows
    with open_recording(path, sensor) as recording:
        size = {"height": recording.height, "width": recording.width}
    images = json.loads((tmp_path / "a.json").read_text())["images"]
    assert all({name: image[name] for name in size} == size for image in images)
