import numpy as np

from leod.boxes.operations import is_ground_truth
from leod.sampling.samples import shown_labels


def test_ground_truth_of_the_first_step_stays_ground_truth(sequences):
    sequence = sequences[0]
    kept = np.array([True, False, True, True, True, True])
    shown = shown_labels(sequence, kept, np.array([4, -1, 9, 14, 15]))
    assert list(shown) == [0, 3]
    assert all(is_ground_truth(rows).all() for rows in shown.values())
    np.testing.assert_array_equal(shown[0], sequence.frame_labels(0))
