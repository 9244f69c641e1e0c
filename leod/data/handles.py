"""Open HDF5 files of this process: few at a time, never shared with a parent process."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (registers the blosc filter of the published sequences)

from leod.errors import DataError

MAXIMUM_OPEN_FILES = 64
"""Thousands of sequences take turns; the usual limit is 1024 open files per process."""

_open_files: OrderedDict[Path, h5py.File] = OrderedDict()
_owner = os.getpid()


def open_hdf5(path: Path) -> h5py.File:
    """Open ``path`` for reading, or give back the handle that this process has open already.

    Raises:
        DataError: The file is missing or not a complete HDF5 file.
    """
    global _owner
    if _owner != os.getpid():
        # HDF5 handles must not be used on both sides of a fork.
        _open_files.clear()
        _owner = os.getpid()
    handle = _open_files.get(path)
    if handle is None:
        try:
            handle = h5py.File(path, "r")
        except FileNotFoundError:
            raise DataError(path, "the file does not exist (or a link to it is broken). Preprocess again.") from None
        except OSError as error:
            raise DataError(
                path, f"cannot be read as HDF5 ({error}); it may be cut off. Delete the sequence and preprocess again."
            ) from error
        _open_files[path] = handle
        while len(_open_files) > MAXIMUM_OPEN_FILES:
            _open_files.popitem(last=False)[1].close()
    _open_files.move_to_end(path)
    return handle


def close_hdf5(path: Path) -> None:
    """Close ``path`` if this process has it open, for instance because it is about to be replaced."""
    handle = _open_files.pop(path, None)
    if handle is not None and _owner == os.getpid():
        handle.close()
