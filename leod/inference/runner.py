"""Streaming inference: sequences side by side, the recurrent memory carried along, one or several views."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from leod.boxes.dtypes import LABEL_DTYPE
from leod.boxes.operations import from_detection_rows
from leod.config.schema import DetectionConfig
from leod.inference.devices import memory_errors
from leod.inference.recurrent import RecurrentDetector
from leod.inference.views import PLAIN, TIME_REVERSED, View, frames_to_read
from leod.models.detector import Detector
from leod.models.states import reset_states
from leod.progress import progress
from leod.sampling.batch import InferenceBatch, upload
from leod.sampling.inference_stream import InferenceStream, inference_loader
from leod.sampling.streaming import whole_range
from leod.sequences.sequence import Sequence

FrameSelection = Literal["all", "labelled"]
ToLabels = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.void]]

_MEMORY_ADVICE = (
    "Three settings help, in this order: a smaller detection.batch_size (sequences side by side), a smaller "
    "detection.sequence_length (windows read at a time), detection.precision: 16-mixed (GPU only)."
)


@dataclass(frozen=True)
class SequenceDetections:
    """What one view of one sequence shows.

    Attributes:
        sequence: The sequence.
        view: The view.
        frame_indices: int64 [n], the frame that was read when the box was found, in reading order: ascending, or
            descending in time-reversed views. `leod.inference.views.true_frames` tells the frame it belongs to.
        boxes: LABEL_DTYPE [n] with t = 0, in pixels of the (possibly mirrored) frame, with both scores.
    """

    sequence: Sequence
    view: View
    frame_indices: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.void]


def detect_sequences(
    detector: Detector,
    sequences: SequenceOf[Sequence],
    detection: DetectionConfig,
    *,
    views: SequenceOf[View] = (PLAIN,),
    frames: FrameSelection = "all",
    time_reversal_label_offset: int | None = None,
    to_labels: ToLabels = from_detection_rows,
    num_workers: int = 0,
    description: str = "detecting",
) -> Iterator[SequenceDetections]:
    """Run the detector over whole sequences and yield each one as soon as it is complete.

    Sequences run side by side in the slots of a batch; a slot's recurrent states are reset when it begins another
    sequence. Mirrored copies share a batch with the frames they are copies of; reading backwards is a second pass in
    step with the first, so that all views of a sequence end together. Neither the batch size nor the grouping of views
    changes the result beyond rounding, and the number of loader processes does not change it at all.

    Args:
        detector: On the device where it shall run. Its mode is restored afterwards.
        sequences: The sequences.
        detection: Thresholds, batch size, windows read at a time, precision.
        views: Views that are wanted, each once.
        frames: 'all': every frame from the first one on. 'labelled': only boxes that belong to labelled frames;
            inference starts at the published evaluation's first window, and sequences without labelled frames are left
            out.
        time_reversal_label_offset: The data set's (see `leod.inference.views.true_frames`); only needed to find the
            labelled frames in time-reversed views.
        to_labels: Called with the detection rows of one frame, float32 [n, 7] (x1, y1, x2, y2, objectness,
            class_confidence, class_id; pixels of the view), it returns the LABEL_DTYPE rows that are kept. Dropping
            boxes here keeps them from piling up in memory.
        num_workers: Loader processes.
        description: Shown with the progress.

    Yields:
        One result per sequence and view; a sequence's views follow each other in the order of ``views``.

    Raises:
        ResourceError: Out of memory; the message names three settings that help.
        ConfigError: There is no sequence, or none with a labelled frame.
        ValueError: The offset is needed and missing.
    """
    directions = sorted({view.time_reversed for view in views})
    streams = [
        InferenceStream(
            sequences,
            detection.sequence_length,
            detection.batch_size,
            time_reversed=time_reversed,
            start_at_first_label=frames == "labelled",
        )
        for time_reversed in directions
    ]
    on_gpu = next(detector.parameters()).device.type == "cuda"
    # Both directions together use the given number of processes, but each needs one to read ahead.
    workers = -(-num_workers // len(streams))
    loaders = [inference_loader(stream, workers, pin_memory=on_gpu) for stream in streams]
    passes = [
        _Pass(
            detector,
            detection,
            [view for view in views if view.time_reversed == time_reversed],
            [None] * len(sequences)
            if frames == "all"
            else [_labelled_frames(sequence, time_reversed, time_reversal_label_offset) for sequence in sequences],
            to_labels,
        )
        for time_reversed in directions
    ]
    num_frames = _count_frames(sequences, detection, frames) * len(views)
    was_training = detector.training
    detector.eval()
    try:
        with (
            memory_errors("inference", _MEMORY_ADVICE),
            progress(None, description, total=num_frames, unit="frame") as bar,
        ):
            for step, batches in enumerate(zip(*loaders, strict=True)):
                for one_pass, batch in zip(passes, batches, strict=True):
                    bar.update(one_pass.advance(batch))
                for position in _completed(streams[0], step):
                    found = {view: boxes for one_pass in passes for view, boxes in one_pass.take(position).items()}
                    for view in views:
                        frame_indices, boxes = found[view]
                        yield SequenceDetections(sequences[position], view, frame_indices, boxes)
    finally:
        detector.train(was_training)


class _Pass:
    """One reading direction: the states of its batch slots and the boxes of sequences that are not complete yet.

    Args:
        detector: In evaluation mode.
        detection: Thresholds and precision.
        views: Views of this direction; the frames of each are one block of the batch.
        wanted: For each sequence bool [num_frames], frames whose boxes are wanted; None = all.
        to_labels: See `detect_sequences`.
    """

    def __init__(
        self,
        detector: Detector,
        detection: DetectionConfig,
        views: SequenceOf[View],
        wanted: SequenceOf[npt.NDArray[np.bool_] | None],
        to_labels: ToLabels,
    ) -> None:
        self._recurrent = RecurrentDetector(detector, detection)
        self._views = views
        self._wanted = wanted
        self._to_labels = to_labels
        self._slots: npt.NDArray[np.int64] | None = None
        self._found: dict[int, dict[View, list[tuple[int, npt.NDArray[np.void]]]]] = {}

    @torch.inference_mode()
    def advance(self, batch: InferenceBatch) -> int:
        """Run over the next windows and return how many frames (of all views) that were."""
        self._drop_finished_slots(batch.sequence_ids.numpy() >= 0)
        positions = batch.sequence_ids.numpy()[self._slots]
        frame_indices = batch.frame_indices.numpy()[:, self._slots]
        # Padding is at the end of a window, so nothing after the longest sequence's end matters.
        length = int((frame_indices >= 0).any(axis=1).sum())
        frames = batch.frames[:length]
        if len(self._slots) < frames.shape[1]:
            frames = frames[:, self._slots]
        frames = upload(frames, self._recurrent.device)
        frames = torch.cat([frames.flip(-1) if view.mirrored else frames for view in self._views], dim=1)
        if self._recurrent.states is not None:
            is_first = batch.is_first[self._slots].repeat(len(self._views))
            self._recurrent.states = reset_states(self._recurrent.states, upload(is_first, self._recurrent.device))

        wanted = np.tile(self._wanted_steps(positions, frame_indices), len(self._views))
        steps_per_call = max(1, self._recurrent.frames_per_call(*frames.shape[-2:]) // frames.shape[1])
        for start in range(0, length, steps_per_call):
            steps = slice(start, min(start + steps_per_call, length))
            for step, row, detections in self._recurrent.detect(frames[steps], wanted[steps]):
                boxes = self._to_labels(detections) if len(detections) else ()
                if len(boxes):
                    view, slot = divmod(row, len(self._slots))
                    found = self._found.setdefault(int(positions[slot]), {view: [] for view in self._views})
                    found[self._views[view]].append((int(frame_indices[start + step, slot]), boxes))
        return int((frame_indices >= 0).sum()) * len(self._views)

    def take(self, position: int) -> dict[View, tuple[npt.NDArray[np.int64], npt.NDArray[np.void]]]:
        """Hand over the frame indices and boxes of a sequence that is complete, and forget them."""
        found = self._found.pop(position, {view: [] for view in self._views})
        return {view: _flatten(entries) for view, entries in found.items()}

    def _drop_finished_slots(self, busy: npt.NDArray[np.bool_]) -> None:
        """Forget slots that have nothing left, so that no time is spent on padding; they never come back."""
        if self._slots is None:
            self._slots = np.flatnonzero(busy)
            return
        remaining = busy[self._slots]
        if remaining.all():
            return
        self._slots = self._slots[remaining]
        states = self._recurrent.states
        if states is not None:
            rows = torch.from_numpy(np.flatnonzero(np.tile(remaining, len(self._views))))
            rows = upload(rows, self._recurrent.device)
            self._recurrent.states = [(hidden[rows], cell[rows]) for hidden, cell in states]

    def _wanted_steps(
        self, positions: npt.NDArray[np.int64], frame_indices: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """Which frames pass the head: bool [L, slots]."""
        wanted = frame_indices >= 0
        for slot, position in enumerate(positions.tolist()):
            chosen = self._wanted[position]
            if chosen is not None:
                wanted[:, slot] &= chosen[frame_indices[:, slot]]
        return wanted


def _count_frames(sequences: SequenceOf[Sequence], detection: DetectionConfig, frames: FrameSelection) -> int:
    """Frames of one view."""
    ranges = [
        whole_range(sequence.num_frames, sequence.labelled_frames, detection.sequence_length, frames == "labelled")
        for sequence in sequences
    ]
    return sum(one_range.stop - one_range.start for one_range in ranges if one_range is not None)


def _labelled_frames(
    sequence: Sequence, time_reversed: bool, time_reversal_label_offset: int | None
) -> npt.NDArray[np.bool_]:
    """Which frames have to be read to see the labelled ones: bool [num_frames]."""
    frames = sequence.labelled_frames
    if time_reversed:
        if time_reversal_label_offset is None:
            raise ValueError("labelled frames of a time-reversed view need the data set's label offset")
        frames = frames_to_read(frames, TIME_REVERSED, time_reversal_label_offset)
    wanted = np.zeros(sequence.num_frames, dtype=bool)
    wanted[frames[frames < sequence.num_frames]] = True
    return wanted


def _flatten(
    entries: list[tuple[int, npt.NDArray[np.void]]],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.void]]:
    if not entries:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=LABEL_DTYPE)
    counts = [len(boxes) for _, boxes in entries]
    frames = np.array([frame for frame, _ in entries], dtype=np.int64)
    return np.repeat(frames, counts), np.concatenate([boxes for _, boxes in entries])


def _completed(stream: InferenceStream, step: int) -> list[int]:
    """Positions of the sequences whose last window is in batch ``step``."""
    now = [position for position, _ in stream.schedule(step)]
    following = [position for position, _ in stream.schedule(step + 1)]
    return [position for position, successor in zip(now, following, strict=True) if position not in (-1, successor)]
