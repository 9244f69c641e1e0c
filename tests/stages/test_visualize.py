"""The stage `visualize`: video, contact sheet and pictures of a sequence with labels and predictions."""

import av
import numpy as np
import pytest
from PIL import Image
from tiny_sequences import CONFIG, HEIGHT, WIDTH, random_detector, random_frames, write_tiny_sequence

from leod.boxes.dtypes import LABEL_DTYPE
from leod.errors import ConfigError, DataError
from leod.models.checkpoint import save_detector
from leod.pseudo_labels.predictions import SequencePredictions, write_predictions
from leod.stages.visualize import visualize

FRAMES = 12


@pytest.fixture(scope="module")
def sequence(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "drive"
    write_tiny_sequence(folder, random_frames(0, FRAMES), [3, 8])
    return folder


@pytest.fixture(scope="module")
def plain(sequence, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain") / "pictures"
    visualize(sequence, folder, CONFIG, scale=4)
    return [np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]


def test_one_picture_a_frame_and_labels_stay_for_two(plain):
    assert len(plain) == FRAMES
    assert {picture.shape for picture in plain} == {(HEIGHT * 4 + 22, WIDTH * 4, 3)}
    green = [(picture[: HEIGHT * 4] == (0, 128, 60)).all(axis=2).sum() for picture in plain]
    assert [number for number, pixels in enumerate(green) if pixels > 50] == [3, 4, 8, 9]


@pytest.mark.parametrize(("speed", "frames", "rate"), [(1.0, 12, 20), (4.0, 4, 80 / 3), (0.25, 12, 5)])
def test_video_speed(sequence, tmp_path, speed, frames, rate):
    visualize(sequence, tmp_path / "drive.mp4", CONFIG, speed=speed)
    with av.open(str(tmp_path / "drive.mp4")) as container:
        assert float(container.streams.video[0].average_rate) == pytest.approx(rate, rel=0.01)
        assert len(list(container.decode(video=0))) == frames


def test_contact_sheet_shows_labelled_frames(sequence, tmp_path):
    visualize(sequence, tmp_path / "sheet.png", CONFIG, scale=4, theme="dark")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (HEIGHT * 4 + 22 + 3, 2 * (WIDTH * 4 + 3), 3)


def test_predictions_above_the_threshold_are_drawn(sequence, plain, tmp_path):
    boxes = np.zeros(2, LABEL_DTYPE)
    for name, values in {"x": 20, "y": 8, "w": 12, "h": 10, "objectness": (0.9, 0.3), "class_confidence": 0.8}.items():
        boxes[name] = values
    predictions = SequencePredictions("drive", FRAMES, boxes, np.array([5, 6]))
    write_predictions(tmp_path / "shard.h5", [predictions], (HEIGHT, WIDTH), {})
    visualize(sequence, tmp_path / "out", CONFIG, predictions=tmp_path / "shard.h5", scale=4)
    drawn = [np.asarray(Image.open(path))[: HEIGHT * 4] for path in sorted((tmp_path / "out").iterdir())]
    changed = [n for n in range(FRAMES) if not np.array_equal(drawn[n], plain[n][: HEIGHT * 4])]
    assert changed == [5]


def test_a_detector_runs_over_the_sequence(sequence, plain, tmp_path):
    save_detector(tmp_path / "model.ckpt", random_detector())
    visualize(
        sequence, tmp_path / "out", CONFIG, checkpoint=tmp_path / "model.ckpt", confidence_threshold=0.05, scale=4
    )
    drawn = [np.asarray(Image.open(path))[: HEIGHT * 4] for path in sorted((tmp_path / "out").iterdir())]
    assert any(not np.array_equal(one, other[: HEIGHT * 4]) for one, other in zip(drawn, plain, strict=True))


def test_start_and_duration(sequence, plain, tmp_path):
    visualize(sequence, tmp_path / "out", CONFIG, start_s=0.1, duration_s=0.2, scale=4)
    paths = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in paths] == [f"frame_{number:06d}.png" for number in range(2, 6)]
    assert np.array_equal(np.asarray(Image.open(paths[0])), plain[2])


@pytest.mark.parametrize(
    ("output", "options", "message"),
    [
        ("a.avi", {}, "avi"),
        ("a.mp4", {"speed": 0.0}, "speed"),
        ("a.mp4", {"theme": "pink"}, "light, dark"),
        ("a.mp4", {"start_s": 9.0}, "ends after 0.6 seconds"),
    ],
)
def test_wrong_options_are_explained(sequence, tmp_path, output, options, message):
    with pytest.raises(ConfigError, match=message):
        visualize(sequence, tmp_path / output, CONFIG, **options)
    assert list(tmp_path.iterdir()) == []


def test_predictions_of_other_sequences_are_refused(sequence, tmp_path):
    other = SequencePredictions("other", 1, np.zeros(0, LABEL_DTYPE), np.zeros(0, np.int64))
    write_predictions(tmp_path / "shard.h5", [other], (HEIGHT, WIDTH), {})
    with pytest.raises(DataError, match="'drive'"):
        visualize(sequence, tmp_path / "a.mp4", CONFIG, predictions=tmp_path / "shard.h5")
