"""Keep pseudo-labels that form long tracks, fill the gaps of those tracks (LEOD paper, Sec. 3.3).

A track is a chain of boxes of one class. It moves with constant velocity, takes the detection that overlaps its
prediction best, and ends when it has gone without a detection for too long. Boxes of tracks that ended early become
*ignored*: neither object nor background for the loss. Where a long track has no box, its prediction is *inpainted* as
an ignored box. The rules are those of the public repository Wuziyi616/LEOD (`modules/tracking`); two points differ:
equal confidences are served in order of birth, and frames without boxes are allowed.

Two things are not LEOD's and off by default. *Weak* boxes continue tracks but start none, after the strong ones have
had their turn (ByteTrack: Zhang et al., ECCV 2022); and the boxes of long tracks can be smoothed.

Boxes are handled as float32 centres and sizes in pixels, because whether a prediction was clamped is decided by exact
comparison and must not depend on the precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from leod.boxes.dtypes import IGNORED_CLASS_ID, LABEL_DTYPE
from leod.config.schema import TrackFilterConfig
from leod.jit import compiled
from leod.pseudo_labels.smoothing import smoothed
from leod.pseudo_labels.thresholds import lesser_scores
from leod.sequences.frame_boxes import FrameBoxes

BIRTH_CONFIDENCE = 0.9
CONFIDENCE_DECAY = 0.9
MIN_CONFIDENCE = 0.55
"""A track ends below this: after 5 misses at birth, after 6 when it is mature."""

_HALF = np.float32(0.5)
_ZERO = np.float32(0.0)
_MAX_CONSECUTIVE_MISSES = int(np.ceil(np.log(MIN_CONFIDENCE) / np.log(CONFIDENCE_DECAY))) + 1
# Beyond this age the weight of a track's history no longer changes in double precision.
_WEIGHT_TABLE_SIZE = 512

_TRACK_DTYPE = np.dtype(
    [
        # The box that is carried on, never clamped while the track has no detection.
        ("x", "f4"),
        ("y", "f4"),
        ("w", "f4"),
        ("h", "f4"),
        ("class_id", "i8"),
        ("velocity_x", "f4"),
        ("velocity_y", "f4"),
        ("previous_x", "f4"),
        ("previous_y", "f4"),
        # The prediction for the current frame, clamped to the frame.
        ("predicted_x", "f4"),
        ("predicted_y", "f4"),
        ("predicted_w", "f4"),
        ("predicted_h", "f4"),
        ("clamped_left", "?"),
        ("clamped_right", "?"),
        ("clamped_top", "?"),
        ("clamped_bottom", "?"),
        ("matched", "?"),
        ("confidence", "f8"),
        ("age", "i8"),
        ("hits", "i8"),
        ("done", "?"),
        ("is_ground_truth", "?"),
        ("newest_miss", "i8"),
        ("end_order", "i8"),
    ],
    align=True,
)

_MISS_DTYPE = np.dtype(
    [
        ("frame", "i8"),
        ("track", "i8"),
        ("x", "f4"),
        ("y", "f4"),
        ("w", "f4"),
        ("h", "f4"),
        ("confirmed", "?"),
        ("previous", "i8"),
    ],
    align=True,
)


@dataclass(frozen=True)
class TrackPass:
    """What one walk through a sequence found out about every box, in the order of the input boxes.

    Attributes:
        track_id: int64 [n], the track of each box, counted in order of birth; -1: a weak box that continues none.
        hits: int64 [n], frames that the box's track spans from its first to its last detection.
        done: bool [n], whether the box's track ended before the sequence did.
        is_ground_truth: bool [n], whether the box's track holds ground truth.
    """

    track_id: npt.NDArray[np.int64]
    hits: npt.NDArray[np.int64]
    done: npt.NDArray[np.bool_]
    is_ground_truth: npt.NDArray[np.bool_]

    def short(self, min_track_length: int) -> npt.NDArray[np.bool_]:
        """Mask bool [n] of the boxes of no track, or of tracks that ended, are too short and hold no ground truth."""
        return self.done & ~self.is_ground_truth & (self.hits < min_track_length)


@dataclass(frozen=True)
class TrackFilterResult:
    """The verdict on one sequence.

    Attributes:
        ignored: bool [n], input boxes that become ignored.
        inpainted: Boxes to add, m of them: t = 0, scores 0, class 1024; inside a frame in the order in which their
            tracks ended.
        inpainted_class_ids: int64 [m], the classes of their tracks; the boxes themselves are ignored.
        positions: float32 [n, 4], x, y, w, h of the input boxes after smoothing; None: as they were.
        forward: Tracks found walking forwards; None when the filter is switched off.
        backward: Tracks found walking backwards; None unless asked for.
    """

    ignored: npt.NDArray[np.bool_]
    inpainted: FrameBoxes
    inpainted_class_ids: npt.NDArray[np.int64]
    positions: npt.NDArray[np.float32] | None = None
    forward: TrackPass | None = None
    backward: TrackPass | None = None

    def outside(self, frames: npt.NDArray[np.int64]) -> TrackFilterResult:
        """The same without inpainted boxes in the given frames."""
        stays = ~np.isin(self.inpainted.frame_indices, frames)
        return replace(
            self, inpainted=self.inpainted.select(stays), inpainted_class_ids=self.inpainted_class_ids[stays]
        )

    def apply(self, judged: FrameBoxes) -> FrameBoxes:
        """Carry the verdict out.

        Args:
            judged: The boxes that were judged, in the same order. Ground truth among them stays as it is given.

        Returns:
            Inside a frame the given boxes in their order, then the inpainted ones.
        """
        boxes = judged.boxes.copy()
        boxes["class_id"][self.ignored] = IGNORED_CLASS_ID
        if self.positions is not None:
            pseudo = boxes["t"] == 0
            for column, name in enumerate(("x", "y", "w", "h")):
                boxes[name][pseudo] = self.positions[pseudo, column]
        return replace(judged, boxes=boxes).merge(self.inpainted)


@compiled
def _clamped(value: np.float32, upper: np.float32) -> np.float32:
    return min(max(value, _ZERO), upper)


@compiled
def _predict(track: np.void, last_column: np.float32, last_row: np.float32) -> None:
    """Move ``track`` by its velocity and clamp the copy that is used for matching."""
    track.age += 1
    track.matched = False
    track.previous_x = track.x
    track.previous_y = track.y
    track.x += track.velocity_x
    track.y += track.velocity_y
    left = track.x - track.w * _HALF
    top = track.y - track.h * _HALF
    right = track.x + track.w * _HALF
    bottom = track.y + track.h * _HALF
    clamped_left = _clamped(left, last_column)
    clamped_right = _clamped(right, last_column)
    clamped_top = _clamped(top, last_row)
    clamped_bottom = _clamped(bottom, last_row)
    track.clamped_left = clamped_left != left
    track.clamped_right = clamped_right != right
    track.clamped_top = clamped_top != top
    track.clamped_bottom = clamped_bottom != bottom
    track.predicted_x = (clamped_left + clamped_right) * _HALF
    track.predicted_y = (clamped_top + clamped_bottom) * _HALF
    track.predicted_w = clamped_right - clamped_left
    track.predicted_h = clamped_bottom - clamped_top


@compiled
def _iou_with_prediction(track: np.void, box: npt.NDArray[np.float32]) -> np.float32:
    """IoU of the track's clamped prediction and a box (centre x, centre y, width, height)."""
    half_width, half_height = box[2] * _HALF, box[3] * _HALF
    predicted_half_width, predicted_half_height = track.predicted_w * _HALF, track.predicted_h * _HALF
    left = max(track.predicted_x - predicted_half_width, box[0] - half_width)
    top = max(track.predicted_y - predicted_half_height, box[1] - half_height)
    right = min(track.predicted_x + predicted_half_width, box[0] + half_width)
    bottom = min(track.predicted_y + predicted_half_height, box[1] + half_height)
    intersection = max(_ZERO, right - left) * max(_ZERO, bottom - top)
    union = track.predicted_w * track.predicted_h + box[2] * box[3] - intersection
    if union <= _ZERO:
        return _ZERO
    return intersection / union


