"""Which labelled frames the settings keep."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leod.boxes.subsample import random_frames, semi_supervised, weakly_supervised
from leod.errors import ConfigError

EVERY_FIFTH_FRAME = np.arange(2, 1200, 5)  # 240 labelled frames; the fifth (22) is the first with 21 frames of history


@pytest.mark.parametrize(
    ("ratio", "offset", "history", "expected"),
    [
        (0.01, 0, 21, [4, 104, 204]),  # LEOD's split
        (0.01, 2, 21, [6, 106, 206]),  # another split
        (0.01, 0, 1, [0, 100, 200]),  # no history needed
        (0.01, 99, 21, [103, 203]),  # the last split
        (0.3, 0, 21, list(range(4, 240, 3))),  # every third: round(1 / 0.3)
        (1.0, 0, 21, list(range(240))),  # everything, also what has little history
    ],
)
def test_weakly_supervised(ratio, offset, history, expected):
    assert weakly_supervised(EVERY_FIFTH_FRAME, ratio, offset, history).tolist() == expected


@pytest.mark.parametrize(
    ("frames", "offset", "expected"),
    [
        ([25], 0, [0]),  # one labelled frame
        ([25], 7, [0]),  # too short for the offset: the last one
        ([2, 10, 19], 0, [0]),  # none with enough history: not moved
        ([2, 10, 30], 5, [2]),  # too short behind the first with history
        ([], 0, []),  # unlabelled
    ],
)
def test_short_sequences_keep_a_labelled_frame(frames, offset, expected):
    assert weakly_supervised(np.array(frames, np.int64), 0.1, offset, 21).tolist() == expected


@settings(deadline=None)
@given(st.integers(1, 400), st.sampled_from([0.01, 0.02, 0.05, 0.1, 0.25, 0.5]), st.integers(1, 40), st.data())
def test_splits_of_one_ratio_share_no_frame(count, ratio, history, data):
    frames = np.arange(count) * 3
    step = round(1 / ratio)
    first, second = data.draw(st.lists(st.integers(0, step - 1), min_size=2, max_size=2, unique=True))
    kept = [weakly_supervised(frames, ratio, offset, history) for offset in (first, second)]
    assert all(len(indices) for indices in kept)
    assert all((np.diff(indices) == step).all() for indices in kept)
    if count - history >= step:
        assert not set(kept[0].tolist()) & set(kept[1].tolist())


@pytest.mark.parametrize(
    ("count", "ratio", "offset", "expected"),
    [
        (10, 0.2, 0, [0, 5]),  # every fifth of ten
        (10, 0.2, 4, [4, 9]),  # the last split
        (25, 0.1, 0, [0, 12]),  # round half to even: two
        (10, 0.7, 0, [0, 1, 2, 3, 4, 5, 6]),  # more than half: the first ones
        (3, 1.0, 5, [0, 1, 2]),  # all
    ],
)
def test_semi_supervised(count, ratio, offset, expected):
    assert semi_supervised(count, ratio, offset).tolist() == expected


@settings(deadline=None)
@given(st.integers(1, 3000), st.floats(0.001, 1), st.data())
def test_every_offset_keeps_the_same_number_of_sequences(count, ratio, data):
    chosen_count = round(count * ratio)
    if chosen_count == 0:
        with pytest.raises(ConfigError, match="keeps none"):
            semi_supervised(count, ratio, 0)
        return
    chosen = semi_supervised(count, ratio, data.draw(st.integers(0, count // chosen_count - 1)))
    assert len(chosen) == chosen_count
    assert chosen[-1] < count


@pytest.mark.parametrize(
    ("choose", "message"),
    [
        (lambda: weakly_supervised(EVERY_FIFTH_FRAME, 0.7, 0, 21), "at most 0.5"),  # cannot be every n-th
        (lambda: weakly_supervised(EVERY_FIFTH_FRAME, 0.0, 0, 21), "a share in"),  # nothing
        (lambda: weakly_supervised(EVERY_FIFTH_FRAME, 0.1, 10, 21), r"offsets 0\.\.9 give"),  # repeats offset 0
        (lambda: semi_supervised(30, 0.01, 0), "keeps none of 30 sequences.*at least 0.0333"),  # too few sequences
        (lambda: semi_supervised(30, 0.1, 10), r"offsets 0\.\.9 give"),  # repeats offset 0
    ],
)
def test_impossible_choices(choose, message):
    with pytest.raises(ConfigError, match=message):
        choose()


def test_random_frames_have_their_history_and_grow_with_their_number():
    sequences = [np.arange(2, 100, 5), np.array([], np.int64), np.arange(60), np.array([3])]
    few, many = (random_frames(sequences, count, 0, 7, history=21) for count in (10, 40))
    for chosen, count in ((few, 10), (many, 40)):
        assert sum(len(indices) for indices in chosen) == count
        for frames, indices in zip(sequences, chosen, strict=True):
            assert (np.diff(indices) > 0).all()
            assert (frames[indices] >= 20).all()
    assert all(set(one.tolist()) <= set(other.tolist()) for one, other in zip(few, many, strict=True))
    for offset, seed in ((1, 7), (0, 8)):
        other = random_frames(sequences, 10, offset, seed, history=21)
        assert [indices.tolist() for indices in other] != [indices.tolist() for indices in few]


def test_every_frame_is_as_likely_as_any_other():
    sequences = [np.arange(40), np.arange(10)]
    counts = np.zeros(50)
    for seed in range(400):
        first, second = random_frames(sequences, 10, 0, seed, history=1)
        counts[first] += 1
        counts[40 + second] += 1
    # 80 each; the standard deviation is 8.
    assert counts.min() > 80 - 5 * 8
    assert counts.max() < 80 + 5 * 8


def test_more_random_frames_than_there_are():
    with pytest.raises(ConfigError, match="frames: 31 are wanted, but only 30 labelled frames have the 11 frames"):
        random_frames([np.arange(40)], 31, 0, 0, history=11)
