"""How cost grows with events, frames and sequences: `python tests/benchmarks/bench_scaling.py`.

Each point is measured alone, in a process of its own, on made-up data:

* preprocess: a DAT recording of so many events, of a 304 x 240 and of a 1280 x 720 camera, to compressed frames;
* track: the tracks of one sequence of so many frames, both directions, about five boxes a frame;
* track-filter: the whole stage, from the file of predictions to the pseudo-labelled set, in sequences of a minute;
* evaluate: the Prophesee protocol with so many labelled frames, three objects and six detections in each;
* open: what a training does before its first step with so many sequences of a minute, a label each quarter of a second;
* stream: the plan of inference over the same sequences, read forwards.

`--full` takes up to 10^9 events, 10^6 frames and 1000 sequences; a recording of 10^9 events takes 8 GB while it is
measured. "before" is what the process holds before the work: the program and, where there is no file, the input. What
only one part needs is imported there, so that it does not count in the memory of the others.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from leod.boxes.dtypes import LABEL_DTYPE
from leod.boxes.kept_labels import KeptLabels
from leod.config.schema import (
    AugmentationConfig,
    DatasetConfig,
    EvaluationFilterConfig,
    HardwareConfig,
    ModelConfig,
    SensorSize,
    SequenceConfig,
    TrackFilterConfig,
    TrainingConfig,
)
from leod.config.settings import PreprocessSettings, TrackFilterSettings, TrainSettings
from leod.costs.apart import measure_apart, peak_memory_mb
from leod.costs.made_up import write_made_up_recording
from leod.pseudo_labels.predictions import SequencePredictions, write_predictions
from leod.recordings.recording import open_recording
from leod.sequences.frame_boxes import FrameBoxes
from leod.sequences.frame_file import FrameFile
from leod.sequences.layout import representations_dir, write_labelled_frames, write_labels, write_timestamps
from leod.sequences.representations import representation_file_name, representation_name

GEN1 = SequenceConfig(sensor=SensorSize(height=240, width=304), classes=("car", "pedestrian"))
ONE_MPX = SequenceConfig(sensor=SensorSize(height=720, width=1280), classes=("car", "pedestrian"), downsample_by_2=True)
EVENTS_PER_PIXEL_S = 9.0
FRAMES_OF_A_MINUTE, LABEL_EVERY = 1200, 5
OBJECTS, DETECTIONS = 3, 6
QUICK = {"events": [10**6, 10**7], "frames": [10**3, 10**4], "sequences": [10, 100]}
FULL = {"events": [10**7, 10**8, 10**9], "frames": [10**4, 10**5, 10**6], "sequences": [10, 100, 1000]}
WARM_UP = {"events": 10**5, "frames": 100, "sequences": 2}


@dataclass(frozen=True)
class Task:
    """One measurement.

    Attributes:
        part: Key of `PARTS`.
        size: Events, frames or sequences.
        folder: Of this measurement alone.
        recording: A DAT recording to take instead of a made-up one.
    """

    part: str
    size: int
    folder: Path
    recording: Path | None = None


@dataclass(frozen=True)
class Point:
    """What was measured: seconds, and megabytes before the work and at most."""

    part: str
    unit: str
    size: int
    wall_s: float
    cpu_s: float
    memory_before_mb: float
    memory_mb: float


# ------------------------------------------------------------------------------------------------- preprocessing


def make_recording(task: Task, config: SequenceConfig) -> None:
    """Write a recording of about ``task.size`` events, or link to the given one."""
    folder = task.folder / "recordings" / "train"
    if task.recording is not None:
        folder.mkdir(parents=True)
        (folder / "given_td.dat").symlink_to(task.recording.resolve())
        return
    events_of_a_window = EVENTS_PER_PIXEL_S * config.sensor.height * config.sensor.width * config.window_us * 1e-6
    windows = max(2, round(task.size / events_of_a_window))
    write_made_up_recording(folder, "made-up", config, windows, LABEL_EVERY, 5, EVENTS_PER_PIXEL_S, 0)


def preprocessing(task: Task, config: SequenceConfig) -> Callable[[], object]:
    """The whole stage on one recording."""
    from leod.stages.preprocess import preprocess

    recordings = task.folder / "recordings"
    (path,) = (recordings / "train").glob("*.dat")
    with open_recording(path) as recording:
        sensor = SensorSize(height=recording.height, width=recording.width)
    settings = PreprocessSettings.from_dataset(
        DatasetConfig(
            name="scaling",
            sequences=Path("sequences"),
            sensor=sensor,
            classes=config.classes,
            downsample_by_2=config.downsample_by_2,
            unlabelled_recordings=True,
        )
    )
    sequences = task.folder / "sequences"
    return lambda: preprocess(recordings, sequences, "train", task.folder / "manifest.json", settings)


# ------------------------------------------------------------------------------------- tracking and evaluation


def boxes_of_frames(frames: int, objects: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Objects that cross the sensor, a tenth of their boxes missing: `LABEL_DTYPE` [n] and the frame of each."""
    random = np.random.default_rng(seed)
    boxes = np.zeros((frames, objects), LABEL_DTYPE)
    speed = random.uniform(0.5, 4, objects)
    boxes["x"] = (random.uniform(0, 300, objects) + speed * np.arange(frames)[:, None]) % 270
    boxes["y"] = random.uniform(0, 200, objects) + random.normal(0, 0.5, (frames, objects))
    for side in ("w", "h"):
        boxes[side] = random.uniform(15, 33, objects)
    boxes["class_id"] = random.integers(0, 2, objects)
    boxes["objectness"], boxes["class_confidence"] = random.uniform(0.3, 1, (2, frames, objects))
    seen = random.uniform(size=(frames, objects)) > 0.1
    return boxes[seen], np.repeat(np.arange(frames), seen.sum(axis=1))


