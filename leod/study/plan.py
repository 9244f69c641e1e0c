"""The record of a study's detectors and their files: written once, read by the summary and the report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field, ValidationError

from leod.config.load import MAIN
from leod.config.schema import Identifier, NonNegativeInt, PositiveFraction, Settings
from leod.errors import DataError
from leod.files import read_json


class Cell(Settings):
    """Where a detector stands in its study."""

    experiment: Identifier
    arm: Identifier = MAIN
    """What it is for: the study's own chain of rounds, a reference, or an arm, see `leod.study.experiments`."""
    setting: Identifier
    ratio: PositiveFraction
    frames: NonNegativeInt = 0
    """Size of a label budget that is a number of labelled frames; 0 = it is a share."""
    first_frames: NonNegativeInt = 0
    """Suggested labels: how many of them train the detector that suggests the rest."""
    split_offset: NonNegativeInt
    seed: NonNegativeInt
    round: NonNegativeInt


class DetectorFiles(Cell):
    """One detector of a study and its files, some of which it may share with another experiment."""

    labels: Path
    model: Path
    curves: Path
    record: Path
    metrics: dict[str, Path]
    """Variant of the evaluation → its file, the first one that of the figures."""
    dataset: Path | None = None
    """The pseudo-labelled data set it was trained on; None in round 0 and on ground truth, as what follows."""
    manifest: Path | None = None
    quality: Path | None = None
    thresholds: Path | None = None

    def results(self, *kinds: str) -> list[Path]:
        """Its files and folders that exist; ``kinds``: only those fields."""
        files = []
        for kind in kinds or [name for name in DetectorFiles.model_fields if name not in Cell.model_fields]:
            value = getattr(self, kind)
            files += list(value.values()) if isinstance(value, dict) else [] if value is None else [value]
        return files


class Benchmark(Settings):
    """A table of Snakemake's with time and memory of one job."""

    stage: str
    path: Path


class StudyPlan(Settings):
    """What a study consists of."""

    split: str
    """The split that detectors are evaluated on."""
    detectors: tuple[DetectorFiles, ...]
    manifests: dict[str, tuple[Path, ...]] = Field(default={})
    """Split → files that list its sequences; empty where they were preprocessed elsewhere."""
    benchmarks: tuple[Benchmark, ...] = ()
    """Those that do not exist are left out."""

    def evaluations(self) -> Iterator[tuple[DetectorFiles, str, Path]]:
        """Each evaluation: detector, variant, file of the metrics."""
        for detector in self.detectors:
            for variant, path in detector.metrics.items():
                yield detector, variant, path


def read_plan(plan: Path) -> StudyPlan:
    """Read a `StudyPlan`.

    Args:
        plan: JSON: the study's detectors and their files.

    Raises:
        DataError: The file is missing or not such a plan.
    """
    content = read_json(plan)
    try:
        return StudyPlan.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise DataError(
            plan, f"is not the plan of a study ({place}: {problem['msg']}). Delete it and run again."
        ) from None
