"""YOLO: a text file for each picture, a line for each box: class id, centre x, centre y, width, height in shares."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

import yaml

from leod.errors import DataError
from leod.labelling.annotations import Box, DrawnPicture, Export, ExportFiles, number, refuse_shape

NAME = "yolo"

_NOT_LABELS = ("classes.txt", "train.txt", "val.txt", "valid.txt", "test.txt", "default.txt", "labelmap.txt")
_VALUES = 5
_ROUNDING = 1e-4


def write(folder: Path, export: Export) -> None:
    """Write `labels/train/*.txt`, `data.yaml` (Ultralytics, CVAT) and `classes.txt` (Label Studio, LabelImg).

    Every picture has a file; one without boxes is empty.
    """
    labels = folder / "labels" / "train"
    labels.mkdir(parents=True)
    for picture in export.pictures:
        height, width = picture.size
        lines = [
            f"{export.labels.index(box.label)} {(box.x + box.w / 2) / width:.8f} {(box.y + box.h / 2) / height:.8f} "
            f"{box.w / width:.8f} {box.h / height:.8f}\n"
            for box in picture.boxes
        ]
        (labels / f"{PurePosixPath(picture.file).stem}.txt").write_text("".join(lines), encoding="utf-8")
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in export.labels), encoding="utf-8")
    names = {"path": ".", "train": "train.txt", "names": dict(enumerate(export.labels))}
    (folder / "data.yaml").write_text(yaml.safe_dump(names, sort_keys=False, allow_unicode=True), encoding="utf-8")
    listed = "".join(f"images/train/{picture.file}\n" for picture in export.pictures)
    (folder / "train.txt").write_text(listed, encoding="utf-8")


def recognise(files: ExportFiles) -> list[str]:
    """Names of the files that are labels of YOLO or name its classes."""
    labels = [name for name in files.names if _is_labels(name)]
    return [*labels, *_class_files(files)] if labels else []


def _is_labels(name: str) -> bool:
    path = PurePosixPath(name)
    return (
        path.suffix.lower() == ".txt"
        and path.name.lower() not in _NOT_LABELS
        and not path.name.lower().startswith("readme")
        and "ImageSets" not in path.parts
    )


def _class_files(files: ExportFiles) -> list[str]:
    def wanted(name: str) -> bool:
        path = PurePosixPath(name.lower())
        return path.name in ("classes.txt", "notes.json") or path.suffix in (".names", ".yaml", ".yml")

    return [name for name in files.names if wanted(name)]


def export_ids(files: ExportFiles, names: list[str]) -> set[str]:
    """YOLO has no place for it."""
    return set()


def read(files: ExportFiles, names: list[str]) -> list[DrawnPicture]:
    """Read annotated pictures.

    Raises:
        DataError: Nothing names the classes, or a line is not as YOLO has it.
    """
    classes = _classes(files)
    return [_read_file(files.place(name), files.text(name), classes) for name in names if _is_labels(name)]


def _classes(files: ExportFiles) -> list[str]:
    found: dict[str, list[str]] = {}
    for name in _class_files(files):
        names = _names_in(files, name)
        if names:
            found[name] = names
    if not found:
        raise DataError(
            files.path,
            "holds YOLO labels, but nothing that names the classes. Put data.yaml, obj.names or classes.txt, which the "
            "tool exported, into the same folder.",
        )
    (first, names), *others = found.items()
    for other, their in others:
        if their != names:
            raise DataError(
                files.place(other), f"names the classes {their}, {first} names {names}. Keep the one that is right."
            )
    return names


def _names_in(files: ExportFiles, name: str) -> list[str]:
    text, suffix = files.text(name), PurePosixPath(name.lower()).suffix
    if suffix in (".txt", ".names"):
        return [line.strip() for line in text.splitlines() if line.strip()]
    try:
        content = json.loads(text) if suffix == ".json" else yaml.safe_load(text)
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        raise DataError(files.place(name), f"cannot be read ({error}).") from None
    if not isinstance(content, dict):
        return []
    if suffix == ".json":
        try:
            entries = sorted(content.get("categories") or [], key=lambda entry: entry["id"])
            return [str(entry["name"]) for entry in entries]
        except (KeyError, TypeError):
            raise DataError(files.place(name), "its categories have no id and name. Export it again.") from None
    names = content.get("names") or []
    return [str(names[key]) for key in sorted(names)] if isinstance(names, dict) else [str(entry) for entry in names]


def _read_file(file: Path, text: str, classes: list[str]) -> DrawnPicture:
    boxes = []
    for count, line in enumerate(text.splitlines(), start=1):
        cells = line.split()
        if not cells:
            continue
        where = f"line {count}"
        # A sixth value is the confidence of a detector; more are corners of rotated boxes or outlines.
        if len(cells) > _VALUES + 1:
            refuse_shape(file, where, "rotated box or outline")
        if len(cells) < _VALUES:
            raise DataError(file, f"{where}: expected class, centre x, centre y, width, height; it is {line!r}.")
        class_id, x, y, w, h = (
            number(file, where, name, value)
            for name, value in zip(("class", "x", "y", "width", "height"), cells, strict=False)
        )
        if class_id != int(class_id) or not 0 <= class_id < len(classes):
            raise DataError(
                file, f"{where}: class {cells[0]} does not exist; {len(classes)} classes are named: {classes}."
            )
        if min(x, y, w, h) < -_ROUNDING or max(x, y, w, h) > 1 + _ROUNDING:
            raise DataError(
                file,
                f"{where}: {line!r} does not lie within 0..1; YOLO counts in shares of the picture. Are these pixels? "
                "Export it again.",
            )
        boxes.append(Box(x - w / 2, y - h / 2, w, h, classes[int(class_id)], where=where))
    return DrawnPicture(file.name, file, f"picture of {file.name!r}", tuple(boxes), relative=True)
