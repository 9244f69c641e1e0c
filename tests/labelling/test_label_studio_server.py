"""The round trip through the real Label Studio: its server, its database, its own SDK.

The server runs in an environment of its own (see `tool_environments`), with SQLite, on this machine alone. Setting its
database up takes longer than all the rest, so a fresh one is kept and copied.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from labelling_export import CLASSES, boxes_of, write_recording
from tool_environments import environment, tool_folder, tool_python

from leod.boxes.box_files import read_boxes, write_boxes
from leod.boxes.operations import is_empty_moment
from leod.labelling.moments import Moment, write_moments
from leod.stages.export_frames import export_frames
from leod.stages.import_labels import import_labels

pytestmark = pytest.mark.slow

_REQUIREMENT = "label-studio>=1.20,<2"
_TOKEN = "0123456789abcdef0123456789abcdef01234567"
_PERSON = Path(__file__).with_name("person_at_label_studio.py")
_START_S = 900

TIMES = (200_001, 333_333, 480_000, 640_123, 900_000)
HEIGHT, WIDTH = 96, 128


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running_server(python: Path, data: Path) -> Iterator[str]:
    """A server on ``data``; yields its address."""
    port = free_port()
    command = [str(python.with_name("label-studio")), "start", "--no-browser", "--data-dir", str(data)]
    command += ["--internal-host", "127.0.0.1", "--port", str(port), "--enable-legacy-api-token"]
    command += ["--username", "person@example.org", "--password", "password", "--user-token", _TOKEN]
    quiet = {"COLLECT_ANALYTICS": "false", "LATEST_VERSION_CHECK": "false", "SENTRY_DSN": "", "FRONTEND_SENTRY_DSN": ""}
    data.mkdir(parents=True, exist_ok=True)
    with (data / "server.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=data, env=environment() | quiet)
        try:
            address = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + _START_S
            while not answers(f"{address}/health"):
                if server.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"Label Studio does not start:\n{(data / 'server.log').read_text()[-3000:]}")
                time.sleep(0.5)
            yield address
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=3) as answer:
            return answer.status == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def python() -> Path:
    return tool_python("label-studio", _REQUIREMENT)


@pytest.fixture
def server(python: Path, tmp_path: Path) -> Iterator[str]:
    """A server with an empty database of its own."""
    fresh = tool_folder("label-studio") / "fresh-database"
    with FileLock(f"{fresh}.lock"):
        if not fresh.is_dir():
            # Hundreds of migrations, each of which waits for the disk: in memory it takes a third of the time.
            memory = Path("/dev/shm")
            with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
                making = Path(folder) / "data"
                with running_server(python, making):
                    pass
                shutil.copytree(making, f"{fresh}.incomplete", dirs_exist_ok=True)
            Path(f"{fresh}.incomplete").replace(fresh)
    shutil.copytree(fresh, tmp_path / "server")
    with running_server(python, tmp_path / "server") as address:
        yield address


def test_labels_go_through_the_real_server_and_come_back(tmp_path: Path, python: Path, server: str) -> None:
    recording = tmp_path / "recordings" / "drive_td.dat"
    write_recording(recording, height=HEIGHT, width=WIDTH)
    write_moments(tmp_path / "moments.csv", [Moment(recording, t_us, "much moves", 1.0) for t_us in TIMES])
    rng = np.random.default_rng(0)
    places = rng.uniform(1, 45, (10, 4)).tolist()
    proposed = boxes_of(*((TIMES[number // 2], *place, number % 2, 0.8) for number, place in enumerate(places)))
    (tmp_path / "proposed").mkdir()
    write_boxes(tmp_path / "proposed" / "drive_bbox.csv", proposed, CLASSES)
    folder = tmp_path / "export"
    export_frames(tmp_path / "moments.csv", folder, classes=",".join(CLASSES), boxes=[tmp_path / "proposed"])
    exported = tmp_path / "project.json"
    person = [str(python), str(_PERSON), server, _TOKEN, str(folder / "label-studio"), str(exported)]
    subprocess.run(person, check=True, env=environment(), timeout=300)

    summary = import_labels(exported, folder)
    assert (summary.labelled, summary.empty, summary.not_labelled, summary.missing) == (3, 1, 2, 0)
    boxes = read_boxes(recording.with_name("drive_bbox.csv"), CLASSES)
    assert sorted(set(boxes["t"].tolist())) == list(TIMES[:3])
    first, second, third = (boxes[boxes["t"] == t_us] for t_us in TIMES[:3])
    assert is_empty_moment(second).all()
    for mine, theirs, moved in ((first, proposed[:2], 0.0), (third, proposed[4:6], 0.001 * WIDTH)):
        np.testing.assert_array_equal(mine["class_id"], theirs["class_id"])
        shift = np.array([moved, 0.0])
        np.testing.assert_allclose(mine["x"] - theirs["x"], shift, atol=0.01)
        for edge in ("y", "w", "h"):
            np.testing.assert_allclose(mine[edge], theirs[edge], atol=0.01)
    assert import_labels(exported, folder).written == []


def test_the_tools_own_conversions_come_back_if_pictures_have_names(tmp_path: Path, python: Path, server: str) -> None:
    recording = tmp_path / "recordings" / "drive_td.dat"
    write_recording(recording, height=HEIGHT, width=WIDTH)
    write_moments(tmp_path / "moments.csv", [Moment(recording, t_us, "", 1.0) for t_us in TIMES])
    proposed = boxes_of(*((t_us, 10.25, 20.5, 33.3, 44.4, number % 2) for number, t_us in enumerate(TIMES)))
    (tmp_path / "proposed").mkdir()
    write_boxes(tmp_path / "proposed" / "drive_bbox.csv", proposed, CLASSES)
    folder, exported = tmp_path / "export", tmp_path / "project.json"
    # Nobody listens there: Label Studio asks for pictures only if a browser does.
    url = f"http://127.0.0.1:{free_port()}"
    export_frames(
        tmp_path / "moments.csv", folder, classes=",".join(CLASSES), boxes=[tmp_path / "proposed"], picture_url=url
    )
    person = [str(python), str(_PERSON), server, _TOKEN, str(folder / "label-studio"), str(exported)]
    person += ["COCO", "YOLO", "VOC"]
    subprocess.run(person, check=True, env=environment(), timeout=300)
    import_labels(exported, folder)
    expected = read_boxes(recording.with_name("drive_bbox.csv"), CLASSES)
    # Its Pascal VOC leaves out pictures without boxes, and cuts coordinates down to whole pixels of the picture.
    for name, tolerance, moments in (("COCO", 0.01, 3), ("YOLO", 0.01, 3), ("VOC", 0.5, 2)):
        archive, output = exported.with_name(f"project-{name}.zip"), tmp_path / name
        import_labels(archive, folder, unchanged="labelled", output=output)
        boxes = read_boxes(output / "drive_bbox.csv", CLASSES)
        assert len(np.unique(boxes["t"])) == moments, name
        rows = ~is_empty_moment(expected)
        boxes = boxes[~is_empty_moment(boxes)]
        np.testing.assert_array_equal(boxes["t"], expected["t"][rows])
        np.testing.assert_array_equal(boxes["class_id"], expected["class_id"][rows])
        for edge in ("x", "y", "w", "h"):
            np.testing.assert_allclose(boxes[edge], expected[edge][rows], atol=tolerance)
