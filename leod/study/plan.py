"""The record of a study's detectors and their files: written once, read by the summary and the report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field, ValidationError

from leod.config.schema import Identifier, NonNegativeInt, PositiveFraction, Settings
from leod.errors import DataError
from leod.files import read_json


class Cell(Settings):
    """Where a detector stands in its study."""

    experiment: Identifier
    setting: Identifier
    ratio: PositiveFraction
    split_offset: NonNegativeInt
    seed: NonNegativeInt
    round: NonNegativeInt


class DetectorFiles(Cell):
    """One detector of a study and its files."""

    labels: Path
    model: Path
    curves: Path
    record: Path
    metrics: dict[str, Path]
    """Variant of the evaluation → its file, the first one that of the figures."""
    dataset: Path | None = None
    """The pseudo-labelled data set it was trained on; None in round 0, as what follows."""
    manifest: Path | None = None
    quality: Path | None = None
    thresholds: Path | None = None

    def results(self) -> list[Path]:
        """All files and folders of it that exist."""
        files = (
            *(self.labels, self.model, self.curves, self.record, *self.metrics.values()),
            *(self.dataset, self.manifest, self.quality, self.thresholds),
        )
        return [path for path in files if path is not None]


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
