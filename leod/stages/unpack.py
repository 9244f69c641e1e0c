"""Tool `unpack`: a packed study as a folder, ready to be run again."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

from leod.config.load import load_study
from leod.options import Argument
from leod.packs.archive import unpack_archive
from leod.packs.names import STUDY_FILE
from leod.packs.packing import data_needed

logger = logging.getLogger(__name__)


def unpack(pack: Annotated[Path, Argument()], folder: Annotated[Path, Argument()]) -> None:
    """Unpack a study, check every file, and say how to run it again.

    Args:
        pack: What `leod pack` wrote.
        folder: New folder for its files: the configuration study.json, the original's results to compare with, the
            versions of its packages.

    Raises:
        ConfigError: This version of leod does not know the study's settings.
        DataError: The file is no pack, or damaged; or the folder is not empty.
        ResourceError: The disk is full or not writable.
    """
    contents = unpack_archive(pack, folder)
    configuration = folder / STUDY_FILE
    study = load_study(configuration)
    dataset, checkpoint = study.dataset, study.pretrain.from_checkpoint
    needed = data_needed(
        study,
        dataset.name,
        (dataset.recordings or dataset.sequences).as_posix(),
        [] if checkpoint is None else [checkpoint.as_posix()],
    )
    locks = sorted((folder / "locks").glob("*"))
    shown = os.path.relpath(folder)
    lines = [f"{shown}: the study {contents.study}, {len(contents.files)} files, all as they were packed.", *needed]
    lines += ["To run it again, in a clone of the workflow:"]
    lines += [f"    pip install -r '{os.path.relpath(path)}' && pip install --no-deps ." for path in locks[:1]]
    lines += [f"    snakemake --configfile '{shown}/{STUDY_FILE}'", f"    leod compare '{shown}' {contents.results}"]
    sys.stdout.write("\n".join(lines) + "\n")
