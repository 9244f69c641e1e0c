import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from leod.boxes.dtypes import LABEL_DTYPE
from leod.sampling.augmentation import (
    SpatialAugmentation,
    ZoomIn,
    ZoomOut,
    augment,
    place_zoom_in,
    zoom_in_corner_range,
    zoom_in_map,
    zoom_out_map,
)

SIZE = (48, 64)


def identity(size=SIZE):
    return np.arange(size[0] * size[1]).reshape(size)


def box(x, y, w, h):
    label = np.zeros(1, LABEL_DTYPE)
    label["x"], label["y"], label["w"], label["h"] = x, y, w, h
    return label


def frame_with(label):
    """A frame that is 1 inside a box with whole-pixel corners, both edges included."""
    frame = np.zeros((1, 1, *SIZE), np.uint8)
    x, y, w, h = (int(label[name][0]) for name in ("x", "y", "w", "h"))
    frame[..., y : y + h + 1, x : x + w + 1] = 1
    return frame


def extent(frame):
    rows, columns = np.nonzero(frame[0, 0])
    return columns.min(), rows.min(), columns.max(), rows.max()


@pytest.mark.parametrize("factor", [1.01, 1.117, 1.2, 1.33, 1.5])
def test_zoom_samples_like_interpolate(factor):
    source = torch.from_numpy(identity().astype(np.float32))[None, None]
    small = (int(48 / factor), int(64 / factor))
    window = source[..., 3 : 3 + small[0], 5 : 5 + small[1]]
    expected = interpolate(window, size=SIZE, mode="nearest-exact")[0, 0]
    np.testing.assert_array_equal(zoom_in_map(identity(), (5, 3), factor), expected)
    placed = zoom_out_map(identity(), (1, 1), factor)
    expected = interpolate(source, size=small, mode="nearest-exact")[0, 0]
    np.testing.assert_array_equal(placed[1 : 1 + small[0], 1 : 1 + small[1]], expected)
    assert (placed == -1).sum() == 48 * 64 - small[0] * small[1]


@pytest.mark.parametrize(
    "augmentation",
    [
        SpatialAugmentation(mirror=True),
        SpatialAugmentation(zoom=ZoomOut(1.2, (4, 6))),
        SpatialAugmentation(zoom=ZoomIn(1.3, follow_boxes=True, box=0.0, corner=(0.4, 0.7))),
        SpatialAugmentation(mirror=True, zoom=ZoomIn(1.5, follow_boxes=True, box=0.0, corner=(0.9, 0.1))),
        SpatialAugmentation(rotation_deg=90.0),
    ],
)
def test_boxes_follow_the_pixels(augmentation):
    label = box(20, 12, 15, 9)
    frame = frame_with(label)
    out = np.empty_like(frame)
    moved = augment(augmentation, frame, {0: label}, out)[0][0]
    x0, y0, x1, y1 = extent(out)
    corners = [moved["x"], moved["y"], moved["x"] + moved["w"], moved["y"] + moved["h"]]
    # Rounding of pixels, and rotation centres that lie half a pixel apart, as in the published code.
    np.testing.assert_allclose(corners, [x0, y0, x1, y1], atol=1.6)


def test_rotation_turns_counter_clockwise():
    label = box(50, 20, 6, 6)  # right of the centre
    frame = frame_with(label)
    out = np.empty_like(frame)
    moved = augment(SpatialAugmentation(rotation_deg=30.0), frame, {0: label}, out)[0][0]
    assert moved["y"] < 20  # moves up
    assert extent(out)[1] < 20


def test_all_steps_and_channels_are_treated_alike():
    frames = np.random.default_rng(0).integers(0, 255, (3, 2, *SIZE), dtype=np.uint8)
    augmentation = SpatialAugmentation(mirror=True, rotation_deg=5.0, zoom=ZoomOut(1.1, (2, 3)))
    together = np.empty_like(frames)
    augment(augmentation, frames, {0: box(1, 2, 3, 4)}, together)
    for step in range(3):
        for channel in range(2):
            alone = np.empty((1, 1, *SIZE), np.uint8)
            augment(augmentation, frames[step : step + 1, channel : channel + 1], {0: box(1, 2, 3, 4)}, alone)
            np.testing.assert_array_equal(alone[0, 0], together[step, channel])


def test_nothing_to_do_copies():
    frames = np.random.default_rng(0).integers(0, 255, (3, 2, *SIZE), dtype=np.uint8)
    out = np.empty_like(frames)
    labels = augment(SpatialAugmentation(), frames, {0: box(1, 2, 3, 4)}, out)
    np.testing.assert_array_equal(out, frames)
    assert labels[0].tolist() == box(1, 2, 3, 4).tolist()


def test_last_of_several_boxes_can_be_chosen():
    # The published code never chooses it.
    labels = np.concatenate([box(0, 0, 5, 5), box(55, 38, 5, 5)])
    corners = {
        place_zoom_in(ZoomIn(1.5, True, fraction, (1.0 - 1e-9, 1.0 - 1e-9)), SIZE, labels) for fraction in (0.2, 0.8)
    }
    assert corners == {(0, 0), (20, 14)}


def test_zoom_follows_the_last_labelled_frame():
    labels = {1: box(0, 0, 5, 5), 3: box(50, 30, 5, 5)}
    zoom = ZoomIn(1.5, follow_boxes=True, box=0.0, corner=(0.5, 0.5))
    frame = np.zeros((1, 1, *SIZE), np.uint8)
    kept = augment(SpatialAugmentation(zoom=zoom), frame, labels, frame.copy())
    assert {step: len(rows) for step, rows in kept.items()} == {1: 0, 3: 1}


def test_no_box_no_zoom():
    frame = np.random.default_rng(0).integers(0, 255, (1, 1, *SIZE), dtype=np.uint8)
    out = np.empty_like(frame)
    zoom = ZoomIn(1.5, follow_boxes=True, box=0.0, corner=(0.5, 0.5))
    augment(SpatialAugmentation(zoom=zoom), frame, {0: np.zeros(0, LABEL_DTYPE)}, out)
    np.testing.assert_array_equal(out, frame)


def test_corner_range_holds_the_box():
    # Box x 30..50, window 40 wide in a frame of 64: the corner may lie at 10..23 (a last pixel column stays out).
    x_range, y_range = zoom_in_corner_range((30, 5, 20, 10), SIZE, (30, 40))
    assert x_range == (10, 23)
    assert y_range == (0, 5)


def test_large_box_holds_the_window():
    x_range, _ = zoom_in_corner_range((5, 5, 50, 10), SIZE, (30, 40))
    assert x_range == (5, 15)
