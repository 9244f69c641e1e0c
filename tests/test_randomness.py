"""The numbers that trainings draw: changed, a training would end with other weights."""

from __future__ import annotations

import pytest
import torch

from leod.randomness import Purpose, generator_for, seeded_weights, set_network_generators


@pytest.mark.parametrize(
    ("purpose", "expected"),
    [
        (Purpose.RANDOM_ORDER, [861, 805, 57, 320]),
        (Purpose.RANDOM_SAMPLE, [931, 835, 982, 64]),
        (Purpose.STREAM_ORDER, [250, 619, 951, 825]),
        (Purpose.STREAM_REVERSAL, [658, 633, 318, 287]),
        (Purpose.STREAM_VISIT, [190, 241, 969, 955]),
    ],
)
def test_numbers_of_the_data(purpose, expected):
    assert generator_for(7, purpose, 3, 11).integers(0, 1000, 4).tolist() == expected


def test_numbers_inside_the_network():
    with torch.random.fork_rng(devices=[]):
        set_network_generators(7, batch=5, rank=1)
        assert torch.initial_seed() == 10444448408378082875
        assert torch.randint(0, 1000, (4,)).tolist() == [134, 585, 763, 427]


def test_numbers_of_the_initial_weights_leave_the_generator_alone():
    before = torch.get_rng_state()
    with seeded_weights(7):
        assert torch.randint(0, 1000, (4,)).tolist() == [615, 892, 721, 286]
    assert torch.equal(torch.get_rng_state(), before)
