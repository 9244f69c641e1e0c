"""All measurements of a benchmark, one after the other."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from leod.config.schema import HardwareConfig, Precision, TrainingConfig
from leod.config.settings import BenchmarkSettings, TrainSettings
from leod.costs.apart import measure_apart
from leod.costs.data_speed import (
    DataTask,
    measure_opening,
    measure_preprocessing,
    measure_simulation,
    measure_start,
)
from leod.costs.figures import (
    BenchmarkResult,
    Clock,
    Conditions,
    JobFigures,
    LatencyFigures,
    StreamFigures,
    TrainingFigures,
    Way,
)
from leod.costs.inference_speed import InferenceTask, measure_latency, measure_pseudo_labels, measure_validation
from leod.costs.machine import can_compile, describe_machine, half_precision
from leod.costs.made_up import MadeUpSequences
from leod.costs.training_speed import (
    TrainingMeasurement,
    TrainingTask,
    affordable,
    measure_loading,
    measure_training,
)
from leod.errors import ConfigError

logger = logging.getLogger(__name__)

T = TypeVar("T")

EVENTS_PER_PIXEL_S = 9.0
"""Events of a pixel in a second of driving. Gen1: 750 GB of 8 bytes in 39.3 h on 304 x 240 pixels make 9 (the sizes are
those of prophesee-ai/prophesee-automotive-dataset-toolbox)."""
_MOST_PIXELS_ON_CPU = 1_000_000
"""Pixels of the frames of a training step that is measured on a CPU."""
_TRAINING_SEQUENCES = 8
_SHORTEST_SEQUENCE = 60
_STEPS = 1_000_000


@dataclass(frozen=True)
class BenchmarkOptions:
    """How is measured.

    Attributes:
        seconds: For each measurement.
        side_by_side: Processes that do the same at the same time.
        events_per_pixel_s: Of the made-up data; None: as simulated, else `EVENTS_PER_PIXEL_S`.
        boxes_per_frame: Of the made-up data.
        other_ways: Whether to measure also compiled and in half precision, where the machine can.
        clock: Wall time, or CPU time, which other work on the machine disturbs less.
    """

    seconds: float
    side_by_side: int = 1
    events_per_pixel_s: float | None = None
    boxes_per_frame: int = 2
    other_ways: bool = True
    clock: Clock = "wall"


def run_benchmark(
    settings: BenchmarkSettings,
    hardware: HardwareConfig,
    options: BenchmarkOptions,
    provenance: Callable[[], dict[str, Any]],
) -> BenchmarkResult:
    """Measure everything.

    Args:
        settings: What the study runs.
        hardware: How it uses the machine. Where it asks for a GPU and there is none, the CPU is measured.
        options: How is measured.
        provenance: Called at the end.

    Raises:
        ConfigError: The settings do not fit each other.
        ResourceError: Out of memory.
    """
    notes: list[str] = []
    on_gpu = hardware.accelerator != "cpu" and torch.cuda.is_available()
    device = "cuda" if on_gpu else "cpu"
    if hardware.accelerator == "gpu" and not on_gpu:
        notes.append("the study asks for a GPU; there is none here, and the CPU was measured")
    threads = hardware.threads or torch.get_num_threads()
    if options.clock == "cpu" and (on_gpu or threads > 1 or hardware.num_workers):
        raise ConfigError(
            "CPU time is the time that work takes only where one thread does it all: on a CPU, with hardware.threads 1 "
            "and hardware.num_workers 0. Measure wall time, or give --threads 1 and --set hardware.num_workers=0"
        )
    cores = os.cpu_count() or 1
    if hardware.num_workers > cores:
        notes.append(f"{cores} loader processes instead of {hardware.num_workers}: there are no more cores here")
    # One device is measured, with its share of the batch.
    machine = hardware.model_copy(
        update={
            "accelerator": "gpu" if on_gpu else "cpu",
            "threads": threads,
            "devices": 1,
            "num_workers": min(hardware.num_workers, cores),
            "loggers": (),
            "scratch": None,
        }
    )
    if hardware.devices > 1:
        notes.append(f"one of {hardware.devices} devices was measured, with its share of the batch")
    with tempfile.TemporaryDirectory(prefix="leod-benchmark-") as folder:
        return _Benchmark(settings, machine, hardware.devices, options, device, Path(folder), notes).run(provenance)


class _Benchmark:
    """One run; see `run_benchmark`."""

    def __init__(
        self,
        settings: BenchmarkSettings,
        hardware: HardwareConfig,
        devices: int,
        options: BenchmarkOptions,
        device: str,
        folder: Path,
        notes: list[str],
    ) -> None:
        self._settings, self._hardware, self._devices, self._options = settings, hardware, devices, options
        self._device, self._folder, self._notes = device, folder, notes
        self._count = 0

    def run(self, provenance: Callable[[], dict[str, Any]]) -> BenchmarkResult:
        """Measure one part after the other."""
        settings, options = self._settings, self._options
        data = DataTask(
            settings,
            options.events_per_pixel_s or EVENTS_PER_PIXEL_S,
            options.boxes_per_frame,
            options.seconds,
            self._folder,
        )
        simulation = None
        if settings.simulation is not None:
            simulation = self._apart("simulating", measure_simulation, data)[0]
        density = options.events_per_pixel_s or EVENTS_PER_PIXEL_S
        if simulation is not None and options.events_per_pixel_s is None:
            sensor = settings.sequence.sensor
            density = round(simulation.events_per_s / (sensor.height * sensor.width), 3)
        data = replace(data, events_per_pixel_s=density)
        preprocessing = self._apart("preprocessing", measure_preprocessing, replace(data, folder=self._new_folder()))[0]
        open_s = self._apart("opening sequences", measure_opening, replace(data, folder=self._new_folder()))[0]
        logger.info("start of a job")
        start_detector_s, start_other_s = (
            measure_start(command, options.clock) for command in ("pretrain", "track-filter")
        )
        latency, streams = self._inference(density)
        training, first, loading = self._training(density)
        return BenchmarkResult(
            machine=describe_machine(),
            conditions=Conditions(
                model=settings.model.name,
                sensor=(settings.sequence.sensor.height, settings.sequence.sensor.width),
                frame=settings.sequence.frame_size,
                threads=self._hardware.threads,
                side_by_side=options.side_by_side,
                seconds=options.seconds,
                clock=options.clock,
                events_per_pixel_s=density,
                boxes_per_frame=options.boxes_per_frame,
            ),
            training=training,
            streams=streams,
            latency=latency,
            loading=loading,
            preprocessing=preprocessing,
            simulation=simulation,
            job=JobFigures(
                start_detector_s=start_detector_s,
                start_other_s=start_other_s,
                open_sequence_s=open_s,
                checkpoint_s=first.checkpoint_s,
                checkpoint_mb=first.checkpoint_mb,
                detector_mb=first.detector_mb,
                parameters=first.parameters,
            ),
            notes=tuple(self._notes),
            provenance=provenance(),
        )

    # ------------------------------------------------------------------------------------------------------- parts

    def _inference(self, density: float) -> tuple[tuple[LatencyFigures, ...], tuple[StreamFigures, ...]]:
        settings = self._settings
        measured_in = {
            measure_latency: settings.latency.precision,
            measure_pseudo_labels: settings.pseudo_labels.detection.precision,
            measure_validation: settings.pretrain.training.validation.detection.precision,
        }
        found: dict[Any, list[Any]] = {measurement: [] for measurement in measured_in}
        for measurement, precision in measured_in.items():
            # float16 is for GPUs: inference on a CPU then computes in float32.
            precision = "32-true" if self._device == "cpu" and precision == "16-mixed" else precision
            for way in self._ways(precision, others=measurement is not measure_validation):
                task = InferenceTask(
                    settings,
                    self._hardware.model_copy(update={"compile": way.compile}),
                    way,
                    density,
                    self._options.boxes_per_frame,
                    self._options.seconds,
                    self._new_folder(),
                )
                name = measurement.__name__.removeprefix("measure_").replace("_", " ")
                found[measurement].append(_middle(self._apart(f"{name}, {way.name}", measurement, task), _stream_time))
        return (
            tuple(found[measure_latency]),
            (*found[measure_pseudo_labels], *found[measure_validation]),
        )

    def _training(self, density: float) -> tuple[tuple[TrainingFigures, ...], TrainingMeasurement, Any]:
        labelled, pseudo_labelled = self._write_training_sets(density)
        found: list[TrainingMeasurement] = []
        loading = None
        for stage, settings, dataset, kept_share in (
            ("pretrain", self._settings.pretrain, labelled, self._settings.kept_share),
            ("self_train", self._settings.self_train, pseudo_labelled, None),
        ):
            training = self._measured(settings.training, stage)
            # Lightning takes bfloat16 where a CPU is asked for float16.
            precision = training.precision
            precision = "bf16-mixed" if self._device == "cpu" and precision == "16-mixed" else precision
            for way in self._ways(precision, others=stage == "pretrain"):
                task = TrainingTask(
                    stage,
                    _with_training(settings, training.model_copy(update={"precision": way.precision})),
                    self._hardware.model_copy(update={"compile": way.compile}),
                    way,
                    dataset,
                    kept_share,
                    self._options.seconds,
                    self._new_folder(),
                )
                if loading is None:
                    figures = self._apart("loading for training", measure_loading, task)
                    loading = _middle(figures, lambda entry: -entry.frames_per_s)
                measurements = self._apart(f"{stage} step, {way.name}", measure_training, task)
                found.append(_middle(measurements, lambda entry: entry.figures.step_s))
        return tuple(entry.figures for entry in found), found[0], loading

    def _measured(self, training: TrainingConfig, stage: str) -> TrainingConfig:
        """What is measured of a study's training: the share of one device, with fewer samples where a CPU is slow."""
        if training.batch_size % self._devices:
            raise ConfigError(
                f"{stage}.batch_size = {training.batch_size} cannot be divided among hardware.devices = {self._devices}"
            )
        share = training.model_copy(update={"batch_size": training.batch_size // self._devices, "steps": _STEPS})
        if self._device == "cuda":
            return share
        height, width = self._settings.sequence.padded_size
        smaller = affordable(share, height * width, _MOST_PIXELS_ON_CPU)
        if smaller is not share:
            self._notes.append(
                f"{stage}: {smaller.batch_size} × {smaller.sequence_length} instead of {share.batch_size} × "
                f"{share.sequence_length} frames a step were measured; estimates take the time as proportional to them"
            )
        return smaller

    def _write_training_sets(self, density: float) -> tuple[Path, Path]:
        settings = self._settings
        maker = MadeUpSequences(settings.sequence, self._options.boxes_per_frame, density)
        trainings = settings.pretrain.training, settings.self_train.training
        longest = max(training.sequence_length for training in trainings)
        frames = max(3 * longest, _SHORTEST_SEQUENCE)
        folders = self._folder / "labelled", self._folder / "pseudo-labelled"
        for folder, every in zip(folders, (settings.label_every, 1), strict=True):
            for number in range(_TRAINING_SEQUENCES):
                maker.write(folder / "train" / f"sequence-{number}", frames, every, pseudo=every == 1)
        return folders

    # ------------------------------------------------------------------------------------------------------ helpers

    def _ways(self, precision: Precision, others: bool) -> Iterator[Way]:
        """The study's way first, then the others that the machine can."""
        own = (precision, self._hardware.compile)
        yield Way(device=self._device, precision=own[0], compile=own[1], as_in_study=True)
        if not (others and self._options.other_ways):
            return
        half = half_precision(self._device)
        compiled = [False, True] if can_compile(self._device) else [False]
        for other in [(each, compile) for compile in compiled for each in ("32-true", half) if each is not None]:
            if other != own:
                yield Way(device=self._device, precision=other[0], compile=other[1], as_in_study=False)

    def _apart(self, name: str, measurement: Callable[[Any], T], task: Any) -> list[T]:
        logger.info("measuring: %s", name)
        return measure_apart(measurement, task, self._options.side_by_side, self._options.clock)

    def _new_folder(self) -> Path:
        self._count += 1
        folder = self._folder / f"part-{self._count}"
        folder.mkdir()
        return folder


def _stream_time(entry: LatencyFigures | StreamFigures) -> float:
    return entry.median_ms if isinstance(entry, LatencyFigures) else -entry.frames_per_s


def _middle(found: list[T], key: Callable[[T], float]) -> T:
    """Of what processes side by side measured, what lies in the middle; the slower one of two."""
    ordered = sorted(found, key=key)
    return ordered[len(ordered) // 2]


def _with_training(settings: TrainSettings, training: TrainingConfig) -> TrainSettings:
    return settings.model_copy(update={"training": training})
