"""Reads an export with datumaro and writes it again. Runs in datumaro's environment, not in ours.

Usage: python datumaro_round_trip.py EXPORT OUTPUT

EXPORT is a folder of `leod export-frames` with coco, cvat, yolo and voc. Each is put beside its pictures as the format
wants it, read, checked against the pictures, and written to OUTPUT/<format>. What was read goes to OUTPUT/read.json.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import datumaro

_NAMES = {"coco": "coco_instances", "cvat": "cvat", "yolo": "yolo", "voc": "voc_detection"}
"""Our names of formats, and the names under which it writes them."""


def arrange(export: Path, name: str, folder: Path) -> tuple[Path, str]:
    """Put an export and its pictures where the reader looks for them; the folder, and the reader's name."""
    source, images = export / name, export / "images"
    if name == "coco":
        (folder / "annotations").mkdir(parents=True)
        shutil.copy(source / "instances.json", folder / "annotations" / "instances_default.json")
        shutil.copytree(images, folder / "images" / "default")
        return folder, "coco"
    if name == "cvat":
        folder.mkdir(parents=True)
        shutil.copy(source / "annotations.xml", folder / "default.xml")
        shutil.copytree(images, folder / "images")
        return folder, "cvat"
    if name == "yolo":
        shutil.copytree(source, folder)
        shutil.copytree(images, folder / "images" / "train")
        return folder, "yolo"
    shutil.copytree(source, folder)
    shutil.copytree(images, folder / "JPEGImages")
    return folder, "voc"


def main(export: Path, output: Path) -> None:
    """Do all of it."""
    found: dict[str, dict[str, list]] = {}
    for name, writer in _NAMES.items():
        folder, reader = arrange(export, name, output / "arranged" / name)
        dataset = datumaro.Dataset.import_from(str(folder), reader)
        labels = [label.name for label in dataset.categories()[datumaro.AnnotationType.label].items]
        found[name] = {
            item.id: [[labels[box.label], *map(float, box.get_bbox())] for box in item.annotations if hasattr(box, "x")]
            for item in dataset
        }
        dataset.export(str(output / name), writer, save_media=name == "yolo")
    (output / "read.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
