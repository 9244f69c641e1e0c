"""The stage `self_train`: a detector from pseudo-labels (round 1, 2, …)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

from leod.config.schema import HardwareConfig, NonNegativeInt
from leod.config.settings import TrainSettings
from leod.errors import ConfigError
from leod.options import FromStudy
from leod.sequences.sequence import open_split
from leod.training.job import TrainingJob
from leod.training.processes import lock_results
from leod.training.run import run_training
from leod.training.validation import open_validation

logger = logging.getLogger(__name__)


def self_train(
    dataset: Path,
    sequences: Path,
    output: Path,
    settings: Annotated[TrainSettings, FromStudy(TrainSettings.for_self_training)],
    seed: NonNegativeInt = 0,
    hardware: HardwareConfig = HardwareConfig(),  # noqa: B008  (immutable)
    previous: Path | None = None,
) -> None:
    """Train a detector on pseudo-labels (round 1, 2, …). An interrupted training goes on where it was.

    Writes the same files as `pretrain` and goes on after an interruption in the same way.

    Args:
        dataset: Pseudo-labelled data set, of which the split train is used, ours or LEOD's.
        sequences: The original data set, of which the split val is used. Frames whose links in ``dataset`` lead nowhere
            are taken from its split train.
        output: Results folder of the round.
        settings: Settings of the stage.
        seed: Seed of weights, order and augmentation of the data.
        hardware: How to use the machine.
        previous: Detector of the round before; needed if `initial_weights` is 'previous'.

    Raises:
        DataError: Sequences are missing, damaged, or leave nothing to learn from.
        CheckpointError: ``previous`` belongs to another detector.
        ConfigError: Settings do not fit each other or the data.
        LockedError: Another process trains in ``output``.
        ResourceError: Out of memory, disk space, or time.
    """
    training = settings.training
    if training.from_checkpoint is not None:
        raise ConfigError("self_train.from: only pretraining can be replaced by a checkpoint; remove the key")
    if training.initial_weights == "previous" and previous is None:
        raise ConfigError(
            "self_train.initial_weights is 'previous', but no detector of the round before was given. Give it with "
            "--previous, or set initial_weights: scratch."
        )
    initial = previous if training.initial_weights == "previous" else None
    inputs: dict[str, Path | str] = {"dataset": dataset, "sequences": sequences}
    if initial is not None:
        inputs["previous"] = initial
    with lock_results(output, hardware):
        run_training(
            TrainingJob(
                stage="self_train",
                settings=settings,
                seed=seed,
                hardware=hardware,
                output=output,
                sequences=open_split(dataset, "train", settings.sequence, originals=sequences),
                kept=None,
                validation_sequences=open_validation(sequences, settings),
                initial_weights=initial,
                inputs=inputs,
            )
        )
