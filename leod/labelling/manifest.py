"""The manifest of an export: which picture shows which moment of which recording.

`manifest.json` lies in the folder of the export. Its `export_id` is a digest of all the rest, so that a manifest that
somebody has edited is noticed: places and times of boxes hang on it. Recordings stand in it by their path relative to
the folder, their name, and a digest of their beginning, so that one that was moved or replaced is noticed as well.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from leod.boxes.dtypes import IGNORED_CLASS_ID, LABEL_DTYPE
from leod.config.schema import IGNORED_CLASS_NAME
from leod.errors import ConfigError, DataError
from leod.files import read_json, write_json
from leod.recordings.discovery import RecordingFiles, recording_files

MANIFEST_NAME = "manifest.json"

_FORMAT = "leod labelling manifest"
_VERSION = 1
_BEGINNING_BYTES = 1 << 20
_LONGEST_NAME = 60


@dataclass(frozen=True)
class ExportedRecording:
    """A recording whose moments were exported.

    Attributes:
        name: Its name, as box files have it.
        path: The file, or the folder in DSEC's layout; where it was at the time of the export.
        digest: Of the beginning of its events, see `beginning_digest`.
        height: Sensor height in pixels.
        width: Sensor width in pixels.
    """

    name: str
    path: Path
    digest: str
    height: int
    width: int


@dataclass(frozen=True)
class ExportedPicture:
    """A picture to label.

    Attributes:
        file: Name of the PNG, without a folder; it ends in ``_t<t_us>_<key>.png``.
        recording: What it shows.
        t_us: Which moment, microseconds on the recording's clock.
        scale: Pixels of the picture for one of the sensor.
        left: Where in the picture the frame begins, pixels of the picture from the left.
        top: The same from above.
        size: (height, width) of the picture in its pixels.
        windows_us: Lengths of the windows that were drawn; the first is that of the picture.
        reason: Why the moment was chosen.
        boxes: What the boxes were when the picture went out, `LABEL_DTYPE` [n] in pixels of the sensor; a detector's,
            for example.
    """

    file: str
    recording: ExportedRecording
    t_us: int
    scale: int
    left: int
    top: int
    size: tuple[int, int]
    windows_us: tuple[int, ...]
    reason: str = ""
    boxes: np.ndarray = field(default_factory=lambda: np.zeros(0, LABEL_DTYPE), compare=False)


@dataclass(frozen=True)
class Manifest:
    """What was exported.

    Attributes:
        path: The file.
        export_id: Digest of the rest; the formats that can carry it do.
        classes: Class names in label-id order.
        pictures: In the order of the list of moments.
    """

    path: Path
    export_id: str
    classes: tuple[str, ...]
    pictures: tuple[ExportedPicture, ...]


def beginning_digest(events: Path) -> str:
    """Digest of the beginning of a recording, by which it is known again under another name.

    Args:
        events: File of the events.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        with Path(events).open("rb") as file:
            return hashlib.sha256(file.read(_BEGINNING_BYTES)).hexdigest()[:16]
    except OSError as error:
        raise DataError(events, f"cannot be read ({error}).") from None


def picture_name(recording: ExportedRecording, t_us: int, scale: int, windows_us: SequenceOf[int]) -> str:
    """File name of a picture, by which it is known again after a tool has put something before or behind it.

    Its key stands for recording, moment and geometry, so a picture of another export is never taken for one of this.
    """
    content = [recording.name, recording.digest, recording.height, recording.width, t_us, scale, list(windows_us)]
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:10]
    plain = re.sub(r"[^A-Za-z0-9]+", "-", recording.name).strip("-")[:_LONGEST_NAME]
    return f"{plain or 'recording'}_t{t_us}_{key}.png"


def class_name(class_id: int, classes: SequenceOf[str]) -> str:
    """Name of a class id that the classes have, or that of ignored boxes."""
    return IGNORED_CLASS_NAME if class_id == IGNORED_CLASS_ID else classes[class_id]


def drawable_classes(classes: SequenceOf[str]) -> list[str]:
    """What a person may draw: the classes, and regions that are neither object nor background."""
    return [*classes, IGNORED_CLASS_NAME]


def write_manifest(
    path: Path, classes: SequenceOf[str], pictures: SequenceOf[ExportedPicture], home: Path | None = None
) -> Manifest:
    """Write the manifest of an export, atomically.

    Args:
        path: The file.
        classes: Class names in label-id order.
        pictures: What was exported.
        home: Folder in which the file will lie in the end, if it is another one than now.

    Raises:
        ResourceError: The disk is full or not writable.
    """
    path = Path(path)
    folder = (path.parent if home is None else Path(home)).resolve()
    recordings = list(dict.fromkeys(picture.recording for picture in pictures))
    content = {
        "classes": list(classes),
        "recordings": [
            {
                "name": recording.name,
                "path": Path(os.path.relpath(recording.path.resolve(), folder)).as_posix(),
                "digest": recording.digest,
                "height": recording.height,
                "width": recording.width,
            }
            for recording in recordings
        ],
        "pictures": [
            {
                "file": picture.file,
                "recording": recordings.index(picture.recording),
                "t_us": int(picture.t_us),
                "scale": picture.scale,
                "left": picture.left,
                "top": picture.top,
                "height": picture.size[0],
                "width": picture.size[1],
                "windows_us": list(picture.windows_us),
                "reason": picture.reason,
                "boxes": [_box_entry(box, classes) for box in picture.boxes],
            }
            for picture in pictures
        ],
    }
    export_id = _digest(content)
    write_json(path, {"format": _FORMAT, "version": _VERSION, "export_id": export_id, **content})
    return Manifest(path, export_id, tuple(classes), tuple(pictures))


