"""What a loader hands to training and to inference: plain tensors, no nested lists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Self

import torch


def upload(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor of the host to ``device`` without waiting for what the device is doing.

    From memory that is not page-locked CUDA may wait before it copies.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@dataclass(frozen=True)
class _TensorBundle:
    """A dataclass of tensors that moves to another device as one."""

    def _map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Self:
        return type(self)(**{field.name: function(getattr(self, field.name)) for field in fields(self)})

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """Copy every tensor to ``device``."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def with_uploaded(self, names: tuple[str, ...], device: torch.device) -> Self:
        """Copy the tensors of these names to ``device`` and leave the others where they are; see `upload`."""
        return replace(self, **{name: upload(getattr(self, name), device) for name in names})

    def pin_memory(self) -> Self:
        """Copy every tensor to page-locked memory, from which a GPU can read on its own."""
        return self._map(torch.Tensor.pin_memory)

    def equals(self, other: Self) -> bool:
        """Whether both hold the same values, bit by bit."""
        return all(torch.equal(getattr(self, field.name), getattr(other, field.name)) for field in fields(self))


@dataclass(frozen=True)
class Batch(_TensorBundle):
    """Samples of one training step, all of L windows; B is the number of samples of this process.

    Attributes:
        frames: Event representations, uint8 (int8 for mixed-density stacks) [L, B, C, H, W], unpadded; zeros where
            ``frame_indices`` is -1.
        is_first: bool [B]; True where the recurrent state of the slot has to be reset before the sample.
        targets: float32 [L, B, M, 7], M >= 1: class_id, centre x, centre y, width, height (pixels), objectness,
            class confidence; zero rows pad at the end.
        labelled: bool [L, B]; only these frames enter the loss. A labelled frame has at least one row in ``targets``.
        frame_indices: int64 [L, B], frame of the sequence, -1 = padding. Falls along L in samples read backwards.
        sequence_ids: int64 [B], position of the sequence in the list that the loader was made from.
    """

    frames: torch.Tensor
    is_first: torch.Tensor
    targets: torch.Tensor
    labelled: torch.Tensor
    frame_indices: torch.Tensor
    sequence_ids: torch.Tensor


@dataclass(frozen=True)
class InferenceBatch(_TensorBundle):
    """The next L windows of B sequences that run side by side.

    Attributes:
        frames: Event representations, uint8 (int8 for mixed-density stacks) [L, B, C, H, W], unpadded; zeros where
            ``frame_indices`` is -1.
        is_first: bool [B]; True where a sequence begins, so that the slot's recurrent state has to be reset.
        frame_indices: int64 [L, B], frame of the sequence whose events are seen, -1 = padding. Falls along L where the
            sequence is read backwards; which frame's boxes that corresponds to is the consumer's business.
        sequence_ids: int64 [B], position of the sequence in the list that the stream was made from; -1 = this slot
            has nothing left.
    """

    frames: torch.Tensor
    is_first: torch.Tensor
    frame_indices: torch.Tensor
    sequence_ids: torch.Tensor
