"""COCO: one JSON file of images, categories and annotations in pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from leod.errors import DataError
from leod.files import write_json
from leod.labelling.annotations import (
    Box,
    DrawnPicture,
    Export,
    ExportFiles,
    number,
    refuse_rotation,
    refuse_shares,
)

NAME = "coco"


def write(folder: Path, export: Export) -> None:
    """Write `instances.json`; scores stand in the annotations, the export in `info`."""
    annotations: list[dict[str, Any]] = []
    for image_id, picture in enumerate(export.pictures, start=1):
        for box in picture.boxes:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": export.labels.index(box.label) + 1,
                    "bbox": [box.x, box.y, box.w, box.h],
                    "area": box.w * box.h,
                    "segmentation": [],
                    "iscrowd": 0,
                    **({} if box.score is None else {"score": box.score}),
                }
            )
    content = {
        "info": {"description": f"leod export {export.export_id}", "leod_export_id": export.export_id},
        "licenses": [],
        # COCO counts from 1.
        "categories": [{"id": number + 1, "name": name} for number, name in enumerate(export.labels)],
        "images": [
            {"id": image_id, "file_name": picture.file, "height": picture.size[0], "width": picture.size[1]}
            for image_id, picture in enumerate(export.pictures, start=1)
        ],
        "annotations": annotations,
    }
    write_json(folder / "instances.json", content)


def recognise(files: ExportFiles) -> list[str]:
    """Names of the files that are COCO."""
    return [name for name in files.names if name.lower().endswith(".json") and _is_coco(files, name)]


def _is_coco(files: ExportFiles, name: str) -> bool:
    try:
        content = json.loads(files.text(name))
    except json.JSONDecodeError:
        return False
    return isinstance(content, dict) and {"images", "annotations"} <= content.keys()


def export_ids(files: ExportFiles, names: list[str]) -> set[str]:
    """Exports that the files say they belong to."""
    infos = [json.loads(files.text(name)).get("info") for name in names]
    return {info["leod_export_id"] for info in infos if isinstance(info, dict) and "leod_export_id" in info}


def read(files: ExportFiles, names: list[str]) -> list[DrawnPicture]:
    """Read annotated pictures.

    Raises:
        DataError: Something in a file is not as COCO has it.
    """
    return [picture for name in names for picture in _read_file(files.place(name), json.loads(files.text(name)))]


def _entries(file: Path, content: dict[str, Any], key: str) -> list[dict[str, Any]]:
    entries = content.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(file, f"is not COCO JSON: expected a list of objects as {key!r}.")
    return entries


def _by_id(file: Path, content: dict[str, Any], key: str) -> dict[Any, tuple[int, dict[str, Any]]]:
    found: dict[Any, tuple[int, dict[str, Any]]] = {}
    for position, entry in enumerate(_entries(file, content, key)):
        identifier = entry.get("id")
        if not isinstance(identifier, int | str) or identifier in found:
            raise DataError(file, f"{key}[{position}]: the id {identifier!r} is not a number or name of its own.")
        found[identifier] = position, entry
    return found


def _read_file(file: Path, content: dict[str, Any]) -> list[DrawnPicture]:
    images = _by_id(file, content, "images")
    categories = _by_id(file, content, "categories")
    boxes: dict[Any, list[Box]] = {identifier: [] for identifier in images}
    for position, annotation in enumerate(_entries(file, content, "annotations")):
        where = f"annotations[{position}]"
        image_id, category_id = annotation.get("image_id"), annotation.get("category_id")
        for role, identifier, known in (("image", image_id, images), ("category", category_id, categories)):
            if not isinstance(identifier, int | str) or identifier not in known:
                raise DataError(file, f"{where}: there is no {role} with the id {identifier!r}.")
        bbox = annotation.get("bbox")
        if not isinstance(bbox, list) or len(bbox) != 4:
            raise DataError(file, f"{where}: bbox is {bbox!r}, expected [x, y, w, h]. Only boxes are read.")
        attributes = annotation.get("attributes")
        rotation = attributes.get("rotation") if isinstance(attributes, dict) else None
        refuse_rotation(file, where, annotation.get("rotation", rotation))
        values = [number(file, where, name, value) for name, value in zip("xywh", bbox, strict=True)]
        boxes[image_id].append(Box(*values, str(categories[category_id][1].get("name")), where=where))
    refuse_shares(file, [box for drawn in boxes.values() for box in drawn], "pixels")
    pictures = []
    for identifier, (position, image) in images.items():
        where = f"images[{position}]"
        name = image.get("file_name")
        if not isinstance(name, str) or not name:
            raise DataError(file, f"{where}: has no file_name, so it is not known which picture it is.")
        size = None
        if image.get("height") is not None and image.get("width") is not None:
            size = tuple(round(number(file, where, side, image[side])) for side in ("height", "width"))
        pictures.append(DrawnPicture(name, file, where, tuple(boxes[identifier]), size))
    return pictures
