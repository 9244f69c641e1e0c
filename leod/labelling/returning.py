"""From what a tool exported to boxes on the recordings' clocks and in pixels of their sensors."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote

import numpy as np

from leod.boxes.dtypes import IGNORED_CLASS_ID, LEFT_OUT_CLASS_ID, RECORDING_BOX_DTYPE
from leod.errors import DataError
from leod.labelling.annotations import Box, DrawnPicture
from leod.labelling.class_names import ClassNames
from leod.labelling.manifest import ExportedPicture, Manifest, class_name

Unchanged = Literal["error", "labelled", "unlabelled"]

_KEY = re.compile(r"_t(\d+)_([0-9a-f]{10})(?![0-9a-f])", re.IGNORECASE)
_SAME_PX = 0.75
"""Edges that differ by less, in pixels of the picture, are the same: some tools keep whole pixels only."""
_OUTSIDE_PX = 1e-3
_NAMED = 3


@dataclass(frozen=True)
class LabelledPicture:
    """A picture that a person has finished.

    Attributes:
        picture: Which one.
        boxes: `RECORDING_BOX_DTYPE` [n] in pixels of the sensor, at the picture's time; none if nothing is there.
        where: Its place in the export, for messages.
    """

    picture: ExportedPicture
    boxes: np.ndarray
    where: str


@dataclass
class ReturnCounts:
    """What was seen on the way.

    Attributes:
        labelled: Pictures that a person has finished.
        not_labelled: Pictures that are in the export, but that no person has finished.
        cut: Boxes that reached beyond the picture and were cut at its border.
        left_out: Boxes of classes that the mapping leaves out.
        classes: Class name → number of boxes.
    """

    labelled: int = 0
    not_labelled: int = 0
    cut: int = 0
    left_out: int = 0
    classes: Counter[str] = field(default_factory=Counter)


def return_boxes(
    manifest: Manifest,
    drawn: SequenceOf[DrawnPicture],
    export_ids: set[str],
    names: ClassNames,
    unchanged: Unchanged = "error",
    annotator: str | None = None,
) -> tuple[list[LabelledPicture], ReturnCounts]:
    """Bring annotated pictures back to where and when they belong.

    Args:
        manifest: What was exported.
        drawn: What a tool exported.
        export_ids: Exports that it says it belongs to, see `leod.labelling.formats.read_export`.
        names: What class names stand for.
        unchanged: What pictures are that come back as they went out (empty, or with the boxes that were proposed), in
            formats that do not say whether a person has looked at them.
        annotator: Whose annotations count where several persons have worked on a picture.

    Returns:
        The pictures that a person has finished, in the manifest's order, and what was seen on the way.

    Raises:
        DataError: Something does not fit; the message names file, row and remedy.
    """
    if not drawn:
        raise DataError(manifest.path, "the export of the tool holds no picture. Was it the right project?")
    foreign = export_ids - {manifest.export_id}
    if foreign:
        raise DataError(
            drawn[0].file,
            f"belongs to the export {min(foreign)}, the manifest {manifest.path} to {manifest.export_id}. Give the "
            "manifest of that export (--manifest).",
        )
    find = _Finder(manifest)
    by_picture: dict[int, list[DrawnPicture]] = {}
    for entry in drawn:
        by_picture.setdefault(find(entry), []).append(entry)
    counts = ReturnCounts()
    pictures: list[LabelledPicture] = []
    open_questions: list[DrawnPicture] = []
    for number, entries in sorted(by_picture.items()):
        picture = manifest.pictures[number]
        entry = _one_of(picture, entries, annotator)
        if entry is None or entry.looked_at is False:
            counts.not_labelled += 1
            continue
        boxes = _boxes(picture, entry, names, counts)
        if entry.looked_at is None and unchanged != "labelled" and _came_back_as_it_was(manifest, picture, entry):
            open_questions.append(entry)
            counts.not_labelled += 1
            continue
        pictures.append(LabelledPicture(picture, boxes, entry.where))
    if open_questions and unchanged == "error":
        raise DataError(
            open_questions[0].file,
            f"{len(open_questions)} of {len(by_picture)} pictures came back as they went out "
            f"({_listed([entry.name for entry in open_questions])}), and this format does not say whether a person has "
            "looked at them. Say it: --unchanged labelled (what is on them is right; a picture without boxes is empty) "
            "or --unchanged unlabelled (they are left out).",
        )
    if not pictures:
        raise DataError(
            drawn[0].file,
            f"no picture is labelled ({counts.not_labelled} are there, none of them finished). Label some, submit "
            "them, and export again.",
        )
    counts.labelled = len(pictures)
    for entry in pictures:
        for class_id in entry.boxes["class_id"].tolist():
            counts.classes["ignored" if class_id == IGNORED_CLASS_ID else names.classes[class_id]] += 1
    return pictures, counts


def _listed(names: SequenceOf[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


class _Finder:
    """Finds pictures by the names that tools give them."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._by_stem = {_stem(picture.file): number for number, picture in enumerate(manifest.pictures)}
        self._by_key = {_key(picture.file): number for number, picture in enumerate(manifest.pictures)}

    def __call__(self, entry: DrawnPicture) -> int:
        """Number of the picture; tools may put folders and other things around its name, or change the ending.

        Raises:
            DataError: It is none of this export's, or has another size.
        """
        stem = _stem(entry.name)
        number = self._by_stem.get(stem)
        if number is None:
            key = _key(stem)
            number = self._by_key.get(key) if key is not None else None
            if number is None:
                raise DataError(entry.file, f"{entry.where}: {self._describe(entry, stem, key)}")
        picture = self._manifest.pictures[number]
        if entry.size is not None and entry.size != picture.size:
            raise DataError(
                entry.file,
                f"{entry.where}: {entry.name!r} is {entry.size[1]} x {entry.size[0]} pixels (width x height), the "
                f"exported picture {picture.size[1]} x {picture.size[0]}. Label the pictures as they were exported, "
                "unscaled.",
            )
        return number

    def _describe(self, entry: DrawnPicture, stem: str, key: tuple[int, str] | None) -> str:
        place = self._manifest.path
        if key is not None:
            return (
                f"the picture {entry.name!r} is not in the manifest {place}; it belongs to another export. Give the "
                "manifest of that one, or take the picture out of the project."
            )
        close = difflib.get_close_matches(stem, self._by_stem, n=1)
        return (
            f"the picture {entry.name!r} is not in the manifest {place}"
            + (f"; the closest is {close[0]!r}" if close else "")
            + ". Tools may add to the names of pictures, but must leave their end, _t<time>_<key>, as it is. From "
            "Label Studio, export as JSON: where pictures are part of the tasks, its other formats name them anew. "
            "Else take the picture out of the project, or give it its name back."
        )


