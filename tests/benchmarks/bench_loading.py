"""How many training batches a second the loader delivers: `python tests/benchmarks/bench_loading.py`.

Writes sparse random sequences, compressed like the released data sets, to a temporary folder.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import torch

from leod.boxes.dtypes import RECORDING_BOX_DTYPE
from leod.config.schema import SensorSize, SequenceConfig, TrainingConfig
from leod.sampling.training_data import TrainingData, training_loader
from leod.sequences.layout import representations_dir, write_labelled_frames, write_labels
from leod.sequences.representations import representation_file_name, representation_name
from leod.sequences.sequence import open_split


def write_sequence(folder: Path, config: SequenceConfig, num_frames: int, label_every: int, seed: int) -> None:
    """Write one sequence: 2 % of the pixels have events, every ``label_every``-th frame has four boxes."""
    generator = np.random.default_rng(seed)
    name = representation_name(config.representation, config.window_us)
    representation = representations_dir(folder) / name
    representation.mkdir(parents=True)
    shape = (config.representation.channels, *config.frame_size)
    compression = hdf5plugin.Blosc(cname="zstd", clevel=1, shuffle=hdf5plugin.Blosc.SHUFFLE)
    with h5py.File(representation / representation_file_name(False), "w") as file:
        data = file.create_dataset("data", (num_frames, *shape), np.uint8, chunks=(1, *shape), **compression)
        for frame in range(num_frames):
            data[frame] = generator.integers(1, 10, shape) * (generator.random(shape) < 0.02)
    labelled = np.arange(label_every - 1, num_frames, label_every)
    labels = np.zeros(4 * len(labelled), RECORDING_BOX_DTYPE)
    labels["t"] = np.repeat((labelled + 1) * config.window_us, 4)
    labels["x"], labels["y"], labels["w"], labels["h"] = np.tile([5, 30, 55, 80], len(labelled)), 20, 18, 15
    labels["class_confidence"] = 1
    write_labelled_frames(folder, name, labelled)
    write_labels(folder, labels, 4 * np.arange(len(labelled)))


def main() -> None:
    """Measure with zero, one and two workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--height", type=int, default=96)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--sequence-length", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--label-every", type=int, default=5, help="1 = like a pseudo-labelled set")
    parser.add_argument("--batches", type=int, default=100)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = SequenceConfig(sensor=SensorSize(height=arguments.height, width=arguments.width), classes=("car",))
    training = TrainingConfig(
        steps=1, learning_rate=1e-4, sequence_length=arguments.sequence_length, batch_size=arguments.batch_size
    )
    with tempfile.TemporaryDirectory() as folder:
        for number in range(4):
            write_sequence(Path(folder) / "train" / str(number), config, 200, arguments.label_every, number)
        data = TrainingData(open_split(Path(folder), "train", config), None, training, config, seed=0)
        _ = data[0]  # compiles
        for num_workers in (0, 1, 2):
            batches = iter(training_loader(data, 0, arguments.batches, num_workers))
            next(batches)
            start = time.perf_counter()
            for _ in batches:
                pass
            speed = (arguments.batches - 1) / (time.perf_counter() - start)
            sys.stdout.write(f"{num_workers} workers: {speed:.1f} batches/s, {1000 / speed:.1f} ms a batch\n")


if __name__ == "__main__":
    main()
