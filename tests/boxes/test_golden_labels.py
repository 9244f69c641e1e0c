"""Label geometry and files against the published code's results."""

from __future__ import annotations

import re

import numpy as np
import pytest
from label_rows import to_detection_rows, to_label_rows

from leod.boxes import operations as boxes
from leod.boxes.dtypes import LABEL_DTYPE
from leod.config.schema import SensorSize
from leod.sequences.layout import SequenceLabels, read_labels, write_labels

NUMBER = r"(-?[\d.]+)"


@pytest.fixture(scope="module")
def golden(golden_dir):
    path = golden_dir / "labels.npz"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def case_names(golden):
    return [str(name) for name in golden["case_names"]]


def structured(golden, prefix):
    fields = {key.removeprefix(prefix): value for key, value in golden.items() if key.startswith(prefix)}
    rows = np.zeros(len(fields["t"]), [(name, value.dtype) for name, value in fields.items()])
    for name, value in fields.items():
        rows[name] = value
    return rows


def assert_rows_equal(labels, expected_rows):
    assert len(labels) == len(expected_rows)
    assert np.abs(labels["t"] - expected_rows[:, 0]).max(initial=0) <= 4  # float32 time of the reference
    np.testing.assert_allclose(to_label_rows(labels)[:, 1:], expected_rows[:, 1:], rtol=1e-5, atol=1e-3)


def load_case(golden, case, tmp_path) -> tuple[SequenceLabels, tuple[float, float]]:
    """Write the case as a published file, read it, bring it to frame pixels."""
    path = tmp_path / "sequence" / "labels_v2" / "labels.npz"
    path.parent.mkdir(parents=True)
    index = golden[f"{case}/objframe_idx_2_label_idx"]
    np.savez(path, labels=structured(golden, f"{case}/in/"), objframe_idx_2_label_idx=index)
    height, width = (int(value) for value in golden[f"{case}/input_hw"])
    halved = int(golden[f"{case}/downsample_factor"]) == 2
    labels = read_labels(tmp_path / "sequence")
    assert_rows_equal(
        labels.to_frame_pixels(path, SensorSize(height=height, width=width), False).labels,
        golden[f"{case}/factory_labels_clamped"],
    )
    size = (height / 2, width / 2) if halved else (height, width)
    return labels.to_frame_pixels(path, SensorSize(height=height, width=width), halved), size


def apply(name: str, labels: np.ndarray, size) -> tuple[np.ndarray, tuple[float, float]]:
    """Run the operation that a golden entry is named after; return boxes and the new frame size."""
    height, width = size
    if name == "flip_lr":
        return boxes.flip_left_right(labels, size), size
    if name == "reverse":
        return labels[::-1].copy(), size
    if name == "clamp":
        return boxes.clamp(labels, size), size
    if match := re.fullmatch(f"scale_{NUMBER}", name):
        factor = float(match[1])
        return boxes.scale(labels, size, factor), (height * factor, width * factor)
    if match := re.fullmatch(f"rotate_{NUMBER}", name):
        return boxes.rotate(labels, size, float(match[1])), size
    if match := re.fullmatch(f"zoom_(in|out)_{NUMBER}_{NUMBER}_{NUMBER}", name):
        operation = boxes.zoom_in if match[1] == "in" else boxes.zoom_out
        return operation(labels, size, (float(match[3]), float(match[4])), float(match[2])), size
    if match := re.fullmatch(f"zoom_in_{NUMBER}_edge", name):
        factor = float(match[1])
        corner = (int(width - width // factor), int(height - height // factor))
        return boxes.zoom_in(labels, size, corner, factor), size
    if match := re.fullmatch(f"zoom_in_{NUMBER}", name):
        return boxes.zoom_in(labels, size, (0, 0), float(match[1])), size
    if name.startswith("remove_flat"):
        flattened = labels.copy()
        for side, start, step, value in re.findall(r"([wh])\[(\d*)::(\d+)\]=(-?\d+)", name):
            flattened[side][int(start or 0) :: int(step)] = int(value)
        return boxes.remove_flat(flattened), size
    if match := re.fullmatch(f"chain_flip_rotate{NUMBER}_zoomout{NUMBER}_{NUMBER}_{NUMBER}", name):
        turned = boxes.rotate(boxes.flip_left_right(labels, size), size, float(match[1]))
        return boxes.zoom_out(turned, size, (float(match[3]), float(match[4])), float(match[2])), size
    raise AssertionError(f"unknown operation {name}")


def test_conversions(golden, tmp_path):
    for case in case_names(golden):
        labels, size = load_case(golden, case, tmp_path / case)
        assert_rows_equal(labels.labels, golden[f"{case}/frame_labels"])
        assert labels.counts.tolist() == golden[f"{case}/frame_count"].tolist()
        np.testing.assert_allclose(size, golden[f"{case}/frame_hw"])
        yolox = boxes.to_yolox(labels.labels)
        np.testing.assert_allclose(yolox, golden[f"{case}/yolox"], rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(to_detection_rows(labels.labels), golden[f"{case}/prophesee"], rtol=1e-5, atol=1e-3)
        batched = boxes.pad_rows([boxes.to_yolox(labels.frame(k)) for k in range(len(labels))])
        np.testing.assert_allclose(batched, golden[f"{case}/yolox_batched"], rtol=1e-5, atol=1e-3)
        assert (boxes.is_ground_truth(labels.labels) == golden[f"{case}/is_gt"]).all()


def test_saved_labels_have_the_published_type(golden, tmp_path):
    for case in case_names(golden):
        labels, _ = load_case(golden, case, tmp_path / case)
        write_labels(tmp_path / case / "saved", labels.labels, labels.first_label_index)
        with np.load(tmp_path / case / "saved" / "labels_v2" / "labels.npz", allow_pickle=False) as saved:
            rows = saved["labels"]
        expected = structured(golden, f"{case}/to_structured/")
        assert rows.dtype == LABEL_DTYPE
        assert rows.dtype.itemsize == 40
        assert rows.dtype.names == expected.dtype.names
        for name in rows.dtype.names:
            assert rows.dtype[name] == expected.dtype[name]
            tolerance = 4 if name == "t" else 1e-3
            np.testing.assert_allclose(rows[name], expected[name], rtol=0, atol=tolerance)


def test_operations(golden, tmp_path):
    for case in case_names(golden):
        labels, size = load_case(golden, case, tmp_path / case)
        names = [key.split("/")[-2] for key in golden if re.match(rf"{case}/op/.*/labels$", key)]
        assert names
        for name in names:
            moved, moved_size = apply(name, labels.labels, size)
            assert_rows_equal(moved, golden[f"{case}/op/{name}/labels"])
            np.testing.assert_allclose(moved_size, golden[f"{case}/op/{name}/hw"], err_msg=name)