def _stem(name: str) -> str:
    """Name of a picture without folders, query and ending, in lower case."""
    name = unquote(name).replace("\\", "/").split("?d=")[-1].split("?")[0].rsplit("/", 1)[-1].casefold()
    stem, dot, ending = name.rpartition(".")
    return stem if dot and len(ending) <= 4 else name


def _key(name: str) -> tuple[int, str] | None:
    found = _KEY.findall(name)
    return (int(found[-1][0]), found[-1][1].casefold()) if found else None


def _one_of(picture: ExportedPicture, entries: list[DrawnPicture], annotator: str | None) -> DrawnPicture | None:
    """The annotation of a picture that counts; None if nobody's does."""
    if annotator is not None and any(entry.annotator is not None for entry in entries):
        entries = [entry for entry in entries if entry.annotator == annotator]
    finished = [entry for entry in entries if entry.looked_at is not False]
    if not finished:
        return entries[0] if entries else None
    first = finished[0]
    for other in finished[1:]:
        if not _same_boxes(_in_pixels(first, picture), _in_pixels(other, picture)):
            persons = [entry.annotator for entry in (first, other)]
            raise DataError(
                other.file,
                f"{other.where}: the picture {picture.file!r} is also annotated at {first.where}"
                + (f" in {first.file}" if first.file != other.file else "")
                + ", in another way"
                + (f" (by {persons[0]} and {persons[1]})" if all(persons) else "")
                + ". Delete one of the two in the tool"
                + (", or say whose counts: --annotator NAME." if all(persons) else "."),
            )
    return first


