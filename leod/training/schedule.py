"""The learning-rate schedule and the optimiser of RVT and LEOD."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Literal

import torch
from torch.optim.lr_scheduler import LambdaLR

from leod.config.schema import TrainingConfig

Schedule = Literal["one_cycle", "constant"]


def learning_rate_factor(
    step: int,
    total_steps: int,
    warmup_fraction: float,
    start_divisor: float,
    final_divisor: float,
    schedule: Schedule = "one_cycle",
) -> float:
    """Linear one-cycle schedule (Smith & Topin 2017; the linear variant that RVT and LEOD train with).

    The factor rises linearly from ``1 / start_divisor`` at step 0 to 1 at step ``warmup_fraction * total_steps - 1``
    and falls linearly to ``1 / final_divisor`` at step ``total_steps - 1``. The turning point need not be a whole
    step; where it comes before step 0 there is no warm-up. A constant schedule stays at 1 after the same warm-up.

    Args:
        step: Optimiser step, 0 is the first.
        total_steps: Number of optimiser steps.
        warmup_fraction: Share of the steps that rise.
        start_divisor: The first factor is one over this.
        final_divisor: The last factor of a one-cycle schedule is one over this.
        schedule: What follows the warm-up.

    Returns:
        The learning rate of ``step`` as a multiple of the highest one.
    """
    turn = warmup_fraction * total_steps - 1.0
    last = total_steps - 1.0
    if step <= turn:
        progress = step / turn if turn > 0.0 else 1.0
        return 1.0 / start_divisor + progress * (1.0 - 1.0 / start_divisor)
    if schedule == "constant":
        return 1.0
    progress = min((step - turn) / (last - turn), 1.0) if last > turn else 1.0
    return 1.0 + progress * (1.0 / final_divisor - 1.0)


def scheduled_factor(step: int, training: TrainingConfig) -> float:
    """`learning_rate_factor` of ``step``, 0 is the first, as ``training`` says."""
    return learning_rate_factor(
        step,
        training.steps,
        training.warmup_fraction,
        training.start_divisor,
        training.final_divisor,
        training.schedule,
    )


def build_optimizer(parameters: Iterable[torch.nn.Parameter], training: TrainingConfig) -> torch.optim.AdamW:
    """AdamW (betas 0.9 and 0.999, eps 1e-8) over ``parameters`` in one group.

    The fused implementation saves several milliseconds a step on a CPU. Lightning cannot clip gradients with it under
    mixed precision.
    """
    return torch.optim.AdamW(
        parameters,
        lr=training.learning_rate,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=training.weight_decay,
        fused=training.precision == "32-true",
    )


def build_schedule(optimizer: torch.optim.Optimizer, training: TrainingConfig) -> LambdaLR:
    """The schedule of ``optimizer``, to be stepped after every optimiser step."""
    return LambdaLR(optimizer, partial(scheduled_factor, training=training))
