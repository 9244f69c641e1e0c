"""The list of moments that a person should label."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from leod.errors import DataError
from leod.labelling.moments import Moment, read_moments, write_moments


def moments_in(folder: Path) -> list[Moment]:
    """Two moments of recordings beside and below ``folder``."""
    return [
        Moment(folder / "a.raw", 1_250_000, "much moves", 0.5),
        Moment(folder / "more" / "Straße 2.dat", 1_790_000_000_000_000, "views disagree, tracks break", 0.25),
    ]


def test_moments_come_back_in_their_order(tmp_path: Path) -> None:
    write_moments(tmp_path / "moments.csv", moments_in(tmp_path))
    assert read_moments(tmp_path / "moments.csv") == moments_in(tmp_path)


def test_moments_move_with_their_recordings(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    write_moments(tmp_path / "one" / "moments.csv", moments_in(tmp_path / "one"))
    shutil.move(tmp_path / "one", tmp_path / "other")
    assert read_moments(tmp_path / "other" / "moments.csv") == moments_in(tmp_path / "other")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "column 'recording' is missing"),
        ("recording,reason\na.raw,x\n", "column 't_us' is missing"),
        ("recording,t_us\n", "names no moment"),
        ("recording,t_us\na.raw,0.5\n", "line 2: t_us must be a whole number"),
        ("recording,t_us\na.raw\n", "line 2: t_us must be a whole number"),
        ("recording,t_us,score\na.raw,5,nan\n", "line 2: score must be finite"),
        ("recording,t_us\n,5\n", "line 2: names no recording"),
        ("recording,t_us\na.raw,5\nb.raw,5\na.raw,5\n", "entry 3: 5 µs .* stands in entry 1, too"),
    ],
)
def test_a_wrong_list_is_an_error_that_names_the_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "moments.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_moments(tmp_path / "moments.csv")


def test_a_missing_list_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_moments(tmp_path / "moments.csv")