def _in_pixels(entry: DrawnPicture, picture: ExportedPicture) -> list[Box]:
    """Boxes in pixels of the picture."""
    if not entry.relative:
        return list(entry.boxes)
    height, width = picture.size
    return [
        Box(box.x * width, box.y * height, box.w * width, box.h * height, box.label, box.score, box.where)
        for box in entry.boxes
    ]


def _same_boxes(one: SequenceOf[Box], other: SequenceOf[Box]) -> bool:
    """Whether two sets hold the same boxes within rounding, in pixels of the picture."""

    def rows(boxes: SequenceOf[Box]) -> list[tuple[str, tuple[float, ...]]]:
        return [(box.label, (box.x, box.y, box.x + box.w, box.y + box.h)) for box in boxes]

    return match(rows(one), rows(other), _SAME_PX)


def match(
    one: SequenceOf[tuple[object, tuple[float, ...]]],
    other: SequenceOf[tuple[object, tuple[float, ...]]],
    tolerance: float,
) -> bool:
    """Whether two sets of boxes are the same, each of one having its own counterpart in the other.

    Args:
        one: Class and edges (left, top, right, bottom) of each box.
        other: The same.
        tolerance: How far edges may lie apart.
    """
    if len(one) != len(other):
        return False
    rest = list(other)
    for kind, edges in one:
        for position, (other_kind, other_edges) in enumerate(rest):
            if kind == other_kind and max(abs(a - b) for a, b in zip(edges, other_edges, strict=True)) <= tolerance:
                del rest[position]
                break
        else:
            return False
    return True


def rows_of(boxes: np.ndarray) -> list[tuple[int, tuple[float, ...]]]:
    """Boxes as `match` takes them."""
    return [
        (int(box["class_id"]), tuple(float(v) for v in (box["x"], box["y"], box["x"] + box["w"], box["y"] + box["h"])))
        for box in boxes
    ]


def _came_back_as_it_was(manifest: Manifest, picture: ExportedPicture, entry: DrawnPicture) -> bool:
    """Whether the boxes are those that were proposed; names count as the tool has them, before any mapping."""
    proposed = [
        Box(
            float(box["x"]) * picture.scale + picture.left,
            float(box["y"]) * picture.scale + picture.top,
            float(box["w"]) * picture.scale,
            float(box["h"]) * picture.scale,
            class_name(int(box["class_id"]), manifest.classes),
        )
        for box in picture.boxes
    ]
    return _same_boxes(_in_pixels(entry, picture), proposed)


def _boxes(picture: ExportedPicture, entry: DrawnPicture, names: ClassNames, counts: ReturnCounts) -> np.ndarray:
    """Boxes of one picture, `RECORDING_BOX_DTYPE` in pixels of the sensor."""
    recording, scale = picture.recording, picture.scale
    rows = []
    for box in _in_pixels(entry, picture):
        where = f"{box.where} ({entry.name})" if entry.name not in box.where else box.where
        class_id = names.id_of(box.label, entry.file, where)
        if class_id == LEFT_OUT_CLASS_ID:
            counts.left_out += 1
            continue
        if box.w <= 0 or box.h <= 0:
            raise DataError(
                entry.file,
                f"{where}: the box is {box.w:g} x {box.h:g} pixels, it has no area. Delete it in the tool, it may be a "
                "stray click, and export again.",
            )
        left, top = (box.x - picture.left) / scale, (box.y - picture.top) / scale
        right, bottom = (box.x + box.w - picture.left) / scale, (box.y + box.h - picture.top) / scale
        kept = max(left, 0.0), max(top, 0.0), min(right, recording.width), min(bottom, recording.height)
        if kept[2] <= kept[0] or kept[3] <= kept[1]:
            raise DataError(
                entry.file,
                f"{where}: the box lies outside the picture ({box.x:g}, {box.y:g} to {box.x + box.w:g}, "
                f"{box.y + box.h:g} in one of {picture.size[1]} x {picture.size[0]} pixels). Delete or move it in the "
                "tool and export again.",
            )
        edges = left, top, right, bottom
        counts.cut += max(abs(a - b) for a, b in zip(edges, kept, strict=True)) * scale > _OUTSIDE_PX
        rows.append((picture.t_us, kept[0], kept[1], kept[2] - kept[0], kept[3] - kept[1], class_id, 0, 1.0))
    return np.array(rows, RECORDING_BOX_DTYPE)
