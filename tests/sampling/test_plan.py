"""The plan alone: which frames come when. No file is read."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leod.config.schema import AugmentationConfig, TrainingConfig
from leod.errors import ConfigError
from leod.sampling.plan import TrainingPlan
from leod.sampling.random_access import LabelledItems, RandomPlan
from leod.sampling.slots import Slots, divide_batch
from leod.sampling.streaming import StreamPlan, training_segments


def training(**settings):
    return TrainingConfig(**{"steps": 10, "learning_rate": 1e-4, "sequence_length": 6, "batch_size": 4, **settings})


@dataclass
class FakeSequence:
    num_frames: int
    labelled_frames: np.ndarray
    frame_shape: tuple[int, int, int] = (20, 24, 32)


@st.composite
def labelled_sequences(draw):
    """Up to four sequences, each with the mask of its kept labels; at least one label is kept."""
    sequences, kept = [], []
    for _ in range(draw(st.integers(1, 4))):
        num_frames = draw(st.integers(1, 60))
        frames = sorted(draw(st.sets(st.integers(0, num_frames - 1), min_size=1, max_size=12)))
        mask = draw(st.lists(st.booleans(), min_size=len(frames), max_size=len(frames)))
        sequences.append(FakeSequence(num_frames, np.array(frames)))
        kept.append(np.array(mask))
    kept[0][-1] = True
    return sequences, kept


def segments_of(sequences, kept, length, offset):
    return [
        segment
        for position, (sequence, mask) in enumerate(zip(sequences, kept, strict=True))
        for segment in training_segments(position, sequence.num_frames, sequence.labelled_frames, mask, length, offset)
    ]


lengths = st.integers(1, 12)
offsets = st.sampled_from([-1, -2])
probabilities = st.sampled_from([0.0, 0.5, 1.0])


@settings(deadline=None, max_examples=60)
@given(data=labelled_sequences(), length=lengths, offset=offsets, reversal=probabilities, seed=st.integers(0, 99))
def test_stream_runs_through_every_segment_once_per_permutation(data, length, offset, reversal, seed):
    sequences, kept = data
    segments = segments_of(sequences, kept, length, offset)
    plan = StreamPlan(segments, length, reversal, seed)
    visits, index = [], 0
    while len(visits) < 3 * len(segments):
        position = plan.position(1, index)
        assert position.is_first
        segment = segments[position.segment]
        backwards = position.window.time_reversed
        frames = segment.backward if backwards else segment.forward
        read = []
        for number in range(frames.num_windows(length)):
            current = plan.position(1, index)
            assert (current.segment, current.visit) == (position.segment, position.visit)
            assert current.is_first == (number == 0)
            read += [frame for frame in current.window.frame_indices(length) if frame >= 0]
            index += 1
        assert read == list(range(frames.start, frames.stop))[:: -1 if backwards else 1]
        assert 0 <= frames.start < frames.stop <= sequences[segment.sequence].num_frames
        visits.append(position.segment)
    for start in range(0, len(visits), len(segments)):
        assert sorted(visits[start : start + len(segments)]) == list(range(len(segments)))


@settings(deadline=None, max_examples=60)
@given(data=labelled_sequences(), length=lengths, offset=offsets, order=st.permutations(range(40)))
def test_a_step_does_not_depend_on_the_steps_before(data, length, offset, order):
    segments = segments_of(*data, length, offset)
    in_order = [StreamPlan(segments, length, 0.5, 7).position(0, index) for index in range(40)]
    plan = StreamPlan(segments, length, 0.5, 7)
    assert [in_order[index] for index in order] == [plan.position(0, index) for index in order]


@settings(deadline=None, max_examples=60)
@given(data=labelled_sequences(), length=lengths, offset=offsets)
def test_every_window_of_a_fully_labelled_sequence_has_a_label(data, length, offset):
    sequences, kept = data
    everything = [np.ones_like(mask) for mask in kept]
    for segment in segments_of(sequences, everything, length, offset):
        labelled = set(sequences[segment.sequence].labelled_frames.tolist())
        for frames, backwards in ((segment.forward, False), (segment.backward, True)):
            for index in range(frames.num_windows(length) if frames else 0):
                window = frames.window(index, length, backwards)
                assert labelled & set(window.label_frames(length, offset).tolist())


@settings(deadline=None, max_examples=60)
@given(data=labelled_sequences(), length=lengths, offset=offsets, reversal=probabilities, seed=st.integers(0, 99))
def test_random_samples_show_a_kept_label(data, length, offset, reversal, seed):
    items = [
        LabelledItems(sequence.num_frames, sequence.labelled_frames, mask, length, offset)
        for sequence, mask in zip(*data, strict=True)
    ]
    plan = RandomPlan(items, reversal, seed)
    for index in range(2 * len(plan)):
        sample = plan.sample(index)
        sequence, kept = data[0][sample.sequence], data[1][sample.sequence]
        assert sample.window.start >= 0
        assert sample.window.stop - sample.window.start == length
        assert sample.window.stop <= sequence.num_frames
        shown = sample.window.label_frames(length, offset)
        assert set(sequence.labelled_frames[kept].tolist()) & set(shown.tolist())


def test_random_part_shows_every_labelled_frame_once_per_permutation():
    frames = np.array([4, 9, 14, 19, 24])
    items = [LabelledItems(30, frames, np.ones(5, bool), 6, -1), LabelledItems(30, frames, np.ones(5, bool), 6, -1)]
    plan = RandomPlan(items, 0.0, 3)
    last_frames = [(item.sequence, item.window.stop - 1) for item in map(plan.sample, range(3 * len(plan)))]
    # Frame 4 has too little history.
    assert Counter(last_frames) == {(sequence, frame): 3 for sequence in (0, 1) for frame in (9, 14, 19, 24)}
    assert last_frames[:8] != last_frames[8:16]


def test_resampling_prefers_kept_frames():
    kept = np.array([False, False, True, False, False])
    items = LabelledItems(60, np.array([4, 9, 14, 30, 50]), kept, 6, -1)
    plan = RandomPlan([items], 0.0, 0)
    last = {plan.sample(index).window.stop - 1 for index in range(20)}
    assert last == {14}


def test_label_at_the_very_end_is_shown_forwards_only():
    items = LabelledItems(10, np.array([9]), np.array([True]), 6, -1)
    plan = RandomPlan([items], 1.0, 0)
    assert not plan.sample(0).window.time_reversed


def test_streams_of_a_batch_differ():
    segments = training_segments(0, 300, np.arange(5, 300, 20), np.ones(15, bool), 6, -1)
    plan = StreamPlan(segments, 6, 0.0, 0)
    orders = [tuple(plan.position(slot, index).segment for index in range(len(segments))) for slot in range(3)]
    assert len(set(orders)) == 3


@pytest.mark.parametrize(
    ("size", "stream_weight", "random_weight", "expected"),
    [
        (8, 1, 1, (4, 4)),
        (2, 1, 1, (1, 1)),
        (8, 1, 3, (2, 6)),
        (8, 100, 1, (7, 1)),  # at least one random sample
        (8, 1, 100, (1, 7)),  # at least one stream
        (3, 1, 1, (1, 2)),
        (5, 1, 1, (3, 2)),  # half a sample is rounded to even, as published
    ],
)
def test_division_of_a_mixed_batch(size, stream_weight, random_weight, expected):
    slots = divide_batch(training(batch_size=size, stream_weight=stream_weight, random_weight=random_weight))
    assert (slots.stream, slots.random) == expected


def test_division_of_other_batches():
    assert divide_batch(training(sampling="random")) == Slots(stream=0, random=4)
    assert divide_batch(training(sampling="stream")) == Slots(stream=4, random=0)
    with pytest.raises(ConfigError, match="at least 2"):
        divide_batch(training(batch_size=1))


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_processes_share_the_slots(world_size):
    slots = Slots(stream=4, random=4)
    shares = [slots.of_rank(rank, world_size) for rank in range(world_size)]
    assert sorted(slot for share in shares for slot in share) == list(range(8))
    for share in shares:
        assert sum(slot < 4 for slot in share) == 4 // world_size
        assert share == sorted(share)


def test_batch_that_does_not_divide():
    with pytest.raises(ConfigError, match="multiple"):
        Slots(stream=3, random=3).of_rank(0, 4)


def test_one_augmentation_per_run_through_a_segment():
    sequence = FakeSequence(60, np.arange(5, 60, 5))
    kept = [np.ones(11, bool)]
    plan = TrainingPlan([sequence], kept, training(sampling="stream"), -1, seed=1)
    augmentations = [plan.sample(step, 2) for step in range(60)]
    runs = []
    for sample in augmentations:
        if sample.is_first:
            runs.append([])
        runs[-1].append(sample.augmentation)
    assert all(len(set(run)) == 1 for run in runs)
    assert len({run[0] for run in runs}) > 1


def test_probabilities_of_the_augmentation():
    sequence = FakeSequence(60, np.arange(5, 60, 5))
    config = training(sampling="random", augmentation=AugmentationConfig(rotation=0.25))
    plan = TrainingPlan([sequence], [np.ones(11, bool)], config, -1, seed=1)
    samples = [plan.sample(step, slot) for step in range(500) for slot in range(4)]
    share = len(samples)
    assert sum(sample.augmentation.mirror for sample in samples) / share == pytest.approx(0.5, abs=0.05)
    assert sum(sample.augmentation.rotation_deg != 0 for sample in samples) / share == pytest.approx(0.25, abs=0.05)
    zooms = Counter(type(sample.augmentation.zoom).__name__ for sample in samples)
    assert zooms["ZoomIn"] / share == pytest.approx(0.64, abs=0.05)
    assert zooms["ZoomOut"] / share == pytest.approx(0.16, abs=0.05)
    angles = [abs(sample.augmentation.rotation_deg) for sample in samples if sample.augmentation.rotation_deg]
    assert min(angles) >= 2
    assert max(angles) <= 6


def test_seeds_differ():
    sequence = FakeSequence(60, np.arange(5, 60, 5))
    plans = [TrainingPlan([sequence], [np.ones(11, bool)], training(), -1, seed=seed) for seed in (0, 1)]
    assert [plans[0].sample(step, 3) for step in range(8)] != [plans[1].sample(step, 3) for step in range(8)]


def test_label_without_enough_history_is_an_error():
    with pytest.raises(ConfigError, match="sequence_length"):
        TrainingPlan([FakeSequence(60, np.array([3]))], [np.ones(1, bool)], training(sampling="random"), -1, seed=0)
