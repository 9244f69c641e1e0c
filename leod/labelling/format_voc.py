"""Pascal VOC: an XML file for each picture, boxes by their corners in pixels."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path, PurePosixPath

from leod.files import atomic_file
from leod.labelling.annotations import (
    Box,
    DrawnPicture,
    Export,
    ExportFiles,
    number,
    refuse_rotation,
    refuse_shape,
    refuse_shares,
)
from leod.labelling.format_cvat import root_tag

NAME = "voc"


def write(folder: Path, export: Export) -> None:
    """Write `Annotations/*.xml`, `ImageSets/Main/default.txt` and `labelmap.txt`, as CVAT takes them as well.

    A corner is where the box ends, not the last pixel in it.
    """
    for picture in export.pictures:
        root = ElementTree.Element("annotation")
        ElementTree.SubElement(root, "folder").text = "images"
        ElementTree.SubElement(root, "filename").text = picture.file
        source = ElementTree.SubElement(root, "source")
        ElementTree.SubElement(source, "database").text = f"leod export {export.export_id}"
        size = ElementTree.SubElement(root, "size")
        for key, value in (("width", picture.size[1]), ("height", picture.size[0]), ("depth", 3)):
            ElementTree.SubElement(size, key).text = str(value)
        ElementTree.SubElement(root, "segmented").text = "0"
        for box in picture.boxes:
            entry = ElementTree.SubElement(root, "object")
            ElementTree.SubElement(entry, "name").text = box.label
            for key in ("truncated", "occluded", "difficult"):
                ElementTree.SubElement(entry, key).text = "0"
            corners = ElementTree.SubElement(entry, "bndbox")
            for key, value in (("xmin", box.x), ("ymin", box.y), ("xmax", box.x + box.w), ("ymax", box.y + box.h)):
                ElementTree.SubElement(corners, key).text = f"{value:.4f}"
        ElementTree.indent(root)
        with atomic_file(folder / "Annotations" / f"{PurePosixPath(picture.file).stem}.xml") as temporary:
            ElementTree.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)
    sets = folder / "ImageSets" / "Main"
    sets.mkdir(parents=True)
    stems = [PurePosixPath(picture.file).stem for picture in export.pictures]
    (sets / "default.txt").write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")
    lines = ["# label:color_rgb:parts:actions", "background:::", *(f"{name}:::" for name in export.labels)]
    (folder / "labelmap.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def recognise(files: ExportFiles) -> list[str]:
    """Names of the files that are Pascal VOC's."""
    return [name for name in files.names if name.lower().endswith(".xml") and root_tag(files, name) == "annotation"]


def export_ids(files: ExportFiles, names: list[str]) -> set[str]:
    """Tools write a source of their own."""
    return set()


def read(files: ExportFiles, names: list[str]) -> list[DrawnPicture]:
    """Read annotated pictures.

    Raises:
        DataError: Something in a file is not as Pascal VOC has it.
    """
    pictures = [_read_file(files.place(name), files.text(name)) for name in names]
    boxes = [box for picture in pictures for box in picture.boxes]
    if boxes:
        refuse_shares(next(picture.file for picture in pictures if picture.boxes), boxes, "pixels")
    return pictures


def _read_file(file: Path, text: str) -> DrawnPicture:
    root = ElementTree.fromstring(text)
    boxes = []
    for count, entry in enumerate(root.iter("object"), start=1):
        where = f"object {count}"
        corners = entry.find("bndbox")
        if corners is None:
            refuse_shape(file, where, next((part.tag for part in entry if part.tag in _SHAPES), "shape without bndbox"))
        for attribute in entry.iter("attribute"):
            if attribute.findtext("name") == "rotation":
                refuse_rotation(file, where, attribute.findtext("value"))
        left, top, right, bottom = (
            number(file, where, key, corners.findtext(key)) for key in ("xmin", "ymin", "xmax", "ymax")
        )
        label = (entry.findtext("name") or "").strip()
        boxes.append(Box(left, top, right - left, bottom - top, label, where=where))
    size = root.find("size")
    stated = None
    if size is not None:
        stated = tuple(round(number(file, "size", side, size.findtext(side))) for side in ("height", "width"))
        # Some tools do not know the size and write zeros.
        stated = stated if all(stated) else None
    # What names the picture is the file's own name where a tool leaves the other out.
    name = (root.findtext("filename") or "").strip() or file.name
    return DrawnPicture(name, file, f"picture {name!r}", tuple(boxes), stated)


_SHAPES = ("robndbox", "polygon", "segmentation")
