"""Each measurement of the benchmark, on a detector as small as can be; what a figure is, not how large."""

from __future__ import annotations

import math
import multiprocessing
import time
from dataclasses import replace
from pathlib import Path

import pytest
from benchmark_figures import made_up_benchmark
from filelock import FileLock
from tiny_sequences import CONFIG, HEIGHT, MODEL, WIDTH

from leod.config.schema import DetectionConfig, HardwareConfig, StudyConfig
from leod.config.settings import BenchmarkSettings
from leod.costs.apart import measure_apart, repeat
from leod.costs.data_speed import DataTask, measure_opening, measure_preprocessing, measure_simulation
from leod.costs.figures import BenchmarkResult, Way
from leod.costs.inference_speed import InferenceTask, measure_latency, measure_pseudo_labels, measure_validation
from leod.costs.made_up import MadeUpSequences
from leod.costs.training_speed import TrainingTask, affordable, measure_loading, measure_training
from leod.errors import LeodError

CPU = HardwareConfig(accelerator="cpu", threads=1, num_workers=0)
WAY = Way(device="cpu", precision="32-true", compile=False, as_in_study=True)
TRAINING = {
    "steps": 1000,
    "learning_rate": 1e-3,
    "batch_size": 2,
    "sequence_length": 3,
    "ema_decay": 0.9,
    "checkpoint_every_steps": 1000,
}


def settings(**changes):
    detection = DetectionConfig(batch_size=2, sequence_length=3)
    content = {
        "name": "tiny",
        "dataset": CONFIG.model_dump() | {"name": "made-up", "sequences": "made-up", "simulate": {"duration_s": 0.2}},
        "model": MODEL,
        "labels": [{"setting": "weakly_supervised", "ratio": 0.5}],
        "pretrain": TRAINING,
        "self_train": TRAINING,
        "pseudo_labels": {"score_thresholds": {"car": 0.5, "pedestrian": 0.5}, "detection": detection},
        "evaluate": {"detection": detection},
    }
    return BenchmarkSettings.from_study(StudyConfig.model_validate(content | changes))


def data_task(folder):
    return DataTask(settings(), 20.0, 1, 0.01, folder)


def inference_task(folder):
    return InferenceTask(settings(), CPU, WAY, 20.0, 1, 0.01, folder)


@pytest.fixture
def training_task(tmp_path):
    maker = MadeUpSequences(CONFIG, 1, 20.0)
    for number in range(2):
        maker.write(tmp_path / "data" / "train" / str(number), 20, 5)
    return TrainingTask("pretrain", settings().pretrain, CPU, WAY, tmp_path / "data", 0.5, 0.01, tmp_path / "own")


def test_training_step(training_task):
    found = measure_training(training_task)
    figures = found.figures
    assert (figures.batch_size, figures.sequence_length, figures.stage) == (2, 3, "pretrain")
    assert figures.steps >= 3
    assert figures.step_s > 0
    assert figures.samples_per_s == pytest.approx(2 / figures.step_s)
    assert figures.peak_memory_mb > 50
    assert figures.gpu_memory_mb is None
    # Weights, two moments of the optimiser and the average; the detector's file has the weights alone.
    assert 3 * found.detector_mb < found.checkpoint_mb < 6 * found.detector_mb
    assert found.detector_mb * 1e6 > 4 * found.parameters


def test_accumulated_batches_are_one_step(training_task):
    training = training_task.settings.training.model_copy(update={"accumulate": 2})
    accumulated = replace(training_task, settings=training_task.settings.model_copy(update={"training": training}))
    figures = measure_training(accumulated).figures
    assert figures.accumulate == 2
    assert figures.samples_per_s == pytest.approx(4 / figures.step_s)


def test_loading(training_task):
    assert measure_loading(training_task).frames_per_s > 0


