"""Box files of own recordings and of exported detections: NumPy, CSV and COCO JSON.

**NumPy** (`.npy`): the structured array of Prophesee's `_bbox.npy`: t (or ts), x, y, w, h, class_id [, track_id]
[, class_confidence].

**CSV** (`.csv`): a header and one line per box. Columns, in any order: `t_us` (or `t`; microseconds, whole number),
`x`, `y` (top-left corner), `w`, `h` (pixels of the full sensor), `class` (name or id) and optionally `track_id`,
`confidence`, `objectness`.

**COCO JSON** (`.json`): `images` with `id` and `timestamp_us` (or `t`), `annotations` with `image_id`, `category_id`,
`bbox` [x, y, w, h] and optionally `track_id`, `score`, `objectness`; `categories` with `id` and `name`, which is
matched to the data set's class names.

A moment that somebody has looked at and found *empty* is a label moment, too: in CSV a line with a time and nothing
else, in COCO an image without annotations, in NumPy a row of the ignored class (id 1024) whose width and height are 0.

Class *names* must be among the data set's classes or in its `class_map`. Class *ids* are mapped, or taken as they are
where the map says nothing about ids, since preprocessing may be told to drop some of them; it refuses the unknown rest.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from leod.boxes.conversion import convert_rows, load_arrays
from leod.boxes.dtypes import (
    IGNORED_CLASS_ID,
    LABEL_DTYPE,
    LEFT_OUT_CLASS_ID,
    RECORDING_BOX_DTYPE,
    clear_padding,
)
from leod.boxes.operations import is_empty_moment
from leod.config.schema import IGNORED_CLASS_NAME, US_PER_UNIT, BoxTimesConfig, SensorSize, TimeUnit
from leod.errors import DataError
from leod.files import atomic_file, read_json, write_json

BOX_FILE_SUFFIXES = (".npy", ".csv", ".json")

_CSV_REQUIRED = ("t_us", "x", "y", "w", "h", "class")
_CSV_OPTIONAL = ("track_id", "confidence", "objectness")
_NANOSECONDS_PER_MICROSECOND = 1000

# Wider than RECORDING_BOX_DTYPE, so that the check sees what the file said and not what was left of it.
_PARSED_DTYPE = np.dtype(
    [(name, "f8" if RECORDING_BOX_DTYPE[name].kind == "f" else "i8") for name in RECORDING_BOX_DTYPE.names]
)


class _Classes:
    """What the classes in a box file mean.

    Args:
        path: The file, for messages.
        names: The data set's class names in label-id order.
        mapping: See `DatasetConfig.class_map`.
    """

    def __init__(self, path: Path, names: tuple[str, ...], mapping: Mapping[str, str | None]) -> None:
        self._path = path
        self.names = names
        self._mapping = mapping
        self._maps_ids = any(key.isdecimal() for key in mapping)

    def is_name(self, text: str) -> bool:
        """Whether a text is a name, not an id written in digits."""
        return text in self.names or not text.isdecimal()

    def of_name(self, where: str, name: str) -> int:
        """Label id of a class name in the file."""
        if name in self._mapping:
            return self._target(self._mapping[name])
        if name in self.names:
            return self.names.index(name)
        if name == IGNORED_CLASS_NAME:
            return IGNORED_CLASS_ID
        raise DataError(
            self._path,
            f"{where}: class {name!r} is not one of the data set's classes {list(self.names)}. Correct the name, add "
            f"the class to the data set, or say what it stands for: class_map: {{{name}: CLASS}}, or "
            f"{{{name}: null}} to leave it out.",
        )

    def of_ids(self, class_ids: np.ndarray, describe: Callable[[int], str]) -> np.ndarray:
        """Label ids of the class ids in the file, int64 [n]."""
        class_ids = np.asarray(class_ids, np.int64)
        if not self._maps_ids:
            return class_ids
        mapped = np.empty_like(class_ids)
        for class_id in np.unique(class_ids).tolist():
            rows = class_ids == class_id
            if str(class_id) in self._mapping:
                mapped[rows] = self._target(self._mapping[str(class_id)])
            elif class_id in (IGNORED_CLASS_ID, LEFT_OUT_CLASS_ID):
                mapped[rows] = class_id
            else:
                raise DataError(
                    self._path,
                    f"{describe(int(np.flatnonzero(rows)[0]))}: class id {class_id} is not in the data set's "
                    f"class_map, which maps the ids {sorted(key for key in self._mapping if key.isdecimal())}. Add it: "
                    f"class_map: {{{class_id}: CLASS}}, or {{{class_id}: null}} to leave it out.",
                )
        return mapped

    def _target(self, name: str | None) -> int:
        if name is None:
            return LEFT_OUT_CLASS_ID
        return IGNORED_CLASS_ID if name == IGNORED_CLASS_NAME else self.names.index(name)


def read_boxes(
    path: Path,
    classes: tuple[str, ...],
    class_map: Mapping[str, str | None] | None = None,
    times: BoxTimesConfig = BoxTimesConfig(),  # noqa: B008  (immutable)
) -> np.ndarray:
    """Read the boxes of one recording.

    Args:
        path: An `.npy`, `.csv` or `.json` file as described in this module.
        classes: The data set's class names in label-id order.
        class_map: What names and ids in the file stand for, see `DatasetConfig.class_map`.
        times: Unit and offset of the times; what their zero is, is the caller's business.

    Returns:
        `RECORDING_BOX_DTYPE` [M] sorted by time in microseconds (boxes of equal time keep their order). A missing
        confidence is 1, a missing track id 0. Moments found empty are rows of their own, see `is_empty_moment`; boxes
        that ``class_map`` leaves out have the id `LEFT_OUT_CLASS_ID`.

    Raises:
        DataError: The file is missing, damaged, or a row is impossible; the message names the row.
    """
    path = Path(path)
    boxes = _read(path, _Classes(path, classes, class_map or {}), times.unit)
    boxes["t"] += times.offset_us
    if len(boxes) and boxes["t"].min() < 0:
        raise DataError(
            path, f"box_times.offset_us = {times.offset_us} moves a box to {boxes['t'].min()} us; times are at least 0."
        )
    return boxes[np.argsort(boxes["t"], kind="stable")]


def _read(path: Path, classes: _Classes, unit: TimeUnit) -> np.ndarray:
    """Rows in the order of the file, with times in microseconds."""
    readers: dict[str, Callable[[Path, _Classes, TimeUnit], np.ndarray]] = {
        ".npy": _read_npy,
        ".csv": _read_csv,
        ".json": _read_coco,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(path, f"is not a known kind of box file; expected one of {', '.join(BOX_FILE_SUFFIXES)}.")
    return reader(path, classes, unit)


class _AnyClasses(_Classes):
    """Takes every name."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, (), {})

    def of_name(self, where: str, name: str) -> int:
        """Names are of no interest."""
        return 0


