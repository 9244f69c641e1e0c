"""Sequences of a few small frames on disk, and detectors to run over them, for tests of inference and evaluation."""

from __future__ import annotations

import h5py
import numpy as np
import torch

from leod.boxes.dtypes import RECORDING_BOX_DTYPE
from leod.config.schema import ModelConfig, SensorSize, SequenceConfig
from leod.models.detector import build_detector
from leod.sequences.layout import representations_dir, write_labelled_frames, write_labels, write_timestamps
from leod.sequences.representations import representation_file_name, representation_name

HEIGHT, WIDTH = 24, 48
CONFIG = SequenceConfig(sensor=SensorSize(height=HEIGHT, width=WIDTH), classes=("car", "pedestrian"))
MODEL = ModelConfig(name="tiny", embed_dim=8, dim_head=8)


def random_frames(seed, num_frames):
    frames = np.random.default_rng(seed).poisson(0.5, (num_frames, CONFIG.representation.channels, HEIGHT, WIDTH))
    return frames.astype(np.uint8)


def numbered_frames(num_frames):
    """Zeros but for the upper corners, which hold the frame's number, and the pixel right of the left one, 1."""
    frames = np.zeros((num_frames, CONFIG.representation.channels, HEIGHT, WIDTH), dtype=np.uint8)
    frames[:, :, 0, 0] = frames[:, :, 0, -1] = np.arange(num_frames)[:, None]
    frames[:, :, 0, 1] = 1
    return frames


def write_tiny_sequence(folder, frames, labelled_frames, boxes=((4, 4, 12, 12, 0),)):
    """Write a sequence with the same boxes (x, y, w, h, class id) at every labelled frame."""
    name = representation_name(CONFIG.representation, CONFIG.window_us)
    representation = representations_dir(folder) / name
    representation.mkdir(parents=True)
    with h5py.File(representation / representation_file_name(CONFIG.downsample_by_2), "w") as file:
        file.create_dataset("data", data=frames, chunks=(1, *frames.shape[1:]))
    labelled_frames = np.asarray(labelled_frames, dtype=np.int64)
    labels = np.zeros(len(boxes) * len(labelled_frames), dtype=RECORDING_BOX_DTYPE)
    labels["t"] = np.repeat((labelled_frames + 1) * CONFIG.window_us, len(boxes))
    for column, field in enumerate(("x", "y", "w", "h", "class_id")):
        labels[field] = np.tile([box[column] for box in boxes], len(labelled_frames))
    labels["class_confidence"] = 1
    write_labelled_frames(folder, name, labelled_frames)
    write_timestamps(folder, name, np.arange(1, len(frames) + 1) * CONFIG.window_us)
    write_labels(folder, labels, len(boxes) * np.arange(len(labelled_frames)))


def random_detector(seed=0):
    """An untrained detector whose scores are spread over 0..1."""
    torch.manual_seed(seed)
    detector = build_detector(MODEL, CONFIG)
    with torch.no_grad():
        for parameter in detector.head.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape))
    return detector.eval()


class CountingDetector(torch.nn.Module):
    """Finds one box per frame of `numbered_frames`: width = frame number + 1, height = frames since the reset.

    The box's centre is (20, 10), in mirrored frames (30, 10).
    """

    def __init__(self):
        super().__init__()
        self.sequence = CONFIG
        self.register_parameter("unused", torch.nn.Parameter(torch.zeros(1)))
        self.frames_seen = 0
        self.heads_run = 0

    def forward_sequence(self, frames, states=None):
        self.frames_seen += frames.shape[0] * frames.shape[1]
        number = frames[:, :, 0, 0, 0].float()
        mirrored = (frames[:, :, 0, 0, 1] == 0).float()
        before = torch.zeros(frames.shape[1]) if states is None else states[0][0][:, 0, 0, 0]
        count = before + torch.arange(1, len(frames) + 1)[:, None]
        state = count[-1].view(-1, 1, 1, 1)
        return (torch.stack([number, mirrored, count], dim=-1)[..., None, None],), [(state, state.clone())]

    def forward_head(self, features, targets=None, loss=None):
        number, mirrored, count = features[0][..., 0, 0].unbind(-1)
        self.heads_run += len(number)
        constant = torch.ones_like(number)
        columns = (20 + 10 * mirrored, 10 * constant, number + 1, count, 0.9 * constant, 0.8 * constant, 0.1 * constant)
        return torch.stack(columns, dim=-1)[:, None], None
