"""Box files of own recordings and of exported detections: NumPy, CSV and COCO JSON.

**NumPy** (`.npy`): the structured array of Prophesee's `_bbox.npy`: t (or ts), x, y, w, h, class_id [, track_id]
[, class_confidence].

**CSV** (`.csv`): a header and one line per box. Columns, in any order: `t_us` (microseconds, whole number), `x`, `y`
(top-left corner), `w`, `h` (pixels of the full sensor), `class` (name or id) and optionally `track_id`, `confidence`,
`objectness`.

**COCO JSON** (`.json`): `images` with `id` and `timestamp_us` (or `t`), `annotations` with `image_id`, `category_id`,
`bbox` [x, y, w, h] and optionally `track_id`, `score`, `objectness`; `categories` with `id` and `name`, which is
matched to the data set's class names.

Class *names* must be among the data set's classes. Class *ids* are taken as they are, since preprocessing may be told
to drop some of them; it refuses the unknown rest.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from leod.config.schema import SensorSize
from leod.errors import DataError
from leod.files import atomic_file, read_json, write_json
from leod.labels.conversion import convert_rows
from leod.labels.dtypes import IGNORED_CLASS_ID, LABEL_DTYPE, RECORDING_BOX_DTYPE, clear_padding
from leod.labels.files import load_arrays

BOX_FILE_SUFFIXES = (".npy", ".csv", ".json")

_CSV_REQUIRED = ("t_us", "x", "y", "w", "h", "class")
_CSV_OPTIONAL = ("track_id", "confidence", "objectness")
_IGNORED_NAME = "ignored"

# Wider than RECORDING_BOX_DTYPE, so that the check sees what the file said and not what was left of it.
_PARSED_DTYPE = np.dtype(
    [(name, "f8" if RECORDING_BOX_DTYPE[name].kind == "f" else "i8") for name in RECORDING_BOX_DTYPE.names]
)


def read_boxes(path: Path, classes: tuple[str, ...]) -> np.ndarray:
    """Read the boxes of one recording.

    Args:
        path: An `.npy`, `.csv` or `.json` file as described in this module.
        classes: The data set's class names in label-id order.

    Returns:
        `RECORDING_BOX_DTYPE` [M] sorted by time (boxes of equal time keep their order). A missing confidence is 1, a
        missing track id 0.

    Raises:
        DataError: The file is missing, damaged, or a row is impossible; the message names the row.
    """
    path = Path(path)
    readers: dict[str, Callable[[Path, tuple[str, ...]], np.ndarray]] = {
        ".npy": _read_npy,
        ".csv": _read_csv,
        ".json": _read_coco,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(path, f"is not a known kind of box file; expected one of {', '.join(BOX_FILE_SUFFIXES)}.")
    boxes = reader(path, classes)
    return boxes[np.argsort(boxes["t"], kind="stable")]


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
        return _IGNORED_NAME
    if class_id >= len(classes):
        raise DataError(path, f"cannot name class id {class_id}; the data set has {len(classes)} classes.")
    return classes[class_id]


def _class_id(path: Path, where: str, name: str, classes: tuple[str, ...]) -> int:
    if name in classes:
        return classes.index(name)
    if name == _IGNORED_NAME:
        return IGNORED_CLASS_ID
    raise DataError(
        path,
        f"{where}: class {name!r} is not one of the data set's classes {list(classes)}. Correct the name or add the "
        "class to the data set.",
    )


# ------------------------------------------------------------------------------------------------------- NumPy


def _read_npy(path: Path, classes: tuple[str, ...]) -> np.ndarray:
    (rows,) = load_arrays(path)
    confidence = "confidence" if "confidence" in (rows.dtype.names or ()) else 1.0
    return convert_rows(path, rows, RECORDING_BOX_DTYPE, {"track_id": 0, "class_confidence": confidence})


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


def _check_csv_header(path: Path, header: list[str]) -> None:
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


def _read_csv(path: Path, classes: tuple[str, ...]) -> np.ndarray:
    rows, lines = [], []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=True)
            header = [name.strip() for name in next(reader, [])]
            _check_csv_header(path, header)
            column = {name: position for position, name in enumerate(header)}
            for cells in reader:
                if not cells:
                    continue
                where = f"line {reader.line_num}"
                if len(cells) != len(header):
                    raise DataError(path, f"{where}: {len(cells)} values, but the header names {len(header)} columns.")
                name = cells[column["class"]].strip()
                numbers = {
                    target: _number(path, where, source, cells[column[source]])
                    for target, source in (
                        *((field, field) for field in ("x", "y", "w", "h")),
                        ("t", "t_us"),
                        ("track_id", "track_id"),
                        ("class_confidence", "confidence"),
                    )
                    if source in column
                }
                is_id = name.isdecimal() and name not in classes
                numbers["class_id"] = (
                    _number(path, where, "class", name) if is_id else _class_id(path, where, name, classes)
                )
                rows.append(_parsed_row(path, where, numbers))
                lines.append(reader.line_num)
    except FileNotFoundError:
        raise DataError(path, "the file does not exist.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(path, f"is not a readable CSV file in UTF-8 ({error}).") from None
    return convert_rows(path, np.array(rows, _PARSED_DTYPE), RECORDING_BOX_DTYPE, {}, lambda row: f"line {lines[row]}")


def _parsed_row(path: Path, where: str, numbers: dict[str, float | int]) -> tuple[float | int, ...]:
    numbers = {"track_id": 0, "class_confidence": 1.0} | numbers
    for name in ("t", "class_id", "track_id"):
        if not math.isfinite(numbers[name]) or numbers[name] != math.floor(numbers[name]):
            raise DataError(path, f"{where}: {name} is {numbers[name]}, expected a whole number.")
    return tuple(numbers[name] for name in _PARSED_DTYPE.names)


def _write_csv(path: Path, boxes: np.ndarray, classes: tuple[str, ...]) -> None:
    optional = [("track_id", "track_id"), ("class_confidence", "confidence"), ("objectness", "objectness")]
    optional = [(field, column) for field, column in optional if field in boxes.dtype.names]
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*_CSV_REQUIRED, *(column for _, column in optional)])
        for box in boxes:
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


def _read_coco(path: Path, classes: tuple[str, ...]) -> np.ndarray:
    content = read_json(path)
    images = _by_id(path, "images", _entries(path, content, "images"))
    categories = _by_id(path, "categories", _entries(path, content, "categories"))
    rows = []
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
        numbers["t"] = _json_number(
            path, image, "timestamp_us", _value(path, image, images[image_id], "timestamp_us", "t")
        )
        for target, source in (("track_id", "track_id"), ("class_confidence", "score")):
            if annotation.get(source) is not None:
                numbers[target] = _json_number(path, where, source, annotation[source])
        name = _value(path, f"categories with the id {category_id!r}", categories[category_id], "name")
        numbers["class_id"] = _class_id(path, where, str(name), classes)
        rows.append(_parsed_row(path, where, numbers))
    parsed = np.array(rows, _PARSED_DTYPE)
    return convert_rows(path, parsed, RECORDING_BOX_DTYPE, {}, lambda row: f"annotations[{row}]")


def _write_coco(path: Path, boxes: np.ndarray, classes: tuple[str, ...], sensor: SensorSize | None) -> None:
    times, image_index = np.unique(boxes["t"], return_inverse=True)
    size = sensor.model_dump() if sensor is not None else {}
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
