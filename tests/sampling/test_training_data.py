import numpy as np
import pytest
import torch
from small_sequences import boxes_of, frames_of, write_sequence

from leod.boxes.kept_labels import KeptLabels
from leod.config.schema import AugmentationConfig, TrainingConfig, ZoomConfig
from leod.errors import ConfigError, DataError
from leod.sampling.training_data import TrainingData, training_loader
from leod.sequences.sequence import Sequence

PLAIN = AugmentationConfig(
    mirror=0, time_reversal=0, random_zoom=ZoomConfig(probability=0), stream_zoom=ZoomConfig(probability=0)
)


def training(**settings):
    return TrainingConfig(**{"steps": 10, "learning_rate": 1e-4, "sequence_length": 6, "batch_size": 4, **settings})


def kept(**sequences):
    return KeptLabels({"a": (), "b": (), "c": (), "d": (), "e": (), **sequences}, "weakly_supervised", 0.1)


def joined(batches):
    """The batch of one process out of those of several: slot s belongs to process s modulo their number."""
    fields = {}
    most = max(batch.targets.shape[2] for batch in batches)
    for name, dimension in (("frames", 1), ("is_first", 0), ("frame_indices", 1), ("labelled", 1), ("sequence_ids", 0)):
        fields[name] = torch.stack([getattr(batch, name) for batch in batches], dimension + 1).flatten(
            dimension, dimension + 1
        )
    targets = [torch.nn.functional.pad(batch.targets, (0, 0, 0, most - batch.targets.shape[2])) for batch in batches]
    return type(batches[0])(**fields, targets=torch.stack(targets, 2).flatten(1, 2))


def test_frames_and_boxes_without_augmentation(sequences, config):
    data = TrainingData(sequences, None, training(augmentation=PLAIN), config, seed=0)
    for step in range(12):
        batch = data[step]
        assert batch.frames.shape == (6, 4, 20, 24, 32)
        assert batch.targets.shape == (6, 4, 2, 7)
        assert batch.is_first[2:].all()  # random samples come after the streams
        assert batch.labelled[-1, 2:].all()  # and end with a labelled frame
        for slot, position in enumerate(batch.sequence_ids.tolist()):
            sequence = sequences[position]
            frames = frames_of(position, sequence.num_frames)
            for time, frame in enumerate(batch.frame_indices[:, slot].tolist()):
                if frame < 0:
                    assert not batch.frames[time, slot].any()
                    assert not batch.labelled[time, slot]
                    continue
                np.testing.assert_array_equal(batch.frames[time, slot], frames[frame])
                assert bool(batch.labelled[time, slot]) == (frame in sequence.labelled_frames)
                if frame in sequence.labelled_frames:
                    x = frame % 8
                    expected = [[0, x + 4.5, 10, 9, 12, 1, 1], [1, x + 14.5, 10, 9, 12, 1, 1]]
                    assert batch.targets[time, slot].tolist() == expected
                else:
                    assert not batch.targets[time, slot].any()


def test_reading_backwards(sequences, config):
    augmentation = PLAIN.model_copy(update={"time_reversal": 1.0})
    data = TrainingData(sequences, None, training(augmentation=augmentation), config, seed=0)
    reversed_samples = 0
    for step in range(12):
        batch = data[step]
        for slot, position in enumerate(batch.sequence_ids.tolist()):
            indices = batch.frame_indices[:, slot]
            indices = indices[indices >= 0].tolist()
            if indices != sorted(indices, reverse=True) or len(indices) == 1:
                continue
            reversed_samples += 1
            frames = frames_of(position, sequences[position].num_frames)
            for time, frame in enumerate(indices):
                np.testing.assert_array_equal(batch.frames[time, slot], frames[frame, ::-1])
                shown = frame - 1 in sequences[position].labelled_frames
                assert bool(batch.labelled[time, slot]) == shown
                if shown:
                    assert batch.targets[time, slot, 0, 1] == (frame - 1) % 8 + 4.5
    assert reversed_samples > 20


def test_only_kept_labels_are_targets(sequences, config):
    data = TrainingData(sequences, kept(a=(2,), b=(1, 3)), training(augmentation=PLAIN), config, seed=0)
    allowed = {0: {14}, 1: {12, 30}}
    found = set()
    for step in range(20):
        batch = data[step]
        assert set(batch.sequence_ids.tolist()) <= {0, 1}
        for time, slot in batch.labelled.nonzero().tolist():
            position, frame = int(batch.sequence_ids[slot]), int(batch.frame_indices[time, slot])
            assert frame in allowed[position]
            found.add((position, frame))
    assert found == {(0, 14), (1, 12), (1, 30)}


def test_a_partly_labelled_sequence_is_streamed_whole(sequences, config):
    data = TrainingData(sequences, kept(a=(2,)), training(augmentation=PLAIN, sampling="stream"), config, seed=0)
    seen = torch.cat([data[step].frame_indices[:, 0] for step in range(5)])
    assert seen.tolist() == list(range(30))