@compiled
def _velocity(
    clamped_low: bool,
    clamped_high: bool,
    new_centre: np.float32,
    new_size: np.float32,
    old_centre: np.float32,
    old_size: np.float32,
) -> np.float32:
    """Movement along one axis since the frame before; of the free edge where the prediction left the frame."""
    # A box that leaves the frame is cut, so that its centre seems to slow down; the edge inside does not. A box
    # that sticks out on both sides has no free edge.
    if clamped_low and not clamped_high:
        return (new_centre + new_size * _HALF) - (old_centre + old_size * _HALF)
    if clamped_high and not clamped_low:
        return (new_centre - new_size * _HALF) - (old_centre - old_size * _HALF)
    return new_centre - old_centre


@compiled
def _match(
    track: np.void, box: npt.NDArray[np.float32], is_ground_truth: bool, weight: float, misses: np.ndarray
) -> None:
    """Let ``track`` take ``box``; the predictions of the gap before it count from now on."""
    track.matched = True
    track.hits = track.age + 1
    track.velocity_x = _velocity(track.clamped_left, track.clamped_right, box[0], box[2], track.previous_x, track.w)
    track.velocity_y = _velocity(track.clamped_top, track.clamped_bottom, box[1], box[3], track.previous_y, track.h)
    track.x, track.y, track.w, track.h = box[0], box[1], box[2], box[3]
    track.is_ground_truth = track.is_ground_truth or is_ground_truth
    track.confidence = (weight * track.confidence + 1.0) / (weight + 1.0)
    miss = track.newest_miss
    while miss >= 0:
        misses[miss].confirmed = True
        miss = misses[miss].previous
    track.newest_miss = -1


