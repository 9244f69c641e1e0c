"""Which pseudo-labels of a round a person should look at first.

Each box gets a doubt, 0..1: roughly how likely it is that a person would change what training makes of it. The lesser
of its scores stands for the belief that the object is there (with weighted box fusion the objectness carries how many
views agree), and a track that is not twice as long as it has to be takes belief away. A box that training takes as an
object is doubted as far as it is not believed; one that is ignored, although it scores as high as those that are not,
as far as it is. The score of a moment is the sum: how many boxes a person is likely to change in one picture.

Moments are chosen one by one, the highest first. None lies near another one or near a labelled frame, and what a person
has seen of a track makes the rest of the track count less.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from leod.boxes.dtypes import RECORDING_BOX_DTYPE
from leod.boxes.operations import ious, is_ground_truth, is_ignored
from leod.config.settings import TrackFilterSettings
from leod.pseudo_labels.thresholds import lesser_scores
from leod.pseudo_labels.tracking import TrackFilterResult, weak_boxes
from leod.sequences.frame_boxes import FrameBoxes

LEAST_DOUBT = 0.25
"""Doubts below are left out: a frame full of faint boxes would outweigh one that matters."""
_GAP_DOUBT = 0.5
_SAME_PLACE_IOU = 0.3
_AGREEING = 0.75
"""Objectness below this share of the class confidence: at least one of four views saw nothing."""
_MOST_NAMED = 3
_NO_TRACK = -1


class Doubt(IntEnum):
    """What is doubtful about a box, in the order in which reasons are told."""

    HIGH_WITHOUT_TRACK = 0
    VIEWS_DISAGREE = 1
    SHORT_TRACK = 2
    LOW_SCORE = 3
    WEAK_ON_TRACK = 4
    GAP = 5


_WORDS = {
    Doubt.HIGH_WITHOUT_TRACK: "high score without a track",
    Doubt.VIEWS_DISAGREE: "views disagree",
    Doubt.SHORT_TRACK: "short track",
    Doubt.LOW_SCORE: "low score",
    Doubt.WEAK_ON_TRACK: "faint on a track",
    Doubt.GAP: "track interrupted",
}


@dataclass(frozen=True)
class SequenceDoubts:
    """The doubtful boxes of one sequence, and what is proposed to the person.

    Attributes:
        name: Name of the sequence.
        num_frames: Frames of the sequence.
        frames: int64 [n], the frame of each doubtful box, not falling.
        values: float64 [n], the doubts, `LEAST_DOUBT`..1.
        kinds: int64 [n], what is doubtful, see `Doubt`.
        tracks: int64 [n], the track of each; -1: none.
        class_ids: int64 [n].
        scores: float32 [n], the lesser of the scores; 0 in gaps.
        proposals: Boxes for the person to begin with: what training takes as an object; what it ignores although it
            scores as high, or lies on a long track and is not all too faint; and what fills the gaps of tracks where
            nothing was seen (scores 0). All have their class.
        taboo: bool [num_frames], frames that are not to be chosen.
        seen: int64 [k], increasing: labelled frames, near which nothing is chosen.
    """

    name: str
    num_frames: int
    frames: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    kinds: npt.NDArray[np.int64]
    tracks: npt.NDArray[np.int64]
    class_ids: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    proposals: FrameBoxes
    taboo: npt.NDArray[np.bool_]
    seen: npt.NDArray[np.int64]


@dataclass(frozen=True)
class ChosenFrame:
    """One frame that a person should look at.

    Attributes:
        sequence: Position of its sequence.
        frame: Frame of the sequence.
        reason: Why, in words.
        score: How many boxes a person is likely to change; what was chosen before makes it less.
    """

    sequence: int
    frame: int
    reason: str
    score: float


def doubts_of(
    name: str,
    num_frames: int,
    kept: FrameBoxes,
    pseudo: FrameBoxes,
    result: TrackFilterResult,
    settings: TrackFilterSettings,
    views_agree: bool,
    taboo: npt.NDArray[np.bool_],
) -> SequenceDoubts:
    """Doubt the pseudo-labels of one sequence.

    Args:
        name: Name of the sequence.
        num_frames: Frames of the sequence.
        kept: Kept ground truth, with the frames that are known to be empty.
        pseudo: Merged detections before tracking, with their classes, in pixels of the full sensor.
        result: What tracking made of both.
        settings: With which it was tracked.
        views_agree: Whether the objectness was multiplied by the share of the views that contribute.
        taboo: bool [num_frames], frames that are not to be chosen.
    """
    # In the order in which they were tracked.
    tracked = kept.select(~is_ignored(kept.boxes)).merge(pseudo.select(~is_ignored(pseudo.boxes)))
    rules, classes = settings.track_filter, settings.sequence.classes
    boxes = tracked.boxes
    weak = weak_boxes(boxes, rules.keep_thresholds, classes)
    hits, on_long, tracks = _tracks(result, len(boxes), rules.min_track_length)
    support = np.minimum(hits / (2.0 * rules.min_track_length), 1.0)
    score = lesser_scores(boxes)
    belief = score * support

    taken = ~result.ignored
    without_track = result.ignored & ~weak
    faint = result.ignored & weak & on_long
    values = np.select([taken, without_track, faint], [1.0 - belief, score, score], 0.0)
    disagree = views_agree & (boxes["objectness"] < _AGREEING * boxes["class_confidence"])
    kinds = np.select(
        [without_track, faint, support < score, disagree],
        [Doubt.HIGH_WITHOUT_TRACK, Doubt.WEAK_ON_TRACK, Doubt.SHORT_TRACK, Doubt.VIEWS_DISAGREE],
        Doubt.LOW_SCORE,
    )
    doubtful = ~is_ground_truth(boxes) & (values >= LEAST_DOUBT)
    plain = ~is_ground_truth(boxes) & (~weak | (on_long & (score >= LEAST_DOUBT)))
    proposals = _placed(tracked, result).select(plain)
    seen_there = _overlapped(result.inpainted, proposals)
    gaps = result.inpainted.frame_indices[~seen_there]
    gap_classes = result.inpainted_class_ids[~seen_there]
    columns = [
        (tracked.frame_indices[doubtful], gaps),
        (values[doubtful], np.full(len(gaps), _GAP_DOUBT)),
        (kinds[doubtful], np.full(len(gaps), Doubt.GAP)),
        (tracks[doubtful], np.full(len(gaps), _NO_TRACK)),
        (boxes["class_id"][doubtful].astype(np.int64), gap_classes),
        (score[doubtful], np.zeros(len(gaps), np.float32)),
    ]
    joined = [np.concatenate(parts) for parts in columns]
    order = np.argsort(joined[0], kind="stable")
    return SequenceDoubts(
        name,
        num_frames,
        *(column[order] for column in joined),
        proposals=proposals.merge(_gap_boxes(result, ~seen_there)),
        taboo=taboo,
        seen=kept.labelled_frames,
    )


def _tracks(
    result: TrackFilterResult, count: int, min_track_length: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Of each box: the frames that its track spans, whether that is long enough, and its track forwards."""
    if result.forward is None:
        # Nothing is known of tracks: none is doubted, and none speaks for a weak box.
        return np.full(count, 2 * min_track_length), np.zeros(count, bool), np.full(count, _NO_TRACK)
    passes = [each for each in (result.forward, result.backward) if each is not None]
    hits = np.max([each.hits for each in passes], axis=0)
    # Whoever drew a box on it has seen what it is.
    hits[np.any([each.is_ground_truth for each in passes], axis=0)] = 2 * min_track_length
    on_long = ~np.all([each.short(min_track_length) for each in passes], axis=0)
    return hits, on_long, result.forward.track_id


