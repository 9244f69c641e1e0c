"""Paired differences against values of published tables and hand calculation."""

from __future__ import annotations

import math

import pytest

from leod.report.statistics import PairedDifference, student_quantile


@pytest.mark.parametrize(
    ("degrees", "expected"),
    # Two-sided 95 %, as in any table of Student's t.
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (10, 2.228), (12, 2.179), (30, 2.042), (120, 1.980)],
)
def test_quantiles(degrees: int, expected: float) -> None:
    assert student_quantile(0.95, degrees) == pytest.approx(expected, abs=5e-4)


def test_other_levels() -> None:
    assert student_quantile(0.99, 4) == pytest.approx(4.604, abs=5e-4)
    assert student_quantile(0.90, 9) == pytest.approx(1.833, abs=5e-4)


def test_the_interval_of_three_pairs() -> None:
    found = PairedDifference.of([1.0, 2.0, 3.0, math.nan])
    half = 4.3027 / math.sqrt(3)
    assert (found.count, found.risen, found.mean) == (3, 3, 2.0)
    assert found.interval == pytest.approx((2 - half, 2 + half), abs=1e-3)
    assert found.is_noise


def test_two_pairs_have_no_interval_and_are_not_called_noise() -> None:
    found = PairedDifference.of([1.0, -0.5])
    assert (found.count, found.risen, found.interval, found.is_noise) == (2, 1, None, False)
