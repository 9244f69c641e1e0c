"""Lightning's trainer, set up for what the training loop here leaves to it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
from lightning_fabric.plugins.environments import ClusterEnvironment, SLURMEnvironment
from pytorch_lightning.strategies import DDPStrategy

from leod.training.control import TrainingControl
from leod.training.job import TrainingJob
from leod.training.slurm import slurm_nodes


def build_trainer(
    job: TrainingJob, control: TrainingControl, environment: ClusterEnvironment, remaining_steps: int
) -> pl.Trainer:
    """The trainer for the steps that remain."""
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


@contextmanager
def quiet_lightning() -> Iterator[None]:
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
            # In 16-mixed the first steps are left out until the scale of the loss fits; the schedule goes on.
            warnings.filterwarnings("ignore", message=r"Detected call of `lr_scheduler\.step\(\)` before")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
