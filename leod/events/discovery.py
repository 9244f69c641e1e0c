"""Finding the recordings of a split and the boxes that belong to them."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from leod.errors import DataError
from leod.events.recording import RECORDING_SUFFIXES
from leod.labels.formats import BOX_FILE_SUFFIXES

_RECORDING = re.compile(
    r"(?P<name>.+?)(_td)?(\.dat)?(" + "|".join(re.escape(suffix) for suffix in RECORDING_SUFFIXES) + ")"
)
_BOXES = re.compile(r"(?P<name>.+)_bbox(" + "|".join(re.escape(suffix) for suffix in BOX_FILE_SUFFIXES) + ")")


@dataclass(frozen=True)
class RecordingFiles:
    """The files of one recording.

    Attributes:
        name: Name of the recording and of its sequence.
        events: File of the events.
        boxes: File of the boxes; None for a recording without labels.
    """

    name: str
    events: Path
    boxes: Path | None


def find_recordings(folder: Path, unlabelled: bool = False, skip: Collection[str] = ()) -> list[RecordingFiles]:
    """Find the recordings of one split.

    Events: `<name>_td.dat`, `<name>_td.dat.h5`, `<name>_td.h5`, or `<name>` with one of the suffixes that
    `leod.events.recording` reads. Boxes: `<name>_bbox` with one of the suffixes that `leod.labels.formats` reads.

    Args:
        folder: The split's folder.
        unlabelled: Whether recordings without a box file are welcome.
        skip: Names of recordings that are left out.

    Returns:
        The recordings sorted by name, without the skipped ones.

    Raises:
        DataError: The folder is missing or holds no recording, a name occurs twice, a box file has no recording, or a
            recording has no box file and ``unlabelled`` is false.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(folder, "the folder does not exist; expected the recordings of a split in it.")
    events: dict[str, Path] = {}
    boxes: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file():
            continue
        for pattern, found in ((_BOXES, boxes), (_RECORDING, events)):
            match = pattern.fullmatch(path.name)
            if match is None:
                continue
            name = match["name"]
            if name in found:
                raise DataError(path, f"there is also {found[name].name} for {name!r}. Keep one of the two.")
            found[name] = path
            break
    if not events:
        raise DataError(
            folder, f"holds no recordings; expected files like <name>_td.dat (also {', '.join(RECORDING_SUFFIXES)})."
        )
    wanted = {name: path for name, path in events.items() if name not in skip}
    orphans = sorted(boxes.keys() - events.keys() - set(skip))
    if orphans:
        raise DataError(boxes[orphans[0]], f"has no recording {orphans[0]}_td.dat (or another format) beside it.")
    bare = sorted(wanted.keys() - boxes.keys())
    if bare and not unlabelled:
        raise DataError(
            wanted[bare[0]],
            f"has no boxes: expected {bare[0]}_bbox.npy beside it ({len(bare)} such recordings). Add the file, or set "
            "'unlabelled_recordings: true' if the recording has no labels.",
        )
    return [RecordingFiles(name, path, boxes.get(name)) for name, path in sorted(wanted.items())]