def read_manifest(path: Path) -> Manifest:
    """Read a manifest.

    Args:
        path: The file, or the folder of the export.

    Returns:
        Recordings have the path that they had at the time of the export, seen from where the manifest is now; whether
        they are there, `find_recording` looks.

    Raises:
        DataError: The file is missing or damaged, of another kind, from a later version, or was edited.
    """
    path = Path(path)
    path = path / MANIFEST_NAME if path.is_dir() else path
    if not path.is_file():
        raise DataError(path, f"the manifest does not exist. Give {MANIFEST_NAME} in the folder that was exported.")
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise DataError(path, f"is no manifest of an export. Give {MANIFEST_NAME} in the folder that was exported.")
    if content.get("version") != _VERSION:
        raise DataError(
            path,
            f"has version {content.get('version')!r}, this program reads {_VERSION}. Use the version that wrote it.",
        )
    rest = {key: value for key, value in content.items() if key not in ("format", "version", "export_id")}
    if content.get("export_id") != _digest(rest):
        raise DataError(
            path,
            "was edited after it was written (its digest differs), so places and times of the boxes cannot be relied "
            "on. Restore it, or export the moments again. For recordings that were moved give their folder "
            "(--recordings), for other classes a mapping (--map).",
        )
    folder = path.resolve().parent
    classes = tuple(content["classes"])
    recordings = [
        ExportedRecording(
            entry["name"], (folder / entry["path"]).resolve(), entry["digest"], entry["height"], entry["width"]
        )
        for entry in content["recordings"]
    ]
    pictures = tuple(
        ExportedPicture(
            entry["file"],
            recordings[entry["recording"]],
            entry["t_us"],
            entry["scale"],
            entry["left"],
            entry["top"],
            (entry["height"], entry["width"]),
            tuple(entry["windows_us"]),
            entry["reason"],
            _boxes(entry["boxes"], entry["t_us"], classes),
        )
        for entry in content["pictures"]
    )
    return Manifest(path, content["export_id"], classes, pictures)


def find_recording(manifest: Manifest, recording: ExportedRecording, moved_to: Path | None = None) -> RecordingFiles:
    """Find a recording again.

    Args:
        manifest: Where it stands.
        recording: Which one.
        moved_to: Folder below which recordings lie now, if they were moved.

    Raises:
        ConfigError: ``moved_to`` is not a folder.
        DataError: It is not there, or another one is.
    """
    if moved_to is None:
        if not recording.path.exists():
            raise DataError(
                manifest.path,
                f"the recording {recording.name!r} is not where it was at the time of the export ({recording.path}). "
                "If it was moved, give the folder in which it lies now: --recordings FOLDER.",
            )
        candidates = [recording.path]
    else:
        if not Path(moved_to).is_dir():
            raise ConfigError(f"--recordings {moved_to}: is not a folder")
        candidates = sorted(Path(moved_to).rglob(recording.path.name))
        if not candidates:
            raise DataError(
                Path(moved_to), f"holds no {recording.path.name}, the file of the recording {recording.name!r}."
            )
    found = [recording_files(candidate) for candidate in candidates]
    same = [files for files in found if beginning_digest(files.events) == recording.digest]
    if not same:
        raise DataError(
            found[0].events,
            f"is not the recording {recording.name!r} that was exported: its beginning differs. If that one lies "
            "elsewhere, give its folder: --recordings FOLDER.",
        )
    if len(same) > 1:
        raise DataError(
            same[1].events, f"the same recording is also {same[0].events}. Give a folder in which it lies once."
        )
    return same[0]


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _box_entry(box: np.void, classes: SequenceOf[str]) -> dict[str, Any]:
    return {
        "class": class_name(int(box["class_id"]), classes),
        "box": [round(float(box[name]), 4) for name in ("x", "y", "w", "h")],
        "score": round(float(box["objectness"]) * float(box["class_confidence"]), 4),
    }


def _boxes(entries: list[dict[str, Any]], t_us: int, classes: tuple[str, ...]) -> np.ndarray:
    rows = []
    for entry in entries:
        name = entry["class"]
        class_id = IGNORED_CLASS_ID if name == IGNORED_CLASS_NAME else classes.index(name)
        rows.append((t_us, *entry["box"], class_id, entry["score"], 1.0))
    return np.array(rows, LABEL_DTYPE)
