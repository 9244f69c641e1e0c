from pathlib import Path

import numpy as np
import pytest

from leod.boxes.dtypes import RECORDING_BOX_DTYPE
from leod.config.schema import BoxFilterConfig, LabelTimesConfig, SensorSize
from leod.errors import DataError
from leod.sequences.label_times import (
    LabelledFrames,
    crop_to_sensor,
    filter_boxes,
    select_classes,
    select_frames,
)
from leod.sequences.window_grid import WindowGrid

SENSOR = SensorSize(height=240, width=304)


def boxes_at(*times, box=(10, 10, 40, 40), class_id=0):
    boxes = np.zeros(len(times), RECORDING_BOX_DTYPE)
    boxes["t"] = times
    boxes["x"], boxes["y"], boxes["w"], boxes["h"] = np.transpose(box)
    boxes["class_id"] = class_id
    return boxes


def window_ends(times_us, windows_between, window_us):
    """The published grid."""
    boxes = np.zeros(0, RECORDING_BOX_DTYPE)
    frames = LabelledFrames(boxes, np.asarray(times_us), np.zeros(len(times_us), np.int64), np.asarray(windows_between))
    return WindowGrid(frames, window_us, 0, "clock_zero", "last_label").finish(int(times_us[-1]))


def regular_window_ends(first_us, last_us, window_us):
    return WindowGrid(LabelledFrames.none(), window_us, first_us).finish(last_us)


def ends_of(frames, window_us=50_000):
    return window_ends(frames.times_us, frames.windows_between, window_us).tolist()


def test_unknown_class_names_file_row_id_and_what_is_allowed():
    boxes = boxes_at(1, 2, 3, class_id=[0, 3, 7])
    with pytest.raises(DataError, match=r"^boxes.npy: row 2 .*class id 7; allowed are 0 to 1 \(car, pedestrian\)"):
        select_classes(Path("boxes.npy"), boxes, ("car", "pedestrian"), (3,))
    assert select_classes(Path("boxes.npy"), boxes, ("car", "pedestrian"), (3, 7))["t"].tolist() == [1]
    ignored = boxes_at(1, class_id=1024)
    assert len(select_classes(Path("boxes.npy"), ignored, ("car",), ())) == 1


def test_boxes_are_cut_at_the_sensor():
    box = [(-10, -5, 30, 20), (290, 230, 50, 50), (303, 0, 10, 10), (-9, 0, 9, 10)]
    cropped, cut = crop_to_sensor(boxes_at(1, 2, 3, 4, box=box), SENSOR)
    assert cut.tolist() == [True, True]
    rows = [tuple(float(row[name]) for name in "txywh") for row in cropped]
    assert rows == [(1, 0, 0, 20, 15), (2, 290, 230, 13, 9)]


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"min_side": 10}, [1, 3, 4, 5]),  # both sides, inclusive
        ({"min_diagonal": 30}, [1, 2, 4, 5]),  # 18-24-30 triangle is in
        ({"max_width_fraction": 0.9}, [1, 2, 3, 4]),  # 273 of 304 is the widest
    ],
)
def test_box_filters(limits, kept):
    box = [(0, 0, 18, 24), (0, 0, 9.9, 100), (0, 0, 10, 10), (0, 0, 273, 20), (0, 0, 273.5, 20)]
    boxes = boxes_at(1, 2, 3, 4, 5, box=box)
    assert filter_boxes(boxes, BoxFilterConfig(**limits), SENSOR)["t"].tolist() == kept


def test_fixed_step_takes_multiples_of_the_last_taken_label_time():
    config = LabelTimesConfig(mode="fixed_step", step_us=250_000)
    # 99 ms is too early; 300 is off the grid; 351.9 and 601 are within 2 ms; 854 is 3 ms off; 1352 skips steps.
    times = [99_000, 100_000, 100_500, 300_000, 351_900, 601_000, 854_000, 1_352_000]
    frames = select_frames(boxes_at(*times), config, 50_000)
    assert frames.times_us.tolist() == [100_000, 351_900, 601_000, 1_352_000]
    assert frames.windows_between.tolist() == [5, 5, 15]
    assert frames.boxes["t"].tolist() == frames.times_us.tolist()


@pytest.mark.parametrize(("distance", "expected"), [(16_667, 6), (33_333, 3), (90_000, 1), (400_000, 1)])
def test_median_step_comes_near_the_wanted_step(distance, expected):
    config = LabelTimesConfig(mode="median_step", step_us=100_000, first_us=0)
    times = 1000 + distance * np.arange(13)
    frames = select_frames(boxes_at(*times), config, 50_000)
    assert frames.times_us.tolist() == times[::expected].tolist()


def test_any_takes_every_label_time_and_leaves_no_gap():
    times = [120_000, 130_000, 380_001, 380_002]
    frames = select_frames(boxes_at(*sorted([5, *times, 130_000])), LabelTimesConfig(mode="any"), 50_000)
    assert frames.times_us.tolist() == times
    assert frames.first_box.tolist() == [0, 1, 3, 4]
    ends = ends_of(frames)
    assert np.isin(times, ends).all()
    assert max(np.diff(ends)) <= 50_000
    assert ends[:2] == [70_000, 120_000]  # 20 ms would be the earliest and is dropped


def test_no_label_late_enough():
    assert select_frames(boxes_at(10, 99_999), LabelTimesConfig(), 50_000) is None


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (49_999, [49_999]),
        (100_000, [100_000]),  # 50 ms is the earliest and is dropped, 0 is not positive
        (250_000, [100_000, 150_000, 200_000, 250_000]),
    ],
)
def test_windows_before_the_first_labelled_frame(first, expected):
    assert window_ends(np.array([first]), np.zeros(0, np.int64), 50_000).tolist() == expected


def test_windows_between_are_evenly_spaced_and_cut_to_microseconds():
    ends = window_ends(np.array([1000, 1010]), np.array([3]), 50_000)
    assert ends.tolist() == [1000, 1003, 1006, 1010]


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [(0, 0, [50]), (0, 50, [50]), (0, 51, [50, 100]), (7, 120, [57, 107, 157])],
)
def test_regular_windows_hold_every_event(first, last, expected):
    assert regular_window_ends(first, last, 50).tolist() == expected
