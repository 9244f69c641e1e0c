"""The recurrent detector: backbone, neck and head behind one interface that takes unpadded frames."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

import torch
from torch import Tensor, nn

from leod.config.schema import ModelConfig, SequenceConfig
from leod.models.backbone import RecurrentMaxVit
from leod.models.head import STRIDES, DecoupledHead, decode_predictions
from leod.models.loss import DetectionLoss
from leod.models.neck import PathAggregationPyramid
from leod.models.states import LstmState

Features = tuple[Tensor, ...]
"""Backbone features at strides 8, 16, 32: float [..., C_s, H_s, W_s]."""


class Detector(nn.Module):
    """Recurrent event-camera detector (RVT with a YOLOX neck and head).

    A frame passes `forward_backbone`, which carries the memory; only frames whose detections are wanted pass
    `forward_head`.

    Args:
        model: Size of the network.
        sequence: Frames and classes that it is made for.

    Attributes:
        frame_size: (height, width) of the frames that it takes.
        padded_size: (height, width) that they are padded to.
    """

    def __init__(self, model: ModelConfig, sequence: SequenceConfig) -> None:
        super().__init__()
        self.model = model
        self.sequence = sequence
        self.frame_size = sequence.frame_size
        self.padded_size = sequence.padded_size
        self.backbone = RecurrentMaxVit(
            in_channels=sequence.representation.channels,
            stage_dims=model.stage_dims,
            blocks_per_stage=model.blocks_per_stage,
            dim_head=model.dim_head,
            partition_size=sequence.partition_size,
            layer_scale=model.layer_scale,
        )
        self.neck = PathAggregationPyramid(model.stage_dims[1:], model.fpn_depth)
        self.head = DecoupledHead(model.stage_dims[1:], len(sequence.classes))
        # As the maps that they meet; otherwise every convolution copies its weights in every call.
        self.to(memory_format=torch.channels_last)

    def accept_frame_size(self, height: int, width: int) -> None:
        """Take frames of another size than the network was made for.

        No weight depends on the position, so the attention windows keep their size, with which they were trained, and
        there are more or fewer of them.

        Args:
            height: Of the unpadded frames, in pixels.
            width: Of the unpadded frames, in pixels.
        """
        cell_rows, cell_columns = self.sequence.partition_size
        multiples = (STRIDES[-1] * cell_rows, STRIDES[-1] * cell_columns)
        self.frame_size = height, width
        self.padded_size = -(-height // multiples[0]) * multiples[0], -(-width // multiples[1]) * multiples[1]

    def pad(self, frames: Tensor) -> Tensor:
        """Pad frames with zeros at the right and bottom. Counts are not normalised.

        Args:
            frames: uint8 or float [..., C, H, W], of the frame size or padded already.

        Returns:
            The same type, [..., C, padded H, padded W].

        Raises:
            ValueError: The frames have another size.
        """
        size, padded = tuple(frames.shape[-2:]), self.padded_size
        if size != padded:
            if size != self.frame_size:
                raise ValueError(f"the detector is made for frames of {self.frame_size} pixels, not {size}")
            below, right = padded[0] - size[0], padded[1] - size[1]
            frames = nn.functional.pad(frames, (0, right, 0, below))
        return frames

    def forward_backbone(
        self, frames: Tensor, states: SequenceOf[LstmState] | None = None
    ) -> tuple[Features, list[LstmState]]:
        """Extract the features of one frame of each sequence.

        Args:
            frames: uint8 or float [B, C, H, W], unpadded or padded.
            states: States after the previous frame; None means the start of all sequences.

        Returns:
            Features [B, C_s, H_s, W_s] at strides 8, 16, 32, and the new states, (hidden, cell) for each of the four
            stages.
        """
        features, states = self.forward_sequence(frames[None], states)
        return tuple(maps[0] for maps in features), states

    def forward_sequence(
        self, frames: Tensor, states: SequenceOf[LstmState] | None = None
    ) -> tuple[Features, list[LstmState]]:
        """Extract the features of L consecutive frames of each sequence.

        The same as L calls of `forward_backbone`, but faster, because only the LSTMs have to go step by step.

        Args:
            frames: uint8 or float [L, B, C, H, W], unpadded or padded.
            states: States after the frame before the first; None means the start of all sequences.

        Returns:
            Features [L, B, C_s, H_s, W_s] at strides 8, 16, 32, and the states after the last frame.
        """
        features, states = self.backbone(self.pad(frames), states)
        return features[1:], states

    def forward_head(
        self, features: SequenceOf[Tensor], targets: Tensor | None = None, loss: DetectionLoss | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Detect in the given frames and compare with targets.

        Args:
            features: float [B, C_s, H_s, W_s] at strides 8, 16, 32; B counts frames of whatever sequence and time.
            targets: float32 [B, M, 7] yolox rows, or None.
            loss: Compares with the targets; needed if there are any.

        Returns:
            Prediction rows float32 [B, N, 5+C] (cx, cy, w, h in pixels of the frame, objectness, class probabilities),
            and the losses by name (see `leod.models.loss.LOSS_NAMES`) or None without targets.
        """
        raw, anchors = self.head(self.neck(features))
        losses = None
        if targets is not None:
            if loss is None:
                raise ValueError("targets were given without the loss that compares with them")
            losses = loss(raw, targets, anchors)
        return decode_predictions(raw.detach() if losses else raw, anchors), losses

    def forward(self, frames: Tensor, states: SequenceOf[LstmState] | None = None) -> tuple[Tensor, list[LstmState]]:
        """Detect in one frame of each sequence: [B, C, H, W] → prediction rows [B, N, 5+C] and the new states."""
        features, states = self.forward_backbone(frames, states)
        return self.forward_head(features)[0], states

    def compile_backbone(self, backend: str = "inductor") -> None:
        """Let torch.compile translate the stages at their first use; parameter names stay as they are."""
        for stage in self.backbone.stages:
            stage.compile_parts(backend)

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Recompute the activations of each stage in the backward pass instead of keeping them."""
        for stage in self.backbone.stages:
            stage.gradient_checkpointing = enabled


def build_detector(model: ModelConfig, sequence: SequenceConfig) -> Detector:
    """Build a detector with fresh weights.

    As published, that is PyTorch's default initialisation; objectness and classes start at probability 0.01.

    Args:
        model: Size of the network.
        sequence: Frames and classes that it is made for.
    """
    return Detector(model, sequence)
