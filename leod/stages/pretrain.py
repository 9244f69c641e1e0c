"""The stage `pretrain`: a detector from the kept labels (round 0)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

from leod.boxes.kept_labels import KeptLabels
from leod.config.schema import HardwareConfig, NonNegativeInt, StudyConfig
from leod.config.settings import TrainSettings
from leod.errors import CheckpointError, ConfigError
from leod.files import write_json
from leod.models.checkpoint import (
    DetectorFile,
    load_detector,
    load_weights,
    read_detector_file,
    write_detector_file,
)
from leod.models.detector import build_detector
from leod.options import FromStudy
from leod.provenance import Stopwatch
from leod.published.weights import recognise
from leod.sequences.sequence import open_split
from leod.study.experiments import find_budget, study_experiments
from leod.training.control import COLUMNS, cpu_weights
from leod.training.curves import TrainingCurves
from leod.training.job import TrainingJob
from leod.training.processes import lock_results
from leod.training.run import run_training
from leod.training.validation import open_validation

logger = logging.getLogger(__name__)


def _pretraining_of(study: StudyConfig, labels: Path) -> TrainSettings:
    """The settings of pretraining, with what the study changes for the budget that the labels were chosen for.

    Raises:
        ConfigError: The study has no such budget.
    """
    if study.pretrain.from_checkpoint is not None:
        # The labels are not read, and need not exist.
        return TrainSettings.for_pretraining(study)
    kept = KeptLabels.read(labels)
    budget = find_budget(study, kept.setting, kept.ratio, kept.frames)
    if budget is None:
        known = ", ".join(dict.fromkeys(experiment.budget.slug for experiment in study_experiments(study)))
        raise ConfigError(
            f"{labels}: has the setting {kept.setting!r} and {_size_of(kept)}, a label budget that study "
            f"{study.name!r} does not have; it has {known}. Add it to the study's 'labels', or give labels that were "
            "chosen for one of these."
        )
    return TrainSettings.for_pretraining(study, budget)


def _size_of(kept: KeptLabels) -> str:
    return f"the ratio {kept.ratio}" if kept.frames is None else f"{kept.frames} frames"


def pretrain(
    sequences: Path,
    labels: Path,
    output: Path,
    settings: Annotated[TrainSettings, FromStudy(_pretraining_of)],
    seed: NonNegativeInt = 0,
    hardware: HardwareConfig = HardwareConfig(),  # noqa: B008  (immutable)
) -> None:
    """Train a detector on the kept labels (round 0). An interrupted training goes on where it was.

    Writes `model.ckpt`, `training.csv` and `training.json` into ``output``. The result is the same as if the training
    had not been interrupted. With the setting `from` the weights of that file are
    taken instead of training.

    Args:
        sequences: Preprocessed data set with the splits train and val.
        labels: `labels.json`, which labelled frames are kept.
        output: Results folder of the round.
        settings: Settings of the stage.
        seed: Seed of weights, order and augmentation of the data.
        hardware: How to use the machine.

    Raises:
        DataError: Sequences or labels are missing, damaged, or leave nothing to learn from.
        CheckpointError: The file of the setting `from` belongs to another detector.
        ConfigError: Settings do not fit each other or the data.
        LockedError: Another process trains in ``output``.
        ResourceError: Out of memory, disk space, or time.
    """
    with lock_results(output, hardware):
        if settings.training.from_checkpoint is not None:
            _take_weights(settings.training.from_checkpoint, output, settings, seed)
            return
        run_training(
            TrainingJob(
                stage="pretrain",
                settings=settings,
                seed=seed,
                hardware=hardware,
                output=output,
                sequences=open_split(sequences, "train", settings.sequence),
                kept=KeptLabels.read(labels),
                validation_sequences=open_validation(sequences, settings),
                initial_weights=None,
                inputs={"sequences": sequences, "labels": labels},
            )
        )


def _take_weights(checkpoint: Path, output: Path, settings: TrainSettings, seed: int) -> None:
    """Write the results of a training that did not have to happen; published checkpoints are welcome too."""
    stopwatch = Stopwatch()
    if _is_detector_file(checkpoint):
        detector, published = load_detector(checkpoint, settings.model, settings.sequence), None
    else:
        imported = recognise(checkpoint, settings.model, settings.sequence)
        detector, published = build_detector(settings.model, settings.sequence), imported.published
        load_weights(checkpoint, detector, imported.state_dict)
    provenance = stopwatch.provenance("pretrain", settings, {"from": checkpoint}, seed)
    weights = cpu_weights(detector.state_dict())
    write_detector_file(
        output / "model.ckpt", DetectorFile(settings.model, settings.sequence, weights, provenance, published)
    )
    TrainingCurves(COLUMNS).write(output / "training.csv")
    write_json(
        output / "training.json",
        {
            "provenance": provenance,
            "steps": 0,
            "parameters": sum(parameter.numel() for parameter in detector.parameters()),
        },
    )
    logger.info("took the weights of %s instead of training", checkpoint)


def _is_detector_file(path: Path) -> bool:
    try:
        read_detector_file(path)
    except CheckpointError:
        return False
    return True
