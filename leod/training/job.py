"""What a training is made from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from pathlib import Path

from leod.boxes.dtypes import LABEL_DTYPE
from leod.boxes.kept_labels import KeptLabels
from leod.config.schema import HardwareConfig
from leod.config.settings import TrainSettings
from leod.files import file_digest
from leod.models.checkpoint import load_detector
from leod.models.detector import Detector, build_detector
from leod.randomness import seeded_weights
from leod.reuse import key
from leod.sequences.sequence import Sequence


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

    def key(self) -> str:
        """What determines the result: settings, seed, frames, labels, initial weights, see `leod.reuse.key`."""
        data = hashlib.sha256()
        for sequences in (self.sequences, self.validation_sequences):
            for sequence in sequences:
                data.update(f"{sequence.name} {sequence.num_frames}".encode())
                data.update(sequence.labelled_frames.tobytes())
                # Field by field: bytes between the fields of a record hold whatever was there.
                for name in LABEL_DTYPE.names or ():
                    data.update(sequence.labels[name].tobytes())
                data.update(sequence.frames_digest())
        inputs = {
            "data": data.hexdigest(),
            "kept": None if self.kept is None else self.kept.sequences,
            "initial_weights": None if self.initial_weights is None else file_digest(self.initial_weights).hex(),
        }
        return key(self.stage, self.settings, inputs, self.seed)


def initial_detector(job: TrainingJob) -> Detector:
    """The detector before the first step.

    Raises:
        CheckpointError: The initial weights belong to another detector.
    """
    settings = job.settings
    if job.initial_weights is not None:
        detector = load_detector(job.initial_weights, settings.model, settings.sequence)
    else:
        with seeded_weights(job.seed):
            detector = build_detector(settings.model, settings.sequence)
    detector.set_gradient_checkpointing(job.hardware.gradient_checkpointing)
    if job.hardware.compile:
        detector.compile_backbone()
    return detector
