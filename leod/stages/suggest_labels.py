"""Stage `suggest_labels`: choose an experiment's labelled frames as `suggest_frames` would have a person label them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import numpy as np

from leod.boxes.kept_labels import KeptLabels
from leod.config.schema import HardwareConfig, NonNegativeInt, PositiveInt, StudyConfig
from leod.config.settings import SuggestLabelsSettings
from leod.errors import ConfigError
from leod.inference.devices import prepare_for_inference
from leod.labelling.choosing import Candidates, choose, random_choice, worth
from leod.labelling.from_sequences import candidates_of_sequences
from leod.models.checkpoint import load_detector
from leod.options import FromStudy
from leod.provenance import Stopwatch
from leod.sequences.sequence import Sequence, open_split
from leod.study.experiments import find_budget

logger = logging.getLogger(__name__)

APART_US = 1_000_000
"""Two chosen frames of one sequence are at least so far apart."""


def _settings_of(
    study: StudyConfig, frames: PositiveInt | None = None, seed: NonNegativeInt = 0
) -> SuggestLabelsSettings:
    """The settings for one label budget.

    Args:
        study: The study.
        frames: Number of labelled frames, a budget of the study; with --study, which needs it.
        seed: Seed of the choice; with --study.

    Raises:
        ConfigError: The study has no such budget.
    """
    budget = find_budget(study, "suggested", None, frames)
    if budget is None:
        raise ConfigError(f"study {study.name!r} has no labels with setting suggested and --frames {frames}. Add them.")
    return SuggestLabelsSettings.from_study(study, budget, seed)


def suggest_labels(
    sequences: Path,
    output: Path,
    settings: Annotated[SuggestLabelsSettings, FromStudy(_settings_of)],
    first: Path | None = None,
    checkpoint: Path | None = None,
    hardware: HardwareConfig = HardwareConfig(),  # noqa: B008  (immutable)
) -> None:
    """Choose which labelled frames an experiment may use, as `suggest_frames` would, and write the split of record.

    So choosing can be judged where the truth is known: a first share of the frames is given, a detector that was
    trained on them looks at all labelled frames (not at their labels), and the rest are those that are worth labelling
    most and unlike each other (`leod.labelling.choosing`). Without a detector all are chosen by their events.

    Args:
        sequences: Root of the preprocessed data set, with the folder `train`.
        output: The split of record to write, `labels.json`.
        settings: Number of frames, seed and history.
        first: The split of record of the first share; kept whole.
        checkpoint: The detector that was trained on the first share.
        hardware: How the machine is used.

    Raises:
        ConfigError: First share and detector are not given together, or there are not as many labelled frames.
        DataError: Sequences, labels or checkpoint are damaged or do not belong together.
        ResourceError: Out of memory.
    """
    stopwatch = Stopwatch()
    if (first is None) != (checkpoint is None):
        raise ConfigError("--first and --checkpoint belong together: the labels that the detector was trained on")
    wanted = settings.budget.frames or 0
    train = open_split(sequences, "train", settings.sequence)
    if checkpoint is None:
        candidates = candidates_of_sequences(train, settings.sequence)
    else:
        detector = prepare_for_inference(load_detector(checkpoint, settings.model, settings.sequence), hardware)
        candidates = candidates_of_sequences(train, settings.sequence, detector, num_workers=hardware.num_workers)
    taken = np.zeros(0, np.int64) if first is None else _rows_of(KeptLabels.read(first), train, candidates)
    rows = np.concatenate([taken, _choose(candidates, train, taken, wanted - len(taken), settings)])
    kept = KeptLabels(
        sequences={
            sequence.name: tuple(sorted(candidates.index[rows[candidates.recording[rows] == number]].tolist()))
            for number, sequence in enumerate(train)
        },
        setting=settings.budget.setting,
        frames=wanted,
        history=settings.history,
        provenance=stopwatch.provenance(
            "suggest_labels",
            settings,
            {"sequences": sequences}
            | ({} if first is None or checkpoint is None else {"first": first, "checkpoint": checkpoint}),
        ),
    )
    kept.write(output)
    logger.info(
        "%d labelled frames: %d were there before, %d chosen among %d",
        len(rows),
        len(taken),
        len(rows) - len(taken),
        len(candidates),
    )


def _rows_of(kept: KeptLabels, train: list[Sequence], candidates: Candidates) -> np.ndarray:
    """The candidates that are kept already, int64 [n]."""
    indices = [kept.indices_within(sequence.name, len(sequence.labelled_frames)) for sequence in train]
    is_kept = [
        np.isin(candidates.index, found) & (candidates.recording == number) for number, found in enumerate(indices)
    ]
    return np.flatnonzero(np.any(is_kept, axis=0))


def _choose(
    candidates: Candidates, train: list[Sequence], taken: np.ndarray, count: int, settings: SuggestLabelsSettings
) -> np.ndarray:
    """Rows to label beside ``taken``, int64 [count].

    Raises:
        ConfigError: There are not as many candidates.
    """
    frames = [
        train[number].labelled_frames[index]
        for number, index in zip(candidates.recording, candidates.index, strict=True)
    ]
    trainable = np.array(frames, np.int64) >= settings.history - 1
    value = np.where(trainable, worth(candidates), 0.0)
    rows = choose(
        candidates.recording,
        candidates.t_us,
        candidates.look,
        value,
        count,
        settings.seed,
        APART_US,
        taken,
    ).rows
    missing = count - len(rows)
    if missing:
        # The budget is that of the settings compared with, so it is spent.
        left = np.setdiff1d(np.flatnonzero(trainable), np.concatenate([taken, rows]))
        if len(left) < missing:
            raise ConfigError(
                f"frames: {settings.budget.frames} are wanted, but only {len(left) + len(rows) + len(taken)} labelled "
                f"frames have the {settings.history} frames of history that a training sample needs. Choose fewer."
            )
        logger.warning("only %d frames differ from each other; %d more are taken at random", len(rows), missing)
        left = left[random_choice(len(left), len(left), settings.seed)]
        # Frames in which nothing can be seen come last.
        left = left[np.argsort(~candidates.eligible[left], kind="stable")]
        rows = np.concatenate([rows, left[:missing]])
    return rows
