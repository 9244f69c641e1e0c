from __future__ import annotations

import numpy as np
import pytest
import torch
from naive_simota import naive_assignment
from small_models import random_targets

from leod.models.assignment import assign
from leod.models.head import decode_boxes, make_anchors

SIZE = (64, 96)
ANCHORS = make_anchors([(8, 12), (4, 6), (2, 3)], (8, 16, 32), "cpu")


def run(raw, targets):
    return assign(raw, decode_boxes(raw[..., :4], ANCHORS), targets, ANCHORS)


def box(x, y, w=20.0, h=20.0, class_id=0):
    return [class_id, x, y, w, h, 1.0, 1.0]


@pytest.mark.parametrize("seed", range(12))
def test_equals_the_naive_version(seed):
    generator = torch.Generator().manual_seed(seed)
    classes = 2 + seed % 2
    raw = torch.randn(3, 126, 5 + classes, generator=generator)
    # Large boxes overlap well, so that k exceeds 1 and boxes compete.
    raw[..., 2:4] += 1.0 * (seed % 3)
    targets = random_targets(3, 1 + seed, SIZE, classes, generator, ignored=0.3 * (seed % 4 > 0))
    result = run(raw, targets)
    grid, strides = ANCHORS.grid.tolist(), ANCHORS.strides.tolist()
    for image in range(3):
        matched, ious, ignored = naive_assignment(raw[image], targets[image], grid, strides)
        assert result.matched_row[image].tolist() == matched
        assert result.matched[image].tolist() == [row >= 0 for row in matched]
        assert result.ignored[image].tolist() == ignored
        np.testing.assert_allclose(result.matched_iou[image], ious, rtol=1e-4, atol=1e-6)


def test_the_batch_does_not_matter():
    generator = torch.Generator().manual_seed(5)
    raw = torch.randn(4, 126, 7, generator=generator)
    targets = random_targets(4, 6, SIZE, 2, generator, ignored=0.2)
    together = run(raw, targets)
    for image in range(4):
        alone = run(raw[image : image + 1], targets[image : image + 1])
        assert torch.equal(alone.matched_row[0], together.matched_row[image])
        assert torch.equal(alone.ignored[0], together.ignored[image])


def test_a_box_far_outside_matches_nothing():
    # The published code fails with "k out of range" here.
    result = run(torch.zeros(1, 126, 7), torch.tensor([[box(-200.0, 30.0)]]))
    assert not result.matched.any()
    assert not result.ignored.any()


def test_a_box_far_outside_competes_for_the_candidates_of_others():
    result = run(torch.zeros(1, 126, 7), torch.tensor([[box(48.0, 30.0), box(-200.0, 30.0)]]))
    assert set(result.matched_row[0][result.matched[0]].tolist()) == {0, 1}


def test_an_ignored_box_covers_its_centre_region_only():
    result = run(torch.zeros(1, 126, 7), torch.tensor([[box(44.0, 28.0, 90.0, 60.0, 1024)]]))
    assert not result.matched.any()
    # At stride 8 the centre of cell (5, 3): the 3 x 3 cells around it, not all that the box covers.
    fine = result.ignored[0, :96].view(8, 12)
    assert fine.nonzero().tolist() == [[row, column] for row in (2, 3, 4) for column in (4, 5, 6)]


def test_only_padding():
    result = run(torch.zeros(2, 126, 7), torch.zeros(2, 1, 7))
    assert not result.matched.any()
    assert not result.ignored.any()


def test_overflowing_predictions_do_not_disturb_the_others():
    raw = torch.zeros(1, 126, 7)
    targets = torch.tensor([[box(44.0, 28.0)]])
    expected = run(raw, targets)
    raw[0, 3 * 12 + 5, 2:4] = 200.0
    result = run(raw, targets)
    assert result.matched_iou.isfinite().all()
    assert result.matched.sum() >= 1
    assert expected.matched.sum() >= 1