def test_the_same_batches_with_any_number_of_workers_and_after_resuming(sequences, config):
    data = TrainingData(sequences, None, training(), config, seed=5)
    reference = list(training_loader(data, 0, 10, num_workers=0))
    assert len(reference) == 10
    for start, workers in ((0, 2), (4, 0), (4, 2)):
        again = TrainingData(sequences, None, training(), config, seed=5)
        loader = training_loader(again, start, 10, num_workers=workers)
        assert len(loader) == 10 - start
        for expected, batch in zip(reference[start:], loader, strict=True):
            assert expected.equals(batch)


def test_another_seed_makes_other_batches(sequences, config):
    first, second = (TrainingData(sequences, None, training(), config, seed=seed) for seed in (0, 1))
    assert not first[0].equals(second[0])


@pytest.mark.parametrize("sampling", ["mixed", "random", "stream"])
@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_together_see_the_whole_batch(sequences, config, sampling, world_size):
    settings = training(sampling=sampling, batch_size=8)
    whole = TrainingData(sequences, None, settings, config, seed=3)
    parts = [
        TrainingData(sequences, None, settings, config, 3, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for step in range(4):
        assert joined([part[step] for part in parts]).equals(whole[step])


def test_ignored_boxes_are_targets_too(tmp_path, config):
    from leod.sequences.layout import write_labels

    write_sequence(tmp_path / "one", 0, 12, [8])
    labels = boxes_of([8])
    labels["class_id"] = 1024
    write_labels(tmp_path / "one", labels, np.array([0]))
    sequences = [Sequence(tmp_path / "one", config)]
    batch = TrainingData(sequences, None, training(augmentation=PLAIN), config, seed=0)[0]
    assert batch.labelled[-1].all()
    assert batch.targets[-1, :, :, 0].unique().tolist() == [1024]


def test_a_frame_found_empty_is_labelled_background(tmp_path, config):
    from leod.sequences.layout import write_labels

    write_sequence(tmp_path / "one", 0, 12, [5, 8])
    write_labels(tmp_path / "one", boxes_of([5]), np.array([0, 2]))
    sequences = [Sequence(tmp_path / "one", config)]
    augmentation = AugmentationConfig(**(PLAIN.model_dump() | {"random_zoom": {"probability": 1, "zoom_in_weight": 1}}))
    data = TrainingData(sequences, None, training(sampling="random", augmentation=augmentation), config, seed=0)
    seen = set()
    for step in range(8):
        batch = data[step]
        for slot, frame in enumerate(batch.frame_indices[-1].tolist()):
            rows = int((batch.targets[-1, slot, :, 3] > 0).sum())
            seen.add((frame, bool(batch.labelled[-1, slot]), rows > 0))
    assert (8, True, False) in seen
    assert (5, True, True) in seen
    # Zoomed out of the picture: not labelled, as published. Never "labelled, but empty".
    assert (5, True, False) not in seen


def test_boxes_stay_inside_the_frame_under_all_augmentation(sequences, config):
    augmentation = AugmentationConfig(
        rotation=0.5, random_zoom=ZoomConfig(probability=1, zoom_in_weight=1), stream_zoom=ZoomConfig(probability=1)
    )
    data = TrainingData(sequences, None, training(augmentation=augmentation), config, seed=0)
    for step in range(20):
        batch = data[step]
        rows = batch.targets[batch.labelled]
        rows = rows[rows[:, :, 3] > 0]
        assert len(rows)
        assert (rows[:, 1] - rows[:, 3] / 2 > -0.1).all()
        assert (rows[:, 1] + rows[:, 3] / 2 < 31.1).all()
        assert (rows[:, 2] + rows[:, 4] / 2 < 23.1).all()


def test_no_label_at_all(sequences, config):
    with pytest.raises(DataError, match=r"weakly_supervised, ratio 0\.1"):
        TrainingData(sequences, kept(), training(), config, seed=0)
    with pytest.raises(DataError, match="1 sequences"):
        TrainingData(sequences[3:4], None, training(), config, seed=0)
    with pytest.raises(ConfigError):
        TrainingData([], None, training(), config, seed=0)


def test_split_of_another_data_set(sequences, config):
    with pytest.raises(DataError, match="does not list"):
        TrainingData(sequences, KeptLabels({"x": (0,)}, "weakly_supervised"), training(), config, seed=0)
    with pytest.raises(DataError, match="labelled frame 6"):
        TrainingData(sequences, kept(a=(6,)), training(), config, seed=0)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_damage_found_while_reading_is_named(tmp_path, config, num_workers):
    write_sequence(tmp_path / "one", 0, 12, [8])
    sequence = Sequence(tmp_path / "one", config)
    data = TrainingData([sequence], None, training(), config, seed=0)
    sequence.frames_path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="preprocess again") as error:
        list(training_loader(data, 0, 3, num_workers=num_workers))
    assert error.value.path == sequence.frames_path