def _placed(tracked: FrameBoxes, result: TrackFilterResult) -> FrameBoxes:
    """The boxes with their classes, where training sees them."""
    boxes = tracked.boxes.copy()
    if result.positions is not None:
        for column, name in enumerate(("x", "y", "w", "h")):
            boxes[name] = result.positions[:, column]
    return FrameBoxes(boxes, tracked.frame_indices)


def _overlapped(inpainted: FrameBoxes, proposals: FrameBoxes) -> npt.NDArray[np.bool_]:
    """Whether something was seen in the place of each inpainted box, bool [n]."""
    found = np.zeros(len(inpainted), bool)
    for frame in np.unique(inpainted.frame_indices).tolist():
        first, stop = np.searchsorted(proposals.frame_indices, (frame, frame + 1))
        rows = np.flatnonzero(inpainted.frame_indices == frame)
        shared = ious(inpainted.boxes[rows], proposals.boxes[first:stop])
        found[rows] = (shared > _SAME_PLACE_IOU).any(axis=1)
    return found


def _gap_boxes(result: TrackFilterResult, shown: npt.NDArray[np.bool_]) -> FrameBoxes:
    """Inpainted boxes with the classes of their tracks."""
    boxes = result.inpainted.boxes[shown].copy()
    boxes["class_id"] = result.inpainted_class_ids[shown]
    return FrameBoxes(boxes, result.inpainted.frame_indices[shown])


