"""Whether what a manifest lists is still there.

A workflow knows the manifests of recordings and sequences, not the thousands of files and folders that they list. These
functions tell it of those that were deleted, at the cost of reading the manifest and one directory a split.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from leod.errors import DataError
from leod.files import read_json

_RECORDING_SUFFIXES = ("_td.dat", "_bbox.npy")
"""Ends of the names of the files that make up a simulated recording."""


def lost_sequences(manifest: Path, sequences: Path) -> list[str]:
    """The sequences that a manifest of `preprocess` lists and whose folders are gone, as ``split/name``.

    Args:
        manifest: The JSON file; one that does not exist or cannot be read lists nothing.
        sequences: Folder of the data set.
    """
    content = _content(manifest)
    split = content.get("split", "")
    return _lost(sequences, split, content.get("sequences", ()), ("",))


def lost_recordings(manifest: Path, recordings: Path) -> list[str]:
    """The files of recordings that a manifest of `simulate` lists and that are gone, as ``split/name``.

    Args:
        manifest: The JSON file; one that does not exist or cannot be read lists nothing.
        recordings: Folder of the recordings.
    """
    return [
        name
        for split, entries in _content(manifest).get("splits", {}).items()
        for name in _lost(recordings, split, entries, _RECORDING_SUFFIXES)
    ]


def describe_names(folder: Path) -> str:
    """Number and digest of the names in a folder, hidden ones left out: another text for another set of names."""
    names = sorted(name for name in _names(folder) if not name.startswith("."))
    return f"{len(names)}, {hashlib.sha256(os.fsencode('/'.join(names))).hexdigest()[:16]}"


def _content(manifest: Path) -> dict[str, Any]:
    try:
        content = read_json(manifest)
    except DataError:
        # The stages that read it will say so; here nothing is known of what it listed.
        return {}
    return content if isinstance(content, dict) else {}


def _lost(root: Path, split: str, entries: list[dict[str, Any]], suffixes: tuple[str, ...]) -> list[str]:
    listed = [entry["name"] + suffix for entry in entries for suffix in suffixes]
    present = _names(Path(root) / split) if listed else set()
    return [f"{split}/{name}" for name in listed if name not in present]


def _names(folder: Path) -> set[str]:
    try:
        return {entry.name for entry in os.scandir(folder)}
    except (FileNotFoundError, NotADirectoryError):
        return set()
