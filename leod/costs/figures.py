"""What `leod benchmark` measures: the figures of one machine, written and read as JSON, shown as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from leod.config.schema import NonNegativeInt, PositiveFloat, PositiveInt, Precision, Settings
from leod.errors import DataError
from leod.files import read_json
from leod.tables import aligned

MB = 1_000_000
Clock = Literal["wall", "cpu"]


class Machine(Settings):
    """The machine."""

    processor: str
    cores: PositiveInt
    memory_gb: PositiveFloat
    gpu: str | None
    gpu_memory_gb: float | None = None
    system: str


class Way(Settings):
    """How a detector was run."""

    device: Literal["cpu", "cuda"]
    precision: Precision
    compile: bool
    as_in_study: bool = Field(description="whether the study's settings say so; the others are for comparison")

    @property
    def name(self) -> str:
        """In few words."""
        words = [self.device, self.precision, *(["compiled"] if self.compile else [])]
        return " ".join(words)


class TrainingFigures(Settings):
    """A training step with all that belongs to it: loader, forward, backward, clipping, optimiser, averages."""

    stage: Literal["pretrain", "self_train"]
    way: Way
    batch_size: PositiveInt = Field(description="samples of the step that was measured, on one device")
    sequence_length: PositiveInt
    burn_in: NonNegativeInt
    accumulate: PositiveInt
    steps: PositiveInt = Field(description="steps that were measured")
    step_s: PositiveFloat = Field(description="median time of a step")
    first_step_s: PositiveFloat = Field(description="time of the first one, with compiling and allocation")
    peak_memory_mb: PositiveFloat
    gpu_memory_mb: float | None = None

    @property
    def samples_per_s(self) -> float:
        """Samples of all accumulated batches in a second."""
        return self.accumulate * self.batch_size / self.step_s


class StreamFigures(Settings):
    """Whole sequences through the detector in batches."""

    task: Literal["pseudo_labels", "validation"]
    way: Way
    views: PositiveInt
    batch_size: PositiveInt = Field(description="sequences side by side")
    frames: PositiveInt = Field(description="frames that were measured, those of each view counted")
    frames_per_s: PositiveFloat = Field(description="frames of all views together")
    peak_memory_mb: PositiveFloat
    gpu_memory_mb: float | None = None


class LatencyFigures(Settings):
    """One window at a time, from its events to its boxes."""

    way: Way
    windows: PositiveInt
    median_ms: PositiveFloat
    quantile_95_ms: PositiveFloat


class LoadingFigures(Settings):
    """Frames read and augmented as in training."""

    workers: NonNegativeInt
    frames_per_s: PositiveFloat


class PreprocessingFigures(Settings):
    """Recordings to sequences, one process with one thread."""

    events_per_s: PositiveFloat
    frames_per_s: PositiveFloat
    bytes_per_frame: PositiveFloat
    peak_memory_mb: PositiveFloat


class SimulationFigures(Settings):
    """The simulator, one process."""

    recorded_s_per_s: PositiveFloat = Field(description="seconds of recording in a second")
    events_per_s: PositiveFloat = Field(description="events in a second of recording")
    peak_memory_mb: PositiveFloat


class JobFigures(Settings):
    """What a job costs beside its work."""

    start_detector_s: PositiveFloat = Field(description="a command that runs a detector: interpreter and imports")
    start_other_s: PositiveFloat = Field(description="any other command")
    open_sequence_s: PositiveFloat = Field(description="opening a sequence")
    checkpoint_s: PositiveFloat = Field(description="writing a working checkpoint")
    checkpoint_mb: PositiveFloat = Field(description="its size")
    detector_mb: PositiveFloat = Field(description="size of a detector's file")
    parameters: PositiveInt


class Conditions(Settings):
    """How was measured."""

    model: str
    sensor: tuple[int, int]
    frame: tuple[int, int]
    threads: PositiveInt
    side_by_side: PositiveInt = Field(description="processes that did the same at the same time")
    seconds: PositiveFloat = Field(description="time for each measurement")
    clock: Clock = Field(default="wall", description="wall time, or CPU time of one thread")
    events_per_pixel_s: PositiveFloat
    boxes_per_frame: PositiveInt


class BenchmarkResult(Settings):
    """All figures of one machine for one study, or one model and sensor size."""

    format: Literal[1] = 1
    machine: Machine
    conditions: Conditions
    training: tuple[TrainingFigures, ...]
    streams: tuple[StreamFigures, ...]
    latency: tuple[LatencyFigures, ...]
    loading: LoadingFigures
    preprocessing: PreprocessingFigures
    simulation: SimulationFigures | None
    job: JobFigures
    notes: tuple[str, ...] = ()
    """What was not measured, and why."""
    provenance: dict[str, Any] = Field(default={})

    def training_as_in_study(self, stage: str) -> TrainingFigures:
        """The step of a stage as the study runs it."""
        return next(entry for entry in self.training if entry.stage == stage and entry.way.as_in_study)

    def stream_as_in_study(self, task: str) -> StreamFigures:
        """Inference in batches as the study runs it."""
        return next(entry for entry in self.streams if entry.task == task and entry.way.as_in_study)

    def render(self) -> str:
        """The figures as a table for people."""
        machine, conditions = self.machine, self.conditions
        height, width = conditions.frame
        gpu = "no GPU" if machine.gpu is None else f"{machine.gpu}, {machine.gpu_memory_gb:.0f} GB"
        lines = [
            f"{machine.processor}, {machine.cores} cores, {machine.memory_gb:.0f} GB, {gpu}, {machine.system}",
            f"{conditions.model} ({self.job.parameters:,} parameters), frames of {height} x {width} pixels",
            f"{conditions.threads} thread(s) a process, {conditions.side_by_side} process(es) at the same time, "
            f"{conditions.seconds:g} s a measurement ({conditions.clock} time), warm-up excluded",
            f"made-up data: {conditions.events_per_pixel_s:g} events per pixel and second, "
            f"{conditions.boxes_per_frame} boxes a labelled frame",
            "",
        ]
        rows = [("what", "how", "figure", "memory")]
        rows += [_training_row(entry) for entry in self.training]
        rows += [_stream_row(entry) for entry in self.streams]
        rows += [
            (
                "one window, events to boxes",
                entry.way.name,
                f"{entry.median_ms:.3g} ms (median), {entry.quantile_95_ms:.3g} ms (95 %)",
                "",
            )
            for entry in self.latency
        ]
        loading, preprocessing, job = self.loading, self.preprocessing, self.job
        workers = "in the training process" if loading.workers == 0 else f"{loading.workers} loader process(es)"
        rows.append(("loading for training", workers, f"{loading.frames_per_s:.3g} frames/s", ""))
        rows.append(
            (
                "preprocessing",
                "one process",
                f"{preprocessing.events_per_s:.3g} events/s, {preprocessing.frames_per_s:.3g} frames/s, "
                f"{preprocessing.bytes_per_frame / 1000:.3g} kB a frame",
                _memory(preprocessing.peak_memory_mb),
            )
        )
        if (simulation := self.simulation) is not None:
            rows.append(
                (
                    "simulating",
                    "one process",
                    f"{simulation.recorded_s_per_s:.3g} × real time, {simulation.events_per_s:.3g} events/s recorded",
                    _memory(simulation.peak_memory_mb),
                )
            )
        rows += [
            ("start of a job", "with a detector", f"{job.start_detector_s:.3g} s", ""),
            ("", "any other", f"{job.start_other_s:.3g} s", ""),
            ("opening a sequence", "", f"{1000 * job.open_sequence_s:.3g} ms", ""),
            ("working checkpoint", "", f"{job.checkpoint_s:.2g} s, {job.checkpoint_mb:.3g} MB", ""),
            ("detector file", "", f"{job.detector_mb:.3g} MB", ""),
        ]
        lines += aligned(rows)
        if self.notes:
            lines += ["", *(f"note: {note}" for note in self.notes)]
        return "\n".join(lines)


def _memory(megabytes: float, gpu_megabytes: float | None = None) -> str:
    text = f"{megabytes / 1000:.2g} GB"
    return text if gpu_megabytes is None else f"{text}, GPU {gpu_megabytes / 1000:.2g} GB"


def _mark(way: Way) -> str:
    return way.name + (" (the study)" if way.as_in_study else "")


def _training_row(entry: TrainingFigures) -> tuple[str, str, str, str]:
    what = "pretraining step" if entry.stage == "pretrain" else "self-training step"
    burn_in = f", {entry.burn_in} burn-in" if entry.burn_in else ""
    return (
        f"{what}, {entry.batch_size} x {entry.sequence_length} frames{burn_in}",
        _mark(entry.way),
        f"{entry.step_s:.3g} s, {entry.samples_per_s:.3g} samples/s",
        _memory(entry.peak_memory_mb, entry.gpu_memory_mb),
    )


def _stream_row(entry: StreamFigures) -> tuple[str, str, str, str]:
    what = f"pseudo-labels, {entry.views} view(s)" if entry.task == "pseudo_labels" else "validation"
    return (
        f"{what}, {entry.batch_size} sequences",
        _mark(entry.way),
        f"{entry.frames_per_s:.3g} frames/s" + (" (each view)" if entry.views > 1 else ""),
        _memory(entry.peak_memory_mb, entry.gpu_memory_mb),
    )


def read_benchmark(path: Path) -> BenchmarkResult:
    """Read what `leod benchmark` wrote.

    Raises:
        DataError: The file is missing or no such result.
    """
    content = read_json(path)
    try:
        return BenchmarkResult.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise DataError(
            path,
            f"is no result of this version's `leod benchmark` ({place}: {problem['msg']}). Measure again: leod "
            f"benchmark --study STUDY --output {path}",
        ) from None
