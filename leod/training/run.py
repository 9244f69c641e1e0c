"""One training from start to end: build, resume, fit, write the results."""

from __future__ import annotations

import hashlib
import json
import logging
import signal
import time
import warnings
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as SequenceOf
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments import ClusterEnvironment, SLURMEnvironment
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities.exceptions import SIGTERMException

from leod.config.schema import HardwareConfig
from leod.config.stages import TrainSettings
from leod.data.mixed import divide_batch
from leod.data.module import TrainingData, training_loader
from leod.data.sequence import Sequence
from leod.errors import ResourceError
from leod.files import file_digest, remove_leftovers, write_json
from leod.finished import FinishedResults
from leod.gpus import claim_gpus
from leod.inference.devices import memory_errors
from leod.labels.dtypes import LABEL_DTYPE
from leod.labels.splits import KeptLabels
from leod.models.checkpoint import load_detector, save_detector
from leod.models.detector import Detector, build_detector
from leod.models.loss import DetectionLoss
from leod.provenance import Stopwatch
from leod.randomness import initial_weights
from leod.training.checkpoints import WorkingCheckpoints, working_folder
from leod.training.control import CURVES_NAME, Progress, TrainingControl
from leod.training.distributed import (
    Processes,
    process_group,
    run_in_processes,
    slurm_nodes,
    slurm_tasks,
    use_global_batch_norm,
)
from leod.training.interruption import StopRequests, TrainingStopped, wait_to_be_killed
from leod.training.loggers import open_loggers
from leod.training.module import DetectionTraining
from leod.training.validation import choose_sequences, validate

_LOG = logging.getLogger(__name__)

MODEL_NAME, RECORD_NAME = "model.ckpt", "training.json"
"""The detector and the account of its training, in the results folder beside the curves."""
RESULTS = (MODEL_NAME, CURVES_NAME, RECORD_NAME)
FINISHED_NAME = ".finished"
"""Second names of the results, see `leod.finished`."""

_MEMORY_ADVICE = (
    "Three settings help: a smaller batch_size (with a larger accumulate the optimiser sees as many samples), a "
    "shorter sequence_length, hardware.gradient_checkpointing: true."
)


@dataclass(frozen=True)
class TrainingJob:
    """Everything that determines a training and where it runs.

    Attributes:
        stage: Name of the stage, for the records.
        settings: Its settings.
        seed: Seed of weights and data.
        hardware: How to use the machine; does not determine the result.
        output: Folder of the results. The caller holds its lock.
        sequences: Training sequences.
        kept: Labels that may be learned from; None = all.
        validation_sequences: The validation split, empty if there is none.
        initial_weights: Detector file to start from; None = fresh weights.
        inputs: Role → path of what the training is made from, for the records.
    """

    stage: str
    settings: TrainSettings
    seed: int
    hardware: HardwareConfig
    output: Path
    sequences: SequenceOf[Sequence]
    kept: KeptLabels | None
    validation_sequences: SequenceOf[Sequence]
    initial_weights: Path | None
    inputs: Mapping[str, Path | str]

    def fingerprint(self) -> str:
        """Digest of everything that determines the result: settings, seed, frames, labels, initial weights."""
        digest = hashlib.sha256()
        digest.update(json.dumps([self.stage, self.seed, self.settings.model_dump(mode="json")]).encode())
        for sequences in (self.sequences, self.validation_sequences):
            for sequence in sequences:
                digest.update(f"{sequence.name} {sequence.num_frames}".encode())
                digest.update(sequence.labelled_frames.tobytes())
                # Field by field: bytes between the fields of a record hold whatever was there.
                for name in LABEL_DTYPE.names or ():
                    digest.update(sequence.labels[name].tobytes())
                digest.update(sequence.frames_digest())
        if self.kept is not None:
            digest.update(json.dumps(self.kept.sequences, sort_keys=True).encode())
        if self.initial_weights is not None:
            digest.update(file_digest(self.initial_weights))
        return digest.hexdigest()