def test_smaller_batches_are_measured_where_frames_are_large():
    training = settings().pretrain.training.model_copy(update={"batch_size": 24, "accumulate": 2})
    assert affordable(training, 1000, 24 * 3 * 1000) == training
    assert affordable(training, 1000, 10_000).batch_size == 3
    assert affordable(training, 1000, 10_000).accumulate == 1
    assert affordable(training, 10_000, 10_000).batch_size == 2  # mixed sampling needs one of each kind
    assert affordable(training.model_copy(update={"sampling": "random"}), 10_000, 10_000).batch_size == 1
    # One sample of each kind, and as many windows as are affordable, two at least after the burn-in.
    long = training.model_copy(update={"sequence_length": 21})
    assert (affordable(long, 1000, 12_000).batch_size, affordable(long, 1000, 12_000).sequence_length) == (2, 6)
    assert affordable(long, 10_000, 12_000).sequence_length == 2
    assert affordable(long.model_copy(update={"burn_in": 3}), 10_000, 12_000).sequence_length == 5


def test_latency(tmp_path):
    figures = measure_latency(inference_task(tmp_path))
    assert figures.windows >= 3
    assert 0 < figures.median_ms <= figures.quantile_95_ms


def test_streams(tmp_path):
    found = measure_pseudo_labels(inference_task(tmp_path / "a"))
    assert (found.views, found.batch_size, found.task) == (4, 2, "pseudo_labels")
    assert found.frames >= 2 * 4 * 6
    assert found.frames_per_s > 0
    found = measure_validation(inference_task(tmp_path / "b"))
    assert (found.views, found.task) == (1, "validation")


def test_data(tmp_path):
    figures = measure_preprocessing(replace(data_task(tmp_path), seconds=0.001))
    assert figures.events_per_s / figures.frames_per_s == pytest.approx(20 * HEIGHT * WIDTH * 0.05, rel=0.02)
    assert 100 < figures.bytes_per_frame < 20 * HEIGHT * WIDTH
    assert measure_opening(data_task(tmp_path)) > 0
    simulated = measure_simulation(data_task(tmp_path))
    assert simulated.recorded_s_per_s > 0
    assert simulated.events_per_s > 0


def test_repeated_calls():
    calls = []
    times = repeat(lambda: calls.append(0), 0.0, warm_up=2, minimum=4)
    assert (len(times), len(calls)) == (4, 6)


def test_cpu_time_leaves_waiting_out():
    assert measure_apart(_time_of_waiting, 0.3, clock="cpu")[0] < 0.3 <= measure_apart(_time_of_waiting, 0.3)[0]


def _time_of_waiting(seconds):
    return float(repeat(lambda: time.sleep(seconds), 0.0, warm_up=0, minimum=1)[0])


def test_processes_of_their_own():
    assert measure_apart(math.sqrt, 4.0, copies=2) == [2.0, 2.0]
    with pytest.raises(LeodError, match="status"):
        measure_apart(math.sqrt, -1.0)  # a mistake of the program ends the process


def test_they_end_with_the_process_that_wants_their_figures(tmp_path):
    lock = tmp_path / "lock"
    asking = multiprocessing.get_context("spawn").Process(target=measure_apart, args=(_hold_for_minutes, lock))
    asking.start()
    deadline = time.monotonic() + 60
    while not lock.with_suffix(".held").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    asking.kill()
    asking.join()
    with FileLock(lock, timeout=20):
        assert lock.with_suffix(".held").exists()


def _hold_for_minutes(lock: Path):
    with FileLock(lock):
        lock.with_suffix(".held").touch()
        time.sleep(300)


@pytest.mark.parametrize("simulation", [True, False])
def test_table_names_every_figure(simulation):
    found = made_up_benchmark(**({} if simulation else {"simulation": None}), notes=("something was left out",))
    table = found.render()
    for text in ("0.5 s, 16 samples/s", "100 frames/s (each view)", "8 ms (median), 9.5 ms (95 %)", "5e+06 events/s"):
        assert text in table
    assert ("simulating" in table) == simulation
    assert table.endswith("note: something was left out")
    assert BenchmarkResult.model_validate(found.model_dump(mode="json")) == found
