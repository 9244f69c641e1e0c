"""Validation during training: the shared streaming inference and evaluation on a part of the validation split.

LEOD looks at the test split here; we do not, since the result chooses the checkpoint.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from math import ceil
from pathlib import Path

import torch

from leod.config.schema import EvaluationFilterConfig, ValidationConfig
from leod.config.settings import TrainSettings
from leod.errors import DataError
from leod.evaluation.coco import METRICS
from leod.evaluation.labelled_frames import (
    detect_labelled_frames,
    evaluate_labelled_frames,
    gather_labelled_frames,
    share_of_rank,
)
from leod.models.detector import Detector
from leod.sequences.sequence import Sequence, open_split
from leod.training.processes import Processes

logger = logging.getLogger(__name__)


class ValidationStopped(Exception):  # noqa: N818  (nothing went wrong: it was asked to stop)
    """Validation was given up because training has to stop."""


def choose_sequences(sequences: SequenceOf[Sequence], fraction: float) -> list[Sequence]:
    """Take a share of the sequences with labelled frames, spread evenly over the list; the same ones every time.

    Args:
        sequences: All sequences of the split.
        fraction: Share, above 0.

    Returns:
        At least one sequence if any has a labelled frame.
    """
    labelled = [sequence for sequence in sequences if len(sequence.labelled_frames)]
    count = ceil(len(labelled) * fraction)
    return [labelled[index * len(labelled) // count] for index in range(count)]


def validate(
    detector: Detector,
    sequences: SequenceOf[Sequence],
    settings: ValidationConfig,
    evaluation_filter: EvaluationFilterConfig,
    num_workers: int,
    processes: Processes,
    stop_requested: Callable[[], bool],
) -> dict[str, float]:
    """Evaluate a detector that is being trained; its weights, mode and the random generators stay as they are.

    In distributed training each process takes a part of the sequences; all of them get the metrics of the whole.

    Args:
        detector: On the device where it shall run.
        sequences: What `choose_sequences` gave.
        settings: Thresholds, batch size and precision of the inference.
        evaluation_filter: Boxes that do not count.
        num_workers: Loader processes.
        processes: The processes of the training.
        stop_requested: Asked again and again meanwhile, in a training of a single process.

    Returns:
        `METRICS` in 0..1, -1 where there is no ground truth of that size.

    Raises:
        ValidationStopped: ``stop_requested`` said so.
    """

    def stop_if_requested(*_: object) -> None:
        # Several processes can only stop together.
        if processes.size == 1 and stop_requested():
            raise ValidationStopped

    watch = detector.neck.register_forward_pre_hook(stop_if_requested)
    try:
        # Loader processes draw their seeds from the generator of this process.
        with torch.random.fork_rng(devices=[]):
            frames = gather_labelled_frames(
                detect_labelled_frames(
                    detector,
                    share_of_rank(sequences, processes.rank, processes.size),
                    detector.sequence,
                    settings.detection,
                    num_workers=num_workers,
                )
            )
    finally:
        watch.remove()
    evaluation = evaluate_labelled_frames(frames, detector.sequence, evaluation_filter)
    return {name: float(evaluation["metrics"][name]) for name in METRICS}


def open_validation(root: Path, settings: TrainSettings) -> list[Sequence]:
    """Open the validation split; it may be missing where the last checkpoint is taken anyway.

    Args:
        root: Folder of the data set.
        settings: Settings of the training.

    Raises:
        DataError: The split is missing or damaged, or has no label although the best checkpoint is wanted.
    """
    select = settings.training.validation.select
    if select == "last" and not (root / "val").is_dir():
        logger.info("%s has no split val: training goes without validation", root)
        return []
    sequences = open_split(root, "val", settings.sequence)
    if select == "best" and not any(len(sequence.labelled_frames) for sequence in sequences):
        raise DataError(
            root / "val",
            "no sequence has a labelled frame, so the best checkpoint cannot be told. Add labels, or set "
            "validation.select: last.",
        )
    return sequences