def run_training(job: TrainingJob) -> None:
    """Train a detector, or go on with a training that was interrupted, and write its results.

    ``job.output`` receives ``model.ckpt``, ``training.csv`` and ``training.json``; working checkpoints live in its
    folder ``checkpoints`` (or on scratch storage) and vanish at the end. A training that was interrupted any number of
    times at any step ends with the same weights as one that was not. The results have second names in the folder
    ``.finished``: where Snakemake has deleted them, the same training puts them back.

    Args:
        job: What to train.

    Raises:
        DataError: The data are damaged or hold nothing to learn from.
        CheckpointError: The initial weights belong to another detector.
        ConfigError: Settings do not fit each other or the data.
        ResourceError: Out of memory or disk space, or the job's time has run out; progress is saved.
        SystemExit: Stopped by a signal; progress is saved.
    """
    hardware = job.hardware
    started_by_slurm = slurm_tasks(hardware) is not None
    if hardware.accelerator != "cpu" and not started_by_slurm:
        claim_gpus(hardware.devices)
    try:
        if hardware.devices > 1 and not started_by_slurm:
            divide_batch(job.settings.training).of_rank(0, hardware.devices)
            # The processes watch the time themselves; this one only passes signals on.
            with StopRequests() as requests:
                run_in_processes(_train_in_this_process, job, hardware.devices, requests)
        else:
            _train_in_this_process(job)
    except TrainingStopped as stopped:
        _end_after_stop(stopped, hardware)


def _end_after_stop(stopped: TrainingStopped, hardware: HardwareConfig) -> None:
    if stopped.request is None:
        raise ResourceError(
            f"the job's time ({hardware.time_limit_s:g} s) has run out. Training is saved at step {stopped.step}; "
            "run again to go on from there."
        )
    _LOG.warning("stopped by signal %d; training is saved at step %d", stopped.request, stopped.step)
    if stopped.request == signal.SIGTERM and hardware.on_terminate == "wait":
        wait_to_be_killed()
    raise SystemExit(128 + stopped.request)


def _train_in_this_process(job: TrainingJob) -> None:
    hardware = job.hardware
    with (
        StopRequests(hardware.time_limit_s, hardware.save_before_time_limit_s) as requests,
        _quiet_lightning(),
        memory_errors("training", _MEMORY_ADVICE),
        process_group(hardware) as environment,
    ):
        try:
            _train(job, requests, environment)
        except SIGTERMException:
            # Lightning's own handler, in the moment before ours replaces it: nothing was trained since the last save.
            raise SystemExit(128 + signal.SIGTERM) from None


def _train(job: TrainingJob, requests: StopRequests, environment: ClusterEnvironment) -> None:
    settings, training, hardware = job.settings, job.settings.training, job.hardware
    stopwatch, processes = Stopwatch(), Processes()
    fingerprint = job.fingerprint()
    finished = FinishedResults(job.output / FINISHED_NAME, fingerprint)
    if processes.first:
        remove_leftovers(job.output)
    checkpoints = WorkingCheckpoints(working_folder(job.output, hardware.scratch), fingerprint)
    if processes.from_first(lambda: finished.restore(job.output)):
        if processes.first:
            _remove_working_files(checkpoints)
        return
    if hardware.threads:
        torch.set_num_threads(hardware.threads)
    data = TrainingData(job.sequences, job.kept, training, settings.sequence, job.seed, processes.rank, processes.size)
    detector = initial_detector(job)
    resumed = processes.from_first(checkpoints.load_newest)
    progress = Progress() if resumed is None else Progress.from_state(resumed["progress"])
    if resumed is not None:
        progress.resumed_at.append(progress.step)
        _LOG.info("going on from step %d of %d (%s)", progress.step, training.steps, checkpoints.folder)
    chosen = choose_sequences(job.validation_sequences, training.validation.sequence_fraction)
    validation = partial(
        validate,
        detector,
        chosen,
        training.validation,
        settings.evaluation_filter,
        hardware.num_workers,
        processes,
        lambda: requests.request != 0,
    )
    loss = DetectionLoss(
        training.loss,
        settings.sequence.classes,
        sum_over_processes=processes.sum if processes.size > 1 else None,
        processes=processes.size,
    )
    if processes.size > 1:
        use_global_batch_norm(detector)
    module = DetectionTraining(detector, loss, training, job.seed, processes)
    loader = training_loader(
        data,
        start_step=progress.step * training.accumulate,
        total_steps=training.steps * training.accumulate,
        num_workers=hardware.num_workers,
        pin_memory=hardware.accelerator != "cpu" and torch.cuda.is_available(),
    )
    started, first_step = time.monotonic(), progress.step
    names = hardware.loggers if processes.first else ()
    with open_loggers(names, job.output, settings.model_dump(mode="json"), progress.run_id, first_step + 1) as loggers:
        control = TrainingControl(
            training, progress, checkpoints, validation if chosen else None, requests, processes, loggers, resumed
        )
        trainer = _build_trainer(job, control, environment, remaining_steps=training.steps - first_step)
        trainer.fit(module, train_dataloaders=loader)
    _LOG.info("%d steps in %.1f s", progress.step - first_step, time.monotonic() - started)
    if processes.first:
        _write_results(job, detector, progress, fingerprint, stopwatch)
        finished.keep(job.output / name for name in RESULTS)
        _remove_working_files(checkpoints)


