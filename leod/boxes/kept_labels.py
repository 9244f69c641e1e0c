"""The split of record: which labelled frames of the train split an experiment may learn from.

The released splits of LEOD are pickles; `read_released_split` reads them without running anything they contain.
"""

from __future__ import annotations

import io
import pickle
import re
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from leod.errors import DataError
from leod.files import read_json, write_json


@dataclass(frozen=True)
class KeptLabels:
    """Kept labelled frames of every sequence of the train split (`labels.json`).

    Attributes:
        sequences: Sequence name -> indices of the kept labelled frames (counted among the sequence's labelled frames),
            strictly increasing. Sequences that keep none are listed too: they are unlabelled training data.
        setting: 'weakly_supervised', 'semi_supervised', 'fully_supervised', 'random' or 'suggested'.
        ratio: Requested share of the labels; None where unknown, or where a number of frames was asked for.
        frames: Requested number of labelled frames; None where a share was asked for.
        split_offset: Which of the possible splits of that ratio.
        history: Frames that precede a sequence's first kept labelled frame, itself included; None where unknown.
        provenance: How and from what the split was made.
        path: The file this was read from; only for messages.
    """

    sequences: dict[str, tuple[int, ...]]
    setting: str
    ratio: float | None = None
    split_offset: int = 0
    history: int | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    path: Path = Path("labels.json")
    frames: int | None = None

    @property
    def labelled_frames(self) -> int:
        """Number of kept labelled frames of all sequences together."""
        return sum(len(kept) for kept in self.sequences.values())

    def indices(self, sequence_name: str) -> np.ndarray:
        """Kept labelled frames of one sequence, int64 [n], strictly increasing.

        Raises:
            DataError: The split does not know the sequence.
        """
        try:
            return np.array(self.sequences[sequence_name], np.int64)
        except KeyError:
            raise DataError(
                self.path,
                f"does not list the sequence {sequence_name!r}; it was made for another data set or before the "
                "sequence was added. Make it again with the stage subsample_labels.",
            ) from None

    def indices_within(self, sequence_name: str, labelled_frame_count: int) -> np.ndarray:
        """Like `indices`, and check them against the sequence's number of labelled frames.

        Raises:
            DataError: The split does not know the sequence, or keeps a labelled frame that it does not have.
        """
        kept = self.indices(sequence_name)
        if len(kept) and kept[-1] >= labelled_frame_count:
            raise DataError(
                self.path,
                f"keeps labelled frame {kept[-1]} of sequence {sequence_name!r}, which has only "
                f"{labelled_frame_count}. It was made for other labels; make it again.",
            )
        return kept

    @classmethod
    def read(cls, path: Path) -> KeptLabels:
        """Read `labels.json`.

        Raises:
            DataError: The file is missing, not JSON, or not a split.
        """
        path = Path(path)
        content = read_json(path)
        if not isinstance(content, dict) or not isinstance(content.get("sequences"), dict):
            raise DataError(
                path, "is not a split of record: expected an object with 'setting' and 'sequences'. Make it again."
            )
        return cls(
            sequences=_checked_sequences(path, content["sequences"]),
            setting=str(content.get("setting")),
            ratio=content.get("ratio"),
            split_offset=content.get("split_offset", 0),
            history=content.get("history"),
            provenance=content.get("provenance", {}),
            path=path,
            frames=content.get("frames"),
        )

    def write(self, path: Path) -> None:
        """Write `labels.json` atomically, sequences sorted by name."""
        write_json(
            path,
            {
                "provenance": self.provenance,
                "setting": self.setting,
                "ratio": self.ratio,
                **({} if self.frames is None else {"frames": self.frames}),
                "split_offset": self.split_offset,
                "history": self.history,
                "labelled_frames": self.labelled_frames,
                "sequences": {name: list(self.sequences[name]) for name in sorted(self.sequences)},
            },
        )