@compiled
def _take_best(
    tracks: np.ndarray,
    number: int,
    boxes: npt.NDArray[np.float32],
    class_ids: npt.NDArray[np.int64],
    is_ground_truth: npt.NDArray[np.bool_],
    weak: npt.NDArray[np.bool_],
    among_weak: bool,
    start: int,
    stop: int,
    iou_threshold: np.float32,
    weights: npt.NDArray[np.float64],
    box_track: npt.NDArray[np.int64],
    misses: np.ndarray,
) -> None:
    """Let track ``number`` take the free box of rows ``start`` to ``stop`` that overlaps its prediction best."""
    track = tracks[number]
    best = -1
    best_iou = np.float32(-1.0)
    for candidate in range(start, stop):
        if box_track[candidate] < 0 and class_ids[candidate] == track.class_id and weak[candidate] == among_weak:
            iou = _iou_with_prediction(track, boxes[candidate])
            if iou > best_iou:
                best, best_iou = candidate, iou
    if best >= 0 and best_iou >= iou_threshold:
        box_track[best] = number
        weight = weights[min(track.age, len(weights) - 1)]
        _match(track, boxes[best], is_ground_truth[best], weight, misses)


@compiled
def _remove_done(tracks: np.ndarray, alive: npt.NDArray[np.int64], alive_count: int, ended: int) -> tuple[int, int]:
    """Take the tracks that are done out of ``alive``; of several, the youngest ended first."""
    for index in range(alive_count - 1, -1, -1):
        if tracks[alive[index]].done:
            tracks[alive[index]].end_order = ended
            ended += 1
    survivors = 0
    for index in range(alive_count):
        if not tracks[alive[index]].done:
            alive[survivors] = alive[index]
            survivors += 1
    return survivors, ended


