"""Stage `simulate`: make the recordings of the simulated data set."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from leod.config.schema import NonNegativeInt, SensorSize, SimulationConfig
from leod.config.settings import SimulateSettings
from leod.errors import ConfigError, DataError
from leod.files import atomic_file, locked, read_json, remove_leftovers, write_json
from leod.progress import progress
from leod.provenance import Stopwatch
from leod.recordings.chunk import EventChunk
from leod.recordings.dat import write_dat
from leod.reuse import key
from leod.simulation.simulator import SPLITS, RecordingSimulator

logger = logging.getLogger(__name__)

STAMP_FOLDER = ".simulated"
"""Folder beside the splits that says of each recording what it was made with."""
_CLASSES = ("car", "pedestrian")


@dataclass(frozen=True)
class _Job:
    """One recording to make."""

    output: Path
    split: str
    index: int
    settings: SimulateSettings

    @property
    def name(self) -> str:
        return f"simulated_{self.split}_{self.index:04d}"

    @property
    def events(self) -> Path:
        return self.output / self.split / f"{self.name}_td.dat"

    @property
    def boxes(self) -> Path:
        return self.output / self.split / f"{self.name}_bbox.npy"

    @property
    def stamp(self) -> Path:
        return self.output / STAMP_FOLDER / self.split / f"{self.name}.json"

    @property
    def key(self) -> str:
        """See `leod.reuse.key`; how many other recordings there are does not matter."""
        content = {
            "sensor": self.settings.sensor.model_dump(mode="json"),
            "class_ids": _class_ids(self.settings.classes),
            "simulation": self.settings.simulation.model_dump(mode="json", exclude={"recordings"}),
            "split": self.split,
            "index": self.index,
        }
        return key("simulate", None, content)


def simulate(output: Path, manifest: Path, settings: SimulateSettings, processes: NonNegativeInt = 0) -> None:
    """Simulate driving recordings with boxes: *_td.dat and *_bbox.npy in train/, val/ and test/.

    Recordings that an earlier run completed with the same settings are kept; those it made with other settings, or
    beyond the number that is asked for now, are replaced or removed.

    Args:
        output: Folder of the recordings.
        manifest: JSON file to write at the end: provenance and, for each split, its recordings with their numbers of
            events, boxes and labelled frames.
        settings: What to simulate.
        processes: Recordings that are simulated at the same time; 0 = one per CPU.

    Raises:
        ConfigError: The data set lacks one of the classes that the simulator knows.
        DataError: ``output`` holds recordings that the simulator did not make.
        LockedError: Another job is writing to ``output``.
    """
    stopwatch = Stopwatch()
    output = Path(output)
    _class_ids(settings.classes)
    jobs = [
        _Job(output, split, index, settings)
        for split in SPLITS
        for index in range(settings.simulation.recordings.get(split, 0))
    ]
    with locked(output):
        _clear(output, jobs)
        missing = [job for job in jobs if _finished(job) is None]
        logger.info("%d of %d recordings exist already", len(jobs) - len(missing), len(jobs))
        for _ in progress(_run(missing, processes or os.cpu_count() or 1), "simulate", len(missing), "recording"):
            pass
        recordings = {split: [_finished(job) for job in jobs if job.split == split] for split in SPLITS}
        write_json(
            manifest,
            {
                "provenance": stopwatch.provenance("simulate", settings, {}, seed=settings.simulation.seed),
                "splits": recordings,
            },
        )


def _class_ids(classes: tuple[str, ...]) -> dict[str, int]:
    for name in _CLASSES:
        if name not in classes:
            raise ConfigError(
                f"the simulator makes the classes {list(_CLASSES)}, but the data set's classes are {list(classes)}. "
                f"Add {name!r} to 'classes'."
            )
    return {name: classes.index(name) for name in _CLASSES}


def _clear(output: Path, jobs: list[_Job]) -> None:
    """Remove half-written files and what an earlier run made beyond ``jobs``; refuse recordings of others."""
    wanted = {job.name for job in jobs}
    for split in SPLITS:
        folder, stamps = output / split, output / STAMP_FOLDER / split
        for directory in (folder, stamps):
            directory.mkdir(parents=True, exist_ok=True)
            remove_leftovers(directory)
        for file in sorted(folder.iterdir()):
            name = file.name.removesuffix("_td.dat").removesuffix("_bbox.npy")
            if name in wanted:
                continue
            if not name.startswith(f"simulated_{split}_"):
                raise DataError(
                    file,
                    f"this was not made by the simulator, whose recordings shall be in {output}. Move it away or give "
                    "the simulated data set another folder.",
                )
            logger.info("remove %s, which is not asked for any more", file)
            (stamps / f"{name}.json").unlink(missing_ok=True)
            file.unlink()


def _finished(job: _Job) -> dict[str, Any] | None:
    """The manifest's entry of a recording that is complete and made with the present settings, else None."""
    if not job.stamp.is_file():
        return None
    try:
        stamp = read_json(job.stamp)
        if stamp["key"] != job.key:
            return None
        if [job.events.stat().st_size, job.boxes.stat().st_size] != stamp["bytes"]:
            return None
        return dict(stamp["recording"])
    except (DataError, FileNotFoundError, KeyError, TypeError) as error:
        logger.warning("simulate %s again: %s", job.name, error)
        return None


def _run(jobs: list[_Job], processes: int) -> Iterator[None]:
    if processes == 1 or len(jobs) <= 1:
        for job in jobs:
            _make(job)
            yield
        return
    # Compiled once here, the kernels are in the cache when the workers ask for them.
    compile_kernels()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(jobs)), mp_context=context) as pool:
        for future in as_completed([pool.submit(_make, job) for job in jobs]):
            try:
                future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
            yield


def compile_kernels() -> None:
    """Compile the simulator's kernels by simulating a few images."""
    config = SimulationConfig(duration_s=0.1, objects_per_second=100.0, render_rate_hz=50.0)
    simulator = RecordingSimulator(SensorSize(height=16, width=16), {"car": 0, "pedestrian": 1}, config, "train", 0)
    for _ in simulator.chunks():
        pass


def _make(job: _Job) -> None:
    """Simulate one recording: events, then boxes, then the stamp that declares both complete."""
    job.stamp.unlink(missing_ok=True)
    simulation, sensor = job.settings.simulation, job.settings.sensor
    simulator = RecordingSimulator(sensor, _class_ids(job.settings.classes), simulation, job.split, job.index)
    chunks = (
        EventChunk(
            t=events[:, 0],
            x=events[:, 1].astype(np.uint16),
            y=events[:, 2].astype(np.uint16),
            p=events[:, 3].astype(np.uint8),
        )
        for events in simulator.chunks()
    )
    count = write_dat(job.events, chunks, sensor.height, sensor.width)
    boxes = simulator.boxes()
    with atomic_file(job.boxes) as temporary, temporary.open("wb") as file:
        np.save(file, boxes, allow_pickle=False)
    write_json(
        job.stamp,
        {
            "key": job.key,
            "bytes": [job.events.stat().st_size, job.boxes.stat().st_size],
            "recording": {
                "name": job.name,
                "events": count,
                "boxes": len(boxes),
                "labelled_frames": len(np.unique(boxes["t"])),
                "tracks": len(np.unique(boxes["track_id"])),
            },
        },
    )
