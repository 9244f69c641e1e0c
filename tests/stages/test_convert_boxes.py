"""Box files from one format into another, with classes merged, renamed and left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from leod.boxes.box_files import read_boxes
from leod.errors import ConfigError, DataError
from leod.stages.convert_boxes import convert_boxes

EIGHT = """t_us,x,y,w,h,class
1000000,10,10,20,20,car
1000000,40,10,20,20,truck
1000000,70,10,9,20,rider
1250000,11,10,20,20,sign
1500000,12,10,20,20,bus
1500000,60,10,9,20,pedestrian
1750000,,,,,
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "drive-01_bbox.csv"
    path.write_text(EIGHT)
    return path


def test_many_classes_become_few(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    convert_boxes(source, output, "car,pedestrian", ["truck, bus=car", "rider = ignored", "sign=null"])
    assert output.read_text().splitlines() == [
        "t_us,x,y,w,h,class,track_id,confidence",
        "1000000,10,10,20,20,car,0,1",
        "1000000,40,10,20,20,car,0,1",
        "1000000,70,10,9,20,ignored,0,1",
        "1500000,12,10,20,20,car,0,1",
        "1500000,60,10,9,20,pedestrian,0,1",
        "1750000,,,,,,,",
    ]


def test_the_map_says_what_a_data_sets_map_says(source: Path, tmp_path: Path) -> None:
    convert_boxes(
        source, tmp_path / "out.json", "car,pedestrian", ["truck,bus=car", "rider=pedestrian", "sign=ignored"]
    )
    mapping = {"truck": "car", "bus": "car", "rider": "pedestrian", "sign": "ignored"}
    expected = read_boxes(source, ("car", "pedestrian"), mapping)
    assert read_boxes(tmp_path / "out.json", ("car", "pedestrian")).tolist() == expected.tolist()


def test_ids_are_mapped_too(source: Path, tmp_path: Path) -> None:
    convert_boxes(source, tmp_path / "ids.npy", "car,truck,bus,rider,sign,pedestrian")
    convert_boxes(
        tmp_path / "ids.npy", tmp_path / "out.csv", "car,pedestrian", ["0,1,2=car", "3,4=null", "5=pedestrian"]
    )
    rows = read_boxes(tmp_path / "out.csv", ("car", "pedestrian"))
    assert rows["class_id"].tolist() == [0, 0, 0, 1, 1024]


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (["truck"], r"--map 'truck': expected NAME\[,NAME...\]=CLASS"),
        (["=car"], r"--map '=car': expected NAME"),
        (["truck,,bus=car"], r"--map 'truck,,bus=car': expected NAME"),
        (["sign="], r"--map 'sign=': expected NAME.*=null leaves them out"),
        (["truck=car", "bus,truck=pedestrian"], r"'truck' is mapped twice"),
        (["truck=vehicle"], r"'vehicle' is not one of the classes \['car', 'pedestrian'\]"),
    ],
)
def test_a_map_that_cannot_be_understood_is_an_error(
    source: Path, tmp_path: Path, mapping: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        convert_boxes(source, tmp_path / "out.csv", "car,pedestrian", mapping)


def test_a_class_that_the_map_forgets_is_named_with_its_line(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 4: class 'rider' is not one of the data set's classes"):
        convert_boxes(source, tmp_path / "out.csv", "car,pedestrian", ["truck=car"])
    assert not (tmp_path / "out.csv").exists()
