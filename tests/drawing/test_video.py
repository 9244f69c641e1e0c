"""Videos can be read back and are never half-written."""

import av
import numpy as np
import pytest

from leod.drawing import video
from leod.drawing.video import write_video


def pictures(count, height=48, width=64):
    for number in range(count):
        picture = np.zeros((height, width, 3), np.uint8)
        picture[:, : width // 2] = 20 * number
        yield picture


def read(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream.average_rate, [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("codec", [None, "mpeg4"])
@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 63)])
def test_reads_back_with_all_frames(tmp_path, monkeypatch, codec, height, width):
    if codec:
        monkeypatch.setattr(video, "_CODECS", (codec,))
    assert write_video(tmp_path / "a.mp4", pictures(9, height, width), 20.0) == 9
    rate, frames = read(tmp_path / "a.mp4")
    assert len(frames) == 9
    assert rate == 20
    assert frames[0].shape == (48, 64, 3)
    for number, frame in enumerate(frames):
        assert abs(frame[10:40, 5:20].mean() - 20 * number) < 12


def test_fractional_rates(tmp_path):
    write_video(tmp_path / "a.mp4", pictures(3), 2.5)
    assert float(read(tmp_path / "a.mp4")[0]) == pytest.approx(2.5)


def test_an_interruption_leaves_nothing(tmp_path):
    def interrupted():
        yield from pictures(2)
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        write_video(tmp_path / "a.mp4", interrupted(), 20.0)
    assert list(tmp_path.iterdir()) == []


def test_refuses_no_pictures_and_changing_sizes(tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        write_video(tmp_path / "a.mp4", iter(()), 20.0)
    with pytest.raises(ValueError, match="picture 1"):
        write_video(tmp_path / "a.mp4", [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)], 20.0)
    assert list(tmp_path.iterdir()) == []
