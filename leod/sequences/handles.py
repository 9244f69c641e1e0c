"""Open HDF5 files of this process: few at a time, never shared with a parent process."""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (registers the blosc filter of the published sequences)

from leod.errors import DataError
from leod.sequences.links import missing_file

MAXIMUM_OPEN_FILES = 64
"""Thousands of sequences take turns; the usual limit is 1024 open files per process."""


@dataclass
class _OpenFile:
    file: h5py.File
    datasets: dict[str, h5py.Dataset] = field(default_factory=dict)
    """Looking a dataset up anew takes as long as reading a small frame."""


_open_files: OrderedDict[str, _OpenFile] = OrderedDict()
"""By absolute path: the working folder may change."""
_owner = os.getpid()


def _place(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100  (for every frame: pathlib takes several times as long)


def _entry(path: Path) -> _OpenFile:
    global _owner
    if _owner != os.getpid():
        # HDF5 handles must not be used on both sides of a fork.
        _open_files.clear()
        _owner = os.getpid()
    place = _place(path)
    entry = _open_files.get(place)
    if entry is None:
        try:
            # Every chunk is read once, so that a cache of chunks would only cost a copy.
            entry = _OpenFile(h5py.File(path, "r", rdcc_nbytes=0))
        except FileNotFoundError:
            raise DataError(path, missing_file(path)) from None
        except OSError as error:
            raise DataError(
                path, f"cannot be read as HDF5 ({error}); it may be cut off. Delete the sequence and preprocess again."
            ) from error
        _open_files[place] = entry
        while len(_open_files) > MAXIMUM_OPEN_FILES:
            _open_files.popitem(last=False)[1].file.close()
    _open_files.move_to_end(place)
    return entry


def open_hdf5(path: Path) -> h5py.File:
    """Open ``path`` for reading, or give back the handle that this process has open already.

    Raises:
        DataError: The file is missing or not a complete HDF5 file.
    """
    return _entry(path).file


def open_dataset(path: Path, name: str) -> h5py.Dataset:
    """Open a dataset of the HDF5 file ``path`` for reading, or give back the one that is open already.

    Raises:
        DataError: The file is missing, not a complete HDF5 file, or has no such dataset.
    """
    entry = _entry(path)
    if name not in entry.datasets:
        try:
            dataset = entry.file.get(name)
        except (OSError, KeyError) as error:
            raise DataError(
                path, f"dataset {name!r} cannot be read ({error}). Delete the sequence and preprocess again."
            ) from error
        if not isinstance(dataset, h5py.Dataset):
            raise DataError(path, f"has no dataset {name!r}. Delete the sequence and preprocess again.")
        entry.datasets[name] = dataset
    return entry.datasets[name]


def close_hdf5(path: Path) -> None:
    """Close ``path`` if this process has it open, for instance because it is about to be replaced."""
    entry = _open_files.pop(_place(path), None)
    if entry is not None and _owner == os.getpid():
        entry.file.close()
