"""What one sequence folder holds, and everything that is wrong with it.

`Sequence` stops at the first contradiction because training must; an inspection goes on and collects them all, and it
needs no configuration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from leod.boxes import operations as boxes
from leod.boxes.dtypes import LABEL_DTYPE
from leod.config.schema import SequenceConfig
from leod.errors import DataError
from leod.files import read_json
from leod.sequences.handles import close_hdf5, open_hdf5
from leod.sequences.layout import (
    STAMP_NAME,
    SequenceLabels,
    check_same_length,
    label_file,
    labelled_frames_file,
    read_labelled_frames,
    read_labels,
    read_timestamps,
    representations_dir,
    timestamps_file,
)
from leod.sequences.links import missing_file
from leod.sequences.plausibility import (
    BoxFacts,
    RecordingFacts,
    count_classes,
    count_moments,
    doubled_rows,
    nearly_doubled_count,
    same_as_before,
)
from leod.sequences.representations import representation_file_name, representation_name

_FRAMES_AT_A_TIME = 32
_BLOSC_FILTER = 32001
_BLOSC_COMPRESSORS = ("blosclz", "lz4", "lz4hc", "snappy", "zlib", "zstd")
_FILTERS = {
    1: "gzip",
    2: "shuffle",
    3: "fletcher32",
    4: "szip",
    32000: "lzf",
    32004: "lz4",
    32015: "zstd",
    32026: "blosc2",
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: with which file, and what."""

    path: Path
    problem: str


@dataclass(frozen=True)
class FramesFile:
    """One HDF5 file of event representations.

    Attributes:
        representation: Name of the representation's folder.
        file: Name of the file.
        frames: Number of frames.
        shape: Channels, height, width.
        dtype: Type of the values.
        compression: Filter(s), for instance 'blosc-zstd level 1', or 'none'.
        link: Whether the file is a link.
    """

    representation: str
    file: str
    frames: int
    shape: tuple[int, ...]
    dtype: str
    compression: str
    link: bool


@dataclass
class SequenceFacts:
    """Findings of `inspect_sequence`.

    Attributes:
        path: Folder of the sequence.
        problems: Everything that is wrong with it.
        frames_files: Its event representations.
        frames: Number of frames (of the first readable representation).
        labels: All labels, `LABEL_DTYPE` [M], in pixels of the full sensor.
        labelled_frames: Number of labelled frames.
        label_times_us: int64 [K], end of each labelled frame; empty where the set has no time stamps.
        time_range_us: First and last time stamp, where the set has them.
        window_step_us: Median distance between frames.
        empty_frames: Frames without any event; None unless all frames were read.
        empty_labelled_frames: Those of them that have ground truth.
        recording: What preprocessing counted; None for sequences that were preprocessed elsewhere.
        box_file: Counts of its ground truth: of the box file, or where that is not known, of the labels.
        window_us: Length of its windows in microseconds, if preprocessing noted it.
    """

    path: Path
    problems: list[Problem] = field(default_factory=list)
    frames_files: list[FramesFile] = field(default_factory=list)
    frames: int = 0
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, LABEL_DTYPE))
    labelled_frames: int = 0
    label_times_us: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    time_range_us: tuple[int, int] | None = None
    window_step_us: float | None = None
    empty_frames: int | None = None
    empty_labelled_frames: int | None = None
    recording: RecordingFacts | None = None
    box_file: BoxFacts | None = None
    window_us: int | None = None


def inspect_sequence(path: Path, config: SequenceConfig | None = None, deep: bool = False) -> SequenceFacts:
    """Look at all files of one sequence. Never raises for what is wrong with them.

    Args:
        path: Folder of the sequence.
        config: What frames and classes should look like; None accepts any.
        deep: Also read and decompress every frame.
    """
    facts = SequenceFacts(Path(path))
    labels = _attempt(facts, lambda: read_labels(path, len(config.classes) if config is not None else None))
    if labels is not None:
        facts.labels = labels.labels
        facts.labelled_frames = len(labels)
        if config is not None:
            _attempt(facts, lambda: labels.to_frame_pixels(label_file(path), config.sensor, config.downsample_by_2))
    _attempt(facts, lambda: _read_stamp(facts))
    if facts.recording is not None:
        facts.box_file = facts.recording.box_file
    elif labels is not None:
        facts.box_file = _count_labels(labels.labels, config)
    for representation in _representations(facts, config):
        _inspect_representation(facts, representation, labels, config, deep)
    return facts


