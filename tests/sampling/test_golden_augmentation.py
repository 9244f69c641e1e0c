"""Comparison with the published tensor operations and zoom windows."""

import numpy as np
import pytest

from leod.sampling import augmentation


@pytest.fixture(scope="module")
def golden(golden_dir):
    with np.load(golden_dir / "augmentation.npz") as file:
        return dict(file)


def apply(frame, operation):
    indices = operation(np.arange(frame[0].size, dtype=np.int32).reshape(frame.shape[1:]))
    out = np.empty_like(frame)
    augmentation.resample(frame[None], indices, out[None])
    return out


def test_operations(golden):
    frame = golden["input"]
    for key, expected in golden.items():
        name, _, what = key.rpartition("/")
        if what != "out":
            continue
        if name == "hflip":
            found = apply(frame, augmentation.mirror_map)
        elif name.startswith("rotate_"):
            degrees = float(name.removeprefix("rotate_"))
            found = apply(frame, lambda indices: augmentation.rotate_map(indices, degrees))  # noqa: B023
        else:
            x, y, factor = golden[f"{name}/params_x0_y0_factor"]
            zoom = augmentation.zoom_in_map if name.startswith("zoom_in") else augmentation.zoom_out_map
            found = apply(frame, lambda indices: zoom(indices, (int(x), int(y)), factor))  # noqa: B023
        np.testing.assert_array_equal(found, expected, err_msg=name)


def test_zoom_in_windows(golden):
    columns = golden["zoom_in_window_range_columns"].tolist()
    for row in golden["zoom_in_window_range"]:
        case = dict(zip(columns, row, strict=True))
        x_range, y_range = augmentation.zoom_in_corner_range(
            (case["x"], case["y"], case["w"], case["h"]),
            (240, 304),  # the table is for frames of Gen1
            (case["window_h"], case["window_w"]),
        )
        expected = [case[name] for name in ("x0_min", "x0_max", "y0_min", "y0_max")]
        np.testing.assert_allclose([*x_range, *y_range], expected, atol=1e-3)
