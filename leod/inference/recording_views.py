"""A detector's views of a recording whose windows come one after the other, in bounded memory.

The plain and the mirrored view carry their recurrent states from the first window to the last. Reading backwards from
the end of a long recording would need all of it: each block of windows is read backwards instead, from some windows
behind it on, which fill the states.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from leod.boxes.operations import flip_left_right, from_detection_rows
from leod.config.schema import DetectionConfig, ViewsConfig
from leod.inference.recurrent import RecurrentDetector
from leod.inference.views import View, frames_to_read, views_of
from leod.models.detector import Detector

_BLOCK_BYTES = 400_000_000
_LONGEST_BLOCK = 96
_SHORTEST_BLOCK = 12
_PIXELS_PER_CALL = 500_000
"""Frames pass the backbone together as long as they have no more pixels than this, for the sake of memory."""


@dataclass(frozen=True)
class WindowViews:
    """What the views show in one window.

    Attributes:
        number: Number of the window.
        boxes: For each view `LABEL_DTYPE` [n] with t = 0, upright, in pixels of the frame; None: the view cannot show
            the window (the last ones, read backwards).
    """

    number: int
    boxes: tuple[np.ndarray | None, ...]


class RecordingViews:
    """Runs over the frames of one recording.

    Args:
        detector: In evaluation mode, on the device where it shall run; it accepts the frames' size.
        detection: Thresholds and precision.
        views: Which views.
        frame_shape: (channels, height, width) of the frames.
        time_reversal_label_offset: See `leod.inference.views.true_frames`.
    """

    def __init__(
        self,
        detector: Detector,
        detection: DetectionConfig,
        views: ViewsConfig,
        frame_shape: tuple[int, int, int],
        time_reversal_label_offset: int,
    ) -> None:
        self._detector, self._detection = detector, detection
        self._size = frame_shape[1:]
        self._offset = time_reversal_label_offset
        self.views = views_of(views)
        """The order of what `run` gives."""
        self._forward = [view for view in self.views if not view.time_reversed]
        self._backward = [view for view in self.views if view.time_reversed]
        recurrent = RecurrentDetector(detector, detection)
        pixels = self._size[0] * self._size[1] * len(self._forward)
        most = recurrent.frames_per_call(*self._size) // len(self._forward)
        self._per_call = max(1, min(most, _PIXELS_PER_CALL // pixels))
        held = min(_LONGEST_BLOCK, max(_SHORTEST_BLOCK, _BLOCK_BYTES // int(np.prod(frame_shape))))
        self._behind = max(held // 4, -self._offset) if self._backward else 0
        self._block = held - held // 4

    def run(self, frames: Iterable[np.ndarray]) -> Iterator[WindowViews]:
        """Detect in every frame, in order; frames are read a block ahead.

        Args:
            frames: Frames [C, H, W], one a window. Not changed, and kept until their block is done.
        """
        coming = iter(frames)
        forward = RecurrentDetector(self._detector, self._detection)
        held: list[np.ndarray] = []
        plain: list[list[np.ndarray]] = []
        first = 0
        while True:
            new = list(islice(coming, self._block + self._behind - len(held)))
            held += new
            if not held:
                return
            plain += self._detect(forward, new, self._forward)
            # The block ends where only windows are left that the next block needs to be read from behind.
            done = len(held) if len(held) < self._block + self._behind else self._block
            backward = self._read_backwards(held, done)
            for number in range(done):
                found = dict(zip(self._forward, plain[number], strict=True))
                found |= dict(zip(self._backward, backward[number], strict=True))
                yield WindowViews(first + number, tuple(found[view] for view in self.views))
            held, plain, first = held[done:], plain[done:], first + done

    def _detect(
        self, recurrent: RecurrentDetector, frames: SequenceOf[np.ndarray], views: SequenceOf[View]
    ) -> list[list[np.ndarray]]:
        """Boxes of each frame and view, upright."""
        found: list[list[np.ndarray]] = []
        for start in range(0, len(frames), self._per_call):
            batch = torch.from_numpy(np.stack(frames[start : start + self._per_call])[:, None])
            shown = torch.cat([batch.flip(-1) if view.mirrored else batch for view in views], dim=1)
            rows = recurrent.detect(shown, np.ones(shown.shape[:2], bool))
            boxes = [from_detection_rows(detections) for *_, detections in rows]
            for step in range(len(batch)):
                found.append(
                    [
                        flip_left_right(boxes[step * len(views) + row], self._size)
                        if view.mirrored
                        else boxes[step * len(views) + row]
                        for row, view in enumerate(views)
                    ]
                )
        return found

    def _read_backwards(self, held: SequenceOf[np.ndarray], done: int) -> list[list[np.ndarray | None]]:
        """Boxes of the first ``done`` windows in the views that are read backwards."""
        if not self._backward:
            return [[] for _ in range(done)]
        # Reversing the channels swaps polarities and time bins.
        reversed_frames = [np.ascontiguousarray(frame[::-1]) for frame in reversed(held)]
        read = self._detect(RecurrentDetector(self._detector, self._detection), reversed_frames, self._backward)
        read.reverse()
        places = frames_to_read(np.arange(done), self._backward[0], self._offset).tolist()
        return [list(read[place]) if place < len(read) else [None] * len(self._backward) for place in places]
