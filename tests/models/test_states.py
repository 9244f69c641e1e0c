from __future__ import annotations

import torch

from leod.models.states import detach_states, reset_states


def states_of(*values):
    column = torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 2, 3, 4)
    return [(column.clone(), 10 * column.clone())]


def test_only_slots_that_start_a_sequence_are_reset():
    states = states_of(1.0, 2.0, 3.0)
    ((hidden, cell),) = reset_states(states, torch.tensor([False, True, False]))
    assert hidden[:, 0, 0, 0].tolist() == [1.0, 0.0, 3.0]
    assert cell[:, 0, 0, 0].tolist() == [10.0, 0.0, 30.0]
    assert states[0][0][1, 0, 0, 0] == 2.0


def test_nan_does_not_survive_a_reset():
    ((hidden, _),) = reset_states(states_of(float("nan")), torch.tensor([True]))
    assert not hidden.isnan().any()


def test_no_states_yet():
    assert reset_states([], torch.tensor([True])) == []


def test_detached_states_have_no_history():
    states = [(torch.ones(1, requires_grad=True) * 2, torch.ones(1, requires_grad=True) * 3)]
    ((hidden, cell),) = detach_states(states)
    assert not hidden.requires_grad
    assert not cell.requires_grad
    assert (float(hidden), float(cell)) == (2.0, 3.0)
