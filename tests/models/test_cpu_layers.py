"""Layers that compute in their own way on a CPU: the same values and gradients as PyTorch's operators give."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models.maxxvit import grid_reverse, window_reverse
from torch import nn

import leod.models.attention
import leod.models.feed_forward
import leod.models.residual
from leod.models.attention import MOST_CELLS, _exponentials, _LaneAttention
from leod.models.backbone import AttentionPair
from leod.models.frames import to_network_input
from leod.models.lstm import PointwiseLstm
from leod.models.residual import add_branch


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def attend(qkv: torch.Tensor) -> torch.Tensor:
    """PyTorch's attention of [N, cells, heads, 3 D]."""
    query, key, value = qkv.transpose(1, 2).chunk(3, dim=3)
    return nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2)


def random_like(tensor: torch.Tensor) -> torch.Tensor:
    return torch.randn(tensor.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64).to(tensor.dtype)


@settings(max_examples=40, deadline=None)
@given(
    windows=st.integers(1, 70),
    cells=st.integers(1, MOST_CELLS),
    heads=st.integers(1, 5),
    dim=st.integers(1, 19),
    scale=st.sampled_from([0.1, 1.0, 4.0]),
)
def test_attention_in_lanes_is_attention(windows, cells, heads, dim, scale):
    numbers = torch.Generator().manual_seed(windows * 1000 + cells)
    qkv = (torch.randn(windows, cells, heads, 3 * dim, generator=numbers) * scale).requires_grad_()
    exactly = qkv.detach().double().requires_grad_()
    wanted = attend(exactly)
    found = _LaneAttention.apply(qkv)
    upstream = random_like(wanted)
    (wanted_gradient,) = torch.autograd.grad(wanted, exactly, upstream)
    (found_gradient,) = torch.autograd.grad(found, qkv, upstream.float())
    # A logit of size 100 is known to 1e-5 in float32, and so is what depends on it.
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-5 * max(1, scale**2))
    torch.testing.assert_close(found_gradient.double(), wanted_gradient, rtol=1e-3, atol=1e-4 * max(1, scale**2))


def test_attention_to_one_cell_alone_gives_its_value():
    cells, dim = 6, 8
    direction = 1e4 * torch.eye(cells, dim)
    value = torch.arange(cells * dim, dtype=torch.float32).view(cells, dim)
    # Cell i looks for cell i + 1.
    qkv = torch.cat((direction.roll(-1, dims=0), direction, value), dim=1).view(1, cells, 1, 3 * dim)
    torch.testing.assert_close(_LaneAttention.apply(qkv)[0, :, 0], value.roll(-1, dims=0), rtol=1e-6, atol=1e-30)


def test_exponentials_are_good_to_two_units_of_the_last_place():
    values = np.linspace(-86.9, 0, 100_001, dtype=np.float32)
    found = values.copy()
    _exponentials(found, np.empty(len(values), np.int32))
    exactly = np.exp(values.astype(np.float64))
    assert (np.abs(found - exactly) <= 2 * np.spacing(exactly.astype(np.float32))).all()