def initial_detector(job: TrainingJob) -> Detector:
    """The detector before the first step.

    Raises:
        CheckpointError: The initial weights belong to another detector.
    """
    settings = job.settings
    if job.initial_weights is not None:
        detector = load_detector(job.initial_weights, settings.model, settings.sequence)
    else:
        with initial_weights(job.seed):
            detector = build_detector(settings.model, settings.sequence)
    detector.set_gradient_checkpointing(job.hardware.gradient_checkpointing)
    if job.hardware.compile:
        detector.compile_backbone()
    return detector


def _build_trainer(
    job: TrainingJob, control: TrainingControl, environment: ClusterEnvironment, remaining_steps: int
) -> pl.Trainer:
    training = job.settings.training
    nodes = slurm_nodes() if isinstance(environment, SLURMEnvironment) else 1
    return pl.Trainer(
        # No checkpoints, sanity checks, or metric collection of Lightning's own: `TrainingControl` does what is due.
        barebones=True,
        accelerator=job.hardware.accelerator,
        num_nodes=nodes,
        devices=job.hardware.devices // nodes,
        # Running statistics are equal in all processes already, see `GlobalBatchNorm2d`.
        strategy=DDPStrategy(broadcast_buffers=False) if job.hardware.devices > 1 else "auto",
        plugins=[environment],
        precision=training.precision,
        max_epochs=-1,
        max_steps=remaining_steps,
        accumulate_grad_batches=training.accumulate,
        gradient_clip_val=training.clip_value,
        gradient_clip_algorithm="value",
        use_distributed_sampler=False,
        callbacks=[control],
        default_root_dir=str(job.output),
    )


def _write_results(
    job: TrainingJob, detector: Detector, progress: Progress, fingerprint: str, stopwatch: Stopwatch
) -> None:
    select = job.settings.training.validation.select
    selected_step = progress.step
    if select == "best" and progress.best_weights is not None and progress.best_step is not None:
        selected_step = progress.best_step
        detector.load_state_dict(progress.best_weights)
    provenance = stopwatch.provenance(job.stage, job.settings, dict(job.inputs), job.seed)
    save_detector(job.output / MODEL_NAME, detector.cpu(), {**provenance, "step": selected_step})
    progress.curves.write(job.output / CURVES_NAME)
    write_json(
        job.output / RECORD_NAME,
        {
            "provenance": {**provenance, "resumed_at": progress.resumed_at},
            "fingerprint": fingerprint,
            "select": select,
            "selected_step": selected_step,
            "steps": progress.step,
            "best": {"step": progress.best_step, "metrics": progress.best_metrics},
            "last": {"step": progress.validated_step, "metrics": progress.last_metrics},
            "parameters": sum(parameter.numel() for parameter in detector.parameters()),
        },
    )


def _remove_working_files(checkpoints: WorkingCheckpoints) -> None:
    (checkpoints.folder / CURVES_NAME).unlink(missing_ok=True)
    checkpoints.remove()


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advertisements and warnings about what we do on purpose out of the log."""
    names = ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    # Their children have levels of their own making, which the parent's does not override.
    rank_zero = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    try:
        for logger in (*loggers, rank_zero):
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(pytorch_)?lightning(_fabric)?(\.|$)")
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
