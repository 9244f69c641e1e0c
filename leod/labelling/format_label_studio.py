"""Label Studio: a JSON file of tasks with predictions, and the labelling interface; boxes in percent."""

from __future__ import annotations

import base64
import json
import logging
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from leod.errors import DataError
from leod.files import write_json
from leod.labelling.annotations import (
    Box,
    DrawnPicture,
    Export,
    ExportFiles,
    PictureToLabel,
    number,
    refuse_rotation,
    refuse_shape,
    refuse_shares,
)

NAME = "label-studio"

logger = logging.getLogger(__name__)

_LABELS, _IMAGE = "label", "image"
_COLOURS = ("#2c5cce", "#e26a54", "#00803c", "#b2008c", "#c86e00", "#0082a0", "#7a4fb5", "#8a7a00", "#505050")
_LARGE_BYTES = 200 << 20
_SHAPES = ("polygon", "brush", "keypoint", "ellipse", "vector", "bitmask", "magicwand")


def write(folder: Path, export: Export) -> None:
    """Write `tasks.json` to import and `config.xml`, the labelling interface.

    Pictures are part of the tasks, so nothing has to be served, unless a web server is named.
    """
    write_json(folder / "tasks.json", [_task(picture, export) for picture in export.pictures])
    size = (folder / "tasks.json").stat().st_size
    if size > _LARGE_BYTES:
        logger.warning(
            "label-studio/tasks.json has %d MB, as the pictures are in it, and Label Studio refuses more than 250 MB. "
            "Take fewer moments (--count), leave the sheets out (--neighbours 0 and one window), or let a web server "
            "give it the pictures (--picture-url).",
            size >> 20,
        )
    sheets = any(picture.sheet is not None for picture in export.pictures)
    (folder / "config.xml").write_text(_interface(export.labels, sheets), encoding="utf-8")


def _interface(labels: tuple[str, ...], sheets: bool) -> str:
    entries = "\n".join(
        f"    <Label value={quoteattr(name)} background={quoteattr(_COLOURS[number % len(_COLOURS)])}/>"
        for number, name in enumerate(labels)
    )
    beside = '  <Image name="context" value="$context"/>\n' if sheets else ""
    return (
        "<View>\n"
        '  <Header value="$title"/>\n'
        f'  <RectangleLabels name="{_LABELS}" toName="{_IMAGE}" canRotate="false">\n{entries}\n  </RectangleLabels>\n'
        f'  <Image name="{_IMAGE}" value="$image" zoom="true" zoomControl="true"/>\n{beside}'
        "</View>\n"
    )


def _task(picture: PictureToLabel, export: Export) -> dict[str, Any]:
    def address(folder: Path, name: str) -> str:
        if export.picture_url is not None:
            return f"{export.picture_url}{folder.name}/{quote(name)}"
        return "data:image/png;base64," + base64.b64encode((folder / name).read_bytes()).decode()

    facts = picture.facts
    title = f"{facts['recording']}, {facts['t_us'] / 1e6:.3f} s"
    title += f": {facts['reason']}" if facts["reason"] else ""
    data = {
        "image": address(export.images, picture.file),
        **({} if picture.sheet is None else {"context": address(export.context, picture.sheet)}),
        "title": title,
        "picture": picture.file,
        "leod_export_id": export.export_id,
        **facts,
    }
    task: dict[str, Any] = {"data": data}
    if picture.boxes:
        scores = [box.score for box in picture.boxes if box.score is not None]
        task["predictions"] = [
            {
                "model_version": export.model,
                **({"score": sum(scores) / len(scores)} if scores else {}),
                "result": [_region(number, box, picture) for number, box in enumerate(picture.boxes)],
            }
        ]
    return task


def _region(number: int, box: Box, picture: PictureToLabel) -> dict[str, Any]:
    height, width = picture.size
    return {
        "id": f"box{number}",
        "type": "rectanglelabels",
        "from_name": _LABELS,
        "to_name": _IMAGE,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        **({} if box.score is None else {"score": box.score}),
        "value": {
            "x": 100 * box.x / width,
            "y": 100 * box.y / height,
            "width": 100 * box.w / width,
            "height": 100 * box.h / height,
            "rotation": 0,
            "rectanglelabels": [box.label],
        },
    }


def recognise(files: ExportFiles) -> list[str]:
    """Names of the files that are Label Studio's."""
    return [name for name in files.names if name.lower().endswith(".json") and _is_tasks(files, name)]


