"""Finding the recordings of a split and the boxes that belong to them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from leod.boxes.box_files import BOX_FILE_SUFFIXES
from leod.errors import DataError
from leod.recordings.recording import RECORDING_SUFFIXES

_RECORDING = re.compile(
    r"(?P<name>.+?)(_td)?(\.dat)?(" + "|".join(re.escape(suffix) for suffix in RECORDING_SUFFIXES) + ")", re.IGNORECASE
)
_BOXES = re.compile(
    r"(?P<name>.+)_bbox(" + "|".join(re.escape(suffix) for suffix in BOX_FILE_SUFFIXES) + ")", re.IGNORECASE
)
_MAYBE_BOXES = (".csv", ".json", ".npy", ".npz", ".txt", ".xml")
"""Endings of files in which people keep boxes."""

_DSEC_EVENTS = Path("events/left/events.h5")
_DSEC_BOXES = Path("object_detections/left/tracks.npy")


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


@dataclass(frozen=True)
class _Folder:
    """What lies in the folder of a split.

    Attributes:
        events: Name of a recording → its file.
        boxes: Name of a recording → its box file.
        others: Everything else that is not to be ignored.
    """

    events: dict[str, Path]
    boxes: dict[str, Path]
    others: list[Path]


def _classify(path: Path) -> Iterator[tuple[str, str, Path]]:
    """What a file or folder is: ('events' or 'boxes', name of the recording, file); nothing if neither."""
    if path.is_dir():
        if (path / _DSEC_EVENTS).is_file():
            yield "events", path.name, path / _DSEC_EVENTS
            if (path / _DSEC_BOXES).is_file():
                yield "boxes", path.name, path / _DSEC_BOXES
    elif match := _BOXES.fullmatch(path.name):
        yield "boxes", match["name"], path
    elif match := _RECORDING.fullmatch(path.name):
        yield "events", match["name"], path


def _look_through(folder: Path, ignore: Iterable[str]) -> _Folder:
    """Sort the files of a folder.

    Raises:
        DataError: A name occurs twice, or a link leads nowhere.
    """
    found = _Folder({}, {}, [])
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or any(fnmatch(path.name, pattern) for pattern in ignore):
            continue
        if path.is_symlink() and not path.exists():
            raise DataError(path, f"is a link to {path.readlink()}, which does not exist. Restore or remove it.")
        kinds = list(_classify(path))
        for kind, name, file in kinds:
            known = getattr(found, kind)
            if name in known:
                raise DataError(file, f"there is also {known[name].name} for {name!r}. Keep one of the two.")
            known[name] = file
        if not kinds:
            found.others.append(path)
    return found


def find_recordings(
    folder: Path, unlabelled: bool = False, skip: Collection[str] = (), ignore: Collection[str] = ()
) -> list[RecordingFiles]:
    """Find the recordings of one split.

    Events: `<name>_td.dat`, `<name>_td.dat.h5`, `<name>_td.h5`, or `<name>` with one of the suffixes that
    `leod.recordings.recording` reads. Boxes: `<name>_bbox` with one of the suffixes that `leod.boxes.box_files` reads.
    Suffixes count in upper case, too. A folder in DSEC's layout is a recording: `<name>/events/left/events.h5` with
    `<name>/object_detections/left/tracks.npy`.

    Args:
        folder: The split's folder.
        unlabelled: Whether recordings without a box file are welcome.
        skip: Names of recordings that are left out.
        ignore: Patterns of files that are passed over.

    Returns:
        The recordings sorted by name, without the skipped ones.

    Raises:
        DataError: The folder is missing or holds no recording, a name occurs twice, a link leads nowhere, a box file
            has no recording, a recording has no box file and ``unlabelled`` is false, or it has none, but a file that
            looks like one.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(folder, "the folder does not exist; expected the recordings of a split in it.")
    found = _look_through(folder, ignore)
    if not found.events:
        raise DataError(
            folder, f"holds no recordings; expected files like <name>_td.dat (also {', '.join(RECORDING_SUFFIXES)})."
        )
    wanted = {name: path for name, path in found.events.items() if name not in skip}
    orphans = sorted(found.boxes.keys() - found.events.keys() - set(skip))
    if orphans:
        raise DataError(found.boxes[orphans[0]], f"has no recording {orphans[0]}_td.dat (or another format) beside it.")
    bare = sorted(wanted.keys() - found.boxes.keys())
    for name in bare:
        _refuse_overlooked_boxes(name, wanted[name], found.others)
    if bare and not unlabelled:
        raise DataError(
            wanted[bare[0]],
            f"has no boxes: expected {bare[0]}_bbox.npy beside it ({len(bare)} such recordings). Add the file, or set "
            "'unlabelled_recordings: true' if the recording has no labels.",
        )
    return [RecordingFiles(name, path, found.boxes.get(name)) for name, path in sorted(wanted.items())]


