"""What a result file says, apart from when, where and by whom it was written: what two studies are compared by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from leod.boxes.conversion import load_arrays
from leod.errors import DataError
from leod.files import file_digest, read_json
from leod.models.checkpoint import read_detector_file

UNESSENTIAL = ("provenance", "key")
"""Keys of JSON results that say how they came about: settings and times, and the digest of both."""
_OF_THE_PLACE = ("root", "link_target", "removed")
"""Keys of the data stages' results that say where they were written, and what was lying there before."""
_ROWS_AT_A_TIME = 64


def content_digest(path: Path) -> str:
    """SHA-256 of what a file says: weights of a detector, arrays, values; other files' bytes.

    Times, provenance, compression and the padding of structured rows make no difference.

    Raises:
        DataError: The file is missing or cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(path, "the file does not exist. Run the stage that makes it first.")
    return _READERS.get(path.suffix, lambda entry: file_digest(entry).hex())(path)


def essential(content: Any) -> Any:
    """The content of a JSON result without how and where it came about."""
    if not isinstance(content, Mapping):
        return content
    return {key: _anywhere(value) for key, value in content.items() if key not in (*UNESSENTIAL, *_OF_THE_PLACE)}


def _anywhere(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _anywhere(entry) for key, entry in value.items() if key not in _OF_THE_PLACE}
    return [_anywhere(entry) for entry in value] if isinstance(value, list) else value


def combined_digest(parts: Mapping[str, str]) -> str:
    """One digest of several named ones."""
    return hashlib.sha256(json.dumps(dict(sorted(parts.items()))).encode()).hexdigest()


def _of_json(path: Path) -> str:
    return hashlib.sha256(json.dumps(essential(read_json(path)), sort_keys=True).encode()).hexdigest()


def _of_detector(path: Path) -> str:
    content = read_detector_file(path)
    digest = hashlib.sha256()
    for part in (content.model, content.sequence):
        digest.update(part.model_dump_json().encode())
    for name, tensor in content.state_dict.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _of_arrays(path: Path) -> str:
    try:
        with np.load(path, allow_pickle=False) as file:
            names = sorted(file.files)
    except (OSError, ValueError, EOFError, KeyError):
        names = []
    digest = hashlib.sha256()
    # Reading them by name makes whatever is wrong a message.
    for name, array in zip(names, load_arrays(path, *names), strict=True):
        _add_array(digest, name, array)
    return digest.hexdigest()


def _of_array(path: Path) -> str:
    (array,) = load_arrays(path)
    digest = hashlib.sha256()
    _add_array(digest, "", array)
    return digest.hexdigest()


def _of_hdf5(path: Path) -> str:
    digest = hashlib.sha256()

    def add(name: str, entry: h5py.Group | h5py.Dataset) -> None:
        for key in sorted(set(entry.attrs) - set(UNESSENTIAL)):
            digest.update(f"{name}@{key}={entry.attrs[key]!r}".encode())
        if not isinstance(entry, h5py.Dataset):
            return
        if entry.ndim == 0:
            _add_array(digest, name, np.asarray(entry[()]))
            return
        digest.update(f"{entry.shape}".encode())
        for first in range(0, len(entry), _ROWS_AT_A_TIME):
            _add_array(digest, name, entry[first : first + _ROWS_AT_A_TIME])

    try:
        with h5py.File(path) as file:
            add("", file)
            names: list[str] = []
            file.visit(names.append)
            for name in sorted(names):
                add(name, file[name])
    except (OSError, RuntimeError, KeyError) as error:
        raise DataError(path, f"cannot be read ({error}). Delete it and rerun the stage that makes it.") from None
    return digest.hexdigest()


def _add_array(digest: Any, name: str, array: np.ndarray) -> None:
    digest.update(
        f"{name} {array.dtype.str if array.dtype.names is None else array.dtype.names} {array.shape}".encode()
    )
    # Structured rows have padding, which reading fills with chance bytes.
    for column in array.dtype.names or [None]:
        values = array if column is None else array[column]
        digest.update(np.ascontiguousarray(values).tobytes())


_READERS: dict[str, Callable[[Path], str]] = {
    ".ckpt": _of_detector,
    ".h5": _of_hdf5,
    ".json": _of_json,
    ".npy": _of_array,
    ".npz": _of_arrays,
}
