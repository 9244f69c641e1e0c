"""How two runs of a stage can differ, and what that means for the study."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal

import numpy as np

from leod.packs.study_files import StageRun
from leod.report.statistics import student_quantile

Kind = Literal["settings", "inputs", "program", "versions", "machine", "results"]
_CHANCE = 0.05
"""Probability that any of a study's evaluations is called different though only the seeds differ."""


class Verdict(IntEnum):
    """How two results compare; the larger, the worse."""

    IDENTICAL = 0
    WITHIN_SPREAD = 1
    DIFFERENT = 2

    @property
    def text(self) -> str:
        """In words."""
        return ("bit-identical", "within the spread", "different")[self]

    @property
    def exit_code(self) -> int:
        """For scripts; 1 and 2 stand for errors."""
        return (0, 3, 4)[self]


@dataclass(frozen=True)
class Difference:
    """One thing in which two runs differ.

    Attributes:
        kind: What kind of thing.
        what: Its name: a key of the settings, a package, a role of a file with the place in it.
        a: Of the first study; None: it has none.
        b: Of the second study.
        new: Whether no earlier stage differs in the same.
        incomplete: Whether there is nothing to compare: a result is missing or damaged.
    """

    kind: Kind
    what: str
    a: Any
    b: Any
    new: bool = True
    incomplete: bool = False

    def __str__(self) -> str:
        if self.a is None and self.b is None:
            return f"{self.kind}: {self.what}"
        return f"{self.kind}: {self.what}: {_shown(self.a)} → {_shown(self.b)}"


@dataclass
class StageComparison:
    """Two runs of a stage.

    Attributes:
        a: Of the first study; None: it has no such run.
        b: Of the second study.
        differences: In what they differ.
        verdict: What that means.
    """

    a: StageRun | None
    b: StageRun | None
    differences: list[Difference] = field(default_factory=list)
    verdict: Verdict = Verdict.IDENTICAL

    @property
    def run(self) -> StageRun:
        """One of the runs."""
        found = self.a or self.b
        if found is None:
            raise ValueError("a comparison needs a run")
        return found

    @property
    def results_differ(self) -> bool:
        """Whether the stage's results differ, and not only how they were made."""
        return any(entry.kind == "results" for entry in self.differences)

    @property
    def incomplete(self) -> bool:
        """Whether a result is missing or damaged."""
        return any(entry.incomplete for entry in self.differences)

    @property
    def news(self) -> list[Difference]:
        """What no earlier stage differs in."""
        return [entry for entry in self.differences if entry.new]


@dataclass(frozen=True)
class Spread:
    """How much AP scatters between seeds of one experiment.

    Attributes:
        deviation: Standard deviation, in 0..1, pooled over all experiments, rounds and variants.
        degrees: Its degrees of freedom.
        evaluations: Number of evaluations that are compared.
    """

    deviation: float
    degrees: int
    evaluations: int

    @classmethod
    def of(cls, groups: Iterable[list[float]], evaluations: int) -> Spread | None:
        """Of AP over seeds, a list for each experiment, round and variant; None if no list has two values."""
        squares, degrees = 0.0, 0
        for group in groups:
            values = np.array([value for value in group if value >= 0])
            if len(values) > 1:
                squares += float(((values - values.mean()) ** 2).sum())
                degrees += len(values) - 1
        return cls(math.sqrt(squares / degrees), degrees, evaluations) if degrees else None

    @property
    def limit(self) -> float:
        """The largest difference of two runs that the scatter of seeds explains (Student's t, Bonferroni)."""
        level = 1 - _CHANCE / max(self.evaluations, 1)
        return student_quantile(level, self.degrees) * math.sqrt(2) * self.deviation


@dataclass(frozen=True)
class Comparison:
    """Two studies.

    Attributes:
        stages: Their stage runs, in the order of the DAG.
        spread: Scatter between seeds; None if neither study tells it.
        notes: What could not be compared.
    """

    stages: list[StageComparison]
    spread: Spread | None
    notes: list[str]

    @property
    def verdict(self) -> Verdict:
        """The worst of all stages."""
        return max((stage.verdict for stage in self.stages), default=Verdict.IDENTICAL)

    @property
    def first(self) -> StageComparison | None:
        """The first stage that differs in anything."""
        return next((stage for stage in self.stages if stage.differences), None)


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