def is_recording(path: Path) -> bool:
    """Whether `recording_files` is to be asked about a path: a file, or a recording's folder in DSEC's layout."""
    path = Path(path)
    return not path.is_dir() or (path / _DSEC_EVENTS).is_file()


def folder_or_file(files: RecordingFiles) -> Path:
    """The path that names a recording: its file, or its folder in DSEC's layout."""
    if files.events.parts[-len(_DSEC_EVENTS.parts) :] == _DSEC_EVENTS.parts:
        return files.events.parents[len(_DSEC_EVENTS.parts) - 1]
    return files.events


def recording_files(path: Path) -> RecordingFiles:
    """The files of one recording: its events and, if there are any, the boxes beside it.

    Args:
        path: File of the events, or a recording's folder in DSEC's layout.

    Raises:
        DataError: The recording does not exist or is of an unknown format, there are two box files, or none but a file
            that looks like one.
    """
    path = Path(path)
    if path.is_dir() and (path / _DSEC_EVENTS).is_file():
        boxes = path / _DSEC_BOXES
        return RecordingFiles(path.resolve().name, path / _DSEC_EVENTS, boxes if boxes.is_file() else None)
    if not path.exists():
        raise DataError(path, "the recording does not exist.")
    match = None if path.is_dir() else _RECORDING.fullmatch(path.name)
    if match is None:
        raise DataError(path, f"is no recording; expected a file that ends in {', '.join(RECORDING_SUFFIXES)}.")
    if path.resolve().parts[-3:] == _DSEC_EVENTS.parts:
        return recording_files(path.resolve().parents[2])
    beside = [entry for entry in sorted(path.parent.iterdir()) if not entry.name.startswith(".") and entry.is_file()]
    boxes = [entry for entry in beside if (found := _BOXES.fullmatch(entry.name)) and found["name"] == match["name"]]
    if len(boxes) > 1:
        raise DataError(boxes[1], f"there is also {boxes[0].name} for {match['name']!r}. Keep one of the two.")
    if not boxes:
        others = [entry for entry in beside if not list(_classify(entry))]
        _refuse_overlooked_boxes(match["name"], path, others)
    return RecordingFiles(match["name"], path, boxes[0] if boxes else None)


def _refuse_overlooked_boxes(name: str, recording: Path, others: Iterable[Path]) -> None:
    """A recording may be without boxes, but not because its box file has another name."""
    for path in others:
        if path.suffix.lower() in _MAYBE_BOXES and re.match(rf"{re.escape(name)}(?![A-Za-z0-9])", path.name):
            raise DataError(
                path,
                f"lies beside {recording.name}, which has no box file: boxes are read from {name}_bbox with one of the "
                f"endings {', '.join(BOX_FILE_SUFFIXES)}. If it holds the boxes, rename (or convert) it; "
                "if it does not, list it in the data set file: ignore_files.",
            )


def overlooked_files(folder: Path, ignore: Collection[str] = ()) -> list[Path]:
    """Files and folders of a split that are neither a recording nor its boxes, sorted by name.

    Hidden ones, and those that ``ignore`` names, do not count.

    Raises:
        DataError: A name occurs twice, or a link leads nowhere.
    """
    return _look_through(Path(folder), ignore).others


def files_of_split(folder: Path) -> list[Path]:
    """All files from which the sequences of a split are made, sorted; none if the folder does not exist."""
    folder = Path(folder)
    if not folder.is_dir():
        return []
    inside = [entry / part for entry in folder.iterdir() for part in (_DSEC_EVENTS, _DSEC_BOXES)]
    return sorted(path for path in (*folder.iterdir(), *inside) if path.is_file())


def recordings_by_name(folder: Path) -> dict[str, RecordingFiles]:
    """Name → recording of a split, with its boxes if there are any; what else lies there does not matter.

    Raises:
        DataError: The folder is missing, a name occurs twice, or a link leads nowhere.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(folder, "the folder does not exist; expected the recordings of a split in it.")
    found = _look_through(folder, ())
    return {name: RecordingFiles(name, path, found.boxes.get(name)) for name, path in found.events.items()}


def names_in(folder: Path, skip: Collection[str] = (), ignore: Collection[str] = ()) -> set[str]:
    """Names of the recordings of a split, without the skipped ones; none if the folder does not exist."""
    folder = Path(folder)
    return _look_through(folder, ignore).events.keys() - set(skip) if folder.is_dir() else set()


def new_box_file(files: RecordingFiles) -> Path:
    """Where the boxes of a recording without a box file belong."""
    return folder_or_file(files).parent / f"{files.name}_bbox.csv"
