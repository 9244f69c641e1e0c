"""The average of a detector's weights over the steps of its training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from leod.models.detector import Detector

Weights = dict[str, torch.Tensor]


def average_decay(decay: float, step: int) -> float:
    """Share of the old average that remains after ``step`` finished steps: min(decay, (1 + step) / (10 + step)).

    The ramp lets the average forget the initial weights. Source: ``num_updates`` of TensorFlow's
    `tf.train.ExponentialMovingAverage`.
    """
    return min(decay, (1 + step) / (10 + step))


class AveragedWeights:
    """Exponential moving average of a detector's weights (Polyak & Juditsky 1992; as used by Mean Teacher, 2017).

    Parameters and floating-point buffers, such as the statistics of batch normalisation, are averaged alike; other
    buffers are copied. The average is on the detector's device. It follows from the weights alone, so that it is the
    same in all processes of a training.

    Args:
        detector: The detector that is being trained.
        decay: Share of the old average that remains in each step, after the ramp of `average_decay`; in (0, 1).
    """

    def __init__(self, detector: Detector, decay: float) -> None:
        self._detector = detector
        self._decay = decay
        self._average: Weights = {}

    def begin(self, average: Weights | None) -> None:
        """Start with the detector's weights, or go on with what `weights` gave; the detector is on its device by now.

        Args:
            average: The average so far; None = training begins.
        """
        current = self._detector.state_dict()
        start = current if average is None else average
        self._average = {name: start[name].detach().to(tensor.device, copy=True) for name, tensor in current.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after ``step`` finished optimiser steps."""
        averages, currents = [], []
        for name, current in self._detector.state_dict().items():
            if current.is_floating_point():
                averages.append(self._average[name])
                currents.append(current)
            else:
                self._average[name].copy_(current)
        torch._foreach_lerp_(averages, currents, 1.0 - average_decay(self._decay, step))

    @contextmanager
    def in_detector(self) -> Iterator[None]:
        """Inside, the detector has the averaged weights; afterwards it has its own again, bit by bit."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, current in self._detector.state_dict().items():
            own = current.clone()
            current.copy_(self._average[name])
            self._average[name].copy_(own)

    @property
    def weights(self) -> Weights:
        """The average, a state of the detector; not a copy."""
        return self._average
