import os
from pathlib import Path

import pytest

from leod.config.schema import SensorSize
from leod.errors import DataError
from leod.recordings.dat import write_dat
from leod.recordings.recording import open_recording

SAMPLES = Path(os.environ.get("LEOD_SAMPLES", Path(__file__).resolve().parents[3] / "shared" / "data"))


def test_suffix_tells_the_format(tmp_path, events):
    write_dat(tmp_path / "a.dat", [events], 24, 32)
    with open_recording(tmp_path / "a.dat") as recording:
        assert sum(map(len, recording.chunks())) == len(events)
    (tmp_path / "a.txt").write_text("1 2 3")
    with pytest.raises(DataError, match=r"expected a file that ends in \.dat"):
        open_recording(tmp_path / "a.txt")
    with pytest.raises(DataError, match="does not exist"):
        open_recording(tmp_path / "b.dat")


@pytest.mark.parametrize(
    ("name", "advice"), [("a.aedat", "AedatTools"), ("a.ES", "faery input file"), ("a.csv", "h5py"), ("a.npz", "h5py")]
)
def test_other_formats_are_refused_with_a_way_to_convert_them(tmp_path, name, advice):
    (tmp_path / name).write_bytes(b"1")
    with pytest.raises(DataError, match=f"unknown format; expected .*To convert it: .*{advice}"):
        open_recording(tmp_path / name)


@pytest.mark.parametrize("ending", [".DAT", ".Dat"])
def test_endings_in_capital_letters(tmp_path, events, ending):
    write_dat(tmp_path / f"a{ending}", [events], 24, 32)
    with open_recording(tmp_path / f"a{ending}") as recording:
        assert sum(map(len, recording.chunks())) == len(events)


def test_real_dat_recording():
    path = SAMPLES / "sample_ncars.dat"
    if not path.is_file():
        pytest.skip(f"{path} not found")
    with pytest.raises(DataError, match="does not tell the size"):
        open_recording(path)
    with open_recording(path, SensorSize(height=100, width=120)) as recording:
        (chunk,) = recording.chunks()
    assert len(chunk) == 2009
    assert chunk.t[0] == 0
    assert 90_000 < chunk.t[-1] < 110_000
