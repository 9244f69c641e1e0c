"""Which pseudo-labels are doubted, and which frames are chosen for a person."""

from __future__ import annotations

import numpy as np
import pytest

from leod.boxes.dtypes import LABEL_DTYPE
from leod.config.schema import SensorSize, SequenceConfig, TrackFilterConfig
from leod.config.settings import TrackFilterSettings
from leod.labelling.doubtful import Doubt, SequenceDoubts, choose_frames, doubts_of, proposals_at
from leod.sequences.frame_boxes import FrameBoxes
from leod.stages.track_filter import track_sequence

CLASSES = ("car", "pedestrian")
FRAMES = 60


def settings(**changes):
    return TrackFilterSettings(
        sequence=SequenceConfig(sensor=SensorSize(height=100, width=200), classes=CLASSES),
        track_filter=TrackFilterConfig(**changes),
        use_ground_truth=True,
    )


def boxes(*rows):
    """Rows (frame, x, class id, objectness, class confidence[, t])."""
    table = np.zeros(len(rows), LABEL_DTYPE)
    for row, (_, x, class_id, objectness, confidence, *t) in zip(table, rows, strict=True):
        row["x"], row["y"], row["w"], row["h"] = x, 10, 20, 20
        row["class_id"], row["objectness"], row["class_confidence"] = class_id, objectness, confidence
        row["t"] = t[0] if t else 0
    frames = np.array([row[0] for row in rows], np.int64)
    order = np.argsort(frames, kind="stable")
    return FrameBoxes(table[order], frames[order])


def doubt(pseudo, kept=None, views_agree=True, **changes):
    kept = FrameBoxes.joined([]) if kept is None else kept
    chosen = settings(**changes)
    _, result = track_sequence(kept, pseudo, chosen)
    return doubts_of("a", FRAMES, kept, pseudo, result, chosen, views_agree, np.zeros(FRAMES, bool))


def track(frames, x=0, class_id=0, objectness=0.95, confidence=0.95):
    return [(frame, x, class_id, objectness, confidence) for frame in frames]


def kinds_at(doubts, frame):
    return [Doubt(kind) for kind in doubts.kinds[doubts.frames == frame]]


def test_a_sure_box_on_a_long_track_is_not_doubted():
    assert len(doubt(boxes(*track(range(20)))).frames) == 0


def test_a_high_score_without_a_track_is():
    found = doubt(boxes(*track(range(20)), (7, 100, 1, 0.9, 0.8)))
    assert found.frames.tolist() == [7]
    assert kinds_at(found, 7) == [Doubt.HIGH_WITHOUT_TRACK]
    assert found.values[0] == pytest.approx(0.8)


def test_a_track_of_few_frames_is_doubted_the_more_the_shorter_it_is():
    short, longer = (doubt(boxes(*track(range(length)))) for length in (6, 8))
    assert set(short.kinds.tolist()) == {Doubt.SHORT_TRACK}
    assert short.values.max() > longer.values.max() > 0.25


def test_ground_truth_on_a_short_track_settles_it():
    kept = boxes((3, 0, 0, 1.0, 1.0, 200_000))
    assert len(doubt(boxes(*track([0, 1, 2, 4, 5])), kept).frames) == 0


@pytest.mark.parametrize(
    ("views_agree", "kind"), [(True, Doubt.VIEWS_DISAGREE), (False, Doubt.LOW_SCORE)], ids=["fused", "suppressed"]
)
def test_a_low_objectness_tells_of_the_views_only_where_they_were_fused(views_agree, kind):
    rows = track(range(20))
    rows[9] = (9, 0, 0, 0.4, 0.95)
    found = doubt(boxes(*rows), views_agree=views_agree)
    assert (found.frames.tolist(), kinds_at(found, 9)) == ([9], [kind])
    assert found.values[0] == pytest.approx(0.6)


def test_low_scores_of_both_kinds_are_no_disagreement():
    rows = track(range(20))
    rows[9] = (9, 0, 0, 0.5, 0.5)
    assert kinds_at(doubt(boxes(*rows)), 9) == [Doubt.LOW_SCORE]


def test_an_interrupted_track_is_doubted_where_nothing_was_seen():
    found = doubt(boxes(*track([*range(12), *range(14, 26)], class_id=1)))
    assert found.frames.tolist() == [12, 13]
    assert kinds_at(found, 12) == [Doubt.GAP]
    assert found.class_ids.tolist() == [1, 1]


def test_faint_boxes_count_only_on_tracks():
    rows = track(range(20))
    rows[9] = (9, 0, 0, 0.3, 0.95)
    found = doubt(boxes(*rows, (15, 100, 1, 0.3, 0.9)), keep_thresholds={"car": 0.5, "pedestrian": 0.5})
    assert (found.frames.tolist(), kinds_at(found, 9)) == ([9], [Doubt.WEAK_ON_TRACK])


def test_a_person_begins_with_what_could_be_an_object():
    rows = [*track([*range(12), *range(14, 26)]), (12, 100, 1, 0.9, 0.8), (12, 150, 1, 0.3, 0.9)]
    found = doubt(boxes(*rows), keep_thresholds={"car": 0.5, "pedestrian": 0.5})
    proposed = proposals_at(found, 12, 650_000)
    # The box without a track and the one that fills the gap, with their classes; not the faint one elsewhere.
    assert sorted(proposed["x"].tolist()) == [0, 100]
    assert proposed["class_id"][proposed["x"] == 100].tolist() == [1]
    assert proposed["class_id"][proposed["x"] == 0].tolist() == [0]
    assert set(proposed["t"].tolist()) == {650_000}


