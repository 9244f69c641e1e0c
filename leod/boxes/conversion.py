"""Checked reading of foreign arrays and their conversion to our box types."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from leod.errors import DataError

_TIME_SPELLINGS = ("t", "ts")
_LARGEST_COORDINATE = 1e9
_LARGEST_TIME_US = 2**62


def load_arrays(path: Path, *names: str) -> tuple[np.ndarray, ...]:
    """Load arrays from an .npz file, or without names the one array of an .npy file. Pickles are never loaded.

    Raises:
        DataError: The file is missing, damaged, of another kind, or lacks an array.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            if names:
                raise DataError(path, f"is a single array; expected an .npz file with {list(names)}.")
            return (loaded,)
        with loaded:
            if not names:
                raise DataError(path, "is an .npz file; expected a single array (.npy).")
            absent = [name for name in names if name not in loaded.files]
            if absent:
                raise DataError(path, f"lacks the array(s) {absent}; it holds {sorted(loaded.files)}.")
            return tuple(loaded[name] for name in names)
    except FileNotFoundError:
        if Path(path).is_symlink():
            problem = f"is a link to {Path(path).readlink()}, which does not exist. Restore it or make the set again."
        else:
            problem = "the file does not exist. The sequence is incomplete; preprocess it again."
        raise DataError(path, problem) from None
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, KeyError, SyntaxError) as error:
        raise DataError(
            path, f"cannot be read as a NumPy file ({error}); it is truncated or damaged. Make it again."
        ) from None


def _row(index: int) -> str:
    return f"row {index}"


def convert_rows(
    path: Path,
    rows: np.ndarray,
    dtype: np.dtype,
    substitutes: Mapping[str, str | float],
    describe: Callable[[int], str] = _row,
) -> np.ndarray:
    """Convert a structured array to ``dtype`` by field name and check every value.

    Both spellings of the time ('t', 'ts') and any numeric types are taken; fields that ``dtype`` lacks are left out.

    Args:
        path: File to name in errors.
        rows: Structured array [M].
        dtype: The wanted type, with the fields t, x, y, w, h, class_id, ...
        substitutes: For fields that may be missing: the name of the field to copy instead, or a constant.
        describe: Names a row in errors.

    Returns:
        Array of ``dtype`` [M]; padding bytes are zero.

    Raises:
        DataError: Fields are missing or not numbers, or a row holds an impossible value: NaN or infinity, a negative
            size, a time stamp or id that is not a whole number of at least 0.
    """
    names = rows.dtype.names or ()
    sources: dict[str, str | float] = {
        name: name if name in names else substitutes.get(name, "") for name in dtype.names
    }
    if "t" not in names:
        sources["t"] = next((name for name in _TIME_SPELLINGS if name in names), "")
    missing = [
        name for name, source in sources.items() if source == "" or (isinstance(source, str) and source not in names)
    ]
    if rows.ndim != 1 or missing:
        needed = [name for name in dtype.names if name not in substitutes]
        raise DataError(
            path,
            f"expected a one-dimensional structured array with the fields {needed} ('ts' for 't' is accepted); it has "
            f"shape {rows.shape} and the fields {list(names)}" + (f", {missing} are missing." if names else "."),
        )
    converted = np.zeros(len(rows), dtype)
    for target, source in sources.items():
        if isinstance(source, str):
            _check_values(path, source, target, rows[source], dtype[target], describe)
            converted[target] = rows[source]
        else:
            converted[target] = source
    return converted


def _check_values(
    path: Path, name: str, target: str, values: np.ndarray, dtype: np.dtype, describe: Callable[[int], str]
) -> None:
    if values.ndim != 1 or values.dtype.kind not in "iuf":
        raise DataError(path, f"field {name!r} must hold one number per row; it is of type {values.dtype}.")
    if dtype.kind in "iu":
        expected = "a whole number of at least 0"
        # NaN compares false and is thus never valid.
        valid = (values >= 0) & (values <= (_LARGEST_TIME_US if dtype.kind == "i" else np.iinfo(dtype).max))
        if values.dtype.kind == "f":
            valid &= values == np.floor(values)
    elif target in ("w", "h"):
        expected = "a finite size of at least 0"
        valid = (values >= 0) & (values <= _LARGEST_COORDINATE)
    else:
        expected = "a finite number"
        valid = np.abs(values) <= _LARGEST_COORDINATE
    if not valid.all():
        wrong = np.flatnonzero(~valid)
        raise DataError(
            path,
            f"{describe(int(wrong[0]))}: {name} is {values[wrong[0]]}, expected {expected} ({len(wrong)} such rows). "
            "The file is damaged or of another kind; correct it or make it again.",
        )
