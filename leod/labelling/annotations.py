"""What goes to a tool and what comes back from it, whatever the format."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leod.errors import DataError


@dataclass(frozen=True)
class Box:
    """A box as tools have it.

    Attributes:
        x: Left edge, in pixels of the picture or, in `DrawnPicture.relative` ones, in shares of its width.
        y: Upper edge.
        w: Width.
        h: Height.
        label: Class name.
        score: How sure a detector is, 0..1; None for a person's.
        where: Place in the export, for messages.
    """

    x: float
    y: float
    w: float
    h: float
    label: str
    score: float | None = None
    where: str = ""


@dataclass(frozen=True)
class PictureToLabel:
    """A picture that goes to a tool.

    Attributes:
        file: Name of the PNG in the folder `images`.
        sheet: Name of the PNG beside it in the folder `context`, if there is one.
        size: (height, width) in pixels of the picture.
        boxes: Pre-annotations in pixels of the picture.
        facts: What a person may want to know: recording, t_us, reason.
    """

    file: str
    sheet: str | None
    size: tuple[int, int]
    boxes: tuple[Box, ...]
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Export:
    """All that goes to a tool.

    Attributes:
        export_id: See `leod.labelling.manifest.Manifest`.
        labels: What a person may draw, in the order of ids.
        pictures: In the order in which they are worth labelling.
        images: Folder of the pictures.
        context: Folder of the sheets.
        model: Name of what made the pre-annotations.
        picture_url: What stands before a picture's path where a tool loads pictures from a web server; None: pictures
            are part of the files, where the format allows it.
    """

    export_id: str
    labels: tuple[str, ...]
    pictures: tuple[PictureToLabel, ...]
    images: Path
    context: Path
    model: str = "boxes"
    picture_url: str | None = None


@dataclass(frozen=True)
class DrawnPicture:
    """A picture that comes back from a tool.

    Attributes:
        name: Name that the tool gives it.
        file: File of the export in which it stands.
        where: Place in that file.
        boxes: What is on it.
        size: (height, width) of the picture according to the tool; None where the format does not say.
        relative: Whether boxes are shares of width and height instead of pixels.
        looked_at: Whether a person has finished it; None where the format cannot tell.
        annotator: Who, where the format tells.
    """

    name: str
    file: Path
    where: str
    boxes: tuple[Box, ...]
    size: tuple[int, int] | None = None
    relative: bool = False
    looked_at: bool | None = None
    annotator: str | None = None


class ExportFiles:
    """Text files of an export: one file, a folder, or a zip archive, which is not unpacked.

    Args:
        path: What the tool wrote.

    Attributes:
        path: The same.
        names: Paths of the files inside, sorted; pictures and hidden files are left out.

    Raises:
        DataError: ``path`` does not exist or is a damaged archive.
    """

    _SUFFIXES = (".json", ".xml", ".txt", ".yaml", ".yml", ".names")

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._archive: zipfile.ZipFile | None = None
        if not self.path.exists():
            raise DataError(self.path, "does not exist. Give the file, folder or archive that the tool exported.")
        if self.path.is_dir():
            names = [entry.relative_to(self.path).as_posix() for entry in self.path.rglob("*") if entry.is_file()]
        elif self.path.suffix.lower() == ".zip":
            try:
                self._archive = zipfile.ZipFile(self.path)
                damaged = self._archive.testzip()
            except (zipfile.BadZipFile, OSError) as error:
                raise DataError(self.path, f"is not a readable archive ({error}). Export it again.") from None
            if damaged:
                raise DataError(self.path, f"is damaged at {damaged}. Export it again.")
            names = self._archive.namelist()
        else:
            names = [self.path.name]
        self.names = sorted(
            name
            for name in names
            if name.lower().endswith(self._SUFFIXES)
            and not any(part.startswith((".", "__MACOSX")) for part in name.split("/"))
        )

    def place(self, name: str) -> Path:
        """How a file is named in messages."""
        return self.path if self.path.name == name and self.path.is_file() else self.path / name

    def text(self, name: str) -> str:
        """Content of a file.

        Raises:
            DataError: It is not UTF-8.
        """
        try:
            if self._archive is not None:
                return self._archive.read(name).decode("utf-8-sig")
            return (self.path if self.path.is_file() else self.path / name).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError, RuntimeError) as error:
            raise DataError(self.place(name), f"cannot be read ({error}).") from None


def number(file: Path, where: str, name: str, value: Any) -> float:
    """A finite number of an export, given as number or text.

    Raises:
        DataError: It is none.
    """
    try:
        result = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError):
        result = math.nan
    if not math.isfinite(result):
        raise DataError(file, f"{where}: {name} is {value!r}, expected a number.")
    return result


def refuse_rotation(file: Path, where: str, degrees: Any) -> None:
    """Refuse a rotated box; whole turns are none.

    Raises:
        DataError: The box is rotated.
    """
    if degrees is None:
        return
    turned = number(file, where, "rotation", degrees) % 360
    if min(turned, 360 - turned) > 1e-3:
        raise DataError(
            file,
            f"{where}: the box is rotated by {float(degrees):g} degrees; boxes of a detector are upright. Draw it "
            "upright around the object.",
        )


def refuse_shape(file: Path, where: str, shape: str) -> None:
    """Refuse what is not a box.

    Raises:
        DataError: Always.
    """
    raise DataError(file, f"{where}: is a {shape}; only rectangles are read. Draw a rectangle in its place.")


def refuse_shares(file: Path, boxes: SequenceOf[Box], unit: str, at_least: int = 1) -> None:
    """Refuse coordinates that look as if they were shares of the picture although the format counts in ``unit``.

    Args:
        file: Where they stand.
        boxes: All of them, in the format's unit.
        unit: What it counts in.
        at_least: Fewer boxes may all lie in the corner of the picture by chance.

    Raises:
        DataError: All boxes end at 1 or before.
    """
    if len(boxes) >= at_least and all(max(box.x + box.w, box.y + box.h) <= 1 for box in boxes):
        raise DataError(
            file,
            f"{boxes[0].where}: all coordinates lie within 0..1, so they look like shares of the picture; this format "
            f"counts in {unit}. Export it again in another format of the tool.",
        )
