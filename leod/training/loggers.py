"""TensorBoard and Weights & Biases beside the CSV: optional, and one logged run however often training is resumed."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger

from leod.errors import ConfigError


def new_run_id() -> str:
    """Identify a logged run; to be kept in the working checkpoints."""
    return uuid.uuid4().hex[:12]


@contextmanager
def open_loggers(
    names: Iterable[str], output: Path, settings: Mapping[str, Any], run_id: str, first_step: int
) -> Iterator[list[Logger]]:
    """Loggers that write to ``output/logs`` and are closed at the end, however it comes.

    TensorBoard hides what an interrupted run logged after the step it is resumed from. Weights & Biases takes account,
    project, and offline mode from its own environment variables (``WANDB_MODE=offline`` needs no account). Offline,
    each attempt writes a folder of its own with the same run id; ``wandb sync --append`` joins them.

    Args:
        names: 'tensorboard' and 'wandb', or none.
        output: Results folder of the training.
        settings: Settings of the training, shown beside the curves.
        run_id: What `new_run_id` gave when this training began.
        first_step: Step from which on something will be logged.

    Raises:
        ConfigError: A logger's package is not installed.
    """
    loggers: list[Logger] = []
    status = "failed"
    try:
        for name in names:
            loggers.append(_open_logger(name, output, run_id, first_step))
            loggers[-1].log_hyperparams(dict(settings))
        yield loggers
        status = "success"
    finally:
        for logger in loggers:
            logger.finalize(status)
            if isinstance(logger, WandbLogger):
                # Lightning leaves the run open, and would log the next training of this process to it.
                logger.experiment.finish(exit_code=int(status != "success"))


def _open_logger(name: str, output: Path, run_id: str, first_step: int) -> Logger:
    folder = output / "logs"
    try:
        if name == "tensorboard":
            return TensorBoardLogger(str(folder), name="tensorboard", version="", purge_step=first_step)
        (folder / "wandb").mkdir(parents=True, exist_ok=True)
        return WandbLogger(
            name=f"{output.parent.name}/{output.name}",
            save_dir=str(folder),
            id=run_id,
            resume="allow",
            project=None,
            log_model=False,
        )
    except ModuleNotFoundError:
        raise ConfigError(
            f"hardware.loggers: {name!r} needs the package {name}, which is not installed. Install it with "
            f"'pip install {name}' or take it out of the list; the CSV curves are always written."
        ) from None
