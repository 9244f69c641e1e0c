from __future__ import annotations

import pytest
import torch

from leod.errors import ConfigError
from leod.models.weighting import parse_weighting

OBJECTNESS, CLASS_CONFIDENCE = torch.tensor([0.5, 0.8]), torch.tensor([0.4, 1.0])


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("obj", [0.5, 0.8]),
        ("cls", [0.4, 1.0]),
        ("objxcls", [0.2, 0.8]),
        ("cls-w**2", [0.16, 1.0]),
        ("objxcls-(w + 1) / 2", [0.6, 0.9]),
        ("obj--w + 1", [0.5, 0.2]),
        ("cls-1", [1.0, 1.0]),
    ],
)
def test_value(setting, expected):
    weights = parse_weighting(setting)(OBJECTNESS, CLASS_CONFIDENCE)
    torch.testing.assert_close(weights.expand(2), torch.tensor(expected))


@pytest.mark.parametrize(
    "setting",
    [
        "iou",  # no score
        "",
        "cls-",  # nothing after the dash
        "cls-v**2",  # another variable
        "cls-w.mean()",
        "cls-__import__('os')",
        "cls-w if w else 1",
        "cls-'w'",
        "cls-w, w",
        "cls-w**",
        "cls-" + "(" * 500 + "w" + ")" * 500,
    ],
)
def test_anything_but_arithmetic_is_refused(setting):
    with pytest.raises(ConfigError, match="box_weighting"):
        parse_weighting(setting)


def test_huge_powers_end():
    assert parse_weighting("cls-9**9**9*w")(OBJECTNESS, CLASS_CONFIDENCE).isinf().all()