def _checked_sequences(path: Path, sequences: dict[Any, Any]) -> dict[str, tuple[int, ...]]:
    checked = {}
    for name, kept in sequences.items():
        if isinstance(kept, _PickledArray):
            kept = kept.values
        if not isinstance(name, str) or not isinstance(kept, list | tuple):
            raise DataError(path, f"sequence {name!r}: expected a name with a list of integers, got {kept!r:.80}.")
        if not all(type(index) is int for index in kept):
            raise DataError(path, f"sequence {name!r}: the kept labelled frames must be integers, got {kept!r:.80}.")
        indices = tuple(kept)
        if any(index < 0 for index in indices) or any(after <= before for before, after in pairwise(indices)):
            raise DataError(
                path, f"sequence {name!r}: the kept labelled frames must be increasing and not negative, got {indices}."
            )
        checked[name] = indices
    return checked


# ---------------------------------------------------------------------------------------------- released splits


class _PickledDtype:
    """Stand-in for `numpy.dtype` that knows integers only."""

    def __init__(self, code: str, *_: Any) -> None:
        if not isinstance(code, str) or not re.fullmatch("[iu][1248]", code):
            raise ValueError(f"NumPy data of type {code!r}, expected integers")
        self._code = code
        self._byte_order = "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._byte_order = ">" if state[1] == ">" else "<"

    def decode(self, content: bytes) -> list[int]:
        return np.frombuffer(content, np.dtype(self._byte_order + self._code)).tolist()


class _PickledArray:
    """Stand-in for `numpy.ndarray` that holds a flat list of integers."""

    def __init__(self, *_: Any) -> None:
        self.values: list[int] = []

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, _, dtype, _, content = state
        self.values = dtype.decode(content)

    @classmethod
    def from_buffer(cls, content: bytes, dtype: _PickledDtype, *_: Any) -> _PickledArray:
        array = cls()
        array.values = dtype.decode(content)
        return array


def _pickled_scalar(dtype: _PickledDtype, content: bytes) -> int:
    (value,) = dtype.decode(content)
    return value


def _pickled_bytes(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"bytes in encoding {encoding!r}, expected latin1")
    return text.encode(encoding)


def _empty_bytes() -> bytes:
    return b""


_STAND_INS = {
    ("numpy", "dtype"): _PickledDtype,
    ("numpy", "ndarray"): _PickledArray,
    ("_codecs", "encode"): _pickled_bytes,
    ("__builtin__", "bytes"): _empty_bytes,
} | {
    (f"numpy.{core}.{module}", name): stand_in
    for core in ("core", "_core")
    for module, name, stand_in in (
        ("multiarray", "_reconstruct", _PickledArray),
        ("multiarray", "scalar", _pickled_scalar),
        ("numeric", "_frombuffer", _PickledArray.from_buffer),
    )
}
"""What pickled NumPy integers and arrays ask for, answered by our own code so that none of NumPy's is reached."""


class _PlainUnpickler(pickle.Unpickler):
    """Rebuilds plain containers, strings, numbers and NumPy arrays; refuses everything else."""

    def __init__(self, path: Path, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        stand_in = _STAND_INS.get((module, name))
        if stand_in is None:
            raise DataError(
                self._path,
                f"refused: the pickle asks for {module}.{name}, which a split has no use for and which could run "
                "foreign code. Only names, integers, tuples, lists, dicts and NumPy integers are accepted.",
            )
        return stand_in


def read_released_split(path: Path) -> dict[str, tuple[int, ...]]:
    """Read a released split: a pickled dict, sequence name -> indices of the kept labelled frames.

    Nothing in the file can run code: only plain containers, strings, integers and NumPy integers are rebuilt.

    Args:
        path: The file, e.g. LEOD's `data/genx_utils/splits/gen1/ssod_0.010-off0.pkl`.

    Raises:
        DataError: The file is missing, damaged, not a split, or holds anything else.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(path, "the file does not exist.") from None
    try:
        loaded = _PlainUnpickler(path, content).load()
    except DataError:
        raise
    except Exception as error:
        # A damaged pickle can make the unpickler raise almost anything.
        raise DataError(path, f"cannot be read as a pickled split ({type(error).__name__}: {error}).") from None
    if not isinstance(loaded, dict) or not loaded:
        raise DataError(path, f"expected a dict of sequence names, got {type(loaded).__name__} {loaded!r:.60}.")
    return _checked_sequences(path, loaded)
