"""Windows in, detections out: a detector that remembers what it has seen so far."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

import numpy as np
import numpy.typing as npt
import torch

from leod.boxes.operations import from_detection_rows
from leod.config.schema import DetectionConfig
from leod.inference.devices import autocast
from leod.models.detector import Detector
from leod.models.postprocess import postprocess
from leod.models.states import LstmState
from leod.sampling.batch import upload
from leod.sequences.sequence import Sequence

FRAMES_PER_CALL = 32
"""Frames that pass the backbone together: enough to fill a GPU, few enough for a CPU's memory."""
MOST_FRAMES_PER_CALL_ON_CPU = 64
MOST_PIXELS_PER_CALL_ON_CPU = 16 * 320 * 240
"""On a CPU, small frames pass together until the start of the operators no longer counts; large ones are kept to few,
since activations that leave its caches only cost time."""


class RecurrentDetector:
    """Finds boxes in windows that follow each other, of one sequence or of several side by side.

    Args:
        detector: In evaluation mode, on the device where it shall run.
        detection: Thresholds and precision.

    Attributes:
        device: Where the detector runs.
        states: Its recurrent states after the last window, one row for each row of the batch; None = fresh.
    """

    def __init__(self, detector: Detector, detection: DetectionConfig) -> None:
        self._detector = detector
        self._detection = detection
        self.device = next(detector.parameters()).device
        self._autocast = autocast(self.device, detection.precision)
        self.states: list[LstmState] | None = None

    def frames_per_call(self, height: int, width: int) -> int:
        """How many frames of this size in pixels shall pass the backbone together at most."""
        if self.device.type != "cpu":
            return FRAMES_PER_CALL
        return max(1, min(MOST_FRAMES_PER_CALL_ON_CPU, MOST_PIXELS_PER_CALL_ON_CPU // (height * width)))

    @torch.inference_mode()
    def detect(
        self, frames: torch.Tensor, wanted: npt.NDArray[np.bool_]
    ) -> list[tuple[int, int, npt.NDArray[np.float32]]]:
        """Run over the next windows and carry the states on.

        Args:
            frames: [L, B, C, H, W], unpadded; all of it passes the backbone at once.
            wanted: bool [L, B], frames that pass the head.

        Returns:
            Step, row and detections of each wanted frame in this order; detections float32 [n, 7] are x1, y1, x2, y2,
            objectness, class_confidence, class_id in pixels of the frame.
        """
        steps, rows = np.nonzero(wanted)
        where = tuple(upload(torch.from_numpy(index), self.device) for index in (steps, rows))
        with self._autocast:
            features, self.states = self._detector.forward_sequence(upload(frames, self.device), self.states)
            if not len(steps):
                return []
            predictions, _ = self._detector.forward_head([maps[where] for maps in features])
        detections = postprocess(predictions, self._detection.confidence_threshold, self._detection.nms_threshold)
        borders = np.cumsum([len(found) for found in detections])[:-1]
        # One copy from the device for all frames of the call.
        found_rows = np.split(torch.cat(detections).cpu().numpy(), borders)
        return list(zip(steps.tolist(), rows.tolist(), found_rows, strict=True))


def detect_frames(
    detector: Detector, sequence: Sequence, frames: SequenceOf[int], detection: DetectionConfig
) -> dict[int, np.ndarray]:
    """Detections in some frames of a sequence, for pictures: read from its start to the last of the wanted frames.

    Args:
        detector: In evaluation mode, on the device where it shall run.
        sequence: The sequence.
        frames: Wanted frames.
        detection: Thresholds and precision.

    Returns:
        Frame → its detections, LABEL_DTYPE [n] with both scores, in pixels of the frame.
    """
    recurrent, found = RecurrentDetector(detector, detection), {}
    wanted = np.zeros(max(frames, default=-1) + 1, bool)
    wanted[list(frames)] = True
    for start in range(0, len(wanted), FRAMES_PER_CALL):
        steps = wanted[start : start + FRAMES_PER_CALL, None]
        read = torch.from_numpy(sequence.read_frames(start, start + len(steps)))
        for step, _, rows in recurrent.detect(read[:, None], steps):
            found[start + step] = from_detection_rows(rows)
    return found
