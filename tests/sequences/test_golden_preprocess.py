"""Preprocessing against the published script's results."""

import json
from dataclasses import replace

import h5py
import hdf5plugin  # noqa: F401 -- registers the filter
import numpy as np
import pytest

from leod.boxes.dtypes import RECORDING_BOX_DTYPE
from leod.config.schema import (
    BoxFilterConfig,
    DatasetConfig,
    LabelTimesConfig,
    RepresentationConfig,
    SensorSize,
    WindowsConfig,
)
from leod.config.settings import PreprocessSettings
from leod.recordings.discovery import find_recordings
from leod.sequences import writing as preprocess

COMMON = {
    "name": "golden",
    "sequences": "sequences",
    "windows": WindowsConfig(origin="clock_zero", train_until="last_label"),
    "doubled_boxes": "keep",
    "representation": RepresentationConfig(wrap_counts=True),
    "max_train_width_fraction": 0.9,
}
SETTINGS = {
    "gen1": DatasetConfig(
        sensor=SensorSize(height=240, width=304),
        classes=("car", "pedestrian"),
        label_times=LabelTimesConfig(mode="fixed_step"),
        label_filter=BoxFilterConfig(min_diagonal=30, min_side=10),
        **COMMON,
    ),
    "gen4": DatasetConfig(
        sensor=SensorSize(height=720, width=1280),
        classes=("pedestrian", "two-wheeler", "car"),
        drop_class_ids=(3, 4, 5, 6),
        downsample_by_2=True,
        label_times=LabelTimesConfig(mode="median_step", step_us=100_000),
        label_filter=BoxFilterConfig(min_side=5),
        **COMMON,
    ),
}
SETTINGS = {name: PreprocessSettings.from_dataset(dataset) for name, dataset in SETTINGS.items()}
EVENT_FILE = {"gen1": "_td.dat.h5", "gen4": "_td.h5"}
RUNS_WITH_TWO_WINDOWS_PER_STEP = {"gen1_as_published"}


@pytest.fixture(scope="module")
def golden(golden_dir):
    path = golden_dir / "preprocess.npz"
    if not path.is_file():
        pytest.skip(f"{path} not found")
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module")
def recordings(golden, tmp_path_factory):
    root = tmp_path_factory.mktemp("recordings")
    for dataset, split, name in sorted({tuple(key.split("/")[1:4]) for key in golden if key.startswith("in/")}):
        folder = root / dataset / split
        folder.mkdir(parents=True, exist_ok=True)
        prefix = f"in/{dataset}/{split}/{name}"
        boxes = np.zeros(len(golden[f"{prefix}/bbox/t"]), RECORDING_BOX_DTYPE)
        for field in RECORDING_BOX_DTYPE.names:
            boxes[field] = golden[f"{prefix}/bbox/{field}"]
        np.save(folder / f"{name}_bbox.npy", boxes)
        with h5py.File(folder / f"{name}{EVENT_FILE[dataset]}", "w") as file:
            for column in "txyp":
                file[f"events/{column}"] = golden[f"{prefix}/events/{column}"]
            file["events/height"] = SETTINGS[dataset].sensor.height
            file["events/width"] = SETTINGS[dataset].sensor.width
    return root


def sequences_of(golden):
    """Run, split and sequence of every case, with None or its description."""
    meta = json.loads(str(golden["meta_json"]))
    return [(*key.split("/"), value if isinstance(value, dict) else None) for key, value in meta.items()]


def two_windows_per_step(labels, settings, first_event_us, original=preprocess.label_frames):
    """The published script's windows lie too far apart; this follows its count, not our rule."""
    frames = original(labels, settings, first_event_us)
    if frames is None:
        return None
    steps = np.round(np.diff(frames.times_us) / settings.label_times.step_us)
    return replace(frames, windows_between=2 * steps.astype(np.int64))


def test_every_sequence_of_every_run(golden, recordings, tmp_path, monkeypatch):
    compared = 0
    for run, split, name, description in sequences_of(golden):
        dataset = run.split("_")[0]
        settings = SETTINGS[dataset]
        (files,) = [files for files in find_recordings(recordings / dataset / split) if files.name == name]
        folder = tmp_path / run / split / name
        folder.mkdir(parents=True)
        with monkeypatch.context() as patch:
            if run in RUNS_WITH_TWO_WINDOWS_PER_STEP:
                patch.setattr(preprocess, "label_frames", two_windows_per_step)
            if description is None:
                with pytest.raises(preprocess.NothingLeftError):
                    preprocess.write_sequence(folder, files, settings, split, threads=2)
                compared += 1
                continue
            preprocess.write_sequence(folder, files, settings, split, threads=2)
        compare_sequence(golden, f"out/{run}/{split}/{name}", folder, description)
        compared += 1
    assert compared


def compare_sequence(golden, prefix, folder, description):
    with np.load(folder / "labels_v2" / "labels.npz", allow_pickle=False) as file:
        labels, first_box = file["labels"], file["objframe_idx_2_label_idx"]
    expected_dtype = [[name, str(labels.dtype[name]), labels.dtype.fields[name][1]] for name in labels.dtype.names]
    assert expected_dtype == description["label_dtype"], prefix
    for field in labels.dtype.names:
        np.testing.assert_array_equal(labels[field], golden[f"{prefix}/labels/{field}"], err_msg=f"{prefix} {field}")
    np.testing.assert_array_equal(first_box, golden[f"{prefix}/objframe_idx_2_label_idx"])
    label_times = np.load(folder / "labels_v2" / "timestamps_us.npy")
    np.testing.assert_array_equal(label_times, golden[f"{prefix}/label_timestamps_us"])

    (representation,) = (folder / "event_representations_v2").iterdir()
    assert representation.name == "stacked_histogram_dt=50_nbins=10"
    labelled_frames = np.load(representation / "objframe_idx_2_repr_idx.npy")
    np.testing.assert_array_equal(labelled_frames, golden[f"{prefix}/objframe_idx_2_repr_idx"])
    timestamps = np.load(representation / "timestamps_us.npy")
    np.testing.assert_array_equal(timestamps, golden[f"{prefix}/repr_timestamps_us"], err_msg=prefix)
    with h5py.File(representation / description["file"]) as file:
        data = file["data"]
        assert data.dtype == description["dtype"]
        assert list(data.chunks) == description["chunks"]
        filters = {}
        pipeline = data.id.get_create_plist()
        for index in range(pipeline.get_nfilters()):
            code, _, values, _ = pipeline.get_filter(index)
            filters[str(code)] = list(values)
        assert filters == description["filters"]
        frames = data[:]
    assert list(frames.shape) == golden[f"{prefix}/repr_shape"].tolist()
    index = np.flatnonzero(frames)
    np.testing.assert_array_equal(index, np.cumsum(golden[f"{prefix}/repr_nz_index"].astype(np.int64)), err_msg=prefix)
    np.testing.assert_array_equal(frames.reshape(-1)[index], golden[f"{prefix}/repr_nz_value"], err_msg=prefix)