@compiled
def _walk(
    boxes: npt.NDArray[np.float32],
    class_ids: npt.NDArray[np.int64],
    is_ground_truth: npt.NDArray[np.bool_],
    weak: npt.NDArray[np.bool_],
    frames: npt.NDArray[np.int64],
    last_column: np.float32,
    last_row: np.float32,
    iou_threshold: np.float32,
    weights: npt.NDArray[np.float64],
    box_track: npt.NDArray[np.int64],
    tracks: np.ndarray,
    misses: np.ndarray,
) -> tuple[int, int]:
    """Walk through the frames in order and fill ``box_track``, ``tracks`` and ``misses``.

    ``boxes`` [n, 4] are centres and sizes, sorted by ``frames``. ``tracks`` and ``misses`` must be long enough;
    returned is how many of either there are. ``box_track`` is -1 for ``weak`` boxes that continue no track.
    """
    count = len(boxes)
    alive = np.empty(count, np.int64)
    order = np.empty(count, np.int64)
    alive_count = track_count = miss_count = ended = 0
    position = 0
    frame = frames[0] if count else 0
    while position < count or alive_count > 0:
        if alive_count == 0:
            frame = frames[position]
        elif position == count and frame > frames[count - 1]:
            break
        start = position
        any_ground_truth = any_weak = False
        while position < count and frames[position] == frame:
            any_ground_truth = any_ground_truth or is_ground_truth[position]
            any_weak = any_weak or weak[position]
            box_track[position] = -1
            position += 1

        for index in range(alive_count):
            track = tracks[alive[index]]
            track.done = track.w * track.h <= _ZERO
        alive_count, ended = _remove_done(tracks, alive, alive_count, ended)
        for index in range(alive_count):
            _predict(tracks[alive[index]], last_column, last_row)

        # Falling confidence, the older track first among equals: insertion sort is stable, and nearly sorted is fast.
        for index in range(alive_count):
            confidence = tracks[alive[index]].confidence
            place = index
            while place > 0 and tracks[order[place - 1]].confidence < confidence:
                order[place] = order[place - 1]
                place -= 1
            order[place] = alive[index]
        for among_weak in (False, True):
            if among_weak and not any_weak:
                continue
            for index in range(alive_count):
                if not tracks[order[index]].matched:
                    _take_best(
                        tracks,
                        order[index],
                        boxes,
                        class_ids,
                        is_ground_truth,
                        weak,
                        among_weak,
                        start,
                        position,
                        iou_threshold,
                        weights,
                        box_track,
                        misses,
                    )

        for index in range(alive_count):
            track = tracks[alive[index]]
            if not track.matched:
                track.confidence *= CONFIDENCE_DECAY
                # Frames with ground truth are complete: nothing may be inpainted there.
                if not any_ground_truth:
                    miss = misses[miss_count]
                    miss.frame, miss.track = frame, alive[index]
                    miss.x, miss.y = track.predicted_x, track.predicted_y
                    miss.w, miss.h = track.predicted_w, track.predicted_h
                    miss.confirmed = False
                    miss.previous = track.newest_miss
                    track.newest_miss = miss_count
                    miss_count += 1

        for candidate in range(start, position):
            if box_track[candidate] < 0 and not weak[candidate]:
                track = tracks[track_count]
                track.x, track.y = boxes[candidate, 0], boxes[candidate, 1]
                track.w, track.h = boxes[candidate, 2], boxes[candidate, 3]
                track.class_id = class_ids[candidate]
                track.velocity_x = track.velocity_y = _ZERO
                track.confidence = BIRTH_CONFIDENCE
                track.age = 0
                track.hits = 1
                track.done = False
                track.is_ground_truth = is_ground_truth[candidate]
                track.newest_miss = -1
                box_track[candidate] = track_count
                alive[alive_count] = track_count
                alive_count += 1
                track_count += 1

        for index in range(alive_count):
            track = tracks[alive[index]]
            track.done = track.confidence < MIN_CONFIDENCE
        alive_count, ended = _remove_done(tracks, alive, alive_count, ended)
        frame += 1

    for index in range(alive_count - 1, -1, -1):
        tracks[alive[index]].end_order = ended
        ended += 1
    return track_count, miss_count


