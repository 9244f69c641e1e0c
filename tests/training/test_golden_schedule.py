"""The learning rates of the published training, step by step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from leod.config.schema import TrainingConfig
from leod.training.schedule import build_optimizer, build_schedule


def test_learning_rates_equal_the_published_ones(golden_dir: Path) -> None:
    path = golden_dir / "lr_schedule.json"
    if not path.is_file():
        pytest.skip(f"{path} not found")
    cases = json.loads(path.read_text(encoding="utf-8"))
    assert cases
    for name, case in cases.items():
        training = TrainingConfig(
            steps=case["total_steps"],
            learning_rate=case["max_lr"],
            sequence_length=1,
            warmup_fraction=case["pct_start"],
            start_divisor=case["div_factor"],
            final_divisor=case["final_div_factor"],
        )
        optimizer = build_optimizer([torch.nn.Parameter(torch.zeros(1))], training)
        assert type(optimizer).__name__ == case["optimizer"]
        group = optimizer.param_groups[0]
        for key in ("betas", "eps", "weight_decay", "amsgrad", "maximize"):
            expected = case["param_group"][key]
            assert group[key] == (tuple(expected) if isinstance(expected, list) else expected), (name, key)
        schedule = build_schedule(optimizer, training)
        rates = []
        for _ in range(training.steps):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        for step, expected in case["lr_at_step"].items():
            assert rates[int(step)] == pytest.approx(expected, rel=1e-9), (name, step)
        if case.get("all") is not None:
            assert rates == pytest.approx(case["all"], rel=1e-9), name