def test_a_gap_in_which_something_else_was_seen_is_no_gap():
    found = doubt(boxes(*track([*range(12), *range(14, 26)]), *track(range(26), x=2, class_id=1)))
    assert len(found.frames) == 0
    assert proposals_at(found, 12, 1)["class_id"].tolist() == [1]


def test_what_is_all_too_faint_is_not_proposed():
    rows = track(range(20))
    rows[9] = (9, 0, 0, 0.1, 0.95)
    found = doubt(boxes(*rows), keep_thresholds={"car": 0.5, "pedestrian": 0.5})
    assert len(found.frames) == len(proposals_at(found, 9, 1)) == 0


def test_smoothed_boxes_are_proposed_where_training_sees_them():
    rows = track(range(20))
    rows[9] = (9, 5, 0, 0.3, 0.95)
    pseudo = boxes(*rows)
    chosen = settings(smooth_frames=2)
    judged, result = track_sequence(FrameBoxes.joined([]), pseudo, chosen)
    found = doubts_of("a", FRAMES, FrameBoxes.joined([]), pseudo, result, chosen, True, np.zeros(FRAMES, bool))
    there = judged.boxes[judged.frame_indices == 9]
    assert proposals_at(found, 9, 1)["x"].tolist() == there["x"].tolist()
    assert there["x"][0] != 5


# ------------------------------------------------------------------------------------------------------ choice


def made_up(name="a", seen=(), taboo=(), **doubts):
    """Doubts of one sequence: frame_3=[(value, track), …]."""
    rows = [(int(key[6:]), value, track) for key, entries in doubts.items() for value, track in entries]
    rows.sort(key=lambda row: row[0])
    count = len(rows)
    forbidden = np.zeros(FRAMES, bool)
    forbidden[list(taboo)] = True
    return SequenceDoubts(
        name=name,
        num_frames=FRAMES,
        frames=np.array([row[0] for row in rows], np.int64),
        values=np.array([row[1] for row in rows], float),
        kinds=np.full(count, Doubt.LOW_SCORE, np.int64),
        tracks=np.array([row[2] for row in rows], np.int64),
        class_ids=np.zeros(count, np.int64),
        scores=np.full(count, 0.4, np.float32),
        proposals=FrameBoxes.joined([]),
        taboo=forbidden,
        seen=np.array(seen, np.int64),
    )


def places(chosen):
    return [(each.sequence, each.frame) for each in chosen]


def test_doubt_that_is_concentrated_comes_first():
    sequences = [made_up(frame_5=[(0.9, 0)], frame_50=[(0.5, 1), (0.5, 2)]), made_up("b", frame_30=[(0.95, 0)])]
    chosen = choose_frames(sequences, 3, 10, CLASSES)
    assert places(chosen) == [(0, 50), (1, 30), (0, 5)]
    assert [each.score for each in chosen] == pytest.approx([1.0, 0.95, 0.9])


def test_neighbours_of_one_moment_are_not_chosen():
    sequences = [made_up(frame_20=[(0.9, 0)], frame_21=[(0.8, 1)], frame_29=[(0.7, 2)], frame_30=[(0.6, 3)])]
    assert places(choose_frames(sequences, 9, 10, CLASSES)) == [(0, 20), (0, 30)]


def test_frames_of_another_recording_are_no_neighbours():
    sequences = [made_up(frame_59=[(0.9, 0)]), made_up("b", frame_0=[(0.8, 0)])]
    assert places(choose_frames(sequences, 9, 10, CLASSES)) == [(0, 59), (1, 0)]


def test_one_doubtful_track_does_not_take_all_the_time():
    same = {f"frame_{frame}": [(0.9, 0)] for frame in (0, 15, 30, 45)}
    sequences = [made_up(**same), made_up("b", frame_30=[(0.5, 0)])]
    chosen = choose_frames(sequences, 3, 10, CLASSES)
    assert places(chosen) == [(0, 0), (1, 30), (0, 15)]
    assert chosen[2].score == pytest.approx(0.45)


def test_nothing_is_chosen_at_or_near_what_a_person_has_seen():
    sequences = [made_up(seen=[10], taboo=[40], frame_10=[(0.9, 0)], frame_14=[(0.9, 1)], frame_40=[(0.9, 2)])]
    assert choose_frames(sequences, 9, 10, CLASSES) == []


def test_reasons_are_words_and_numbers():
    found = doubt(
        boxes(*track([*range(12), *range(14, 26)]), *[(12, 100 + 22 * k, 1, 0.9, 0.6 + 0.1 * k) for k in range(4)])
    )
    (first, *_) = choose_frames([found], 1, 10, CLASSES)
    assert first.frame == 12
    assert first.reason == (
        "high score without a track: pedestrian 0.90, pedestrian 0.80, pedestrian 0.70 and 1 more; "
        "track interrupted: car"
    )


def test_no_sequences_no_frames():
    assert choose_frames([], 5, 10, CLASSES) == []
