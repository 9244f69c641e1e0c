"""One training from start to end: build, resume, fit, write the results."""

from __future__ import annotations

import logging
import signal
import time
from functools import partial

import torch
from lightning_fabric.plugins.environments import ClusterEnvironment
from pytorch_lightning.utilities.exceptions import SIGTERMException

from leod.config.schema import HardwareConfig
from leod.errors import ResourceError
from leod.files import remove_leftovers
from leod.gpus import claim_gpus
from leod.inference.devices import deterministic_algorithms, memory_errors, prepare_cpu
from leod.models.loss import DetectionLoss
from leod.provenance import Stopwatch
from leod.reuse import FinishedResults
from leod.sampling.slots import divide_batch
from leod.sampling.training_data import TrainingData, training_loader
from leod.training.averaging import AveragedWeights
from leod.training.batch_norm import use_global_batch_norm
from leod.training.checkpoints import WorkingCheckpoints, working_folder
from leod.training.control import CURVES_NAME, TrainingControl, TrainingProgress
from leod.training.interruption import StopRequests, TrainingStopped, wait_to_be_killed
from leod.training.job import TrainingJob, initial_detector
from leod.training.launch import run_in_processes
from leod.training.loggers import open_loggers
from leod.training.module import DetectionTraining
from leod.training.processes import Processes, process_group
from leod.training.results import FINISHED_NAME, RESULTS, write_results
from leod.training.slurm import slurm_tasks
from leod.training.trainer import build_trainer, quiet_lightning
from leod.training.validation import choose_sequences, validate

logger = logging.getLogger(__name__)

_MEMORY_ADVICE = (
    "Three settings help: a smaller batch_size (with a larger accumulate the optimiser sees as many samples), a "
    "shorter sequence_length, hardware.gradient_checkpointing: true."
)


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
    in_processes = hardware.devices > 1 and not started_by_slurm
    # Processes of their own watch the time themselves; this one only passes signals on.
    requests = StopRequests() if in_processes else _stop_requests(hardware)
    # To the very end: SIGTERM may come once more while this process waits to be killed.
    with requests:
        try:
            if in_processes:
                divide_batch(job.settings.training).of_rank(0, hardware.devices)
                run_in_processes(_train_in_process_of_its_own, job, hardware.devices, requests)
            else:
                _train_in_this_process(job, requests)
        except TrainingStopped as stopped:
            _end_after_stop(stopped, hardware)


def _stop_requests(hardware: HardwareConfig) -> StopRequests:
    return StopRequests(hardware.time_limit_s, hardware.save_before_time_limit_s)


def _end_after_stop(stopped: TrainingStopped, hardware: HardwareConfig) -> None:
    if stopped.request is None:
        raise ResourceError(
            f"the job's time ({hardware.time_limit_s:g} s) has run out. Training is saved at step {stopped.step}; "
            "run again to go on from there."
        )
    logger.warning("stopped by signal %d; training is saved at step %d", stopped.request, stopped.step)
    if stopped.request == signal.SIGTERM and hardware.on_terminate == "wait":
        wait_to_be_killed()
    raise SystemExit(128 + stopped.request)


def _train_in_process_of_its_own(job: TrainingJob) -> None:
    with _stop_requests(job.hardware) as requests:
        _train_in_this_process(job, requests)


def _train_in_this_process(job: TrainingJob, requests: StopRequests) -> None:
    with (
        quiet_lightning(),
        memory_errors("training", _MEMORY_ADVICE),
        deterministic_algorithms(job.hardware.deterministic),
        process_group(job.hardware) as environment,
    ):
        _train(job, requests, environment)


def _train(job: TrainingJob, requests: StopRequests, environment: ClusterEnvironment) -> None:
    settings, training, hardware = job.settings, job.settings.training, job.hardware
    stopwatch, processes = Stopwatch(), Processes()
    made_from = job.key()
    finished = FinishedResults(job.output / FINISHED_NAME, made_from)
    if processes.first:
        remove_leftovers(job.output)
    checkpoints = WorkingCheckpoints(working_folder(job.output, hardware.scratch), made_from)
    if processes.from_first(lambda: finished.restore(job.output)):
        if processes.first:
            _remove_working_files(checkpoints)
        return
    prepare_cpu(hardware.threads)
    data = TrainingData(job.sequences, job.kept, training, settings.sequence, job.seed, processes.rank, processes.size)
    detector = initial_detector(job)
    resumed = processes.from_first(checkpoints.load_newest)
    progress = TrainingProgress() if resumed is None else TrainingProgress.from_state(resumed["progress"])
    if resumed is not None:
        progress.resumed_at.append(progress.step)
        logger.info("going on from step %d of %d (%s)", progress.step, training.steps, checkpoints.folder)
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
    averaged = None if training.ema_decay is None else AveragedWeights(detector, training.ema_decay)
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
            training,
            progress,
            checkpoints,
            validation if chosen else None,
            averaged,
            requests,
            processes,
            loggers,
            resumed,
        )
        trainer = build_trainer(job, control, environment, remaining_steps=training.steps - first_step)
        try:
            trainer.fit(module, train_dataloaders=loader)
        except SIGTERMException:
            # Lightning's own handler, in the moment before ours replaces it: there is nothing new to save.
            raise TrainingStopped(signal.SIGTERM, progress.step) from None
    logger.info("%d steps in %.1f s", progress.step - first_step, time.monotonic() - started)
    if averaged is not None:
        detector.load_state_dict(averaged.weights)
    if processes.first:
        write_results(job, detector, progress, made_from, stopwatch)
        finished.keep(job.output / name for name in RESULTS)
        _remove_working_files(checkpoints)


def _remove_working_files(checkpoints: WorkingCheckpoints) -> None:
    (checkpoints.folder / CURVES_NAME).unlink(missing_ok=True)
    checkpoints.remove()
