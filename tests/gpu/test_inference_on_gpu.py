"""Inference and pseudo-labels on a GPU are those of the CPU, also where two jobs share the GPU."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest
from pseudo_label_study import generate_settings, model_config, sequence_config, write_data_set
from short_training import ON_DEVICE, share_found_again, spread_scores
from tiny_sequences import CONFIG, MODEL, random_frames, write_tiny_sequence
from train_scenario import CPU

from leod.config.schema import DetectionConfig
from leod.inference.devices import prepare_for_inference
from leod.inference.runner import detect_sequences
from leod.inference.views import View
from leod.models.checkpoint import save_detector
from leod.models.detector import build_detector
from leod.pseudo_labels.predictions import PredictionsFile
from leod.sequences.sequence import open_split
from leod.stages.generate_pseudo_labels import generate_pseudo_labels

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("full_precision")]

NEARLY_ALL = 0.97


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_detections_are_those_of_the_cpu(precision, tmp_path):
    for number, frames in enumerate((40, 23, 9)):
        write_tiny_sequence(tmp_path / "train" / f"sequence_{number}", random_frames(number, frames), [frames - 1])
    sequences = open_split(tmp_path, "train", CONFIG)
    detector = spread_scores(build_detector(MODEL, CONFIG))
    views = (View(), View(mirrored=True), View(time_reversed=True))
    found = []
    for hardware, chosen in ((CPU, "32-true"), (ON_DEVICE, precision)):
        detection = DetectionConfig(confidence_threshold=0.2, batch_size=2, sequence_length=5, precision=chosen)
        prepare_for_inference(detector, hardware)
        results = detect_sequences(detector, sequences, detection, views=views, num_workers=1)
        found.append({(one.sequence.name, one.view): one for one in results})
    expected, ours = found
    assert ours.keys() == expected.keys()
    assert sum(len(one.boxes) for one in expected.values()) > 100
    for key, one in ours.items():
        other = expected[key]
        if precision == "32-true":
            assert share_found_again(one.boxes, one.frame_indices, other.boxes, other.frame_indices) > NEARLY_ALL
            assert share_found_again(other.boxes, other.frame_indices, one.boxes, one.frame_indices) > NEARLY_ALL
        else:
            assert len(one.boxes) == pytest.approx(len(other.boxes), rel=0.3, abs=10)
            assert all(np.isfinite(one.boxes[name]).all() for name in ("x", "y", "w", "h", "objectness"))


def make_shard(study, shard, shards, output, hardware):
    generate_pseudo_labels(**study, output=output, shard=shard, shards=shards, hardware=hardware)


def read(path):
    with PredictionsFile(path) as file:
        return {found.name: found for found in file}


def test_two_shards_at_the_same_time_on_one_gpu(tmp_path):
    sequences, labels = write_data_set(tmp_path)
    checkpoint = tmp_path / "model.ckpt"
    save_detector(checkpoint, spread_scores(build_detector(model_config(), sequence_config())))
    settings = generate_settings(mirror=True, time_reversal=True)
    settings = settings.model_copy(
        update={"detection": settings.detection.model_copy(update={"confidence_threshold": 0.2})}
    )
    study = {"checkpoint": checkpoint, "sequences": sequences, "labels": labels, "settings": settings}
    make_shard(study, 0, 1, tmp_path / "whole.h5", CPU)
    context = multiprocessing.get_context("spawn")
    outputs = [tmp_path / f"{shard}.h5" for shard in range(2)]
    jobs = [
        context.Process(target=make_shard, args=(study, shard, 2, output, ON_DEVICE))
        for shard, output in enumerate(outputs)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0, 0]
    parts, whole = [read(output) for output in outputs], read(tmp_path / "whole.h5")
    assert not parts[0].keys() & parts[1].keys()
    ours = parts[0] | parts[1]
    assert ours.keys() == whole.keys()
    for name, one in whole.items():
        other = ours[name]
        assert len(one.boxes) > 10
        assert share_found_again(one.boxes, one.frame_indices, other.boxes, other.frame_indices) > NEARLY_ALL
        assert share_found_again(other.boxes, other.frame_indices, one.boxes, one.frame_indices) > NEARLY_ALL