def _history_weights() -> npt.NDArray[np.float64]:
    """Weight of a track's confidence against a new detection, by age: the sum of decay^1 … decay^age."""
    decay = CONFIDENCE_DECAY
    return np.array([decay * (1.0 - decay**age) / (1.0 - decay) for age in range(_WEIGHT_TABLE_SIZE)])


_HISTORY_WEIGHTS = _history_weights()


def _track(
    boxes: npt.NDArray[np.float32],
    class_ids: npt.NDArray[np.int64],
    is_ground_truth: npt.NDArray[np.bool_],
    weak: npt.NDArray[np.bool_],
    frames: npt.NDArray[np.int64],
    frame_size: tuple[int, int],
    iou_threshold: float,
) -> tuple[TrackPass, np.ndarray, np.ndarray]:
    """One walk through a sequence: verdicts per box, the tracks, and the predictions of the gaps."""
    count = len(boxes)
    box_track = np.empty(count, np.int64)
    tracks = np.zeros(count, _TRACK_DTYPE)
    # Every run of misses follows a detection of its track.
    misses = np.zeros(count * _MAX_CONSECUTIVE_MISSES, _MISS_DTYPE)
    height, width = frame_size
    track_count, miss_count = _walk(
        boxes,
        class_ids,
        is_ground_truth,
        weak,
        frames,
        np.float32(width - 1),
        np.float32(height - 1),
        np.float32(iou_threshold),
        _HISTORY_WEIGHTS,
        box_track,
        tracks,
        misses,
    )
    tracks, misses = tracks[:track_count], misses[:miss_count]
    verdicts = TrackPass(
        track_id=box_track,
        hits=np.zeros(count, np.int64),
        done=np.ones(count, bool),
        is_ground_truth=np.zeros(count, bool),
    )
    on_track = box_track >= 0
    for name in ("hits", "done", "is_ground_truth"):
        getattr(verdicts, name)[on_track] = tracks[name][box_track[on_track]]
    return verdicts, tracks, misses


def _inpainted(
    tracks: np.ndarray, misses: np.ndarray, min_track_length: int
) -> tuple[FrameBoxes, npt.NDArray[np.int64]]:
    """Boxes and classes of the gaps of all tracks that are not short."""
    short = tracks["done"] & ~tracks["is_ground_truth"] & (tracks["hits"] < min_track_length)
    misses = misses[misses["confirmed"] & ~short[misses["track"]]]
    misses = misses[np.lexsort((tracks["end_order"][misses["track"]], misses["frame"]))]
    boxes = np.zeros(len(misses), LABEL_DTYPE)
    boxes["x"] = misses["x"] - misses["w"] * _HALF
    boxes["y"] = misses["y"] - misses["h"] * _HALF
    boxes["w"] = misses["w"]
    boxes["h"] = misses["h"]
    boxes["class_id"] = IGNORED_CLASS_ID
    return FrameBoxes(boxes, misses["frame"].copy()), tracks["class_id"][misses["track"]]


def _long(tracks: TrackPass, settings: TrackFilterConfig) -> npt.NDArray[np.int64]:
    """The long track of each box, int64 [n]; -1 where it is on none."""
    return np.where(tracks.short(settings.min_track_length), -1, tracks.track_id)


def weak_boxes(
    boxes: np.ndarray, keep_thresholds: Mapping[str, float] | None, classes: SequenceOf[str]
) -> npt.NDArray[np.bool_]:
    """Tell which pseudo-labels are weak: the lesser of their scores does not exceed the threshold of their class.

    Args:
        boxes: `LABEL_DTYPE` [n]; ground truth is never weak.
        keep_thresholds: Class name → threshold, 0..1; a class that it lacks has no weak boxes. None: no class has.
        classes: Class names in label-id order.

    Returns:
        bool [n].
    """
    limits = [(keep_thresholds or {}).get(name, -np.inf) for name in classes]
    limit = np.array([*limits, -np.inf], np.float32)[np.minimum(boxes["class_id"].astype(np.int64), len(classes))]
    return (boxes["t"] == 0) & (lesser_scores(boxes) <= limit)