def tracking(task: Task) -> Callable[[], object]:
    """The tracks of one sequence."""
    from leod.pseudo_labels.tracking import filter_tracks

    found = FrameBoxes(*boxes_of_frames(task.size, 6, 0))
    return lambda: filter_tracks(found, (GEN1.sensor.height, GEN1.sensor.width), TrackFilterConfig())


def write_sequence(folder: Path, frames: int, label_every: int | None, seed: int) -> None:
    """A sequence of Gen1's size: labels as they are, frames that were never written and take no space."""
    name = representation_name(GEN1.representation, GEN1.window_us)
    path = representations_dir(folder) / name / representation_file_name(GEN1.downsample_by_2)
    path.parent.mkdir(parents=True)
    with FrameFile(path, frames, (GEN1.representation.channels, *GEN1.frame_size), np.dtype(np.uint8)):
        pass
    labelled = np.arange(label_every - 1, frames, label_every) if label_every else np.zeros(0, np.int64)
    boxes, indices = boxes_of_frames(len(labelled), OBJECTS, seed)
    boxes["t"] = (labelled[indices] + 1) * GEN1.window_us
    write_labels(folder, boxes, np.searchsorted(indices, np.arange(len(labelled))))
    write_labelled_frames(folder, name, labelled)
    write_timestamps(folder, name, np.arange(1, frames + 1) * GEN1.window_us)


def minutes(frames: int) -> list[int]:
    """``frames`` in sequences of a minute."""
    return [min(FRAMES_OF_A_MINUTE, frames - start) for start in range(0, frames, FRAMES_OF_A_MINUTE)]


