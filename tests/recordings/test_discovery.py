import pytest

from leod.errors import DataError
from leod.recordings.discovery import RecordingFiles, find_recordings, new_box_file, recording_files


def fill(folder, *names):
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def test_every_way_of_naming(tmp_path):
    fill(tmp_path, "b_td.dat", "b_bbox.npy", "a_td.dat.h5", "a_bbox.npy", "x_td_1_2_td.h5", "x_td_1_2_bbox.csv")
    fill(tmp_path, "d.dat", "d_bbox.json", ".incomplete-1-e_td.dat", "notes.txt", "c.h5", "c_bbox.npy")
    fill(tmp_path, "e.raw", "e_bbox.csv", "f.aedat4", "f_bbox.json")
    found = find_recordings(tmp_path)
    assert [files.name for files in found] == ["a", "b", "c", "d", "e", "f", "x_td_1_2"]
    assert [files.boxes.name for files in found] == [
        *("a_bbox.npy", "b_bbox.npy", "c_bbox.npy", "d_bbox.json", "e_bbox.csv", "f_bbox.json", "x_td_1_2_bbox.csv")
    ]


def test_recordings_without_boxes_must_be_asked_for(tmp_path):
    fill(tmp_path, "a_td.dat", "a_bbox.npy", "b_td.dat")
    with pytest.raises(DataError, match=r"expected b_bbox\.npy beside it") as caught:
        find_recordings(tmp_path)
    assert caught.value.path.name == "b_td.dat"
    assert [files.boxes is None for files in find_recordings(tmp_path, unlabelled=True)] == [False, True]
    assert [files.name for files in find_recordings(tmp_path, skip=["b"])] == ["a"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "holds no recordings"),
        (("a_bbox.npy",), "holds no recordings"),
        (("a_td.dat", "a_bbox.npy", "b_bbox.npy"), "has no recording b_td.dat"),
        (("a_td.dat", "a_td.dat.h5", "a_bbox.npy"), "Keep one of the two"),
    ],
)
def test_incomplete_folders(tmp_path, names, message):
    with pytest.raises(DataError, match=message):
        find_recordings(fill(tmp_path, *names))


def test_missing_folder(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        find_recordings(tmp_path / "train")


@pytest.mark.parametrize("suffix", [".csv", ".npy", ".json"])
def test_one_recording_and_its_boxes(tmp_path, suffix):
    (tmp_path / "a_td.dat").touch()
    (tmp_path / "ab_bbox.csv").touch()
    assert recording_files(tmp_path / "a_td.dat") == RecordingFiles("a", tmp_path / "a_td.dat", None)
    assert new_box_file(recording_files(tmp_path / "a_td.dat")) == tmp_path / "a_bbox.csv"
    (tmp_path / f"a_bbox{suffix}").touch()
    assert recording_files(tmp_path / "a_td.dat").boxes == tmp_path / f"a_bbox{suffix}"
    (tmp_path / "a_bbox.NPY").touch()
    with pytest.raises(DataError, match=r"there is also a_bbox\..* for 'a'"):
        recording_files(tmp_path / "a_td.dat")
    with pytest.raises(DataError, match=r"ab_bbox\.csv: is no recording"):
        recording_files(tmp_path / "ab_bbox.csv")


def test_one_recording_that_is_a_folder(tmp_path):
    events = tmp_path / "drive" / "events" / "left" / "events.h5"
    events.parent.mkdir(parents=True)
    events.touch()
    expected = RecordingFiles("drive", events, None)
    assert recording_files(tmp_path / "drive") == recording_files(events) == expected
    assert new_box_file(expected) == tmp_path / "drive_bbox.csv"
    boxes = tmp_path / "drive" / "object_detections" / "left" / "tracks.npy"
    boxes.parent.mkdir(parents=True)
    boxes.touch()
    assert recording_files(tmp_path / "drive").boxes == boxes
