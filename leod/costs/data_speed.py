"""How fast recordings are simulated and preprocessed, sequences are opened, and commands begin."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from leod.config.schema import BoxFilterConfig, PlausibilityConfig
from leod.config.settings import BenchmarkSettings
from leod.costs.apart import own_folder, peak_memory_mb, repeat
from leod.costs.figures import Clock, PreprocessingFigures, SimulationFigures
from leod.costs.made_up import MadeUpSequences, write_made_up_recording
from leod.recordings.discovery import RecordingFiles
from leod.sequences.layout import representations_dir
from leod.sequences.sequence import Sequence
from leod.sequences.writing import write_sequence
from leod.simulation.simulator import RecordingSimulator

_MOST_EVENTS = 8_000_000
_LONGEST_S, _SHORTEST_S = 60.0, 1.0
_SIMULATED_S = 2.0
_OPENED = 50
_STARTS = 2


@dataclass(frozen=True)
class DataTask:
    """What is measured.

    Attributes:
        settings: The benchmark's.
        events_per_pixel_s: Mean number of events of a pixel in a second.
        boxes_per_frame: Boxes of each labelled frame.
        seconds: For how long.
        folder: For files.
    """

    settings: BenchmarkSettings
    events_per_pixel_s: float
    boxes_per_frame: int
    seconds: float
    folder: Path


def measure_preprocessing(task: DataTask) -> PreprocessingFigures:
    """Preprocess a made-up recording, from DAT to compressed frames."""
    config = task.settings.sequence
    pixels_s = task.events_per_pixel_s * config.sensor.height * config.sensor.width
    seconds = min(_LONGEST_S, max(_SHORTEST_S, _MOST_EVENTS / pixels_s))
    windows = max(2, round(seconds * 1e6 / config.window_us))
    folder = own_folder(task.folder)
    events = write_made_up_recording(
        folder, "a", config, windows, task.settings.label_every, task.boxes_per_frame, task.events_per_pixel_s, 0
    )
    files = RecordingFiles("a", folder / "a_td.dat", folder / "a_bbox.npy")
    # Of the boxes that were made up for this none shall be lost.
    settings = task.settings.preprocess.model_copy(
        update={"label_filter": BoxFilterConfig(), "max_train_width_fraction": None, "class_map": {}}
    )
    outputs: list[Path] = []

    def preprocess() -> None:
        outputs.append(folder / f"sequence-{len(outputs)}")
        outputs[-1].mkdir()
        write_sequence(outputs[-1], files, settings, "train", 1, PlausibilityConfig())

    times = repeat(preprocess, task.seconds, warm_up=1, minimum=2)
    median = float(sorted(times)[len(times) // 2])
    size = sum(path.stat().st_size for path in representations_dir(outputs[-1]).rglob("*") if path.is_file())
    return PreprocessingFigures(
        events_per_s=events / median,
        frames_per_s=windows / median,
        bytes_per_frame=size / windows,
        peak_memory_mb=peak_memory_mb(),
    )


def measure_simulation(task: DataTask) -> SimulationFigures:
    """Simulate the beginning of a recording, events and boxes in memory.

    Raises:
        ValueError: The data set is not simulated.
    """
    simulation = task.settings.simulation
    if simulation is None:
        raise ValueError("the data set is not simulated")
    sensor = task.settings.sequence.sensor
    short = simulation.model_copy(update={"duration_s": min(_SIMULATED_S, simulation.duration_s)})
    counts: list[int] = []

    def simulate() -> None:
        simulator = RecordingSimulator(sensor, {"car": 0, "pedestrian": 1}, short, "train", len(counts))
        counts.append(sum(len(events) for events in simulator.chunks()))
        simulator.boxes()

    times = repeat(simulate, task.seconds, warm_up=1)
    return SimulationFigures(
        recorded_s_per_s=len(times) * short.duration_s / float(times.sum()),
        events_per_s=sum(counts) / (len(counts) * short.duration_s),
        peak_memory_mb=peak_memory_mb(),
    )


def measure_opening(task: DataTask) -> float:
    """Seconds for opening a sequence and telling its frames from others, its files being in the system's cache."""
    settings = task.settings
    folder = own_folder(task.folder) / "opened"
    frames = 2 * max(settings.label_every, 20)
    MadeUpSequences(settings.sequence, task.boxes_per_frame, task.events_per_pixel_s).write(
        folder, frames, settings.label_every
    )
    times = repeat(lambda: Sequence(folder, settings.sequence).frames_digest(), 1.0, maximum=_OPENED)
    return float(sorted(times)[len(times) // 2])


def measure_start(command: str, clock: Clock = "wall") -> float:
    """Seconds until a command of the command line would begin its work: interpreter, imports, options."""
    program = "from leod.cli import main; main()"
    times = []
    # The first one brings the files into the system's cache.
    for _ in range(_STARTS + 1):
        started = time.perf_counter(), _children_s()
        subprocess.run([sys.executable, "-c", program, command, "--help"], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - started[0] if clock == "wall" else _children_s() - started[1])
    return min(times[1:])


def _children_s() -> float:
    """CPU time of all processes that this one has started and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
