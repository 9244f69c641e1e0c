from __future__ import annotations

import torch

from leod.models.postprocess import postprocess


def row(x, y, objectness, *classes, w=20.0, h=20.0):
    return [x, y, w, h, objectness, *classes]


def test_suppression_is_class_wise_and_sorted_by_the_product():
    predictions = torch.tensor(
        [
            [
                row(50, 50, 0.9, 0.5, 0.1),
                row(52, 50, 0.8, 0.9, 0.1),  # stronger, same class: suppresses the first
                row(51, 50, 0.7, 0.1, 0.4),  # other class: stays
                row(150, 50, 0.1, 0.2, 0.1),  # too weak
            ]
        ]
    )
    (detections,) = postprocess(predictions, 0.05, 0.45)
    expected = torch.tensor([[42.0, 40.0, 62.0, 60.0, 0.8, 0.9, 0.0], [41.0, 40.0, 61.0, 60.0, 0.7, 0.4, 1.0]])
    torch.testing.assert_close(detections, expected)


def test_nothing_left_and_no_anchors():
    empty, also_empty = postprocess(torch.zeros(2, 5, 7), 0.1, 0.45)
    assert empty.shape == also_empty.shape == (0, 7)


def test_a_box_that_overflowed_is_dropped_alone():
    predictions = torch.tensor([[row(50, 50, 0.9, 0.9), row(80, 50, 0.9, 0.8, w=float("inf"))]])
    (detections,) = postprocess(predictions, 0.1, 0.45)
    assert detections[:, 5].tolist() == [predictions[0, 0, 5]]