def choose_frames(
    sequences: SequenceOf[SequenceDoubts], count: int, apart: int, classes: SequenceOf[str]
) -> list[ChosenFrame]:
    """Choose the frames with most doubt, without neighbours that show the same.

    Args:
        sequences: The doubts of all sequences.
        count: How many frames, at most.
        apart: Least distance of two chosen frames, and of a chosen frame and a labelled one, in frames.
        classes: Class names in label-id order.

    Returns:
        The frames in the order in which they were chosen; fewer than ``count`` where doubt or room is exhausted.
    """
    starts = np.cumsum([0, *(each.num_frames for each in sequences)])
    free = np.concatenate([np.zeros(0, bool), *(_free(each, apart) for each in sequences)])
    frames, values, tracks = _joined(sequences, starts)
    worth = np.zeros(len(free))
    np.add.at(worth, frames, values)
    times_seen = np.zeros(int(tracks.max(initial=_NO_TRACK)) + 1, np.int64)
    chosen: list[ChosenFrame] = []
    while len(chosen) < count and len(worth):
        place = int(np.argmax(np.where(free, worth, -1.0)))
        if not free[place] or worth[place] <= 0.0:
            break
        position = int(np.searchsorted(starts, place, side="right")) - 1
        frame = place - int(starts[position])
        chosen.append(ChosenFrame(position, frame, _reason(sequences[position], frame, classes), float(worth[place])))
        free[max(place - apart + 1, int(starts[position])) : min(place + apart, int(starts[position + 1]))] = False
        first, stop = np.searchsorted(frames, (place, place + 1))
        for track in np.unique(tracks[first:stop]):
            if track == _NO_TRACK:
                continue
            rows = np.flatnonzero(tracks == track)
            times_seen[track] += 1
            share_now, share_before = 1.0 / (1 + times_seen[track]), 1.0 / times_seen[track]
            np.add.at(worth, frames[rows], values[rows] * (share_now - share_before))
    return chosen


def _free(sequence: SequenceDoubts, apart: int) -> npt.NDArray[np.bool_]:
    """Frames that may be chosen, bool [num_frames]."""
    free = ~sequence.taboo
    for frame in sequence.seen.tolist():
        free[max(frame - apart + 1, 0) : frame + apart] = False
    return free


def _joined(
    sequences: SequenceOf[SequenceDoubts], starts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Frames, doubts and tracks of all sequences, counted through."""
    frames, values, tracks = [np.zeros(0, np.int64)], [np.zeros(0)], [np.zeros(0, np.int64)]
    next_track = 0
    for each, start in zip(sequences, starts, strict=False):
        frames.append(each.frames + start)
        values.append(each.values)
        tracks.append(np.where(each.tracks == _NO_TRACK, _NO_TRACK, each.tracks + next_track))
        next_track += int(each.tracks.max(initial=_NO_TRACK)) + 1
    return np.concatenate(frames), np.concatenate(values), np.concatenate(tracks)


def _reason(sequence: SequenceDoubts, frame: int, classes: SequenceOf[str]) -> str:
    """The doubts of a frame in words, the most telling boxes of each kind first."""
    first, stop = np.searchsorted(sequence.frames, (frame, frame + 1))
    rows = np.arange(first, stop)
    parts = []
    for kind in Doubt:
        of_kind = rows[sequence.kinds[rows] == kind]
        if not len(of_kind):
            continue
        of_kind = of_kind[np.argsort(-sequence.values[of_kind], kind="stable")]
        named = [
            classes[sequence.class_ids[row]] + ("" if kind is Doubt.GAP else f" {sequence.scores[row]:.2f}")
            for row in of_kind[:_MOST_NAMED]
        ]
        more = len(of_kind) - len(named)
        parts.append(f"{_WORDS[kind]}: {', '.join(named)}" + (f" and {more} more" if more else ""))
    return "; ".join(parts)


def proposals_at(sequence: SequenceDoubts, frame: int, t_us: int) -> np.ndarray:
    """The boxes for the person to begin with in one frame, `RECORDING_BOX_DTYPE` [m] with the given time.

    Their confidence is the lesser of the scores; 0 in gaps.
    """
    found = sequence.proposals.boxes[sequence.proposals.frame_indices == frame]
    rows = np.zeros(len(found), RECORDING_BOX_DTYPE)
    for name in ("x", "y", "w", "h", "class_id"):
        rows[name] = found[name]
    rows["t"], rows["class_confidence"] = t_us, lesser_scores(found)
    return rows