def filter_tracks(
    found: FrameBoxes,
    frame_size: tuple[int, int],
    settings: TrackFilterConfig,
    weak: npt.NDArray[np.bool_] | None = None,
) -> TrackFilterResult:
    """Find the boxes of short tracks and the gaps of long ones in one sequence (LEOD paper, Sec. 3.3).

    Args:
        found: Top-left corners and sizes in pixels; t > 0 marks ground truth, which is never ignored.
        frame_size: (height, width) in the pixels of the boxes.
        settings: Length, direction, inpainting, IoU, what becomes of weak boxes, smoothing; with `enabled` = False
            there are no tracks, and every box but the weak ones is kept.
        weak: bool [n], see `weak_boxes`; None: there are none. They start no track. Those outside of long tracks become
            ignored, those on long tracks as settings.weak_boxes says.

    Returns:
        The boxes to ignore and the boxes to add.

    Raises:
        ValueError: Lengths differ, or the frames are negative or not sorted.
    """
    boxes, frame_indices = found.boxes, np.ascontiguousarray(found.frame_indices, dtype=np.int64)
    if len(boxes) != len(frame_indices):
        raise ValueError(f"{len(boxes)} boxes but {len(frame_indices)} frame indices")
    if len(frame_indices) and (frame_indices[0] < 0 or (np.diff(frame_indices) < 0).any()):
        raise ValueError("frame indices must be at least 0 and sorted")
    nothing = FrameBoxes.joined([]), np.zeros(0, np.int64)
    weak = np.zeros(len(boxes), bool) if weak is None else np.ascontiguousarray(weak)
    if not settings.enabled or len(boxes) == 0:
        return TrackFilterResult(weak.copy(), *nothing)

    centres = np.empty((len(boxes), 4), np.float32)
    centres[:, 0] = boxes["x"] + _HALF * boxes["w"]
    centres[:, 1] = boxes["y"] + _HALF * boxes["h"]
    centres[:, 2] = boxes["w"]
    centres[:, 3] = boxes["h"]
    class_ids = boxes["class_id"].astype(np.int64)
    is_ground_truth = boxes["t"] > 0

    forward, tracks, misses = _track(
        centres, class_ids, is_ground_truth, weak, frame_indices, frame_size, settings.iou_threshold
    )
    ignored = forward.short(settings.min_track_length)
    only_backward = np.zeros(len(boxes), bool)
    backward = None
    if settings.direction == "forward_or_backward":
        reversed_pass, _, _ = _track(
            np.ascontiguousarray(centres[::-1]),
            np.ascontiguousarray(class_ids[::-1]),
            np.ascontiguousarray(is_ground_truth[::-1]),
            np.ascontiguousarray(weak[::-1]),
            np.ascontiguousarray(frame_indices[-1] - frame_indices[::-1]),
            frame_size,
            settings.iou_threshold,
        )
        backward = TrackPass(
            track_id=reversed_pass.track_id[::-1],
            hits=reversed_pass.hits[::-1],
            done=reversed_pass.done[::-1],
            is_ground_truth=reversed_pass.is_ground_truth[::-1],
        )
        short = backward.short(settings.min_track_length)
        only_backward = ignored & ~short
        ignored &= short
    positions = None
    if settings.smooth_frames:
        positions = smoothed(boxes, frame_indices, _long(forward, settings), settings.smooth_frames, frame_size)
        if backward is not None and only_backward.any():
            others = smoothed(boxes, frame_indices, _long(backward, settings), settings.smooth_frames, frame_size)
            positions[only_backward] = others[only_backward]
    if settings.weak_boxes == "ignore":
        ignored = ignored | weak
    inpainted = _inpainted(tracks, misses, settings.min_track_length) if settings.inpaint else nothing
    return TrackFilterResult(ignored, *inpainted, positions=positions, forward=forward, backward=backward)
