"""Optional loggers: one logged run however often training is resumed."""

from __future__ import annotations

import pytest

from leod.config.schema import HardwareConfig
from leod.errors import ConfigError
from leod.training.curves import TrainingCurves
from leod.training.loggers import build_loggers


def test_curves_leave_unknown_values_empty_and_sort_by_step(tmp_path):
    curves = TrainingCurves(("loss", "AP"))
    curves.record(20, {"loss": 1.5, "unknown": 3.0})
    curves.record(10, {"loss": 2.5})
    curves.record(20, {"AP": 0.25})
    resumed = TrainingCurves(("loss", "AP"), curves.state)
    resumed.write(tmp_path / "training.csv")
    assert (tmp_path / "training.csv").read_text() == "step,loss,AP\n10,2.5,\n20,1.5,0.25\n"


def test_no_logger_needs_no_package(tmp_path):
    assert build_loggers(HardwareConfig(), tmp_path, {}, "run", 1) == []


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_missing_package_is_named(name, tmp_path, monkeypatch):
    def missing(*_, **__):
        raise ModuleNotFoundError("no")

    kind = {"tensorboard": "TensorBoardLogger", "wandb": "WandbLogger"}[name]
    monkeypatch.setattr(f"leod.training.loggers.{kind}", missing)
    with pytest.raises(ConfigError, match=f"pip install {name}"):
        build_loggers(HardwareConfig(loggers=(name,)), tmp_path, {}, "run", 1)


def test_tensorboard_hides_what_a_resumed_run_repeats(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for first, last in ((1, 6), (4, 8)):
        (logger,) = build_loggers(HardwareConfig(loggers=("tensorboard",)), tmp_path, {"a": 1}, "run", first)
        for step in range(first, last):
            logger.log_metrics({"loss": float(10 * first + step)}, step=step)
        logger.finalize("success")
    events = EventAccumulator(str(tmp_path / "logs" / "tensorboard"))
    events.Reload()
    logged = [(event.step, event.value) for event in events.Scalars("loss")]
    assert logged == [(1, 11.0), (2, 12.0), (3, 13.0), (4, 44.0), (5, 45.0), (6, 46.0), (7, 47.0)]
