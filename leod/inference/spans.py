"""Detections in the first frames of a sequence, for pictures."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

import numpy as np
import torch

from leod.config.schema import DetectionConfig
from leod.data.sequence import Sequence
from leod.labels.boxes import from_detection_rows
from leod.models.detector import Detector
from leod.models.postprocess import postprocess

_FRAMES_PER_CALL = 20


@torch.inference_mode()
def detect_frames(
    detector: Detector, sequence: Sequence, frames: SequenceOf[int], detection: DetectionConfig
) -> dict[int, np.ndarray]:
    """Run the detector from the start of a sequence to the last of the wanted frames.

    Args:
        detector: In evaluation mode, on the device where it shall run.
        sequence: The sequence.
        frames: Wanted frames.
        detection: Thresholds.

    Returns:
        Frame → its detections, LABEL_DTYPE [n] with both scores, in pixels of the frame.
    """
    device = next(detector.parameters()).device
    found: dict[int, np.ndarray] = {}
    states = None
    for start in range(0, max(frames, default=-1) + 1, _FRAMES_PER_CALL):
        stop = min(start + _FRAMES_PER_CALL, max(frames) + 1)
        read = torch.from_numpy(sequence.read_frames(start, stop))[:, None].to(device)
        features, states = detector.forward_sequence(read, states)
        wanted = [frame for frame in frames if start <= frame < stop]
        if wanted:
            steps = torch.tensor(wanted, device=device) - start
            predictions, _ = detector.forward_head([maps[steps, 0] for maps in features])
            rows = postprocess(predictions, detection.confidence_threshold, detection.nms_threshold)
            found |= {frame: from_detection_rows(one.cpu().numpy()) for frame, one in zip(wanted, rows, strict=True)}
    return found
