"""The learning-rate schedule: numbers worked out by hand, and edge lengths."""

from __future__ import annotations

import pytest
import torch

from leod.config.schema import TrainingConfig
from leod.training.schedule import build_optimizer, build_schedule, learning_rate_factor


def factors(total_steps: int, warmup_fraction: float) -> list[float]:
    return [learning_rate_factor(step, total_steps, warmup_fraction, 20.0, 10_000.0) for step in range(total_steps)]


def test_rises_to_the_turning_point_and_falls_to_the_end() -> None:
    # 10 steps, half of them rising: the turn is step 0.5 * 10 - 1 = 4, the last step 9.
    values = factors(10, 0.5)
    assert values[0] == pytest.approx(0.05)
    assert values[2] == pytest.approx(0.05 + 0.95 / 2)
    assert values[4] == pytest.approx(1.0)
    assert values[5] == pytest.approx(1.0 + (1e-4 - 1.0) / 5)
    assert values[9] == pytest.approx(1e-4)


@pytest.mark.parametrize(
    ("total_steps", "warmup_fraction"),
    [
        (200, 0.005),  # the turning point is step 0
        (30, 0.005),  # the turning point comes before the first step
        (7, 0.5),  # the turning point lies between two steps
        (5, 1.0),  # nothing but warm-up
        (1, 0.005),  # a single step
        (1, 1.0),  # a single step that is all warm-up
    ],
)
def test_every_length_gives_usable_rates(total_steps: int, warmup_fraction: float) -> None:
    values = factors(total_steps, warmup_fraction)
    assert all(0.0 < value <= 1.0 + 1e-12 for value in values)
    peak = values.index(max(values))
    assert values[: peak + 1] == sorted(values[: peak + 1])
    assert values[peak:] == sorted(values[peak:], reverse=True)


def test_constant_schedule_stays_where_the_warm_up_ends() -> None:
    rising = factors(10, 0.5)[:5]
    values = [learning_rate_factor(step, 10, 0.5, 20.0, 10_000.0, "constant") for step in range(10)]
    assert values == [*rising, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert learning_rate_factor(0, 30, 0.005, 20.0, 10_000.0, "constant") == 1.0


def test_optimizer_follows_the_schedule_without_cycling_momentum() -> None:
    training = TrainingConfig(steps=10, learning_rate=1e-3, sequence_length=1, warmup_fraction=0.5)
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = build_optimizer([parameter], training)
    schedule = build_schedule(optimizer, training)
    used = []
    for _ in range(10):
        used.append(optimizer.param_groups[0]["lr"])
        assert tuple(optimizer.param_groups[0]["betas"]) == (0.9, 0.999)
        parameter.grad = torch.ones(2)
        optimizer.step()
        schedule.step()
    assert used == pytest.approx([1e-3 * factor for factor in factors(10, 0.5)])
    assert optimizer.param_groups[0]["eps"] == 1e-8
    assert optimizer.param_groups[0]["weight_decay"] == 0.0
