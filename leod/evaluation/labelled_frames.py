"""Ground truth and detections of labelled frames: what the evaluation of a detector compares."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch.distributed

from leod.boxes.operations import is_ignored
from leod.config.schema import DetectionConfig, EvaluationFilterConfig, MergingConfig, SequenceConfig, ViewsConfig
from leod.evaluation.prophesee import evaluate_detections
from leod.inference.merge import detect_merged
from leod.inference.views import PLAIN, TIME_REVERSED, View, frames_to_read, views_of
from leod.models.detector import Detector
from leod.sampling.inference_stream import deal_out
from leod.sequences.frame_boxes import FrameBoxes
from leod.sequences.sequence import Sequence

Variant = Literal["plain", "tta", "time_reversed"]

VIEWS: dict[Variant, tuple[View, ...]] = {
    "plain": (PLAIN,),
    "tta": views_of(ViewsConfig(mirror=True, time_reversal=True)),
    "time_reversed": (TIME_REVERSED,),
}
"""The views that each variant of the evaluation shows to the detector."""


@dataclass(frozen=True)
class EvaluatedFrames:
    """Labelled frames of one sequence with at least one box of ground truth that is not ignored.

    Attributes:
        sequence_name: Name of the sequence.
        ground_truth: For each frame LABEL_DTYPE [n], frame pixels, t in us; ignored boxes among them.
        detections: For each frame LABEL_DTYPE [m], the best objectness × class confidence first; t is the frame's.
        start_us: Where the sequence's first window begins; 0 where the set has no time stamps.
    """

    sequence_name: str
    ground_truth: list[npt.NDArray[np.void]]
    detections: list[npt.NDArray[np.void]]
    start_us: int = 0

    def counted_from_start(self, boxes: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
        """The boxes with times since the start of the sequence."""
        shifted = boxes.copy()
        shifted["t"] -= self.start_us
        return shifted


def detect_labelled_frames(
    detector: Detector,
    sequences: SequenceOf[Sequence],
    config: SequenceConfig,
    detection: DetectionConfig,
    variant: Variant = "plain",
    num_workers: int = 0,
    merging: MergingConfig = MergingConfig(),  # noqa: B008  (immutable)
) -> list[EvaluatedFrames]:
    """Run the detector and pair its boxes with the ground truth.

    Args:
        detector: On the device where it shall run.
        sequences: The sequences; those without labelled frames do not count.
        config: The data set's frames and label offset.
        detection: Thresholds and batching.
        variant: 'plain'; 'tta': four views merged on the labelled frames, as the published evaluation does;
            'time_reversed': the sequences run backwards. Read backwards, the last frames cannot be seen, so their
            ground truth does not count there.
        num_workers: Loader processes.
        merging: How the views of 'tta' become one set of boxes.

    Returns:
        One entry per labelled sequence, in the order of ``sequences``.

    Raises:
        ResourceError: Out of memory.
    """
    labelled = [sequence for sequence in sequences if len(sequence.labelled_frames)]
    if not labelled:
        return []
    views = VIEWS[variant]
    results = detect_merged(
        detector,
        labelled,
        config,
        detection,
        views=views,
        merging=merging,
        frames="labelled",
        num_workers=num_workers,
        description=f"evaluating ({variant})",
    )
    by_name = {sequence.name: _pair(sequence, found, views[0], config) for sequence, found in results}
    # Sequences end in an order that depends on the batch size; the order decides between equal scores.
    return [by_name[sequence.name] for sequence in labelled]


def _pair(sequence: Sequence, merged: FrameBoxes, view: View, config: SequenceConfig) -> EvaluatedFrames:
    read = frames_to_read(sequence.labelled_frames, view, config.time_reversal_label_offset)
    ground_truth, detections = [], []
    for k in np.flatnonzero(read < sequence.num_frames).tolist():
        truth = sequence.frame_labels(k)
        # The published protocol has no place for frames in which nothing is to be found.
        if is_ignored(truth).all():
            continue
        frame = sequence.labelled_frames[k]
        start, stop = np.searchsorted(merged.frame_indices, [frame, frame + 1])
        found = merged.boxes[start:stop].copy()
        found["t"] = truth["t"][0]
        ground_truth.append(truth)
        detections.append(found)
    start_us = int(sequence.timestamps_us[0]) - config.window_us if sequence.has_timestamps else 0
    return EvaluatedFrames(sequence.name, ground_truth, detections, start_us)


def evaluate_labelled_frames(
    frames: SequenceOf[EvaluatedFrames], config: SequenceConfig, filter: EvaluationFilterConfig
) -> dict[str, Any]:
    """Evaluate by the Prophesee protocol, one entry per labelled frame; see `evaluate_detections` for the result."""
    if filter.skip_from == "first_event":
        frames = [
            replace(
                sequence,
                ground_truth=[sequence.counted_from_start(boxes) for boxes in sequence.ground_truth],
                detections=[sequence.counted_from_start(boxes) for boxes in sequence.detections],
            )
            for sequence in frames
        ]
    return evaluate_detections(
        [boxes for sequence in frames for boxes in sequence.ground_truth],
        [boxes for sequence in frames for boxes in sequence.detections],
        config.classes,
        filter,
    )


def share_of_rank(sequences: SequenceOf[Sequence], rank: int, world_size: int) -> list[Sequence]:
    """The sequences that one of several processes evaluates: about equally many frames for each.

    Args:
        sequences: All sequences, in the same order in every process.
        rank: This process, from 0.
        world_size: Number of processes.
    """
    dealt = deal_out([sequence.num_frames for sequence in sequences], world_size)
    return [sequences[position] for position in sorted(dealt[rank])]


def gather_labelled_frames(frames: list[EvaluatedFrames]) -> list[EvaluatedFrames]:
    """Bring together what all processes of distributed training found; every process gets everything.

    Without `torch.distributed` these are the process's own frames.

    Returns:
        Sorted by sequence name, so the metrics are those of a single process.
    """
    gathered = [frames]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        gathered = [[] for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather_object(gathered, frames)
    return sorted((entry for part in gathered for entry in part), key=lambda entry: entry.sequence_name)
