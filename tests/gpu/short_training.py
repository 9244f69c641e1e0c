"""Devices of the tests in this folder, and a training of a few steps that nothing interrupts."""

from __future__ import annotations

import os

import numpy as np
import torch
from train_scenario import CPU, settings

from leod.boxes.kept_labels import KeptLabels
from leod.models.loss import DetectionLoss
from leod.sampling.training_data import TrainingData, training_loader
from leod.sequences.sequence import open_split
from leod.training.averaging import AveragedWeights
from leod.training.checkpoints import WorkingCheckpoints
from leod.training.control import TrainingProgress
from leod.training.interruption import StopRequests
from leod.training.job import TrainingJob, initial_detector
from leod.training.module import DetectionTraining
from leod.training.processes import Processes, process_group
from leod.training.trainer import build_trainer, quiet_lightning

DEVICE = os.environ.get("LEOD_TEST_DEVICE", "cuda")
"""``LEOD_TEST_DEVICE=cpu`` runs the tests of GPUs on the CPU, to see that the tests are right."""

ON_DEVICE = CPU.model_copy(update={"accelerator": "cpu" if DEVICE == "cpu" else "gpu"})
"""How the device is used; `train_scenario.CPU` is what it is compared with."""

LONG = {"steps": 1000, "checkpoint_every_steps": 1000}
"""So long that no curve, checkpoint or validation is due in the first steps."""


def train_few_steps(data, folder, make_control, hardware, steps, around, **changes):
    """Train with the real loop, loader and callbacks, without results.

    Args:
        data: What `write_dataset` wrote: folder and kept labels.
        folder: For working checkpoints.
        make_control: `TrainingControl` or a class derived from it.
        hardware: How to use the machine.
        steps: Steps of the optimiser.
        around: Called with the control; returns the context in which the training runs.
        changes: Of the settings of the training.
    """
    chosen = settings(**{**LONG, **changes})
    training = chosen.training
    sequences = open_split(data[0], "train", chosen.sequence)
    kept = KeptLabels.read(data[1])
    job = TrainingJob("pretrain", chosen, 3, hardware, folder, sequences, kept, (), None, {})
    batches = TrainingData(sequences, kept, training, chosen.sequence, seed=3)
    detector, processes = initial_detector(job), Processes()
    module = DetectionTraining(detector, DetectionLoss(training.loss, chosen.sequence.classes), training, 3, processes)
    control = make_control(
        training,
        TrainingProgress(),
        WorkingCheckpoints(folder / "checkpoints", ""),
        None,
        None if training.ema_decay is None else AveragedWeights(detector, training.ema_decay),
        StopRequests(),
        processes,
        [],
        None,
    )
    on_gpu = hardware.accelerator == "gpu"
    loader = training_loader(batches, 0, training.steps, hardware.num_workers, pin_memory=on_gpu)
    with quiet_lightning(), process_group(hardware) as environment:
        trainer = build_trainer(job, control, environment, steps)
        with around(control):
            trainer.fit(module, loader)
    return module, control


def share_found_again(boxes, frames, other_boxes, other_frames):
    """Share of the boxes for which the other ones have the same: its frame and class, 0.05 pixels, scores 0.001.

    Not all of them need be found: rounding decides about boxes that lie at a threshold.
    """
    fields = ("x", "y", "w", "h", "objectness", "class_confidence")
    tolerance = np.array([0.05, 0.05, 0.05, 0.05, 1e-3, 1e-3])
    rows, others = (np.stack([table[name] for name in fields], axis=1) for table in (boxes, other_boxes))
    found = 0
    for row, frame, class_id in zip(rows, frames, boxes["class_id"], strict=True):
        candidates = others[(other_frames == frame) & (other_boxes["class_id"] == class_id)]
        found += bool((np.abs(candidates - row) < tolerance).all(axis=1).any())
    return found / max(len(rows), 1)


def spread_scores(detector):
    """Give an untrained head weights with which its scores lie anywhere between 0 and 1."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in detector.head.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return detector