def make_predictions(task: Task) -> None:
    """Write sequences, labels of record and a file of predictions."""
    lengths = minutes(task.size)
    names = [f"sequence-{number:05d}" for number in range(len(lengths))]
    sequences = task.folder / "sequences"
    for number, (name, frames) in enumerate(zip(names, lengths, strict=True)):
        write_sequence(sequences / "train" / name, frames, None, number)
    for split in ("val", "test"):
        (sequences / split).mkdir()
    KeptLabels(dict.fromkeys(names, ()), "weakly_supervised", 0.01).write(task.folder / "labels.json")
    predictions = (
        SequencePredictions(name, frames, *boxes_of_frames(frames, 6, number))
        for number, (name, frames) in enumerate(zip(names, lengths, strict=True))
    )
    write_predictions(task.folder / "predictions.h5", predictions, (GEN1.sensor.height, GEN1.sensor.width), {})


def track_filtering(task: Task) -> Callable[[], object]:
    """The whole stage."""
    from leod.stages.track_filter import track_filter

    folder = task.folder
    settings = TrackFilterSettings(sequence=GEN1, track_filter=TrackFilterConfig(), use_ground_truth=True)
    return lambda: track_filter(
        [folder / "predictions.h5"],
        folder / "sequences",
        folder / "labels.json",
        folder / "dataset",
        folder / "manifest.json",
        settings,
    )