def read_label_moments(path: Path) -> np.ndarray:
    """Read the times at which a recording is labelled, boxes or not, whatever its classes are called.

    Args:
        path: See `read_boxes`.

    Returns:
        int64 [K], microseconds, strictly increasing.

    Raises:
        DataError: The file is missing, damaged, or a row is impossible.
    """
    return np.unique(_read(Path(path), _AnyClasses(Path(path)), "us")["t"])


def _to_microseconds(path: Path, where: str, time: float | int, unit: TimeUnit) -> int:
    """A time of the file in whole microseconds."""
    if not math.isfinite(time) or (unit == "us" and time != math.floor(time)):
        raise DataError(
            path,
            f"{where}: t is {time}, expected a whole number of microseconds. If times are in another unit, say so in "
            "the data set file, for example box_times: {unit: s}.",
        )
    if unit == "ns":
        return round(time / _NANOSECONDS_PER_MICROSECOND) if isinstance(time, float) else (int(time) + 500) // 1000
    return round(time * US_PER_UNIT[unit])


def write_boxes(path: Path, boxes: np.ndarray, classes: tuple[str, ...], sensor: SensorSize | None = None) -> None:
    """Write boxes in the format that the suffix of ``path`` names, atomically.

    `read_boxes` reads every one of these files back; the objectness, which recordings do not have, is written for
    detections and pseudo-labels and skipped by it.

    Args:
        path: A name ending in `.npy`, `.csv` or `.json`.
        boxes: [M] of `RECORDING_BOX_DTYPE`, or of `LABEL_DTYPE` for detections and pseudo-labels.
        classes: The data set's class names in label-id order.
        sensor: Size of the sensor, written into the images of COCO JSON.

    Raises:
        DataError: The suffix is unknown, or a box's class id has no name where the format needs one.
        ResourceError: The disk is full or not writable.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".npy":
        dtype = LABEL_DTYPE if "objectness" in boxes.dtype.names else RECORDING_BOX_DTYPE
        with atomic_file(path) as temporary, temporary.open("wb") as file:
            np.save(file, clear_padding(boxes, dtype), allow_pickle=False)
    elif suffix == ".csv":
        _write_csv(path, boxes, classes)
    elif suffix == ".json":
        _write_coco(path, boxes, classes, sensor)
    else:
        raise DataError(path, f"is not a known kind of box file; end the name in {', '.join(BOX_FILE_SUFFIXES)}.")


def _class_name(path: Path, class_id: int, classes: tuple[str, ...]) -> str:
    if class_id == IGNORED_CLASS_ID:
        return IGNORED_CLASS_NAME
    if class_id >= len(classes):
        raise DataError(path, f"cannot name class id {class_id}; the data set has {len(classes)} classes.")
    return classes[class_id]


# ------------------------------------------------------------------------------------------------------- NumPy


def _read_npy(path: Path, classes: _Classes, unit: TimeUnit) -> np.ndarray:
    (rows,) = load_arrays(path)
    names = rows.dtype.names or ()
    time = next((name for name in ("t", "ts") if name in names), None)
    # Whole microseconds need no conversion; `convert_rows` checks the rest.
    if time is not None and rows.ndim == 1 and rows[time].dtype.kind in ("f" if unit == "us" else "iuf"):
        times = [_to_microseconds(path, f"row {row}", t, unit) for row, t in enumerate(rows[time].tolist())]
        rows = rows.astype([(name, "<i8" if name == time else rows.dtype[name]) for name in names])
        rows[time] = times
    confidence = "confidence" if "confidence" in names else 1.0
    boxes = convert_rows(path, rows, RECORDING_BOX_DTYPE, {"track_id": 0, "class_confidence": confidence})
    boxes["class_id"] = classes.of_ids(boxes["class_id"], lambda row: f"row {row}")
    return boxes


# --------------------------------------------------------------------------------------------------------- CSV


def _number(path: Path, where: str, name: str, text: str) -> float | int:
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        if abs(value) < 2**62 or not math.isfinite(value):
            return value
    raise DataError(path, f"{where}: {name} is {text!r}, expected a number.")


def _csv_columns(path: Path, header: list[str]) -> dict[str, int]:
    """Position of each column, by its full name."""
    if "t_us" not in header:
        header = ["t_us" if name == "t" else name for name in header]
    known = (*_CSV_REQUIRED, *_CSV_OPTIONAL)
    missing = [name for name in _CSV_REQUIRED if name not in header]
    foreign = [name for name in header if name not in known]
    if missing or foreign or len(set(header)) != len(header):
        raise DataError(
            path,
            f"the first line must name the columns {','.join(_CSV_REQUIRED)}[,{'][,'.join(_CSV_OPTIONAL)}], each once, "
            f"in any order; it names {','.join(header) or 'nothing'}"
            + (f"; missing: {missing}" if missing else "")
            + (f"; unknown: {foreign}" if foreign else "")
            + ".",
        )
    return {name: position for position, name in enumerate(header)}


def _read_csv(path: Path, classes: _Classes, unit: TimeUnit) -> np.ndarray:
    rows, lines = [], []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=True)
            header = [name.strip() for name in next(reader, [])]
            column = _csv_columns(path, header)
            for cells in reader:
                if not cells:
                    continue
                where = f"line {reader.line_num}"
                if len(cells) != len(header):
                    raise DataError(path, f"{where}: {len(cells)} values, but the header names {len(header)} columns.")
                numbers: dict[str, float | int] = {
                    "t": _to_microseconds(path, where, _number(path, where, "t_us", cells[column["t_us"]]), unit)
                }
                name = cells[column["class"]].strip()
                if name or any(cells[position].strip() for key, position in column.items() if key != "t_us"):
                    numbers |= {
                        target: _number(path, where, source, cells[column[source]])
                        for target, source in (
                            *((field, field) for field in ("x", "y", "w", "h")),
                            ("track_id", "track_id"),
                            ("class_confidence", "confidence"),
                        )
                        if source in column
                    }
                    numbers["class_id"] = (
                        classes.of_name(where, name)
                        if classes.is_name(name)
                        else int(classes.of_ids(np.array([_id(path, where, name)]), lambda _, where=where: where)[0])
                    )
                rows.append(_parsed_row(path, where, numbers))
                lines.append(reader.line_num)
    except FileNotFoundError:
        raise DataError(path, "the file does not exist.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(path, f"is not a readable CSV file in UTF-8 ({error}).") from None
    return convert_rows(path, np.array(rows, _PARSED_DTYPE), RECORDING_BOX_DTYPE, {}, lambda row: f"line {lines[row]}")


def _id(path: Path, where: str, text: str) -> int:
    number = _number(path, where, "class", text)
    if number >= 2**32:
        raise DataError(path, f"{where}: class is {text!r}, expected a name or an id below 2^32.")
    return int(number)


def _says_time_alone(boxes: np.ndarray) -> np.ndarray:
    """Moments found empty of which nothing else is said, bool [M]."""
    alone = is_empty_moment(boxes) & (boxes["x"] == 0) & (boxes["y"] == 0) & (boxes["class_confidence"] == 1)
    return alone & (boxes["track_id"] == 0) if "track_id" in boxes.dtype.names else alone


_EMPTY_MOMENT: dict[str, float | int] = {"x": 0, "y": 0, "w": 0, "h": 0, "class_id": IGNORED_CLASS_ID}


def _parsed_row(path: Path, where: str, numbers: dict[str, float | int]) -> tuple[float | int, ...]:
    """A row of `_PARSED_DTYPE`; with a time alone, a moment found empty."""
    numbers = {"track_id": 0, "class_confidence": 1.0} | (_EMPTY_MOMENT if len(numbers) == 1 else {}) | numbers
    for name in ("class_id", "track_id"):
        if not math.isfinite(numbers[name]) or numbers[name] != math.floor(numbers[name]):
            raise DataError(path, f"{where}: {name} is {numbers[name]}, expected a whole number.")
    return tuple(numbers[name] for name in _PARSED_DTYPE.names)


def _write_csv(path: Path, boxes: np.ndarray, classes: tuple[str, ...]) -> None:
    optional = [("track_id", "track_id"), ("class_confidence", "confidence"), ("objectness", "objectness")]
    optional = [(field, column) for field, column in optional if field in boxes.dtype.names]
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*_CSV_REQUIRED, *(column for _, column in optional)])
        for box, time_alone in zip(boxes, _says_time_alone(boxes), strict=True):
            if time_alone:
                writer.writerow([int(box["t"]), *[""] * (len(_CSV_REQUIRED) + len(optional) - 1)])
                continue
            # Nine significant digits give every float32 back.
            writer.writerow(
                [
                    int(box["t"]),
                    *(f"{box[name]:.9g}" for name in ("x", "y", "w", "h")),
                    _class_name(path, int(box["class_id"]), classes),
                    *(f"{box[field]:d}" if field == "track_id" else f"{box[field]:.9g}" for field, _ in optional),
                ]
            )


# -------------------------------------------------------------------------------------------------------- COCO


def _entries(path: Path, content: Any, key: str) -> list[dict[str, Any]]:
    entries = content.get(key) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(path, f"is not COCO JSON: expected an object whose {key!r} is a list of objects.")
    return entries


def _value(path: Path, where: str, entry: dict[str, Any], *names: str) -> Any:
    for name in names:
        if name in entry:
            return entry[name]
    raise DataError(path, f"{where}: has no {' or '.join(map(repr, names))}; it has {sorted(entry)}.")


def _json_number(path: Path, where: str, name: str, value: Any) -> float | int:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 2**62:
        raise DataError(path, f"{where}: {name} is {value!r}, expected a number.")
    return value


def _by_id(path: Path, key: str, entries: list[dict[str, Any]]) -> dict[Any, dict[str, Any]]:
    found: dict[Any, dict[str, Any]] = {}
    for position, entry in enumerate(entries):
        identifier = _value(path, f"{key}[{position}]", entry, "id")
        if not isinstance(identifier, int | str) or identifier in found:
            raise DataError(path, f"{key}[{position}]: the id {identifier!r} is not a number or name of its own.")
        found[identifier] = entry
    return found


def _read_coco(path: Path, classes: _Classes, unit: TimeUnit) -> np.ndarray:
    content = read_json(path)
    images = _by_id(path, "images", _entries(path, content, "images"))
    categories = _by_id(path, "categories", _entries(path, content, "categories"))
    rows, seen = [], set()
    for position, annotation in enumerate(_entries(path, content, "annotations")):
        where = f"annotations[{position}]"
        image_id = _value(path, where, annotation, "image_id")
        category_id = _value(path, where, annotation, "category_id")
        for role, identifier, known in (("image", image_id, images), ("category", category_id, categories)):
            if not isinstance(identifier, int | str) or identifier not in known:
                raise DataError(path, f"{where}: there is no {role} with the id {identifier!r}.")
        bbox = _value(path, where, annotation, "bbox")
        if not isinstance(bbox, list) or len(bbox) != 4:
            raise DataError(path, f"{where}: bbox is {bbox!r}, expected [x, y, w, h].")
        numbers = {name: _json_number(path, where, name, value) for name, value in zip("xywh", bbox, strict=True)}
        image = f"images with the id {image_id!r}"
        seen.add(image_id)
        numbers["t"] = _image_time(path, images[image_id], image, unit)
        for target, source in (("track_id", "track_id"), ("class_confidence", "score")):
            if annotation.get(source) is not None:
                numbers[target] = _json_number(path, where, source, annotation[source])
        name = _value(path, f"categories with the id {category_id!r}", categories[category_id], "name")
        numbers["class_id"] = classes.of_name(where, str(name))
        rows.append(_parsed_row(path, where, numbers))
    for image_id in images.keys() - seen:
        image = f"images with the id {image_id!r}"
        rows.append(_parsed_row(path, image, {"t": _image_time(path, images[image_id], image, unit)}))
    parsed = np.array(rows, _PARSED_DTYPE)
    return convert_rows(path, parsed, RECORDING_BOX_DTYPE, {}, lambda row: f"annotations[{row}]")


def _image_time(path: Path, image: dict[str, Any], where: str, unit: TimeUnit) -> int:
    time = _json_number(path, where, "timestamp_us", _value(path, where, image, "timestamp_us", "t"))
    return _to_microseconds(path, where, time, unit)


def _write_coco(path: Path, boxes: np.ndarray, classes: tuple[str, ...], sensor: SensorSize | None) -> None:
    times, image_index = np.unique(boxes["t"], return_inverse=True)
    size = sensor.model_dump() if sensor is not None else {}
    annotated = ~_says_time_alone(boxes)
    boxes, image_index = boxes[annotated], image_index[annotated]
    ids = {_class_name(path, int(class_id), classes): int(class_id) for class_id in np.unique(boxes["class_id"])}
    ids |= {name: class_id for class_id, name in enumerate(classes)}
    annotations = []
    for number, (box, image) in enumerate(zip(boxes, image_index, strict=True)):
        annotation = {
            "id": number + 1,
            "image_id": int(image) + 1,
            "category_id": int(box["class_id"]) + 1,
            "bbox": [float(box[name]) for name in ("x", "y", "w", "h")],
            "area": float(box["w"]) * float(box["h"]),
            "iscrowd": 0,
            "score": float(box["class_confidence"]),
        }
        if "track_id" in boxes.dtype.names:
            annotation["track_id"] = int(box["track_id"])
        if "objectness" in boxes.dtype.names:
            annotation["objectness"] = float(box["objectness"])
        annotations.append(annotation)
    write_json(
        path,
        {
            "images": [{"id": number + 1, "timestamp_us": int(t), **size} for number, t in enumerate(times)],
            # COCO counts from 1.
            "categories": [
                {"id": class_id + 1, "name": name} for name, class_id in sorted(ids.items(), key=lambda item: item[1])
            ],
            "annotations": annotations,
        },
    )
