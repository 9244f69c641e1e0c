"""An independent program reads what goes out, and what it writes comes back: datumaro, in an environment of its own.

It stands for tools that were not at hand: CVAT itself uses it, and knows these formats by it.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from labelling_export import CLASSES, SCALE, TIMES, export
from tool_environments import environment, tool_python

from leod.boxes.box_files import read_boxes
from leod.labelling.manifest import read_manifest
from leod.stages.import_labels import import_labels

pytestmark = pytest.mark.slow

_FORMATS = ("coco", "cvat", "yolo", "voc")
_SCRIPT = Path(__file__).with_name("datumaro_round_trip.py")


def test_another_program_reads_and_writes_the_same_boxes(tmp_path: Path) -> None:
    python = tool_python("datumaro", "datumaro>=1.12,<2")
    folder, other = export(tmp_path, ",".join(_FORMATS)), tmp_path / "other"
    other.mkdir()
    command = [str(python), str(_SCRIPT), str(folder), str(other)]
    subprocess.run(command, check=True, env=environment(), timeout=300)
    found = json.loads((other / "read.json").read_text())
    manifest = read_manifest(folder)
    for name in _FORMATS:
        assert found[name].keys() == {Path(picture.file).stem for picture in manifest.pictures}
        for picture in manifest.pictures:
            mine = sorted(
                [CLASSES[box["class_id"]], *(float(box[edge]) * SCALE for edge in "xywh")] for box in picture.boxes
            )
            theirs = sorted(found[name][Path(picture.file).stem])
            assert [box[0] for box in theirs] == [box[0] for box in mine]
            np.testing.assert_allclose([box[1:] for box in theirs], [box[1:] for box in mine], atol=0.02)

        import_labels(other / name, folder, unchanged="labelled", output=tmp_path / name)
        for recording in TIMES:
            expected = np.concatenate([p.boxes for p in manifest.pictures if p.recording.name == recording])
            boxes = read_boxes(tmp_path / name / f"{recording}_bbox.csv", CLASSES)
            boxes = boxes[boxes["w"] > 0]
            order = [np.lexsort((rows["x"], rows["t"])) for rows in (boxes, expected)]
            for field, tolerance in (("t", 0), ("class_id", 0), ("x", 0.01), ("y", 0.01), ("w", 0.01), ("h", 0.01)):
                np.testing.assert_allclose(boxes[field][order[0]], expected[field][order[1]], atol=tolerance)
