"""How long a training step takes, run as trainings run it: the same loader, module, trainer, and work between steps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch

from leod.boxes.kept_labels import KeptLabels
from leod.config.schema import HardwareConfig, TrainingConfig
from leod.config.settings import TrainSettings
from leod.costs.apart import now, own_folder, peak_memory_mb, start_together
from leod.costs.figures import MB, LoadingFigures, TrainingFigures, Way
from leod.gpus import claim_gpus
from leod.inference.devices import memory_errors, prepare_cpu
from leod.models.checkpoint import save_detector
from leod.models.loss import DetectionLoss
from leod.sampling.training_data import TrainingData, training_loader
from leod.sequences.sequence import Sequence, open_split
from leod.training.averaging import AveragedWeights
from leod.training.checkpoints import WorkingCheckpoints
from leod.training.control import TrainingControl, TrainingProgress
from leod.training.interruption import StopRequests
from leod.training.job import TrainingJob, initial_detector
from leod.training.module import DetectionTraining
from leod.training.processes import Processes, process_group
from leod.training.trainer import build_trainer, quiet_lightning

_WARM_UP_STEPS = 3
_LEAST_STEPS = 3
_MEMORY_ADVICE = "Measure with a smaller batch_size or sequence_length (--set pretrain.batch_size=…)."
_LOADED_BATCHES_AT_LEAST = 4


@dataclass(frozen=True)
class TrainingTask:
    """What is measured.

    Attributes:
        stage: Which of the study's trainings.
        settings: Its settings; what is measured may have fewer samples than the study's step.
        hardware: How the machine is used; precision is that of the settings.
        way: The same in words, for the result.
        dataset: Folder with a split train.
        kept_share: Share of the labelled frames that may be used; None = all.
        seconds: For how long.
        folder: For files that are written.
    """

    stage: Literal["pretrain", "self_train"]
    settings: TrainSettings
    hardware: HardwareConfig
    way: Way
    dataset: Path
    kept_share: float | None
    seconds: float
    folder: Path


@dataclass(frozen=True)
class TrainingMeasurement:
    """What `measure_training` gives.

    Attributes:
        figures: The step.
        checkpoint_s: Seconds for writing a working checkpoint.
        checkpoint_mb: Size of it.
        detector_mb: Size of a detector's file.
        parameters: Of the detector.
    """

    figures: TrainingFigures
    checkpoint_s: float
    checkpoint_mb: float
    detector_mb: float
    parameters: int


class _TimedSteps(TrainingControl):
    """Stops the clock after each step, and ends when the time is over."""

    seconds: float
    on_gpu: bool

    def begin(self, seconds: float, on_gpu: bool) -> None:
        self.seconds, self.on_gpu = seconds, on_gpu
        self.ends: list[float] = []
        self.checkpoint_s = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.ends.append(now())

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = self.progress.step
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if self.progress.step == step:
            return
        if self.on_gpu:
            torch.cuda.synchronize()
        if self.progress.step == _WARM_UP_STEPS:
            start_together()
            # The wait for the others is no part of a step.
            self.ends.append(now())
        self.ends.append(now())
        measured = self.progress.step - _WARM_UP_STEPS
        if measured >= _LEAST_STEPS and self.ends[-1] - self.ends[_WARM_UP_STEPS + 1] > self.seconds:
            started = now()
            self._save(trainer, pl_module)
            self.checkpoint_s = now() - started
            trainer.should_stop = True


def measure_training(task: TrainingTask) -> TrainingMeasurement:
    """Train for a while and look at the clock.

    Args:
        task: What is measured. Its study needs at least six steps.

    Raises:
        ConfigError: Settings do not fit the made-up data.
        ResourceError: Out of memory.
    """
    settings, training, hardware = task.settings, task.settings.training, task.hardware
    prepare_cpu(hardware.threads)
    on_gpu = task.way.device == "cuda"
    if on_gpu:
        claim_gpus(1)
    sequences = open_split(task.dataset, "train", settings.sequence)
    kept = None if task.kept_share is None else _kept(sequences, task.kept_share)
    folder = own_folder(task.folder)
    job = TrainingJob(task.stage, settings, 0, hardware, folder, sequences, kept, (), None, {})
    processes = Processes()
    with quiet_lightning(), memory_errors("training", _MEMORY_ADVICE), process_group(hardware) as environment:
        data = TrainingData(sequences, kept, training, settings.sequence, seed=0)
        detector = initial_detector(job)
        module = DetectionTraining(
            detector, DetectionLoss(training.loss, settings.sequence.classes), training, 0, processes
        )
        control = _TimedSteps(
            training,
            TrainingProgress(),
            WorkingCheckpoints(folder / "checkpoints", "benchmark"),
            None,
            None if training.ema_decay is None else AveragedWeights(detector, training.ema_decay),
            StopRequests(),
            processes,
            [],
            None,
        )
        control.begin(task.seconds, on_gpu)
        trainer = build_trainer(job, control, environment, remaining_steps=training.steps)
        loader = training_loader(data, 0, training.steps * training.accumulate, hardware.num_workers, on_gpu)
        trainer.fit(module, train_dataloaders=loader)
    ends = control.ends
    measured = sorted(
        later - earlier for earlier, later in zip(ends[_WARM_UP_STEPS + 1 :], ends[_WARM_UP_STEPS + 2 :], strict=False)
    )
    save_detector(folder / "model.ckpt", detector.cpu())
    checkpoints = list((folder / "checkpoints").glob("*.ckpt"))
    return TrainingMeasurement(
        figures=TrainingFigures(
            stage=task.stage,
            way=task.way,
            batch_size=training.batch_size,
            sequence_length=training.sequence_length,
            burn_in=training.burn_in,
            accumulate=training.accumulate,
            steps=len(measured),
            step_s=measured[len(measured) // 2],
            first_step_s=ends[1] - ends[0],
            peak_memory_mb=peak_memory_mb(),
            gpu_memory_mb=torch.cuda.max_memory_reserved() / MB if on_gpu else None,
        ),
        checkpoint_s=control.checkpoint_s,
        checkpoint_mb=max(path.stat().st_size for path in checkpoints) / MB,
        detector_mb=(folder / "model.ckpt").stat().st_size / MB,
        parameters=sum(parameter.numel() for parameter in detector.parameters()),
    )


def measure_loading(task: TrainingTask) -> LoadingFigures:
    """Read batches as in training, without training.

    Args:
        task: What is measured; precision and device do not matter.
    """
    settings, training, hardware = task.settings, task.settings.training, task.hardware
    prepare_cpu(hardware.threads)
    sequences = open_split(task.dataset, "train", settings.sequence)
    kept = None if task.kept_share is None else _kept(sequences, task.kept_share)
    data = TrainingData(sequences, kept, training, settings.sequence, seed=0)
    batches = iter(training_loader(data, 0, 1_000_000, hardware.num_workers))
    # Workers read ahead as far as they may before the time begins to count.
    for _ in range(2 + 2 * hardware.num_workers):
        next(batches)
    start_together()
    started, count = now(), 0
    while count < _LOADED_BATCHES_AT_LEAST or now() - started < task.seconds:
        next(batches)
        count += 1
    frames = count * training.batch_size * training.sequence_length
    return LoadingFigures(workers=hardware.num_workers, frames_per_s=frames / (now() - started))


def affordable(training: TrainingConfig, frame_pixels: int, most_pixels: int) -> TrainingConfig:
    """A training whose step is measured in reasonable time and memory: fewer samples, one batch a step, fewer windows.

    Args:
        training: The study's.
        frame_pixels: Pixels of a padded frame.
        most_pixels: Pixels of all frames of a batch; a single sample (one of each kind where sampling is mixed) of two
            windows after the burn-in may have more.
    """
    if training.batch_size * training.sequence_length * frame_pixels <= most_pixels:
        return training
    least = 2 if training.sampling == "mixed" else 1
    batch_size = training.batch_size
    while batch_size > least and batch_size * training.sequence_length * frame_pixels > most_pixels:
        batch_size = max(least, batch_size // 2)
    length = max(training.burn_in + 2, most_pixels // (batch_size * frame_pixels))
    length = min(length, training.sequence_length)
    return training.model_copy(update={"batch_size": batch_size, "sequence_length": length, "accumulate": 1})


def _kept(sequences: list[Sequence], share: float) -> KeptLabels:
    """Every n-th labelled frame, at least the last one of each sequence."""
    distance = max(1, round(1 / share))
    kept = {}
    for sequence in sequences:
        count = len(sequence.labelled_frames)
        kept[sequence.name] = tuple(sorted({*range(distance - 1, count, distance), count - 1}))
    return KeptLabels(kept, "weakly_supervised", share)
