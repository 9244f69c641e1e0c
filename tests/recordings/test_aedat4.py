import numpy as np
import pytest

from leod.errors import DataError
from leod.recordings import aedat4
from leod.recordings.recording import open_recording

START_US = 1_600_000_000_000_000


@pytest.fixture
def path(tmp_path):
    faery = pytest.importorskip("faery")
    number = np.arange(5_000)
    events = np.zeros(len(number), faery.EVENTS_DTYPE)
    events["t"], events["x"], events["y"], events["on"] = START_US + 10 * number, number % 346, number % 260, number % 2
    faery.events_stream_from_array(events, (346, 260)).to_file(tmp_path / "a.aedat4")
    return tmp_path / "a.aedat4"


def test_reads_what_faery_wrote(path):
    with open_recording(path) as recording:
        assert (recording.height, recording.width) == (260, 346)
        chunks = list(recording.chunks(1_000))
    assert max(map(len, chunks)) <= 1_000
    t, x, y, p = (np.concatenate([getattr(chunk, name) for chunk in chunks]) for name in "txyp")
    number = np.arange(5_000)
    for column, expected in ((t, START_US + 10 * number), (x, number % 346), (y, number % 260), (p, number % 2)):
        np.testing.assert_array_equal(column, expected)


@pytest.mark.parametrize("share", [0.0, 0.005, 0.5])
def test_cut_off_files_are_refused(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"cut off|is not an AEDAT4 file"), open_recording(path) as recording:
        list(recording.chunks())


def test_says_what_to_install(path, monkeypatch):
    monkeypatch.setattr(aedat4, "faery", None)
    with pytest.raises(DataError, match=r"pip install '\.\[aedat4\]'"):
        open_recording(path)