def _read_stamp(facts: SequenceFacts) -> None:
    path = facts.path / STAMP_NAME
    if not path.is_file():
        return
    stamp = read_json(path)
    # Older versions did not count.
    if isinstance(stamp, dict) and "facts" in stamp:
        facts.recording = RecordingFacts.from_json(stamp["facts"])
        facts.window_us = stamp["made_from"]["settings"]["window_us"]


def _count_labels(labels: np.ndarray, config: SequenceConfig | None) -> BoxFacts | None:
    """What can be told from labels alone; None without ground truth."""
    labels = labels[boxes.is_ground_truth(labels)]
    if not len(labels):
        return None
    counts = BoxFacts(boxes=len(labels), ignored=int(boxes.is_ignored(labels).sum()))
    count_moments(np.unique(labels["t"]), counts)
    counts.doubled = int(doubled_rows(labels).sum())
    counts.nearly_doubled = nearly_doubled_count(labels)
    comparable, frozen = same_as_before(labels)
    counts.comparable, counts.frozen = int(comparable.sum()), int(frozen.sum())
    if config is not None:
        counts.classes = count_classes(labels, np.ones(len(labels), bool), config.classes)
    return counts


def _attempt(facts: SequenceFacts, read: Callable[[], Any]) -> Any:
    """Run ``read``; note its `DataError` and return None if it raises one."""
    try:
        return read()
    except DataError as error:
        facts.problems.append(Problem(error.path, error.problem))
        return None


def _representations(facts: SequenceFacts, config: SequenceConfig | None) -> list[str]:
    folder = representations_dir(facts.path)
    found = sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
    if config is None:
        if not found:
            facts.problems.append(Problem(folder, "holds no event representation; preprocess the sequence again."))
        return found
    wanted = representation_name(config.representation, config.window_us)
    if wanted not in found:
        facts.problems.append(
            Problem(folder, f"has no event representation {wanted}, which the data set asks for; it has {found}.")
        )
        return []
    return [wanted]


def _inspect_representation(
    facts: SequenceFacts,
    representation: str,
    labels: SequenceLabels | None,
    config: SequenceConfig | None,
    deep: bool,
) -> None:
    frame_counts = []
    empty: set[int] = set()
    for path in _frames_files(facts, representation, config):
        found = _attempt(facts, lambda path=path: _describe_frames(path, representation))
        if found is None:
            continue
        facts.frames_files.append(found)
        frame_counts.append(found.frames)
        if config is not None:
            _check_frames(facts, path, found, config)
        if deep:
            empty |= _read_all_frames(facts, path)
            facts.empty_frames = len(empty)
        close_hdf5(path)
    frame_count = frame_counts[0] if frame_counts else None
    facts.frames = facts.frames or frame_count or 0
    labelled_frames = _attempt(facts, lambda: read_labelled_frames(facts.path, representation, frame_count))
    if labels is not None and labelled_frames is not None:
        _attempt(facts, lambda: check_same_length(facts.path, labels, labelled_frames))
        if deep and len(labels) == len(labelled_frames):
            _check_labelled_frames(facts, labels, labelled_frames, empty)
    # Pseudo-labelled sets of the published code have no time stamps.
    if timestamps_file(facts.path, representation).exists():
        timestamps = _attempt(facts, lambda: read_timestamps(facts.path, representation))
        if timestamps is not None:
            _check_times(facts, representation, timestamps, frame_count, labels, labelled_frames)


def _frames_files(facts: SequenceFacts, representation: str, config: SequenceConfig | None) -> list[Path]:
    folder = representations_dir(facts.path) / representation
    if config is not None:
        return [folder / representation_file_name(config.downsample_by_2)]
    found = sorted(folder.glob("event_representations*.h5"))
    if not found:
        facts.problems.append(Problem(folder, "holds no event_representations*.h5; preprocess the sequence again."))
    return found


def _describe_frames(path: Path, representation: str) -> FramesFile:
    if path.is_symlink() and not path.exists():
        raise DataError(path, missing_file(path))
    data = open_hdf5(path).get("data")
    if not isinstance(data, h5py.Dataset) or data.ndim != 4:
        raise DataError(path, "has no dataset 'data' of [frames, channels, height, width]. Preprocess again.")
    return FramesFile(
        representation=representation,
        file=path.name,
        frames=data.shape[0],
        shape=data.shape[1:],
        dtype=str(data.dtype),
        compression=_compression(data),
        link=path.is_symlink(),
    )


