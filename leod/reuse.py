"""Was this made already, from the same? One key for all work that is kept, finished or half done.

Stages keep what they have done, since jobs are interrupted: `simulate` and `preprocess` by recording,
`generate_pseudo_labels` by sequence, trainings in working checkpoints. All of it is bound to a `key`: stage, settings,
seed, what the inputs hold, and the program. Work of another key is never gone on with: what a study holds was made by
one program throughout.

Finished results of hours have a second name, too. Snakemake deletes the outputs of a job that did not end under its
eyes: SLURM requeues a job whose node died right after the last step, or Snakemake itself was killed. Hard links in a
hidden folder, with the key, are put back by the next attempt instead of making the results again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from leod.errors import DataError
from leod.files import atomic_directory, atomic_file, disk_errors, file_digest, read_json, write_json
from leod.provenance import source_digest, versions

logger = logging.getLogger(__name__)

_INDEX = "index.json"


@cache
def program_digest() -> str:
    """Digest of this package's source and of the versions of what it computes with."""
    return hashlib.sha256(json.dumps([versions(), source_digest()], sort_keys=True).encode()).hexdigest()


def key(stage: str, settings: BaseModel | None, inputs: Mapping[str, Any], seed: int | None = None) -> str:
    """Digest of everything that determines a result.

    Args:
        stage: What makes it.
        settings: The stage's settings.
        inputs: Role → what stands for its content, as plain JSON data.
        seed: Seed of its random numbers, if it has one.
    """
    content = {
        "stage": stage,
        "settings": None if settings is None else settings.model_dump(mode="json"),
        "inputs": dict(inputs),
        "seed": seed,
        "program": program_digest(),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class FinishedResults:
    """The second names of one job's results. The caller holds the lock of the results.

    Attributes:
        folder: Where they are, on the file system of the results.
        key: See `key`.
    """

    folder: Path
    key: str

    def keep(self, results: Iterable[Path]) -> None:
        """Give the files ``results``, which must be complete, a second name each.

        Raises:
            ResourceError: The disk is full or not writable.
        """
        with atomic_directory(self.folder) as folder:
            digests = {}
            for path in results:
                _link(path, folder / path.name)
                digests[path.name] = file_digest(path).hex()
            write_json(folder / _INDEX, {"key": self.key, "sha256": digests})

    def restore(self, output: Path) -> bool:
        """Put the results back into the folder ``output`` if they were made by the same job and are undamaged.

        Their time of change becomes now, as if they had just been made.

        Returns:
            Whether ``output`` holds the results.

        Raises:
            ResourceError: The disk is full or not writable.
        """
        if not (self.folder / _INDEX).is_file():
            return False
        try:
            index = read_json(self.folder / _INDEX)
            if index["key"] != self.key:
                return False
            for name, digest in index["sha256"].items():
                if file_digest(self.folder / name).hex() != digest:
                    raise DataError(self.folder / name, "was altered")
        except (DataError, OSError, KeyError, TypeError) as reason:
            logger.warning("the finished results in %s are damaged (%s) and made again", self.folder, reason)
            with disk_errors(self.folder):
                shutil.rmtree(self.folder)
            return False
        for name in index["sha256"]:
            with atomic_file(output / name) as temporary:
                _link(self.folder / name, temporary)
                os.utime(temporary)
        logger.info(
            "this was finished before, with the same inputs, settings and program: the results are put back. To have "
            "them made again, delete %s",
            self.folder,
        )
        return True


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:
        # Some file systems know no hard links; a full one will say so again.
        shutil.copyfile(source, target)
