"""Formats of labelling tools: which there are, and which one an export is in.

They are few, small and plain text, so they are written and read here. A library that knows most of them (datumaro)
reads no annotations without the pictures beside them, does not say which row of a file is at fault, knows nothing of
Label Studio, and pins older versions of packages that are used here; in the tests it reads back what is written here.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from leod.errors import ConfigError, DataError
from leod.labelling import format_coco, format_cvat, format_label_studio, format_voc, format_yolo
from leod.labelling.annotations import DrawnPicture, Export, ExportFiles

_MODULES: dict[str, ModuleType] = {
    module.NAME: module for module in (format_label_studio, format_coco, format_cvat, format_yolo, format_voc)
}

FORMAT_NAMES = tuple(_MODULES)
"""Names of the formats."""


def parse_formats(text: str) -> tuple[str, ...]:
    """Names of formats, separated by commas.

    Raises:
        ConfigError: A name is unknown.
    """
    names = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",")))
    for name in names:
        if name not in _MODULES:
            raise ConfigError(f"--format {name!r} does not exist; possible are {', '.join(FORMAT_NAMES)}")
    return names


def write_formats(folder: Path, export: Export, names: Iterable[str]) -> None:
    """Write an export in some formats, each into a folder of its name."""
    for name in names:
        (folder / name).mkdir()
        _MODULES[name].write(folder / name, export)


def read_export(path: Path, name: str | None = None) -> tuple[list[DrawnPicture], set[str]]:
    """Read what a tool has exported.

    Args:
        path: File, folder or zip archive.
        name: The format; None: the content tells.

    Returns:
        The annotated pictures, and the ids of the exports that they say they belong to, if they do.

    Raises:
        ConfigError: ``name`` is unknown.
        DataError: The content is of no or of several formats, or damaged.
    """
    files = ExportFiles(path)
    if name is not None:
        (name,) = parse_formats(name)[:1]
    found = {
        known: names
        for known, module in _MODULES.items()
        if name in (None, known) and (names := module.recognise(files))
    }
    # Label Studio and others put a list of classes beside files of another kind, never the other way round.
    if len(found) > 1:
        raise DataError(
            files.path,
            f"holds files of several formats ({', '.join(found)}). Give one of their folders or files, or say which: "
            "--format FORMAT.",
        )
    if not found:
        _refuse_damaged(files)
        raise DataError(
            files.path,
            f"holds no annotations {f'in the format {name}' if name else 'in a known format'}; known are "
            f"{', '.join(FORMAT_NAMES)}. Label Studio: export as JSON; CVAT: as CVAT for images 1.1.",
        )
    ((known, names),) = found.items()
    module = _MODULES[known]
    return module.read(files, names), module.export_ids(files, names)


def _refuse_damaged(files: ExportFiles) -> None:
    """Say so where nothing is recognised because a file is damaged."""
    for name in files.names:
        try:
            if name.lower().endswith(".json"):
                json.loads(files.text(name))
            elif name.lower().endswith(".xml"):
                ElementTree.fromstring(files.text(name))
        except (json.JSONDecodeError, ElementTree.ParseError) as error:
            raise DataError(files.place(name), f"is damaged ({error}). Export it again.") from None
