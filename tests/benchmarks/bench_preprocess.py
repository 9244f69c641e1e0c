"""Time preprocessing from DAT to HDF5; prints a table, asserts nothing.

Run with `python tests/benchmarks/bench_preprocess.py`. The recordings are uniform noise, the hardest to compress.
"""

import itertools
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from leod.boxes.dtypes import RECORDING_BOX_DTYPE
from leod.config.schema import DatasetConfig, SensorSize, WindowsConfig
from leod.config.settings import PreprocessSettings
from leod.recordings.chunk import EventChunk
from leod.recordings.dat import write_dat
from leod.recordings.recording import open_recording
from leod.sequences.frame_file import FrameCompressor
from leod.sequences.representations import FrameBuilder
from leod.stages.preprocess import preprocess

HEIGHT, WIDTH, WINDOW_US, WINDOWS, LABEL_EVERY = 240, 304, 50_000, 600, 5
PUBLISHED_HISTOGRAM_ONLY = {5_000: 6.6, 50_000: 39.0}
SETTINGS = PreprocessSettings.from_dataset(
    DatasetConfig(
        name="noise",
        sequences=Path("sequences"),
        sensor=SensorSize(height=HEIGHT, width=WIDTH),
        classes=("car", "pedestrian"),
        windows=WindowsConfig(origin="clock_zero", train_until="last_label"),
    )
)


def best_of(repeats, work):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def time_parts(path):
    """Seconds for decoding, counting and compressing all windows one after the other on one thread."""
    with open_recording(path) as recording:
        decoding = best_of(3, lambda: [len(chunk) for chunk in recording.chunks(1_000_000)])
        (events,) = recording.chunks(10**9)
    borders = np.searchsorted(events.t, WINDOW_US * np.arange(WINDOWS + 1))
    windows = [
        EventChunk(*(getattr(events, name)[start:stop] for name in "txyp"))
        for start, stop in itertools.pairwise(borders)
    ]
    builder = FrameBuilder(SETTINGS.representation, HEIGHT, WIDTH)
    frame = np.empty(builder.shape, builder.dtype)
    counting = best_of(3, lambda: [builder.build(window, out=frame) for window in windows])
    compressor = FrameCompressor(frame.nbytes)
    both = best_of(3, lambda: [compressor.compress(builder.build(window, out=frame)) for window in windows])
    return decoding, counting, both - counting


def main():
    folder = Path(tempfile.mkdtemp())
    rng = np.random.default_rng(0)
    row = "{:>16} {:>14} {:>14} {:>14} {:>14} {:>10} {:>24}\n"
    sys.stdout.write("M events/s\n")
    sys.stdout.write(
        row.format("events a window", "decode", "count", "compress", "whole stage", "ms/frame", "published, count only")
    )
    try:
        for per_window, published in PUBLISHED_HISTOGRAM_ONLY.items():
            count = per_window * WINDOWS
            events = EventChunk(
                t=np.sort(rng.integers(0, WINDOWS * WINDOW_US, count)),
                x=rng.integers(0, WIDTH, count).astype(np.uint16),
                y=rng.integers(0, HEIGHT, count).astype(np.uint16),
                p=rng.integers(0, 2, count).astype(np.uint8),
            )
            recordings = folder / str(per_window)
            path = recordings / "train" / "noise_td.dat"
            write_dat(path, [events], HEIGHT, WIDTH)
            boxes = np.zeros(WINDOWS // LABEL_EVERY, RECORDING_BOX_DTYPE)
            boxes["t"] = WINDOW_US * LABEL_EVERY * np.arange(1, len(boxes) + 1)
            boxes["w"] = boxes["h"] = 20
            np.save(path.with_name("noise_bbox.npy"), boxes)

            def stage(recordings=recordings):
                shutil.rmtree(folder / "sequences", ignore_errors=True)
                preprocess(recordings, folder / "sequences", "train", folder / "manifest.json", SETTINGS)

            stage()
            whole = best_of(3, stage)
            speeds = [f"{count / seconds / 1e6:.1f}" for seconds in (*time_parts(path), whole)]
            sys.stdout.write(row.format(per_window, *speeds, f"{whole / WINDOWS * 1e3:.2f}", published))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