def test_exponentials_far_below_vanish():
    values = np.array([-87.5, -1e4, -3e38, -np.inf, 0], np.float32)
    _exponentials(values, np.empty(len(values), np.int32))
    assert (values[:4] < 2e-38).all()
    assert values[4] == 1


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("layer_scale", [None, 0.3])
def test_blocks_give_the_same_in_lanes_and_without(monkeypatch, layer_scale):
    torch.manual_seed(0)
    blocks = AttentionPair(12, 4, (2, 3), layer_scale, input_is_normed=True)
    maps = torch.randn(5, 4, 9, 12, requires_grad=True)
    results = []
    for most_cells in (MOST_CELLS, 0):
        monkeypatch.setattr(leod.models.attention, "MOST_CELLS", most_cells)
        found = blocks(maps)
        results.append([found, *torch.autograd.grad(found, [maps, *blocks.parameters()], random_like(found))])
    for in_lanes, without in zip(*results, strict=True):
        torch.testing.assert_close(in_lanes, without, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("layer_scale", [None, 0.3])
@pytest.mark.parametrize("input_is_normed", [True, False])
def test_blocks_give_the_same_whether_branches_are_added_in_one_pass(monkeypatch, layer_scale, input_is_normed):
    torch.manual_seed(0)
    blocks = AttentionPair(12, 4, (2, 3), layer_scale, input_is_normed)
    maps = torch.randn(5, 4, 9, 12, requires_grad=True)
    upstream = random_like(maps)
    results = []
    for least_values in (0, 10**9):
        monkeypatch.setattr(leod.models.residual, "LEAST_VALUES", least_values)
        found = blocks(maps)
        with torch.no_grad():
            torch.testing.assert_close(blocks(maps), found, rtol=1e-5, atol=1e-6)
        results.append([found, *torch.autograd.grad(found, [maps, *blocks.parameters()], upstream)])
    for in_one_pass, in_many in zip(*results, strict=True):
        torch.testing.assert_close(in_one_pass, in_many, rtol=1e-4, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    counts=st.tuples(*[st.integers(1, 3)] * 3),
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    channels=st.integers(1, 20),
    is_grid=st.booleans(),
    scaled=st.booleans(),
)
def test_branches_are_added_where_their_windows_lie(counts, size, channels, is_grid, scaled):
    count, down, across = counts
    numbers = torch.Generator().manual_seed(channels)
    shape = count, down * size[0], across * size[1], channels

    def values(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=numbers, dtype=torch.float64)

    maps, branch = values(*shape), values(count * down * across, *size, channels)
    bias, gamma = values(channels), values(channels) if scaled else None
    inputs = [tensor.requires_grad_() for tensor in (maps, branch, bias, gamma) if tensor is not None]
    back = grid_reverse if is_grid else window_reverse
    wanted = maps + back((branch + bias) * (1 if gamma is None else gamma), size, shape[1:3])
    upstream = random_like(wanted)
    wanted_gradients = torch.autograd.grad(wanted, inputs, upstream)
    single = [tensor.detach().float().requires_grad_() for tensor in inputs]
    found = add_branch(*single, *([] if scaled else [None]), size, is_grid)
    found_gradients = torch.autograd.grad(found, single, upstream.float())
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)
    for one, other in zip(found_gradients, wanted_gradients, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("one_thread")
def test_a_diverged_network_stays_diverged():
    blocks = AttentionPair(12, 4, (2, 3), None, input_is_normed=True)
    maps = torch.randn(2, 4, 9, 12)
    maps[0, 0, 0, 0] = torch.nan
    found = blocks(maps)
    assert not found[0].isfinite().all()
    assert found[1].isfinite().all()
    lstm = PointwiseLstm(12)
    hidden, _ = lstm(found[None], None)
    assert not hidden[0, 0].isfinite().all()
    assert hidden[0, 1].isfinite().all()


def test_blocks_without_gradients_compute_rows_in_parts_with_the_same_result(monkeypatch):
    torch.manual_seed(0)
    blocks = AttentionPair(12, 4, (2, 3), 0.3, input_is_normed=False)
    maps = torch.randn(3, 4, 9, 12)
    wanted = blocks(maps)
    monkeypatch.setattr(leod.models.feed_forward, "HIDDEN_AT_ONCE", 48 * 7)
    with torch.no_grad():
        torch.testing.assert_close(blocks(maps), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize(("steps", "scale"), [(1, 1.0), (4, 1.0), (21, 1.0), (4, 40.0)])
def test_lstm_in_float32_is_that_in_float64(steps, scale, with_state):
    torch.manual_seed(1)
    lstm = PointwiseLstm(6)
    maps = torch.randn(steps, 2, 3, 5, 6) * scale
    state = tuple(torch.randn(2, 6, 3, 5) for _ in range(2)) if with_state else None
    results = []
    # The general way is taken for float64.
    for dtype in (torch.float32, torch.float64):
        lstm.to(dtype)
        inputs = maps.to(dtype).requires_grad_()
        states = tuple(tensor.to(dtype).requires_grad_() for tensor in state or ())
        outputs, last = lstm(inputs, states or None)
        loss = sum((tensor * random_like(tensor)).sum() for tensor in (outputs, *last))
        gradients = torch.autograd.grad(loss, [inputs, *lstm.parameters(), *states])
        results.append([outputs, *last, *gradients])
    for number, (single, double) in enumerate(zip(*results, strict=True)):
        atol = 2e-6 * scale * steps
        torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=atol, msg=f"result {number}")


@pytest.mark.usefixtures("one_thread")
def test_lstm_goes_on_where_it_stopped():
    torch.manual_seed(1)
    lstm = PointwiseLstm(6)
    maps = torch.randn(5, 2, 3, 4, 6)
    whole, last = lstm(maps, None)
    first, state = lstm(maps[:2], None)
    second, last_of_parts = lstm(maps[2:], state)
    torch.testing.assert_close(torch.cat((first, second)), whole)
    for found, wanted in zip(last_of_parts, last, strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("channels", [1, 4, 6, 20])
def test_counts_become_floats_with_channels_last(channels):
    frames = torch.randint(0, 256, (3, channels, 5, 7), dtype=torch.uint8)
    found = to_network_input(frames)
    assert found.dtype is torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found, frames.float())


def test_floats_only_change_their_layout():
    frames = torch.rand(2, 6, 4, 4)
    found = to_network_input(frames)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found, frames)
