"""Stage `subsample_labels`: decide which labelled frames an experiment keeps."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from leod.boxes.kept_labels import KeptLabels
from leod.boxes.subsample import random_frames, semi_supervised, weakly_supervised
from leod.config.load import validate
from leod.config.schema import LabelBudget, NonNegativeInt, PositiveInt, StudyConfig
from leod.config.settings import SubsampleSettings
from leod.errors import ConfigError, DataError
from leod.options import FromStudy
from leod.progress import progress
from leod.provenance import Stopwatch
from leod.sequences.layout import list_sequences, read_labelled_frames
from leod.sequences.representations import representation_name
from leod.study.experiments import find_budget

logger = logging.getLogger(__name__)


def _settings_of(
    study: StudyConfig,
    setting: Literal["weakly_supervised", "semi_supervised", "fully_supervised", "random"] = "weakly_supervised",
    ratio: float = 0.05,
    frames: PositiveInt | None = None,
    split_offset: NonNegativeInt = 0,
    seed: NonNegativeInt = 0,
) -> SubsampleSettings:
    """The settings for one label budget.

    Args:
        study: The study.
        setting: How the labels are chosen; with --study.
        ratio: Share of the labels that is kept; with --study.
        frames: Number of labelled frames that is kept, in the random setting; with --study.
        split_offset: Which of the possible shares; with --study.
        seed: Seed of the experiment, in the random setting; with --study.
    """
    size = {"frames": frames} if setting == "random" else {"ratio": ratio, "frames": frames}
    budget = validate(LabelBudget, {"setting": setting} | size, "--setting/--ratio/--frames")
    return SubsampleSettings.from_study(study, find_budget(study, setting, ratio, frames) or budget, split_offset, seed)


def subsample_labels(
    sequences: Path, output: Path, settings: Annotated[SubsampleSettings, FromStudy(_settings_of)]
) -> None:
    """Choose which labelled frames an experiment may use, and write the split of record.

    Only the sequences' index files are read. Sequences without labels (or without kept ones) are listed with none:
    they take part as unlabelled data. The semi-supervised setting chooses among the sequences that have labels.

    Args:
        sequences: Root of the preprocessed data set, with the folder `train`.
        output: The split of record to write, `labels.json`.
        settings: Label budget, split offset and history.

    Raises:
        DataError: The train split is missing or empty, an index file is damaged, or no sequence has a label.
        ConfigError: Ratio or split offset are impossible for this data set.
    """
    stopwatch = Stopwatch()
    representation = representation_name(settings.representation, settings.window_us)
    folders = list_sequences(sequences, "train")
    labelled_frames = {
        folder.name: read_labelled_frames(folder, representation)
        for folder in progress(folders, "reading label indices", unit="sequence")
    }
    available = sum(len(frames) for frames in labelled_frames.values())
    if available == 0:
        raise DataError(
            Path(sequences) / "train",
            f"none of its {len(folders)} sequences has a labelled frame, so there is nothing to learn from. Check that "
            "the recordings had box files when they were preprocessed.",
        )
    budget = settings.budget
    kept = KeptLabels(
        sequences=_keep(labelled_frames, settings),
        setting=budget.setting,
        ratio=None if budget.counts_frames else budget.ratio,
        frames=budget.frames,
        split_offset=settings.split_offset,
        history=settings.history,
        provenance=stopwatch.provenance("subsample_labels", settings, {"sequences": sequences}),
    )
    kept.write(output)
    logger.info(
        "kept %d of %d labelled frames (%.2f %%) in %d of %d sequences",
        kept.labelled_frames,
        available,
        100 * kept.labelled_frames / available,
        sum(bool(indices) for indices in kept.sequences.values()),
        len(folders),
    )


def _keep(labelled_frames: dict[str, np.ndarray], settings: SubsampleSettings) -> dict[str, tuple[int, ...]]:
    """Apply the label budget to every sequence (name -> labelled frames, sorted by name)."""
    budget = settings.budget
    if budget.setting == "weakly_supervised":
        return {
            name: tuple(weakly_supervised(frames, budget.ratio, settings.split_offset, settings.history).tolist())
            for name, frames in labelled_frames.items()
        }
    if budget.setting == "random":
        chosen_frames = random_frames(
            list(labelled_frames.values()),
            budget.frames or 0,
            settings.split_offset,
            settings.seed or 0,
            settings.history,
        )
        return {name: tuple(found.tolist()) for name, found in zip(labelled_frames, chosen_frames, strict=True)}
    if budget.setting == "semi_supervised":
        labelled = [name for name, frames in labelled_frames.items() if len(frames)]
        chosen = {labelled[number] for number in semi_supervised(len(labelled), budget.ratio, settings.split_offset)}
    elif budget.setting == "fully_supervised":
        chosen = set(labelled_frames)
    else:
        raise ConfigError(f"unknown label setting {budget.setting!r}.")
    return {name: tuple(range(len(frames))) if name in chosen else () for name, frames in labelled_frames.items()}
