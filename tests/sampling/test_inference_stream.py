import numpy as np
import pytest
import torch
from small_sequences import frames_of

from leod.errors import ConfigError
from leod.sampling.inference_stream import InferenceStream, inference_loader


def collected(stream, sequences, num_workers=0):
    """Frames of each sequence as they arrive, and where sequences begin."""
    seen = {position: [] for position in range(len(sequences))}
    for batch in inference_loader(stream, num_workers):
        for slot, position in enumerate(batch.sequence_ids.tolist()):
            indices = batch.frame_indices[:, slot].tolist()
            if position < 0:
                assert set(indices) == {-1}
                assert not batch.frames[:, slot].any()
                continue
            assert bool(batch.is_first[slot]) == (not seen[position])
            for step, frame in enumerate(indices):
                if frame >= 0:
                    seen[position].append((frame, batch.frames[step, slot].numpy()))
                else:
                    assert not batch.frames[step, slot].any()
    return seen


@pytest.mark.parametrize("time_reversed", [False, True])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_every_frame_once_in_order(sequences, time_reversed, num_workers):
    stream = InferenceStream(sequences, sequence_length=7, batch_size=3, time_reversed=time_reversed)
    for position, seen in collected(stream, sequences, num_workers).items():
        frames = frames_of(position, sequences[position].num_frames)
        order = range(len(frames))[:: -1 if time_reversed else 1]
        assert [frame for frame, _ in seen] == list(order)
        for frame, content in seen:
            np.testing.assert_array_equal(content, frames[frame][:: -1 if time_reversed else 1])


def test_batch_shrinks_to_the_number_of_sequences(sequences):
    stream = InferenceStream(sequences[:2], sequence_length=7, batch_size=8)
    assert stream[0].frames.shape == (7, 2, 20, 24, 32)


def test_start_at_first_label(sequences):
    stream = InferenceStream(sequences, sequence_length=7, batch_size=2, start_at_first_label=True)
    seen = collected(stream, sequences)
    assert [entries[0][0] if entries else None for entries in seen.values()] == [0, 0, 5, None, 0]


def test_nothing_to_do(sequences):
    with pytest.raises(ConfigError):
        InferenceStream([], sequence_length=7, batch_size=2)
    with pytest.raises(ConfigError):
        InferenceStream(sequences[3:4], sequence_length=7, batch_size=2, start_at_first_label=True)


def test_end_is_signalled(sequences):
    stream = InferenceStream(sequences, sequence_length=7, batch_size=2)
    assert len(list(inference_loader(stream))) == len(stream)
    with pytest.raises(IndexError):
        stream[len(stream)]


def test_batch_keeps_types(sequences):
    batch = InferenceStream(sequences, sequence_length=7, batch_size=2)[0]
    assert batch.frames.dtype == torch.uint8
    assert batch.is_first.dtype == torch.bool
    assert batch.frame_indices.dtype == batch.sequence_ids.dtype == torch.int64
