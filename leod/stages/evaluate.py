"""Stage `evaluate`: metrics of a trained detector on one split."""

from __future__ import annotations

import logging
from collections.abc import Sequence as SequenceOf
from pathlib import Path
from typing import Annotated, get_args

from leod.boxes.operations import is_ground_truth
from leod.config.schema import HardwareConfig
from leod.config.settings import EvaluateSettings
from leod.errors import ConfigError, DataError
from leod.evaluation.labelled_frames import Variant, detect_labelled_frames, evaluate_labelled_frames
from leod.files import check_writable, write_json
from leod.inference.devices import prepare_for_inference
from leod.models.checkpoint import load_detector
from leod.options import FromStudy
from leod.provenance import Stopwatch
from leod.sequences.sequence import Sequence, open_split

logger = logging.getLogger(__name__)


def evaluate(
    checkpoint: Path,
    sequences: Path,
    output: Path,
    settings: EvaluateSettings,
    split: Annotated[str, FromStudy(lambda study: study.evaluate.split)] = "test",
    variant: Variant = "plain",
    hardware: HardwareConfig = HardwareConfig(),  # noqa: B008  (immutable)
) -> None:
    """Evaluate a detector by the Prophesee protocol (COCO AP).

    Args:
        checkpoint: The detector, a `model.ckpt`.
        sequences: Root of the preprocessed data set.
        output: JSON file to write: ``provenance``, ``split``, ``variant`` and metrics in 0..1, as they come from
            `leod.evaluation.prophesee.evaluate_detections`.
        settings: What the detector and the data set look like, thresholds, and boxes that are left out.
        split: The split: train, val or test.
        variant: What the detector sees: plain, the sequences as they are; tta, four views, merged; time_reversed, every
            sequence read backwards.
        hardware: Where to run; does not change the result beyond rounding.

    Raises:
        ConfigError: Unknown variant, a GPU that is not there, or ``output`` cannot be a file.
        CheckpointError: The checkpoint is missing, damaged, or belongs to another model or data set.
        DataError: The split is missing, damaged, without labels, or holds pseudo-labels.
        ResourceError: Out of memory or disk.
    """
    stopwatch = Stopwatch()
    if variant not in get_args(Variant):
        raise ConfigError(f"unknown evaluation variant {variant!r}; possible are {', '.join(get_args(Variant))}")
    check_writable(output)
    detector = load_detector(checkpoint, settings.model, settings.sequence)
    opened = open_split(sequences, split, settings.sequence)
    _check_ground_truth(sequences / split, opened)

    frames = detect_labelled_frames(
        prepare_for_inference(detector, hardware),
        opened,
        settings.sequence,
        settings.detection,
        variant,
        hardware.num_workers,
        settings.merging,
    )
    result = evaluate_labelled_frames(frames, settings.sequence, settings.evaluation_filter)
    if not result["counts"]["images"]:
        logger.warning("%s: no ground truth passes the evaluation filter; all metrics are 0", sequences / split)
    provenance = stopwatch.provenance("evaluate", settings, {"checkpoint": checkpoint, "sequences": sequences / split})
    write_json(output, {"provenance": provenance, "split": split, "variant": variant, **result})
    metrics = ", ".join(f"{name} {100 * value:.2f}" for name, value in result["metrics"].items())
    logger.info("%s (%s, %s): %s", checkpoint, split, variant, metrics)


def _check_ground_truth(folder: Path, sequences: SequenceOf[Sequence]) -> None:
    for sequence in sequences:
        if not is_ground_truth(sequence.labels).all():
            raise DataError(
                sequence.path,
                "holds pseudo-labels; metrics need ground truth. Evaluate on the original data set.",
            )
    if not any(len(sequence.labelled_frames) for sequence in sequences):
        raise DataError(folder, "no sequence has labels, so nothing can be evaluated. Choose a labelled split.")