def _compression(data: h5py.Dataset) -> str:
    properties = data.id.get_create_plist()
    names = []
    for position in range(properties.get_nfilters()):
        identifier, _, options, name = properties.get_filter(position)
        if identifier == _BLOSC_FILTER and len(options) > 6 and options[6] < len(_BLOSC_COMPRESSORS):
            names.append(f"blosc-{_BLOSC_COMPRESSORS[options[6]]} level {options[4]}")
        else:
            names.append(_FILTERS.get(identifier, name.decode(errors="replace") or f"filter {identifier}"))
    return " + ".join(names) or "none"


def _check_frames(facts: SequenceFacts, path: Path, found: FramesFile, config: SequenceConfig) -> None:
    shape = (config.representation.channels, *config.frame_size)
    dtype = "uint8" if config.representation.kind == "stacked_histogram" else "int8"
    if found.shape != shape or found.dtype != dtype:
        facts.problems.append(
            Problem(
                path,
                f"dataset 'data' is {found.dtype} [frames, {', '.join(map(str, found.shape))}], the data set asks for "
                f"{dtype} [frames, {', '.join(map(str, shape))}] (channels, height, width).",
            )
        )
    if found.frames == 0:
        facts.problems.append(Problem(path, "holds no frames."))


def _read_all_frames(facts: SequenceFacts, path: Path) -> set[int]:
    """Decompress every frame; note those that cannot be read. Returns the empty ones."""
    data = open_hdf5(path)["data"]
    empty: set[int] = set()
    damaged, reason = [], ""
    for start in range(0, data.shape[0], _FRAMES_AT_A_TIME):
        stop = min(start + _FRAMES_AT_A_TIME, data.shape[0])
        try:
            empty.update((start + np.flatnonzero(~data[start:stop].any(axis=(1, 2, 3)))).tolist())
        except OSError:
            for frame in range(start, stop):
                try:
                    if not data[frame].any():
                        empty.add(frame)
                except OSError as error:
                    damaged.append(frame)
                    reason = str(error)
    if damaged:
        facts.problems.append(
            Problem(
                path,
                f"{len(damaged)} of {data.shape[0]} frames cannot be read, the first is frame {damaged[0]} ({reason}). "
                "The file is damaged; delete the sequence and preprocess again.",
            )
        )
    return empty


def _check_labelled_frames(
    facts: SequenceFacts, labels: SequenceLabels, labelled_frames: np.ndarray, empty: set[int]
) -> None:
    """A detector cannot see what is labelled where there are no events."""
    with_truth = np.zeros(len(labels), bool)
    with_truth[np.repeat(np.arange(len(labels)), labels.counts)[boxes.is_ground_truth(labels.labels)]] = True
    # Where nothing is to be seen, there may be no event.
    frames = labelled_frames[with_truth].tolist()
    found = [frame for frame in frames if frame in empty]
    facts.empty_labelled_frames = len(found)
    if found:
        facts.problems.append(
            Problem(
                facts.path,
                f"{len(found)} of {len(frames)} frames with ground truth hold no event, the first is frame {found[0]}: "
                "a detector cannot see what is labelled there. Are the boxes on the recording's clock (box_times)?",
            )
        )


def _check_times(
    facts: SequenceFacts,
    representation: str,
    timestamps: np.ndarray,
    frame_count: int | None,
    labels: SequenceLabels | None,
    labelled_frames: np.ndarray | None,
) -> None:
    if frame_count is not None and len(timestamps) != frame_count:
        facts.problems.append(
            Problem(
                timestamps_file(facts.path, representation),
                f"has {len(timestamps)} time stamps, but there are {frame_count} frames. Preprocess again.",
            )
        )
        return
    if len(timestamps) == 0:
        return
    facts.time_range_us = (int(timestamps[0]), int(timestamps[-1]))
    steps = np.diff(timestamps)
    facts.window_step_us = float(np.median(steps)) if len(steps) else None
    if labelled_frames is None or (len(labelled_frames) and labelled_frames[-1] >= len(timestamps)):
        return
    facts.label_times_us = timestamps[labelled_frames]
    if labels is None or len(labels) != len(labelled_frames) or facts.window_step_us is None:
        return
    distance = np.abs(labels.labels["t"] - np.repeat(facts.label_times_us, labels.counts))
    far = boxes.is_ground_truth(labels.labels) & (distance > facts.window_step_us)
    if far.any():
        row = int(np.flatnonzero(far)[0])
        facts.problems.append(
            Problem(
                labelled_frames_file(facts.path, representation),
                f"{int(far.sum())} ground-truth boxes are more than a window away from the frame they are assigned to; "
                f"the first is row {row} of labels.npz at {int(labels.labels['t'][row])} us, {int(distance[row])} us "
                "off. Index and labels belong to different runs; preprocess again.",
            )
        )
