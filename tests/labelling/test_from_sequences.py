"""Candidates out of preprocessed sequences."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_sequences import CONFIG, HEIGHT, WIDTH, random_detector, random_frames, write_tiny_sequence

from leod.config.schema import ViewsConfig
from leod.labelling.choosing import ACTIVITY_SIGNS, DETECTOR_SIGNS, choose, worth
from leod.labelling.from_sequences import candidates_of_sequences
from leod.sequences.sequence import Sequence

CHANNELS = CONFIG.representation.channels
LABELLED = [5, 12, 20, 29, 33]


def frames_with_motion(num_frames: int, moving: dict[int, int]) -> np.ndarray:
    """Empty frames; frame → first column of a bar that moves there."""
    frames = np.zeros((num_frames, CHANNELS, HEIGHT, WIDTH), np.uint8)
    for frame, column in moving.items():
        frames[frame, ::3, 4:20, column : column + 8] = 1
    return frames


@pytest.fixture(scope="module")
def sequences(tmp_path_factory) -> list[Sequence]:
    root = tmp_path_factory.mktemp("sequences")
    write_tiny_sequence(root / "a", frames_with_motion(40, {5: 2, 12: 2, 20: 2, 33: 38}), LABELLED)
    write_tiny_sequence(root / "b", random_frames(1, 30), [])
    write_tiny_sequence(root / "c", frames_with_motion(25, {11: 20, 24: 20}), [11, 24])
    return [Sequence(root / name, CONFIG) for name in "abc"]


def test_a_candidate_for_each_labelled_frame(sequences) -> None:
    found = candidates_of_sequences(sequences, CONFIG)
    assert found.signs == ACTIVITY_SIGNS
    assert found.recording.tolist() == [0] * 5 + [2] * 2
    assert found.index.tolist() == [0, 1, 2, 3, 4, 0, 1]
    assert found.t_us.tolist() == [(frame + 1) * CONFIG.window_us for frame in [*LABELLED, 11, 24]]
    # Frame 5 lies in the first half second, nothing moves in frame 29.
    assert found.eligible.tolist() == [False, True, True, False, True, True, True]
    assert found.settled[1] < found.settled[2] == 1
    np.testing.assert_array_equal(found.descriptor[1], found.descriptor[2])
    chosen = choose(found.recording, found.t_us, found.descriptor, worth(found), 3, 0, 0)
    looks = {(int(found.recording[row]), found.descriptor[row].tobytes()) for row in chosen.rows}
    assert len(looks) == 3


def test_labels_do_not_matter(sequences, tmp_path) -> None:
    write_tiny_sequence(
        tmp_path / "a", sequences[0].read_frames(0, 40), LABELLED, boxes=((1, 1, 30, 14, 1), (20, 2, 10, 10, 0))
    )
    plain = candidates_of_sequences(sequences[:1], CONFIG, random_detector())
    other = candidates_of_sequences([Sequence(tmp_path / "a", CONFIG)], CONFIG, random_detector())
    for name in ("descriptor", "amounts", "eligible"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(other, name))


def test_a_detector_adds_what_it_is_unsure_of(sequences) -> None:
    plain = candidates_of_sequences(sequences, CONFIG)
    found = candidates_of_sequences(sequences, CONFIG, random_detector())
    assert found.signs == DETECTOR_SIGNS
    np.testing.assert_array_equal(found.amounts[:, 0], plain.amounts[:, 0])
    assert (found.amounts[:, 1:].max(axis=0) > 0).all()
    one_view = ViewsConfig(mirror=False, time_reversal=False)
    alone = candidates_of_sequences(sequences, CONFIG, random_detector(), views=one_view)
    assert not alone.amounts[:, 1].any()


def test_no_labelled_frame_no_candidate(sequences) -> None:
    assert len(candidates_of_sequences(sequences[1:2], CONFIG)) == 0
    assert len(candidates_of_sequences(sequences[1:2], CONFIG, random_detector())) == 0
