"""How much data a study has: counted where it is there, told by settings or the user where it is not."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from pathlib import Path

from leod.config.schema import DatasetConfig, DatasetExtent, SimulationConfig
from leod.errors import ConfigError
from leod.recordings.dat import DatRecording
from leod.recordings.discovery import find_recordings
from leod.sequences.layout import SPLITS
from leod.sequences.sequence import open_split


@dataclass(frozen=True)
class SplitAmount:
    """How much there is of a split.

    Attributes:
        recordings: Number of recordings, or of their sequences.
        frames: Frames of all of them together.
        labelled_frames: How many of them are labelled.
    """

    recordings: int
    frames: int
    labelled_frames: int


@dataclass(frozen=True)
class Amount:
    """How much data a study has.

    Attributes:
        train: The train split.
        val: The val split.
        test: The test split.
        source: Where the numbers are from.
        assumptions: What was assumed.
        events: Events of all recordings; None = unknown.
        frame_bytes: Size of all frames on disk where they are there; None = they are not.
    """

    train: SplitAmount
    val: SplitAmount
    test: SplitAmount
    source: str
    assumptions: tuple[str, ...] = field(default=())
    events: int | None = None
    frame_bytes: int | None = None

    def of(self, split: str) -> SplitAmount:
        """The amount of a split."""
        return getattr(self, split)

    @property
    def recordings(self) -> int:
        """Recordings of all splits."""
        return sum(self.of(split).recordings for split in SPLITS)

    @property
    def frames(self) -> int:
        """Frames of all splits."""
        return sum(self.of(split).frames for split in SPLITS)


def find_amount(
    dataset: DatasetConfig,
    recordings: SequenceOf[int] | None = None,
    frames: SequenceOf[int] | None = None,
    labelled_frames: SequenceOf[int] | None = None,
) -> Amount:
    """How much data there is: what the user says, else the sequences, the recordings, the simulation, the extent.

    Args:
        dataset: The data set.
        recordings: Recordings of train, val and test, if the user says so.
        frames: The same for frames.
        labelled_frames: The same for labelled frames.

    Raises:
        ConfigError: Nothing tells it.
        DataError: Sequences or recordings that are there are damaged.
    """
    label_every = dataset.label_times.step_in_frames(dataset.window_us)
    if recordings is not None and frames is not None:
        found = _told(recordings, frames, label_every)
    elif all((dataset.sequences / split).is_dir() for split in SPLITS):
        found = _of_sequences(dataset)
    elif dataset.recordings is not None and all((dataset.recordings / split).is_dir() for split in SPLITS):
        found = _of_recordings(dataset, frames)
    elif dataset.simulate is not None:
        found = of_simulation(dataset.simulate, dataset.window_us)
    elif dataset.extent is not None:
        found = of_extent(dataset.extent, dataset.window_us, label_every)
    else:
        raise ConfigError(
            f"data set {dataset.name!r}: there are neither sequences in {dataset.sequences} nor recordings in "
            f"{dataset.recordings or 'a folder that its file names'}, and its file has no 'extent'. Say how much there "
            "is: --recordings TRAIN,VAL,TEST --frames TRAIN,VAL,TEST (a recording of 60 s has 1200 frames of 50 ms)"
        )
    return _with_told(found, recordings, frames, labelled_frames)


def _labels_assumed(label_every: int) -> str:
    return f"one of {label_every} frames is labelled (label_times.step_us)"


def of_simulation(simulation: SimulationConfig, window_us: int) -> Amount:
    """What the simulator will make: every window becomes a frame, every label moment a labelled frame."""
    splits = {
        split: SplitAmount(
            count,
            count * int(simulation.duration_s * 1e6 // window_us),
            count * int(simulation.duration_s * simulation.label_rate_hz),
        )
        for split in SPLITS
        for count in [simulation.recordings.get(split, 0)]
    }
    return Amount(**splits, source="the settings of the simulation")


def of_extent(extent: DatasetExtent, window_us: int, label_every: int) -> Amount:
    """What a data set's file says that there is.

    Args:
        extent: Recordings and hours of each split.
        window_us: Length of a window.
        label_every: Distance of labelled frames, in frames.
    """
    splits = {}
    for split in SPLITS:
        told = getattr(extent, split)
        frames = round(told.hours * 3600 * 1e6 / window_us)
        splits[split] = SplitAmount(told.recordings, frames, frames // label_every)
    return Amount(
        **splits, source=f"the published data set: {extent.source}", assumptions=(_labels_assumed(label_every),)
    )


def _told(recordings: SequenceOf[int], frames: SequenceOf[int], label_every: int) -> Amount:
    splits = {
        split: SplitAmount(recordings[number], frames[number], frames[number] // label_every)
        for number, split in enumerate(SPLITS)
    }
    return Amount(**splits, source="the numbers given", assumptions=(_labels_assumed(label_every),))


def _of_sequences(dataset: DatasetConfig) -> Amount:
    splits, size = {}, 0
    for split in SPLITS:
        sequences = open_split(dataset.sequences, split, dataset.sequence_config())
        size += sum(sequence.frames_path.stat().st_size for sequence in sequences)
        splits[split] = SplitAmount(
            len(sequences),
            sum(sequence.num_frames for sequence in sequences),
            sum(len(sequence.labelled_frames) for sequence in sequences),
        )
    return Amount(**splits, source=f"the sequences in {dataset.sequences}", frame_bytes=size)


def _of_recordings(dataset: DatasetConfig, frames: SequenceOf[int] | None) -> Amount:
    """Recordings that are there; only DAT files tell their length without being read."""
    label_every, events = dataset.label_times.step_in_frames(dataset.window_us), 0
    splits = {}
    for number, split in enumerate(SPLITS):
        files = [
            entry.events
            for entry in find_recordings(
                Path(dataset.recordings or "") / split,
                dataset.unlabelled_recordings,
                dataset.skip_recordings,
                dataset.ignore_files,
            )
        ]
        others = [path for path in files if path.suffix.lower() != ".dat"]
        if others and frames is None:
            raise ConfigError(
                f"{others[0]}: only DAT files tell their length without being read. Say how many frames there are: "
                "--frames TRAIN,VAL,TEST (a recording of 60 s has 1200 frames of 50 ms)"
            )
        length = 0 if frames is None else frames[number]
        for path in files if frames is None else ():
            with DatRecording(path, dataset.sensor) as recording:
                events += recording.num_events
                length += recording.last_word_us() // dataset.window_us
        splits[split] = SplitAmount(len(files), length, length // label_every)
    return Amount(
        **splits,
        source=f"the recordings in {dataset.recordings}",
        assumptions=(_labels_assumed(label_every),),
        events=events if frames is None else None,
    )


def _with_told(
    found: Amount,
    recordings: SequenceOf[int] | None,
    frames: SequenceOf[int] | None,
    labelled_frames: SequenceOf[int] | None,
) -> Amount:
    """The amount with what the user says in place of what was found."""
    told: Mapping[str, SequenceOf[int] | None] = {
        "recordings": recordings,
        "frames": frames,
        "labelled_frames": labelled_frames,
    }
    if not any(told.values()):
        return found
    splits = {}
    for number, split in enumerate(SPLITS):
        entry = found.of(split)
        changed = {name: values[number] for name, values in told.items() if values is not None}
        splits[split] = SplitAmount(**{name: changed.get(name, getattr(entry, name)) for name in told})
    names = ", ".join(name.replace("_", " ") for name, values in told.items() if values is not None)
    source = found.source if found.source == "the numbers given" else f"{found.source}; {names} as given"
    assumptions = () if labelled_frames is not None else found.assumptions
    kept = {"events": found.events, "frame_bytes": found.frame_bytes} if frames is None else {}
    return Amount(**splits, source=source, assumptions=assumptions, **kept)
