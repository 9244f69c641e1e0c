"""The training curves: one row per logged step."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from leod.files import atomic_file


class TrainingCurves:
    """Rows of named numbers by step; everything is held in memory and goes into the working checkpoints.

    That is why a resumed training goes on after the row of its checkpoint, and no row appears twice.

    Args:
        columns: Names of the columns after ``step``, in order.
        rows: What `state` gave.
    """

    def __init__(self, columns: tuple[str, ...], rows: Mapping[int, Mapping[str, float]] | None = None) -> None:
        self._columns = columns
        self._rows: dict[int, dict[str, float]] = {step: dict(row) for step, row in (rows or {}).items()}

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Add values to the row of ``step``."""
        self._rows.setdefault(step, {}).update({name: float(values[name]) for name in self._columns if name in values})

    @property
    def state(self) -> dict[int, dict[str, float]]:
        """All rows by step."""
        return {step: dict(row) for step, row in self._rows.items()}

    def write(self, path: Path) -> None:
        """Write all rows as CSV, atomically; what a row does not have stays empty."""
        with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ("step", *self._columns), restval="", lineterminator="\n")
            writer.writeheader()
            for step in sorted(self._rows):
                writer.writerow({"step": step, **{name: f"{value:.8g}" for name, value in self._rows[step].items()}})
