"""The choice among candidates: worth, unlike each other, reproducible."""

from __future__ import annotations

import numpy as np
import pytest

from leod.labelling.activity import GRID
from leod.labelling.choosing import (
    ACTIVITY_SIGNS,
    DETECTOR_SIGNS,
    Candidates,
    best_of_each_stretch,
    choose,
    random_choice,
    reasons,
    worth,
)

CELLS = GRID[0] * GRID[1]
SECOND = 1_000_000


def spot(cell: int, strength: float = 1.0) -> np.ndarray:
    """A look in which one cell moves."""
    look = np.zeros(CELLS, np.float32)
    look[cell] = strength
    return look


def candidates(recording, t_us, descriptor=None, amounts=None, signs=ACTIVITY_SIGNS) -> Candidates:
    count = len(t_us)
    return Candidates(
        recording=np.asarray(recording, np.int64),
        index=np.arange(count, dtype=np.int64),
        t_us=np.asarray(t_us, np.int64),
        descriptor=np.zeros((count, CELLS), np.float32) if descriptor is None else np.asarray(descriptor, np.float32),
        amounts=np.ones((count, len(signs)), np.float32) if amounts is None else np.asarray(amounts, np.float32),
        signs=signs,
        settled=np.ones(count, np.float32),
        eligible=np.ones(count, bool),
    )


def crowd(seed: int = 0, count: int = 400) -> Candidates:
    rng = np.random.default_rng(seed)
    return candidates(
        np.sort(rng.integers(0, 5, count)),
        rng.permutation(count) * SECOND // 2,
        rng.random((count, CELLS)) ** 4,
        rng.random((count, 1)),
    )


def chosen(pool: Candidates, count: int, seed: int = 0, apart_us: int = SECOND, taken=None):
    return choose(pool.recording, pool.t_us, pool.descriptor, worth(pool), count, seed, apart_us, taken)


def test_a_shorter_choice_is_the_beginning_of_a_longer_one() -> None:
    pool = crowd()
    long, short = chosen(pool, 60), chosen(pool, 7)
    assert len(long.rows) == 60
    np.testing.assert_array_equal(long.rows[:7], short.rows)
    np.testing.assert_array_equal(long.scores[:7], short.scores)
    assert (np.diff(long.scores) <= 0).all()


def test_the_seed_alone_decides() -> None:
    pool = crowd()
    np.testing.assert_array_equal(chosen(pool, 30, seed=3).rows, chosen(pool, 30, seed=3).rows)
    assert set(chosen(pool, 30, seed=3).rows) != set(chosen(pool, 30, seed=4).rows)


def test_moments_of_a_recording_keep_their_distance_in_time() -> None:
    pool = crowd()
    rows = chosen(pool, 100, apart_us=5 * SECOND).rows
    for recording in range(5):
        times = np.sort(pool.t_us[rows[pool.recording[rows] == recording]])
        assert len(times) > 1
        assert (np.diff(times) >= 5 * SECOND).all()


def test_what_looks_new_comes_before_more_of_the_same() -> None:
    # Ninety moments of one look, each worth more than the ten of other looks.
    looks = [spot(0)] * 90 + [spot(cell) for cell in range(1, 11)]
    pool = candidates(np.zeros(100), np.arange(100) * 100 * SECOND, looks, [[1.2]] * 90 + [[1.0]] * 10)
    assert set(range(90, 100)) <= set(chosen(pool, 11).rows)


def test_recordings_take_turns_where_all_look_alike() -> None:
    pool = candidates(np.repeat(np.arange(4), 50), np.tile(np.arange(50), 4) * SECOND, [spot(0)] * 200)
    assert sorted(pool.recording[chosen(pool, 4).rows]) == [0, 1, 2, 3]


def test_one_scene_gives_one_moment() -> None:
    pool = candidates(np.zeros(20), np.arange(20) * 10_000, [spot(0)] * 20)
    assert len(chosen(pool, 10, apart_us=0).rows) == 1


def test_worth_decides_between_equals() -> None:
    looks = np.eye(CELLS, dtype=np.float32)[:20]
    pool = candidates(
        np.zeros(20), np.arange(20) * 1000 * SECOND, looks, np.where(np.arange(20) % 2, 10.0, 0.1)[:, None]
    )
    assert (chosen(pool, 10).rows % 2 == 1).all()


def test_labelled_moments_count_as_chosen() -> None:
    looks = [spot(0), spot(0), spot(1)]
    pool = candidates([0, 0, 0], [0, 100 * SECOND, 200 * SECOND], looks, [[1.0], [1.5], [1.0]])
    assert chosen(pool, 1).rows.tolist() == [1]
    after = chosen(pool, 3, taken=np.array([0]))
    assert after.rows.tolist() == [2, 1]


def test_without_worth_nothing_is_chosen() -> None:
    pool = candidates([0, 0], [0, SECOND])
    pool.eligible[:] = False
    assert len(chosen(pool, 5).rows) == 0
    assert len(chosen(candidates([], []), 5).rows) == 0


def test_a_stretch_keeps_its_best_window() -> None:
    times = np.arange(40) * 50_000
    amounts = np.ones((40, 1))
    amounts[[3, 17, 29]] = 5
    pool = candidates(np.repeat([0, 1], 20), np.tile(times[:20], 2), amounts=amounts)
    pool.eligible[29] = False
    kept = best_of_each_stretch(pool, 500_000)
    # Two stretches in each recording; the last one's best is not eligible, so any other stands for it.
    assert kept.index.tolist()[:2] == [3, 17]
    assert len(kept) == 4
    assert 29 not in kept.index


def test_worth_does_not_depend_on_the_unit_of_a_sign() -> None:
    rng = np.random.default_rng(0)
    amounts = rng.random((50, 4))
    pool = candidates(np.zeros(50), np.arange(50), amounts=amounts, signs=DETECTOR_SIGNS)
    scaled = candidates(np.zeros(50), np.arange(50), amounts=amounts * [1, 1000, 0.01, 5], signs=DETECTOR_SIGNS)
    np.testing.assert_allclose(worth(pool), worth(scaled), rtol=1e-5)
    assert ((worth(pool) > 0) & (worth(pool) < 1)).all()


def test_moments_without_memory_are_worth_less() -> None:
    pool = candidates([0, 0], [0, 1])
    pool.settled[0] = 0.5
    value = worth(pool)
    assert value[0] == pytest.approx(value[1] / 2)


def test_reasons_name_the_strongest_signs_and_the_place() -> None:
    amounts = np.ones((4, 4))
    amounts[0, 2], amounts[0, 1], amounts[1] = 50, 9, 0.01
    pool = candidates([0, 0, 1, 1], range(4), amounts=amounts, signs=DETECTOR_SIGNS)
    told = reasons(pool, np.array([0, 1, 2]))
    assert told[0] == "tracks break, views disagree, new recording"
    assert told[1] == "something moves"
    assert told[2].endswith("new recording")
    left = candidates([0, 0], [0, 1], [spot(GRID[1]), spot(0) + spot(GRID[1] - 1)], [[9.0], [1.0]])
    assert reasons(left, np.array([0, 1])) == ["much moves on the left, new recording", "something moves"]


def test_random_choice_is_even_and_nested() -> None:
    np.testing.assert_array_equal(random_choice(100, 30, 5)[:10], random_choice(100, 10, 5))
    assert len(set(random_choice(100, 100, 0))) == 100
    assert len(random_choice(3, 10, 0)) == 3
    counts = sum(np.bincount(random_choice(20, 5, seed), minlength=20) for seed in range(400))
    assert counts.min() > 60  # 100 on average
    assert counts.max() < 140
