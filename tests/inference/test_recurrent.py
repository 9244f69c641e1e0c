from __future__ import annotations

import numpy as np
import pytest
from tiny_sequences import CONFIG, random_detector, random_frames, write_tiny_sequence

from leod.config.schema import DetectionConfig
from leod.inference.recurrent import FRAMES_PER_CALL, detect_frames
from leod.inference.runner import detect_sequences
from leod.sequences.sequence import Sequence


@pytest.mark.parametrize("frames", [[3, 9, 7], [0], [FRAMES_PER_CALL, 2], []])
def test_some_frames_as_in_the_whole_sequence(tmp_path, frames):
    write_tiny_sequence(tmp_path / "a", random_frames(0, FRAMES_PER_CALL + 3), [])
    sequence, detection = Sequence(tmp_path / "a", CONFIG), DetectionConfig(confidence_threshold=0.2)
    (whole,) = detect_sequences(random_detector(), [sequence], detection)
    found = detect_frames(random_detector(), sequence, frames, detection)
    assert sorted(found) == sorted(frames)
    for frame, boxes in found.items():
        expected = whole.boxes[whole.frame_indices == frame]
        for name in expected.dtype.names:
            np.testing.assert_allclose(boxes[name], expected[name], atol=1e-3)
