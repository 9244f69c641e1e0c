"""The default study without its choices of method: fixed thresholds and steps, published merging and tracking."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

QUICKSTART = Path(__file__).resolve().parents[1] / "configs" / "quickstart.yaml"


def plain_study() -> dict[str, Any]:
    """Content of a study file in which nothing that tests change has the value that they change it to."""
    study = yaml.safe_load(QUICKSTART.read_text())
    study["pretrain"] |= {"steps": 500}
    study["self_train"] |= {"steps": 300, "loss": {"ignore_thresholds": {"car": 0.75, "pedestrian": 0.65}}}
    study["pseudo_labels"] = {"score_thresholds": {"car": 0.2, "pedestrian": 0.15}, "shards": 2}
    del study["track_filter"]
    return study
