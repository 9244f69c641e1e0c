"""Tool `pack`: a finished study as one file that can be handed over."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Annotated

from leod.config.load import load_study
from leod.errors import ConfigError, DataError
from leod.files import check_writable
from leod.options import Argument, Names
from leod.packs.packing import PackOptions, pack_study
from leod.packs.study_files import STUDY_NAME, StudyFiles

logger = logging.getLogger(__name__)


def pack(
    results: Annotated[Path, Argument()],
    output: Annotated[Path, Argument()],
    study: Annotated[Path | None, Names("--study", "-s")] = None,
    overrides: Annotated[list[str] | None, Names("--set")] = None,
    detectors: bool = False,
    lock: list[Path] | None = None,
    author: list[str] | None = None,
    license: str | None = None,
    frames: Annotated[bool, Names("--frames/--no-frames")] = True,
    workflow: Path = Path(),
) -> None:
    """Pack a finished study into one file, a Workflow Run RO-Crate: configuration, results, report, provenance.

    No path, user or host of this machine goes into it, and of recordings and sequences only digests. Unpack it with
    `leod unpack`; `leod compare` takes it as it is.

    Args:
        results: Folder of the results, results/<study>.
        output: The .zip file to write.
        study: The configuration that the study was run with; default: the study.json beside its results.
        overrides: KEY=VALUE, if it was run with a changed value of --study.
        detectors: Also pack the detectors' weights.
        lock: File with the exact versions of the environment; may be repeated.
        author: Whose results these are: "Name" or "Name <https://orcid.org/…>"; may be repeated.
        license: Licence of the results: an SPDX identifier such as CC-BY-4.0, or an address.
        frames: Take digests of the sequences, so that a comparison can name a changed one; reads all of them.
        workflow: Folder with the workflow's Snakefile.

    Raises:
        ConfigError: The configuration is wrong.
        DataError: The study is not finished, was run with another configuration, or a file is damaged.
        ResourceError: The disk is full or not writable.
    """
    if output.suffix != ".zip":
        raise ConfigError(f"{output}: a pack is a ZIP file; give a name that ends in .zip")
    check_writable(output)
    files = StudyFiles(Path(results))
    files.check_finished()
    configuration = study or files.folder / STUDY_NAME
    if not configuration.is_file():
        raise DataError(configuration, "does not exist: name the file that the study was run with, --study FILE.")
    options = PackOptions(
        detectors=detectors,
        frames=frames,
        locks=lock or (),
        authors=dict(_author(text) for text in author or ()),
        license=license,
    )
    count = pack_study(files, load_study(configuration, overrides or ()), workflow, output, options)
    logger.info("%s: %d files, %.1f MB", output, count, output.stat().st_size / 1e6)


def _author(text: str) -> tuple[str, str]:
    found = re.fullmatch(r"\s*([^<>]*[^<>\s])\s*(?:<(https?://[^<>\s]+)>)?\s*", text)
    if found is None:
        raise ConfigError(f'--author {text!r}: expected "Name" or "Name <https://orcid.org/…>"')
    return found[1], found[2] or ""