def evaluating(task: Task) -> Callable[[], object]:
    """The Prophesee protocol, from boxes of each frame to figures."""
    from leod.evaluation.prophesee import evaluate_detections

    random = np.random.default_rng(0)
    truth = np.zeros((task.size, OBJECTS), LABEL_DTYPE)
    truth["t"] = 1_000_000 + 250_000 * np.arange(task.size)[:, None]
    for field, low, high in (("x", 0, 220), ("y", 0, 160), ("w", 20, 80), ("h", 20, 80)):
        truth[field] = random.uniform(low, high, truth.shape)
    truth["class_id"] = random.integers(0, 2, truth.shape)
    found = np.repeat(truth, DETECTIONS // OBJECTS, axis=1)
    for field in "xywh":
        found[field] += random.normal(0, 3, found.shape)
    found["objectness"], found["class_confidence"] = random.random((2, *found.shape))
    sizes = EvaluationFilterConfig(min_diagonal=30, min_side=10)
    return lambda: evaluate_detections(list(truth), list(found), GEN1.classes, sizes)


# ---------------------------------------------------------------------------------------------------- sequences


def make_sequences(task: Task) -> None:
    """Write so many sequences of a minute."""
    for number in range(task.size):
        folder = task.folder / "sequences" / "train" / f"sequence-{number:05d}"
        write_sequence(folder, FRAMES_OF_A_MINUTE, LABEL_EVERY, number)


def opening(task: Task) -> Callable[[], object]:
    """Open the sequences, find out what they hold, plan the batches, and say what the first hundred steps read."""
    from leod.sampling.training_data import TrainingData
    from leod.sequences.sequence import open_split
    from leod.training.job import TrainingJob

    training = TrainingConfig(
        steps=100,
        learning_rate=1e-4,
        sequence_length=21,
        batch_size=8,
        augmentation=AugmentationConfig(time_reversal=0.5),
    )
    settings = TrainSettings(
        model=ModelConfig(name="rvt-small", embed_dim=48, dim_head=24),
        sequence=GEN1,
        training=training,
        evaluation_filter=EvaluationFilterConfig(),
    )

    def open_all() -> None:
        sequences = open_split(task.folder / "sequences", "train", GEN1)
        TrainingJob(
            "pretrain", settings, 0, HardwareConfig(), task.folder, sequences, None, sequences[:1], None, {}
        ).key()
        data = TrainingData(sequences, None, training, GEN1, seed=0)
        for step in range(training.steps):
            for slot in data.slots:
                data.plan.sample(step, slot)

    return open_all


def streaming(task: Task) -> Callable[[], object]:
    """The schedule of inference over all frames."""
    from leod.sampling.inference_stream import InferenceStream
    from leod.sequences.sequence import open_split

    sequences = open_split(task.folder / "sequences", "train", GEN1)

    def plan() -> None:
        stream = InferenceStream(sequences, 21, 8)
        for step in range(len(stream)):
            stream.schedule(step)

    return plan


# -------------------------------------------------------------------------------------------------- measuring

PARTS: dict[str, tuple[str, Callable[[Task], None] | None, Callable[[Task], Callable[[], object]]]] = {
    "preprocess 304x240": (
        "events",
        lambda task: make_recording(task, GEN1),
        lambda task: preprocessing(task, GEN1),
    ),
    "preprocess 1280x720": (
        "events",
        lambda task: make_recording(task, ONE_MPX),
        lambda task: preprocessing(task, ONE_MPX),
    ),
    "track": ("frames", None, tracking),
    "track-filter": ("frames", make_predictions, track_filtering),
    "evaluate": ("frames", None, evaluating),
    "open": ("sequences", make_sequences, opening),
    "stream": ("sequences", make_sequences, streaming),
}
"""Name → unit of the size, how its files are made (None: there are none), how the work is made ready."""


def make(task: Task) -> None:
    """Write the files of a measurement."""
    maker = PARTS[task.part][1]
    if maker is not None:
        maker(task)


def measure(tasks: tuple[Task, Task]) -> Point:
    """Do the work of the first task, which is small, to load and compile what it needs, then that of the second."""
    small, task = tasks
    unit, _, ready = PARTS[task.part]
    ready(small)()
    call = ready(task)
    before = peak_memory_mb()
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Point(task.part, unit, task.size, wall, cpu, before, peak_memory_mb())


def measure_point(part: str, size: int, folder: Path, recording: Path | None) -> Point:
    """Measure one size, and delete its files."""
    place = folder / "point"
    try:
        small = Task(part, WARM_UP[PARTS[part][0]], place / "small")
        task = Task(part, size, place / "measured", recording)
        for one in (small, task):
            one.folder.mkdir(parents=True)
            measure_apart(make, one)
        return measure_apart(measure, (small, task))[0]
    finally:
        shutil.rmtree(place, ignore_errors=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the large sizes")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS), metavar="PART")
    for unit in QUICK:
        parser.add_argument(f"--{unit}", type=float, nargs="+", help=f"sizes of what is counted in {unit}")
    parser.add_argument("--recording", type=Path, help="preprocess this DAT file, too; it is only read")
    parser.add_argument("--folder", type=Path, help="where files are made; default: a temporary folder")
    parser.add_argument("--output", type=Path, help="JSON file")
    arguments = parser.parse_args()
    points = []
    sys.stdout.write(
        f"{'part':<22}{'size':>12} {'unit':<10}{'wall s':>9}{'CPU s':>9}{'per s CPU':>12}{'before MB':>11}{'MB':>8}\n"
    )
    work = [
        (part, int(size), None)
        for part in arguments.parts
        for size in getattr(arguments, PARTS[part][0]) or (FULL if arguments.full else QUICK)[PARTS[part][0]]
    ]
    if arguments.recording is not None:
        with open_recording(arguments.recording) as recording:
            part = "preprocess 304x240" if recording.width <= GEN1.sensor.width else "preprocess 1280x720"
        work.append((part, recording.num_events, arguments.recording))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for part, size, given in work:
            point = measure_point(part, size, Path(folder), given)
            points.append(asdict(point) | {"recording": None if given is None else given.name})
            sys.stdout.write(
                f"{point.part:<22}{point.size:>12.3g} {point.unit:<10}{point.wall_s:>9.3f}{point.cpu_s:>9.3f}"
                f"{point.size / point.cpu_s:>12.4g}{point.memory_before_mb:>11.0f}{point.memory_mb:>8.0f}\n"
            )
            sys.stdout.flush()
            if arguments.output is not None:
                arguments.output.write_text(json.dumps(points, indent=2) + "\n")


if __name__ == "__main__":
    main()
