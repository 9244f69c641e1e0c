"""Augmentation of events: what happens to counts and boxes, and that it follows from seed and step."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from leod.boxes.dtypes import IGNORED_CLASS_ID, LABEL_DTYPE
from leod.config.schema import AugmentationConfig, RepresentationConfig, TrainingConfig, ZoomConfig
from leod.config.settings import TrainSettings
from leod.sampling.event_augmentation import EventAugmentation, augment_events, draw_event_augmentation
from leod.sampling.training_data import TrainingData

SHAPE = (3, 4, 40, 60)
NOTHING_SPATIAL = {
    "mirror": 0,
    "time_reversal": 0,
    "random_zoom": ZoomConfig(probability=0),
    "stream_zoom": ZoomConfig(probability=0),
}
EVERYTHING = {
    "drop_events": {"probability": 0.5, "max_fraction": 0.9},
    "drop_polarity": 0.5,
    "jitter_counts": {"probability": 0.5, "max_factor": 2.0},
    "erase": {"probability": 0.5, "max_fraction": 0.4},
}


def counts(seed=0, mean=2.0):
    return np.random.default_rng(seed).poisson(mean, SHAPE).astype(np.uint8)


def augmented(frames, count_limit=255, labels=None, **changes):
    frames = frames.copy()
    labels = augment_events(EventAugmentation(**changes), frames, labels or {}, count_limit)
    return frames, labels


def draws(count=2000, **config):
    for index in range(count):
        generators = [np.random.default_rng([purpose, index]) for purpose in (1, 2)]
        yield draw_event_augmentation(AugmentationConfig(**config), SHAPE[2:], *generators)


def training(**settings):
    return TrainingConfig(**{"steps": 10, "learning_rate": 1e-4, "sequence_length": 6, "batch_size": 4, **settings})


def data(sequences, config, seed=0, **augmentation):
    return TrainingData(sequences, None, training(augmentation=AugmentationConfig(**augmentation)), config, seed)


# ------------------------------------------------------------------------------------------------------- counts


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_thinning_keeps_its_share_of_events_and_adds_none(share):
    frames = counts()
    thinned, _ = augmented(frames, kept_share=share, noise_seed=7)
    assert (thinned <= frames).all()
    # Binomial: the standard deviation of the kept number is below half the root of all events.
    assert abs(thinned.sum() - share * frames.sum()) < 4 * 0.5 * frames.sum() ** 0.5
    single = frames == 1
    assert thinned[single].mean() == pytest.approx(share, abs=0.03)
    several = frames == 3
    binomial = [(1 - share) ** 3, 3 * share * (1 - share) ** 2, 3 * share**2 * (1 - share), share**3]
    assert [(thinned[several] == n).mean() for n in range(4)] == pytest.approx(binomial, abs=0.03)


def test_thinning_is_drawn_anew_for_each_window_and_follows_from_the_seed():
    frames = np.broadcast_to(counts()[:1], SHAPE).copy()
    thinned, _ = augmented(frames, kept_share=0.5, noise_seed=7)
    assert not np.array_equal(thinned[0], thinned[1])
    np.testing.assert_array_equal(thinned, augmented(frames, kept_share=0.5, noise_seed=7)[0])
    assert not np.array_equal(thinned, augmented(frames, kept_share=0.5, noise_seed=8)[0])


@pytest.mark.parametrize("factor", [0.6, 1.3])
def test_multiplied_counts_have_the_right_mean_and_stay_below_the_limit(factor):
    frames = counts()
    changed, _ = augmented(frames, count_factor=factor, noise_seed=3)
    assert changed.sum() / frames.sum() == pytest.approx(factor, rel=0.01)
    assert (abs(changed - factor * frames) < 1).all()
    limited, _ = augmented(frames, count_limit=4, count_factor=factor, noise_seed=3)
    np.testing.assert_array_equal(limited, np.minimum(changed, 4))
    bright = np.full(SHAPE, 250, np.uint8)
    assert (augmented(bright, count_factor=1.3)[0] == 255).all()


@pytest.mark.parametrize("polarity", [0, 1])
def test_one_polarity_is_dropped(polarity):
    frames = counts() + 1
    changed, _ = augmented(frames, dropped_polarity=polarity)
    gone, kept = (changed[:, :2], changed[:, 2:]) if polarity == 0 else (changed[:, 2:], changed[:, :2])
    assert not gone.any()
    np.testing.assert_array_equal(kept, frames[:, 2:] if polarity == 0 else frames[:, :2])


# ----------------------------------------------------------------------------------------------------- erasing


def test_boxes_in_the_erased_rectangle_become_ignored():
    labels = np.zeros(4, LABEL_DTYPE)
    # Inside; 80 % inside; 60 % inside; outside.
    labels["x"], labels["y"], labels["w"], labels["h"] = [12, 8, 6, 40], [7, 7, 7, 7], 10, 5
    labels["class_id"] = 1
    frames = counts() + 1
    changed, rows = augmented(frames, labels={1: labels, 2: labels[:0]}, erased=(10, 5, 20, 10))
    assert rows[1]["class_id"].tolist() == [IGNORED_CLASS_ID, IGNORED_CLASS_ID, 1, 1]
    assert (labels["class_id"] == 1).all()
    assert len(rows[2]) == 0
    inside = np.zeros(SHAPE[2:], bool)
    inside[5:15, 10:30] = True
    assert not changed[:, :, inside].any()
    np.testing.assert_array_equal(changed[:, :, ~inside], frames[:, :, ~inside])


def test_erased_rectangles_lie_in_the_frame_and_vary():
    height, width = SHAPE[2:]
    rectangles = [draw.erased for draw in draws(erase={"probability": 1.0, "max_fraction": 0.3})]
    x, y, w, h = np.array(rectangles).T
    assert (x >= 0).all()
    assert (y >= 0).all()
    assert (x + w).max() == width
    assert (y + h).max() == height
    assert (w * h).max() <= 0.3 * height * width
    assert (w * h).max() > 0.25 * height * width
    large = w * h > 100
    assert 0.25 < (w / h)[large].min() < 0.4
    assert 2.5 < (w / h)[large].max() < 4


# ------------------------------------------------------------------------------------------------------- draws


def test_probabilities_and_ranges_of_the_draws():
    found = list(draws(**EVERYTHING))
    dropping = [draw.kept_share for draw in found if draw.kept_share < 1]
    factors = [draw.count_factor for draw in found if draw.count_factor != 1]
    polarities = [draw.dropped_polarity for draw in found if draw.dropped_polarity is not None]
    for chosen in (dropping, factors, polarities, [draw for draw in found if draw.erased]):
        assert len(chosen) / len(found) == pytest.approx(0.5, abs=0.05)
    assert 0.1 <= min(dropping) < 0.15
    assert 0.5 <= min(factors) < 0.55
    assert 1.9 < max(factors) <= 2.0
    assert np.mean(polarities) == pytest.approx(0.5, abs=0.06)


def test_kinds_are_drawn_independently_of_each_other():
    alone = [draw.kept_share for draw in draws(drop_events=EVERYTHING["drop_events"])]
    assert alone == [draw.kept_share for draw in draws(**EVERYTHING)]


# ----------------------------------------------------------------------------------------------------- batches


def test_events_change_and_nothing_else_does(sequences, config):
    """Mirror, reversal and zoom are drawn as without; so are the frames that a sample reads."""
    plain = data(sequences, config)
    for config_of_kind in ({"drop_polarity": 1.0}, {"drop_events": {"probability": 1.0}}):
        changed = data(sequences, config, **config_of_kind)
        for step in range(8):
            ours, theirs = changed[step], plain[step]
            for name in ("is_first", "targets", "labelled", "frame_indices", "sequence_ids"):
                assert torch.equal(getattr(ours, name), getattr(theirs, name))
            assert (ours.frames <= theirs.frames).all()
            assert not torch.equal(ours.frames, theirs.frames)


def test_one_rectangle_for_all_windows_of_a_sample_and_of_a_run_through_a_segment(sequences, config):
    erase = {"probability": 1.0, "max_fraction": 0.5}
    plain, erased = data(sequences, config, **NOTHING_SPATIAL), data(sequences, config, **NOTHING_SPATIAL, erase=erase)
    plan = erased.plan
    runs = {}
    for step in range(30):
        for slot in range(4):
            sample = plan.sample(step, slot)
            x, y, w, h = sample.events.erased
            before, after = plain[step].frames[:, slot], erased[step].frames[:, slot]
            outside = torch.ones(before.shape[-2:], dtype=torch.bool)
            outside[y : y + h, x : x + w] = False
            assert torch.equal(after, before * outside)
            if slot < plan.slots.stream:
                runs.setdefault(slot, []).append((sample.is_first, sample.events.erased, sample.events.noise_seed))
    for run in runs.values():
        for (_, last, noise), (first, rectangle, next_noise) in pairwise(run):
            assert first or rectangle == last
            assert noise != next_noise
    assert len({rectangle for run in runs.values() for _, rectangle, _ in run}) > 2


def test_hidden_boxes_are_targets_of_the_ignored_class(sequences, config):
    erased = data(sequences, config, erase={"probability": 1.0, "max_fraction": 1.0})
    plain = data(sequences, config)
    classes = [
        (ours, theirs)
        for step in range(20)
        for ours, theirs in zip(
            erased[step].targets[..., 0].flatten().tolist(), plain[step].targets[..., 0].flatten().tolist(), strict=True
        )
    ]
    changed = [pair for pair in classes if pair[0] != pair[1]]
    assert changed
    assert all(ours == IGNORED_CLASS_ID for ours, _ in changed)


def test_same_seed_same_batches_in_any_order_and_with_several_processes(sequences, config):
    first, again, other = (data(sequences, config, seed, **EVERYTHING) for seed in (0, 0, 1))
    batches = [first[step] for step in range(6)]
    assert all(again[step].equals(batches[step]) for step in reversed(range(6)))
    assert not all(other[step].equals(batches[step]) for step in range(6))
    part = TrainingData(
        sequences, None, training(augmentation=AugmentationConfig(**EVERYTHING)), config, 0, rank=1, world_size=2
    )
    assert all(torch.equal(part[step].frames, batches[step].frames[:, 1::2]) for step in range(6))


@pytest.mark.parametrize("kind", ["drop_events", "drop_polarity", "jitter_counts"])
def test_counts_of_mixed_density_stacks_are_refused(kind, config):
    def build(**augmentation):
        return TrainSettings(
            sequence=config.model_copy(update={"representation": RepresentationConfig(kind="mixed_density")}),
            model={"name": "tiny", "embed_dim": 8, "dim_head": 8},
            training=training(augmentation=AugmentationConfig(**augmentation)),
            evaluation_filter={},
        )

    with pytest.raises(ValueError, match=rf"augmentation\.{kind} works on counts"):
        build(**{kind: EVERYTHING[kind]})
    build(erase=EVERYTHING["erase"])
