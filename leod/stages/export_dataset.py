"""Stage `export_dataset`: a data set whose links LEOD's own programs can follow."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Annotated

from leod.errors import ConfigError, DataError
from leod.files import atomic_directory
from leod.options import Argument
from leod.progress import progress
from leod.sequences.layout import SPLITS, list_sequences
from leod.sequences.links import frames_behind, missing_file

logger = logging.getLogger(__name__)


def export_dataset(dataset: Annotated[Path, Argument()], output: Path, sequences: Path | None = None) -> None:
    """Write a pseudo-labelled data set for the published LEOD code: labels are copied, events are absolute links.

    The links of `track_filter` are relative to their own folder, so that a project can be moved as a whole. The
    programs of the public repository Wuziyi616/LEOD follow the text of a link from the folder that they run in, and
    find the events only by absolute links. The set itself is left as it is: nothing becomes stale.

    Args:
        dataset: The data set, ours or LEOD's.
        output: Folder to make. LEOD's programs tell data sets apart by `gen1` or `gen4` in this path.
        sequences: The original data set: where links of ``dataset`` lead nowhere, it has what they stood for.

    Raises:
        ConfigError: ``output`` exists, or lies in ``dataset``.
        DataError: ``dataset`` is none, or a link leads nowhere.
        ResourceError: The disk is full or not writable.
    """
    dataset, output = Path(dataset), Path(output)
    if output.exists() or output.resolve().is_relative_to(dataset.resolve()):
        raise ConfigError(f"{output}: exists already, or lies in the data set. Give the name of a new folder.")
    splits = [split for split in SPLITS if (dataset / split).is_symlink() or (dataset / split).is_dir()]
    if not splits:
        raise DataError(dataset, f"is no data set; expected the folder(s) {', '.join(SPLITS)} with sequences in it.")
    with atomic_directory(output) as folder:
        for split in splits:
            if (dataset / split).is_symlink():
                (folder / split).symlink_to(_split_behind(dataset / split, sequences))
                continue
            for sequence in progress(list_sequences(dataset, split), f"exporting {split}", unit="sequence"):
                _export_sequence(sequence, folder / split / sequence.name, sequences)
    logger.info("wrote %s: %s", output, ", ".join(splits))


def _split_behind(path: Path, originals: Path | None) -> Path:
    """The folder that a whole split is a link to."""
    candidates = [path] if originals is None else [path, Path(originals) / path.name]
    for candidate in candidates:
        if candidate.is_dir():
            return candidate.resolve()
    raise DataError(path, missing_file(path))


def _export_sequence(source: Path, destination: Path, originals: Path | None) -> None:
    """Copy one sequence; events, and whatever else is a link, become absolute links."""
    for place, _, names in os.walk(source, followlinks=True):
        folder = destination / Path(place).relative_to(source)
        folder.mkdir(parents=True)
        for name in (name for name in names if not name.startswith(".")):
            path = Path(place) / name
            if path.suffix == ".h5":
                (folder / name).symlink_to(frames_behind(path, originals).resolve())
            elif not path.exists():
                raise DataError(path, missing_file(path))
            elif path.is_symlink():
                (folder / name).symlink_to(path.resolve())
            else:
                shutil.copyfile(path, folder / name)
