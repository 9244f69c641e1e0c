"""Views of a recording in bounded memory show what whole sequences show."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_sequences import CountingDetector, numbered_frames, random_detector, random_frames

from leod.boxes.operations import from_detection_rows
from leod.config.schema import DetectionConfig, ViewsConfig
from leod.inference import recording_views
from leod.inference.recording_views import RecordingViews
from leod.inference.recurrent import RecurrentDetector

DETECTION = DetectionConfig(confidence_threshold=0.2)
BOTH = ViewsConfig()


def run(detector, frames, views=BOTH, offset=-1):
    return list(RecordingViews(detector, DETECTION, views, frames.shape[1:], offset).run(iter(frames)))


@pytest.fixture
def short_blocks(monkeypatch):
    """Blocks of 12 windows, read backwards from 4 behind on."""
    monkeypatch.setattr(recording_views, "_LONGEST_BLOCK", 16)


@pytest.mark.parametrize("count", [1, 3, 11, 12, 13, 16, 17, 40])
def test_every_window_once_and_in_order(short_blocks, count) -> None:
    found = run(CountingDetector(), numbered_frames(count))
    assert [window.number for window in found] == list(range(count))
    for window in found:
        plain, mirrored, backwards, both = window.boxes
        # The box's width tells which frame was read, its height how many were read until then.
        assert plain["w"].tolist() == mirrored["w"].tolist() == [window.number + 1]
        assert plain["h"].tolist() == [window.number + 1]
        assert plain["x"] + plain["w"] / 2 == pytest.approx(20)
        # Found at 30 in the mirrored frame, 48 - 1 - 30 upright.
        assert mirrored["x"] + mirrored["w"] / 2 == pytest.approx(17)
        if window.number == count - 1:
            assert backwards is None
            assert both is None
        else:
            assert backwards["w"].tolist() == [window.number + 2]
            assert both["w"].tolist() == [window.number + 2]


def test_read_backwards_with_memory_from_behind(short_blocks) -> None:
    found = run(CountingDetector(), numbered_frames(40))
    # Window 11, the last of its block, is read at frame 12, the fourth from the end of what is held, frame 15.
    assert found[11].boxes[2]["h"].tolist() == [4]
    assert found[0].boxes[2]["h"].tolist() == [15]


def test_forward_views_do_not_depend_on_blocks(monkeypatch) -> None:
    detector, frames = random_detector(), random_frames(0, 30)
    recurrent = RecurrentDetector(detector, DETECTION)
    rows = recurrent.detect(torch.from_numpy(frames)[:, None], np.ones((30, 1), bool))
    expected = [from_detection_rows(detections) for *_, detections in rows]
    for longest in (16, 64):
        monkeypatch.setattr(recording_views, "_LONGEST_BLOCK", longest)
        for window, boxes in zip(run(detector, frames), expected, strict=True):
            assert len(window.boxes[0]) == len(boxes)
            np.testing.assert_allclose(window.boxes[0]["x"], boxes["x"], atol=0.01)


def test_few_frames_are_held(short_blocks) -> None:
    frames, read = numbered_frames(60), 0

    def counted():
        nonlocal read
        for frame in frames:
            read += 1
            yield frame

    views = RecordingViews(CountingDetector(), DETECTION, BOTH, frames.shape[1:], -1)
    assert all(read - window.number <= 16 for window in views.run(counted()))


def test_views_may_be_left_out() -> None:
    found = run(CountingDetector(), numbered_frames(5), ViewsConfig(mirror=True, time_reversal=False))
    assert all(len(window.boxes) == 2 and window.boxes[1] is not None for window in found)
    assert run(CountingDetector(), numbered_frames(5)[:0]) == []