def _is_tasks(files: ExportFiles, name: str) -> bool:
    try:
        content = json.loads(files.text(name))
    except json.JSONDecodeError:
        return False
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        return False
    return not content or any(entry.keys() & {"data", "annotations"} for entry in content)


def export_ids(files: ExportFiles, names: list[str]) -> set[str]:
    """Exports that the tasks say they belong to."""
    tasks = [task.get("data") for name in names for task in json.loads(files.text(name))]
    return {data["leod_export_id"] for data in tasks if isinstance(data, dict) and "leod_export_id" in data}


def read(files: ExportFiles, names: list[str]) -> list[DrawnPicture]:
    """Read annotated pictures; one for each person who has annotated a task.

    Raises:
        DataError: Something in a file is not as Label Studio's JSON has it.
    """
    return [picture for name in names for picture in _read_file(files.place(name), json.loads(files.text(name)))]


def _read_file(file: Path, tasks: list[dict[str, Any]]) -> list[DrawnPicture]:
    pictures, drafts = [], 0
    percents: list[Box] = []
    for position, task in enumerate(tasks):
        where = f"task {task.get('id', position)}"
        data, annotations = task.get("data"), task.get("annotations", [])
        if not isinstance(data, dict) or not isinstance(annotations, list):
            raise DataError(
                file, f"{where}: has no data or no list of annotations. Export as JSON; JSON-MIN leaves too much out."
            )
        name = data.get("picture") or data.get("image")
        if not isinstance(name, str) or name.startswith("data:"):
            raise DataError(file, f"{where}: data names no picture; expected the data that were exported to the tool.")
        finished = [entry for entry in annotations if not entry.get("was_cancelled")]
        drafts += not finished and bool(task.get("drafts"))
        if not finished:
            pictures.append(DrawnPicture(name, file, where, (), looked_at=False))
        for annotation in finished:
            place = f"{where}, annotation {annotation.get('id', '?')}"
            boxes, size = _regions(file, place, annotation.get("result") or [])
            percents += boxes
            shares = tuple(
                Box(box.x / 100, box.y / 100, box.w / 100, box.h / 100, box.label, where=box.where) for box in boxes
            )
            person = _annotator(annotation.get("completed_by"))
            pictures.append(DrawnPicture(name, file, place, shares, size, True, True, person))
    refuse_shares(file, percents, "percent", at_least=2)
    if drafts:
        logger.warning("%s: %d tasks have a draft that was never submitted; they count as not labelled", file, drafts)
    return pictures


def _annotator(entry: Any) -> str | None:
    if isinstance(entry, dict):
        entry = entry.get("email") or entry.get("id")
    return None if entry is None else str(entry)


def _regions(file: Path, place: str, result: list[dict[str, Any]]) -> tuple[tuple[Box, ...], tuple[int, int] | None]:
    """Boxes in percent, and the size of the picture if it is said."""
    boxes, size = [], None
    for position, region in enumerate(result):
        where, kind = f"{place}, region {position + 1}", str(region.get("type"))
        if kind not in ("rectanglelabels", "rectangle"):
            if kind.startswith(_SHAPES):
                refuse_shape(file, where, kind)
            # Choices, ratings, texts and relations say nothing about boxes; so does the label of a plain rectangle.
            continue
        value = region.get("value")
        if not isinstance(value, dict):
            raise DataError(file, f"{where}: has no value.")
        if region.get("to_name", _IMAGE) == "context":
            raise DataError(file, f"{where}: was drawn on the sheet, not on the picture. Draw it on the picture.")
        refuse_rotation(file, where, value.get("rotation"))
        refuse_rotation(file, where, region.get("image_rotation"))
        x, y, w, h = (number(file, where, key, value.get(key)) for key in ("x", "y", "width", "height"))
        if max(w, h) > 100.01:
            raise DataError(
                file,
                f"{where}: is {w:g} wide and {h:g} high; Label Studio counts in percent of the picture. Are these "
                "pixels?",
            )
        names = value.get("rectanglelabels") or value.get("labels") or []
        if len(names) != 1:
            raise DataError(
                file,
                f"{where}: has {len(names)} labels, expected one class. Use the labelling interface that was exported "
                "(config.xml).",
            )
        stated = region.get("original_height"), region.get("original_width")
        if all(isinstance(side, int | float) for side in stated):
            size = round(stated[0]), round(stated[1])
        boxes.append(Box(x, y, w, h, str(names[0]), where=where))
    return tuple(boxes), size
