"""What happens between two optimiser steps: curves, validation, working checkpoints, requests to stop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from tqdm import tqdm

from leod.config.schema import TrainingConfig
from leod.errors import ConfigError
from leod.evaluation.coco import METRICS
from leod.progress import progress
from leod.training.averaging import AveragedWeights, Weights
from leod.training.checkpoints import WorkingCheckpoints
from leod.training.curves import TrainingCurves
from leod.training.interruption import TIME_LIMIT, StopRequests, TrainingStopped
from leod.training.loggers import new_run_id
from leod.training.module import CURVE_NAMES, DetectionTraining
from leod.training.processes import Processes
from leod.training.schedule import scheduled_factor
from leod.training.validation import ValidationStopped

logger = logging.getLogger(__name__)

_CURVE_ROWS = 200
"""Rows of the training curves, whatever the number of steps."""

_AGREE_EVERY_STEPS = 10
_CURVES_INTERVAL_S = 10.0
CURVES_NAME = "training.csv"
"""The curves so far, in the folder of the working checkpoints, to look at while training runs."""

_VALIDATION_COLUMNS = tuple(f"validation_{name}" for name in METRICS)
COLUMNS = ("learning_rate", *CURVE_NAMES, *_VALIDATION_COLUMNS)
"""Columns of the training curves after ``step``."""

Validation = Callable[[], dict[str, float]]


@dataclass
class TrainingProgress:
    """What a training has come to so far; goes into every working checkpoint.

    Attributes:
        step: Finished optimiser steps.
        curves: Logged rows.
        validated_step: Step of the last validation; 0 = none yet.
        best_step: Step of the best validation, the earliest among equals; None = no validation yet.
        best_metrics: Its metrics.
        last_metrics: The last validation's metrics.
        validations_since_best: Validations in a row that were no better than the best.
        best_weights: The weights that were validated at that step, on the CPU.
        resumed_at: Steps at which training was taken up again.
        run_id: Identifies the run of an online logger.
    """

    step: int = 0
    curves: TrainingCurves = field(default_factory=lambda: TrainingCurves(COLUMNS))
    validated_step: int = 0
    best_step: int | None = None
    best_metrics: dict[str, float] = field(default_factory=dict)
    last_metrics: dict[str, float] = field(default_factory=dict)
    validations_since_best: int = 0
    best_weights: dict[str, torch.Tensor] | None = None
    resumed_at: list[int] = field(default_factory=list)
    run_id: str = field(default_factory=new_run_id)

    def state(self) -> dict[str, Any]:
        """Tensors and plain values for a working checkpoint."""
        return {**vars(self), "curves": self.curves.state}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> TrainingProgress:
        """Take up what `state` gave."""
        return cls(**{**state, "curves": TrainingCurves(COLUMNS, state["curves"])})


class TrainingControl(pl.Callback):
    """Does what is due after each optimiser step.

    A working checkpoint is written before every validation as well as after it: validation of a large data set takes
    so long that a preempted job must not lose the steps before it.

    Args:
        training: Intervals and schedule.
        progress_so_far: Changed in place.
        checkpoints: Where the working checkpoints go.
        validation: Evaluates the module's detector; None = there is nothing to validate on.
        averaged: Follows the weights and takes their place in validations; None = there is no average.
        requests: Asked after each step.
        processes: The processes of the training; the first one writes.
        loggers: Receive the rows of the curves.
        resumed: What the newest working checkpoint holds, or None at the beginning.
    """

    def __init__(
        self,
        training: TrainingConfig,
        progress_so_far: TrainingProgress,
        checkpoints: WorkingCheckpoints,
        validation: Validation | None,
        averaged: AveragedWeights | None,
        requests: StopRequests,
        processes: Processes,
        loggers: list[Logger],
        resumed: dict[str, Any] | None,
    ) -> None:
        self.progress = progress_so_far
        self._training = training
        self._checkpoints = checkpoints
        self._validation = validation
        self._averaged = averaged
        self._requests = requests
        self._processes = processes
        self._loggers = loggers
        self._resumed = resumed
        self._row_interval = max(1, training.steps // _CURVE_ROWS)
        self._bar: tqdm[Any] | None = None
        self._curves_written = time.monotonic()

    # ------------------------------------------------------------------------------------------- Lightning's hooks

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put everything back as it was; make up for a validation that was cut off, and for an end that it brought."""
        module = _our(pl_module)
        if self._averaged is not None:
            self._averaged.begin(None if self._resumed is None else self._resumed["averaged"])
        if self._resumed is not None:
            self._restore(trainer, module, self._resumed)
            self._resumed = None
        if self.progress.step and self._validation_due(self.progress.step):
            self._validate(trainer, module)
        trainer.should_stop = self._patience_exhausted()
        if self._processes.first:
            self._bar = progress(None, "training", total=self._training.steps, unit="step")
            self._bar.n = self._bar.initial = self.progress.step

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals back: Lightning, between the two hooks, has put handlers of its own in place."""
        del trainer, pl_module
        self._requests.install()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Between two optimiser steps, do what is due."""
        del outputs, batch, batch_idx
        module = _our(pl_module)
        if module.batches_done % self._training.accumulate:
            return
        step = self.progress.step = module.batches_done // self._training.accumulate
        if self._averaged is not None:
            self._averaged.update(step)
        if self._losses_due(step):
            self._record_losses(module)
        if self._bar is not None:
            self._bar.update()
        due = self._validation_due(step)
        save = due or step % self._training.checkpoint_every_steps == 0 or step == self._training.steps
        stop = self._stop_request(save)
        if save or stop:
            self._save(trainer, module)
        if stop:
            raise TrainingStopped(stop if stop != TIME_LIMIT else None, step)
        if due:
            self._validate(trainer, module)
            trainer.should_stop = self._patience_exhausted()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Close the bar."""
        del trainer, pl_module, stage
        if self._bar is not None:
            self._bar.close()

    def _stop_request(self, saving: bool) -> int:
        """0, or why to stop: a signal's number or `TIME_LIMIT`; the same in all processes."""
        request = self._requests.request
        if self._processes.size > 1:
            # Agreeing takes a round of messages, hence not after every step.
            if not saving and self.progress.step % _AGREE_EVERY_STEPS:
                return 0
            request = self._processes.largest(request)
        return request

    # -------------------------------------------------------------------------------------------------- validation

    def _validation_due(self, step: int) -> bool:
        if self._validation is None or self.progress.validated_step == step:
            return False
        return step % self._training.validation.every_steps == 0 or step == self._training.steps

    def _validate(self, trainer: pl.Trainer, module: DetectionTraining) -> None:
        step = self.progress.step
        try:
            with nullcontext() if self._averaged is None else self._averaged.in_detector():
                metrics = self._validation()
        except ValidationStopped:
            request = self._requests.request
            raise TrainingStopped(request if request != TIME_LIMIT else None, step) from None
        self.progress.validated_step = step
        self.progress.last_metrics = metrics
        # Ties go to the earliest: a later one has to be better.
        if self.progress.best_step is None or metrics["AP"] > self.progress.best_metrics["AP"]:
            self.progress.best_step = step
            self.progress.best_metrics = metrics
            self.progress.validations_since_best = 0
            validated = module.detector.state_dict() if self._averaged is None else self._averaged.weights
            self.progress.best_weights = cpu_weights(validated)
        else:
            self.progress.validations_since_best += 1
        logger.info(
            "step %d of %d: validation AP %.4f, AP50 %.4f (best: %.4f at step %d)",
            step,
            self._training.steps,
            metrics["AP"],
            metrics["AP50"],
            self.progress.best_metrics["AP"],
            self.progress.best_step,
        )
        self._record({f"validation_{name}": metrics[name] for name in METRICS})
        if self._patience_exhausted():
            logger.info(
                "no better AP in %d validations: training ends at step %d of %d",
                self.progress.validations_since_best,
                step,
                self._training.steps,
            )
            # The curves end with a row of losses whenever training ends.
            if not self._losses_due(step):
                self._record_losses(module)
        self._save(trainer, module)

    def _patience_exhausted(self) -> bool:
        patience = self._training.validation.patience
        return patience is not None and self.progress.validations_since_best >= patience

    # ------------------------------------------------------------------------------------------------------ curves

    def _losses_due(self, step: int) -> bool:
        return step % self._row_interval == 0 or step == self._training.steps

    def _record_losses(self, module: DetectionTraining) -> None:
        losses = module.read_interval()
        step, training = self.progress.step, self._training
        if not all(abs(value) < float("inf") for value in losses.values()):
            raise ConfigError(
                f"training diverged: the loss is {losses['loss']} in the steps up to {step}. Lower the learning rate "
                f"(now {training.learning_rate:g}) or train in 32-true instead of {training.precision}."
            )
        factor = scheduled_factor(step - 1, training)
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {losses['loss']:.3f}", refresh=False)
        self._record({"learning_rate": training.learning_rate * factor, **losses})

    def _record(self, values: dict[str, float]) -> None:
        self.progress.curves.record(self.progress.step, values)
        if self._processes.first and time.monotonic() - self._curves_written > _CURVES_INTERVAL_S:
            self.progress.curves.write(self._checkpoints.folder / CURVES_NAME)
            self._curves_written = time.monotonic()
        for logger in self._loggers:
            logger.log_metrics(values, step=self.progress.step)

    # ------------------------------------------------------------------------------------------------- checkpoints

    def _save(self, trainer: pl.Trainer, module: DetectionTraining) -> None:
        state = {
            "progress": self.progress.state(),
            "module": module.progress_state(),
            "weights": cpu_weights(module.detector.state_dict()),
            "averaged": None if self._averaged is None else cpu_weights(self._averaged.weights),
            "optimizer": trainer.optimizers[0].state_dict(),
            "schedule": _schedule(trainer).state_dict(),
            "precision": trainer.precision_plugin.state_dict(),
        }
        if self._processes.first:
            self._checkpoints.save(self.progress.step, state)

    @staticmethod
    def _restore(trainer: pl.Trainer, module: DetectionTraining, state: dict[str, Any]) -> None:
        module.load_progress_state(state["module"])
        module.detector.load_state_dict(state["weights"])
        trainer.optimizers[0].load_state_dict(state["optimizer"])
        _schedule(trainer).load_state_dict(state["schedule"])
        trainer.precision_plugin.load_state_dict(state["precision"])


def cpu_weights(weights: Weights) -> Weights:
    """A copy of a detector's weights in main memory."""
    return {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}


def _our(module: pl.LightningModule) -> DetectionTraining:
    if not isinstance(module, DetectionTraining):
        raise TypeError(f"TrainingControl works on DetectionTraining, not on {type(module).__name__}")
    return module


def _schedule(trainer: pl.Trainer) -> Any:
    return trainer.lr_scheduler_configs[0].scheduler
