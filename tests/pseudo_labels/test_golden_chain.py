"""From the views of a sequence to its pseudo-labelled files, against the published code."""

import numpy as np
import pytest
from label_rows import from_label_rows

from leod.config.schema import SensorSize, SequenceConfig, TrackFilterConfig
from leod.config.settings import TrackFilterSettings
from leod.inference.merge import ViewCollector
from leod.inference.views import View
from leod.pseudo_labels.writer import write_pseudo_labelled
from leod.sequences.layout import read_labelled_frames, read_labels, representations_dir
from leod.stages.track_filter import track_sequence

REPRESENTATION, FRAMES_FILE = "stacked_histogram_dt=50_nbins=10", "event_representations.h5"


@pytest.fixture(scope="module")
def cases(golden_dir):
    arrays = np.load(golden_dir / "tta_merge.npz", allow_pickle=False)
    names = [str(name) for name in arrays["case_names"] if f"{name}/final_t" in arrays.files]
    return {
        name: {key.removeprefix(f"{name}/"): arrays[key] for key in arrays.files if key.startswith(f"{name}/")}
        for name in names
    }


def merged_boxes(case):
    collector = ViewCollector(
        int(case["num_frames"]),
        tuple(case["hw"].tolist()),
        int(case["tflip_offset"]),
        scale=float(case["scale_ratio"]),
    )
    position = 0
    for call, counts in enumerate(case["call_label_count"]):
        counts = np.maximum(counts, 0)
        rows = case["call_labels"][position : position + counts.sum()]
        position += counts.sum()
        view = View(bool(case["call_hflip"][call]), bool(case["call_tflip"][call]))
        collector.add(from_label_rows(rows), np.repeat(case["call_ev_idx"][call].astype(np.int64), counts), view)
    return collector.merged(float(case["conf_thre"]), float(case["nms_thre"]))


def test_files_equal_those_of_the_published_code(cases, tmp_path):
    if not cases:
        pytest.skip("no case goes through to the files")
    for name, case in cases.items():
        merged = merged_boxes(case)
        height, width = (int(size) for size in case["out_hw"])
        sequence = SequenceConfig(sensor=SensorSize(height=height, width=width), classes=("a", "b", "c"))
        settings = TrackFilterSettings(sequence=sequence, track_filter=TrackFilterConfig(), use_ground_truth=True)
        truth = merged.boxes["t"] > 0
        labels, _ = track_sequence(merged.select(truth), merged.select(~truth), settings)

        source = tmp_path / name / "source"
        frames_path = representations_dir(source) / REPRESENTATION / FRAMES_FILE
        frames_path.parent.mkdir(parents=True)
        frames_path.touch()
        destination = tmp_path / name / "written"
        write_pseudo_labelled(source, destination, REPRESENTATION, FRAMES_FILE, labels)

        written = read_labels(destination)
        np.testing.assert_array_equal(written.first_label_index, case["final_objframe_idx_2_label_idx"], name)
        frames = read_labelled_frames(destination, REPRESENTATION)
        np.testing.assert_array_equal(frames, case["final_objframe_idx_2_repr_idx"], name)
        for field, tolerance in (("x", 2e-3), ("y", 2e-3), ("w", 2e-3), ("h", 2e-3), ("t", 4)):
            np.testing.assert_allclose(
                written.labels[field], case[f"final_{field}"], rtol=0, atol=tolerance, err_msg=f"{name} {field}"
            )
        for field in ("class_id", "class_confidence", "objectness"):
            np.testing.assert_array_equal(written.labels[field], case[f"final_{field}"], f"{name} {field}")
