"""TensorBoard and Weights & Biases beside the CSV: optional, and one logged run however often training is resumed."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger

from leod.config.schema import HardwareConfig
from leod.errors import ConfigError


def new_run_id() -> str:
    """Identify a logged run; to be kept in the working checkpoints."""
    return uuid.uuid4().hex[:12]


def build_loggers(
    hardware: HardwareConfig, output: Path, settings: Mapping[str, Any], run_id: str, first_step: int
) -> list[Logger]:
    """Open the loggers that ``hardware`` asks for, in ``output/logs``.

    TensorBoard hides what an interrupted run logged after the step it is resumed from. Weights & Biases takes account,
    project, and offline mode from its own environment variables (``WANDB_MODE=offline`` needs no account).

    Args:
        hardware: Names the loggers.
        output: Results folder of the training.
        settings: Settings of the training, shown beside the curves.
        run_id: What `new_run_id` gave when this training began.
        first_step: Step from which on something will be logged.

    Raises:
        ConfigError: A logger's package is not installed.
    """
    folder = output / "logs"
    loggers: list[Logger] = []
    for name in hardware.loggers:
        try:
            if name == "tensorboard":
                logger: Logger = TensorBoardLogger(str(folder), name="tensorboard", version="", purge_step=first_step)
            else:
                (folder / "wandb").mkdir(parents=True, exist_ok=True)
                logger = WandbLogger(
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
        logger.log_hyperparams(dict(settings))
        loggers.append(logger)
    return loggers
