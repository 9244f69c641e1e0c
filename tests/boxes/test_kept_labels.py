"""The split of record, and reading released splits without running what they contain."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from leod.boxes.kept_labels import KeptLabels, read_released_split
from leod.errors import DataError
from leod.files import write_json


def dump(path: Path, content, protocol=2) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


class Command:
    """Runs a command when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def test_round_trip(tmp_path):
    kept = KeptLabels({"b": (4, 104), "a": ()}, "weakly_supervised", 0.01, 2, 21, {"stage": "test"})
    kept.write(tmp_path / "labels.json")
    read = KeptLabels.read(tmp_path / "labels.json")
    assert list(read.sequences) == ["a", "b"]
    assert (read.setting, read.ratio, read.split_offset, read.history) == ("weakly_supervised", 0.01, 2, 21)
    assert read.labelled_frames == 2
    assert read.indices("b").dtype == np.int64
    assert read.indices("b").tolist() == [4, 104]
    assert read.indices("a").tolist() == []


def test_unknown_sequence_and_index(tmp_path):
    kept = KeptLabels({"a": (4, 104)}, "weakly_supervised", path=tmp_path / "labels.json")
    with pytest.raises(DataError, match="does not list the sequence 'c'"):
        kept.indices("c")
    with pytest.raises(DataError, match=r"keeps labelled frame 104 .* has only 104"):
        kept.indices_within("a", 104)
    assert kept.indices_within("a", 105).tolist() == [4, 104]


@pytest.mark.parametrize(
    "content",
    [
        [],  # not an object
        {"setting": "weakly_supervised"},  # no sequences
        {"sequences": {"a": "0, 1"}},  # text
        {"sequences": {"a": [1, 0]}},  # not increasing
        {"sequences": {"a": [0, 0]}},  # twice
        {"sequences": {"a": [-1]}},  # negative
        {"sequences": {"a": [0.5]}},  # not an index
        {"sequences": {"a": [True]}},  # not an index either
    ],
)
def test_wrong_content_is_refused(content, tmp_path):
    write_json(tmp_path / "labels.json", content)
    with pytest.raises(DataError):
        KeptLabels.read(tmp_path / "labels.json")


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "indices",
    [
        (1, 101),  # as released
        [1, 101],  # a list
        (np.int64(3), np.uint8(7)),  # NumPy scalars
        np.array([1, 5]),  # a NumPy array
        np.array([], np.int32),  # an empty one
        np.array([2, 300], ">i4"),  # the other byte order
        (),  # nothing kept
    ],
)
def test_plain_splits_are_read(indices, protocol, tmp_path):
    path = dump(tmp_path / "split.pkl", {"sequence": indices}, protocol)
    assert read_released_split(path) == {"sequence": tuple(int(index) for index in indices)}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("function", [os.system, eval, exec, pickle.loads])
def test_foreign_code_never_runs(function, protocol, tmp_path):
    witness = tmp_path / "witness"
    argument = {
        os.system: f"touch {witness}",
        pickle.loads: pickle.dumps(Command(os.system, f"touch {witness}")),
    }.get(function, f"open({str(witness)!r}, 'w')")
    path = dump(tmp_path / "split.pkl", {"sequence": Command(function, argument)}, protocol)
    with pytest.raises(DataError, match="could run foreign code"):
        read_released_split(path)
    assert not witness.exists()


def test_the_attack_is_real(tmp_path):
    witness = tmp_path / "witness"
    pickle.loads(pickle.dumps(Command(os.system, f"touch {witness}")))
    assert witness.exists()


@pytest.mark.parametrize(
    "content",
    [
        {"sequence": (1.5,)},  # not integers
        {"sequence": (True,)},  # booleans
        {"sequence": np.array([1.5])},  # floats
        {"sequence": np.array([None])},  # objects
        {"sequence": (3, 1)},  # not increasing
        {"sequence": 7},  # no list
        {5: (1,)},  # no name
        {},  # empty
        [("sequence", (1,))],  # no dict
        OrderedDict(sequence=(1,)),  # not a plain dict
        Path("x"),  # some other class
    ],
)
def test_other_content_is_refused(content, tmp_path):
    with pytest.raises(DataError):
        read_released_split(dump(tmp_path / "split.pkl", content))


def test_damaged_split_is_refused(tmp_path):
    path = dump(tmp_path / "split.pkl", {"sequence": (1, 2)})
    content = path.read_bytes()
    for damaged in (b"", b"not a pickle", content[: len(content) // 2], content[:-1], b"\x80\x04\x95" + b"\xff" * 8):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="cannot be read as a pickled split"):
            read_released_split(path)
    with pytest.raises(DataError, match="does not exist"):
        read_released_split(tmp_path / "absent.pkl")
