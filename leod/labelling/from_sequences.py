"""Candidates out of preprocessed sequences: their labelled frames, as if nobody had labelled them yet.

With them the choice of frames can be judged on data whose truth is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from itertools import groupby

import numpy as np
import numpy.typing as npt

from leod.boxes.operations import flip_left_right
from leod.config.schema import DetectionConfig, SequenceConfig, ViewsConfig
from leod.inference.runner import SequenceDetections, detect_sequences
from leod.inference.views import View, frames_to_read, true_frames, views_of
from leod.labelling.activity import GRID, ActivityMeter
from leod.labelling.choosing import ACTIVITY_SIGNS, DETECTOR_SIGNS, Candidates
from leod.labelling.settling import settled
from leod.labelling.uncertainty import WEAKEST_SCORE, Uncertainty, judge
from leod.models.detector import Detector
from leod.progress import progress
from leod.sequences.frame_boxes import FrameBoxes
from leod.sequences.sequence import Sequence


def candidates_of_sequences(
    sequences: SequenceOf[Sequence],
    config: SequenceConfig,
    detector: Detector | None = None,
    detection: DetectionConfig = DetectionConfig(),  # noqa: B008  (immutable)
    views: ViewsConfig = ViewsConfig(),  # noqa: B008  (immutable)
    num_workers: int = 0,
) -> Candidates:
    """Look at the labelled frames of sequences; their labels are not used.

    Args:
        sequences: The sequences; each one's position is the number of its recording.
        config: The data set's frames and label offset.
        detector: On the device where it shall run, or None.
        detection: Batching and suppression; weak boxes count as well, whatever its threshold.
        views: The detector's views, compared with each other.
        num_workers: Loader processes.

    Returns:
        A candidate for each labelled frame, by sequence and time: ``index`` counts the sequence's labelled frames. Not
        eligible are those in which nothing moves and those at a sequence's beginning. The time is that of the frame's
        place in the sequence.

    Raises:
        DataError: A sequence is damaged.
        ResourceError: Out of memory.
    """
    amounts = [np.zeros((len(sequence.labelled_frames), len(ACTIVITY_SIGNS)), np.float32) for sequence in sequences]
    looks, moves = [], []
    meter = ActivityMeter(*config.frame_size)
    for sequence, activity in zip(progress(sequences, "looking at frames", unit="sequence"), amounts, strict=True):
        look = np.zeros((len(activity), GRID[0] * GRID[1]), np.float32)
        moving = np.zeros(len(activity), bool)
        for number, frame in enumerate(sequence.labelled_frames.tolist()):
            seen = meter.of_frame(sequence.read_frames(frame, frame + 1)[0])
            activity[number, 0], look[number], moving[number] = seen.share, seen.where, seen.moves
        looks.append(look)
        moves.append(moving)
    if detector is not None and len(sequences):
        detection = detection.model_copy(update={"confidence_threshold": WEAKEST_SCORE})
        position = {sequence.name: number for number, sequence in enumerate(sequences)}
        for sequence, unsure in _judged(detector, sequences, config, detection, views, num_workers):
            number = position[sequence.name]
            amounts[number] = np.hstack([amounts[number], unsure.amounts(sequence.labelled_frames)])
    labelled = [sequence.labelled_frames for sequence in sequences]
    counts = [len(frames) for frames in labelled]
    t_us = (np.concatenate([np.zeros(0, np.int64), *labelled]) + 1) * config.window_us
    memory, late_enough = settled(t_us)
    signs = ACTIVITY_SIGNS if detector is None else DETECTOR_SIGNS
    return Candidates(
        recording=np.repeat(np.arange(len(sequences), dtype=np.int64), counts),
        index=np.concatenate([np.zeros(0, np.int64), *(np.arange(count, dtype=np.int64) for count in counts)]),
        t_us=t_us,
        descriptor=np.concatenate([np.zeros((0, GRID[0] * GRID[1]), np.float32), *looks]),
        amounts=np.concatenate([np.zeros((0, len(signs)), np.float32), *amounts]),
        signs=signs,
        settled=memory,
        eligible=np.concatenate([np.zeros(0, bool), *moves]) & late_enough,
    )


def _judged(
    detector: Detector,
    sequences: SequenceOf[Sequence],
    config: SequenceConfig,
    detection: DetectionConfig,
    views: ViewsConfig,
    num_workers: int,
) -> Iterator[tuple[Sequence, Uncertainty]]:
    """Run the detector and judge each sequence once it is complete."""
    results = detect_sequences(
        detector, sequences, detection, views=views_of(views), num_workers=num_workers, description="comparing views"
    )
    for _, group in groupby(results, key=lambda result: result.sequence.name):
        found = list(group)
        sequence = found[0].sequence
        upright = [_upright(result, config) for result in found]
        shown = np.stack([_shown(sequence.num_frames, result.view, config) for result in found])
        yield sequence, judge(upright, shown, config.frame_size)


def _upright(found: SequenceDetections, config: SequenceConfig) -> FrameBoxes:
    """What a view shows, carried back to the true frames."""
    frames = true_frames(found.frame_indices, found.view, config.time_reversal_label_offset)
    boxes = flip_left_right(found.boxes, config.frame_size) if found.view.mirrored else found.boxes
    inside = (frames >= 0) & (frames < found.sequence.num_frames)
    return FrameBoxes.joined([FrameBoxes(boxes[inside], frames[inside])])


def _shown(num_frames: int, view: View, config: SequenceConfig) -> npt.NDArray[np.bool_]:
    """Which frames a view can show, bool [num_frames]."""
    read = frames_to_read(np.arange(num_frames), view, config.time_reversal_label_offset)
    return (read >= 0) & (read < num_frames)
