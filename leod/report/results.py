"""What a report shows: the results of a study, read and gathered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from leod.config.load import CEILING, CHOOSER, CONTROL, MAIN, ORACLE
from leod.config.settings import ReportSettings
from leod.report.figures import RoundValue
from leod.report.summary import REFERENCE_SETTING, budget_name
from leod.study.plan import Cell


@dataclass(frozen=True)
class Run:
    """One detector of the study and what belongs to it.

    Attributes:
        cell: Where it stands in the study.
        kept_frames: Labelled frames that the experiment keeps.
        curves: ``training.csv``.
        record: ``training.json``.
        metrics: Its evaluation, of the first variant.
        quality: Quality of the pseudo-labels it was trained on; None in round 0.
        dataset: What `track_filter` counted; None in round 0.
        thresholds: Chosen score thresholds, if they were chosen.
    """

    cell: Cell
    kept_frames: int
    curves: pd.DataFrame
    record: dict[str, Any]
    metrics: dict[str, Any]
    quality: dict[str, Any] | None = None
    dataset: dict[str, Any] | None = None
    thresholds: dict[str, Any] | None = None

    @property
    def budget(self) -> str:
        """The label budget in words."""
        return budget_name(self.cell.setting, self.cell.ratio, self.cell.frames, self.cell.first_frames)

    @property
    def round(self) -> int:
        """Round of self-training; 0: supervised."""
        return self.cell.round

    @property
    def is_reference(self) -> bool:
        """Whether it only shows what all labels would give."""
        return self.cell.setting == REFERENCE_SETTING and self.round == 0 and self.cell.arm in (MAIN, CEILING)

    @property
    def is_arm(self) -> bool:
        """Whether it belongs to an arm that the study defines."""
        return self.cell.arm not in (MAIN, CEILING, CONTROL, ORACLE, CHOOSER)


@dataclass(frozen=True)
class Picture:
    """A frame with boxes, for both themes.

    Attributes:
        title: What it shows.
        light: uint8 [H, W, 3], RGB.
        dark: The same on a dark background.
    """

    title: str
    light: npt.NDArray[np.uint8]
    dark: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class SampleFrame:
    """One frame as several detectors see it.

    Attributes:
        title: Sequence and time.
        pictures: The pictures, side by side.
    """

    title: str
    pictures: list[Picture]


@dataclass(frozen=True)
class Plausibility:
    """What was counted of the recordings of one split.

    Attributes:
        rows: Title and value of each count.
        findings: What is unlikely about them, in words.
    """

    rows: list[tuple[str, str]]
    findings: list[str]


@dataclass(frozen=True)
class StageTime:
    """What the jobs of one stage took.

    Attributes:
        stage: Name of the stage.
        seconds: Wall time of each job.
        peak_memory_mb: The largest of all jobs; None where it was not measured.
    """

    stage: str
    seconds: list[float]
    peak_memory_mb: float | None = None


@dataclass(frozen=True)
class StudyResults:
    """Everything that the report shows.

    Attributes:
        settings: The study.
        evaluations: The study's summary, one row per evaluation.
        runs: All detectors, those that several arms share once.
        sequences: Split → number of sequences, frames, labelled frames and boxes, as far as known.
        plausibility: Split → what preprocessing counted; empty where it was done elsewhere.
        box_sizes: Kind of label → class name → diagonals in pixels.
        box_sizes_of: Which experiment the sizes and sample frames are of.
        samples: Frames of the evaluated split with detections.
        pseudo_samples: Frames of the train split with pseudo-labels.
        times: What the stages took.
        provenances: Records of all results that were read.
    """

    settings: ReportSettings
    evaluations: pd.DataFrame
    runs: list[Run]
    sequences: dict[str, dict[str, int]] = field(default_factory=dict)
    plausibility: dict[str, Plausibility] = field(default_factory=dict)
    box_sizes: dict[str, dict[str, npt.NDArray[np.floating]]] = field(default_factory=dict)
    box_sizes_of: str = ""
    samples: list[SampleFrame] = field(default_factory=list)
    pseudo_samples: list[SampleFrame] = field(default_factory=list)
    times: list[StageTime] = field(default_factory=list)
    provenances: list[dict[str, Any]] = field(default_factory=list)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label-id order."""
        return self.settings.dataset.classes

    @property
    def main_evaluations(self) -> pd.DataFrame:
        """Rows of the first variant: that of the figures."""
        return self.evaluations[self.evaluations["variant"] == self.settings.evaluate.variants[0]]

    @property
    def own_runs(self) -> list[Run]:
        """The study's own chain of rounds, and the detectors trained on all labels."""
        return [run for run in self.runs if run.cell.arm in (MAIN, CEILING)]

    @property
    def compared_runs(self) -> list[Run]:
        """All detectors but those of arms."""
        return [run for run in self.runs if not run.is_arm]

    def of_rounds(self, name: str) -> list[RoundValue]:
        """The attribute ``name`` of the study's own rounds that have it."""
        return [
            RoundValue(run.budget, run.round, value)
            for run in self.own_runs
            if (value := getattr(run, name)) is not None and not run.is_reference
        ]

    def training_curves(self) -> list[RoundValue]:
        """Curves of all trainings but those of arms, references under names of their own."""
        return [
            RoundValue(
                run.budget if run.cell.arm in (MAIN, CEILING) else f"{run.budget}: {run.cell.arm}",
                run.round,
                run.curves,
            )
            for run in self.compared_runs
        ]
