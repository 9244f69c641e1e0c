"""Optional loggers: one logged run however often training is resumed."""

from __future__ import annotations

import pytest

from leod.errors import ConfigError
from leod.training.curves import TrainingCurves
from leod.training.loggers import open_loggers


def test_curves_leave_unknown_values_empty_and_sort_by_step(tmp_path):
    curves = TrainingCurves(("loss", "AP"))
    curves.record(20, {"loss": 1.5, "unknown": 3.0})
    curves.record(10, {"loss": 2.5})
    curves.record(20, {"AP": 0.25})
    resumed = TrainingCurves(("loss", "AP"), curves.state)
    resumed.write(tmp_path / "training.csv")
    assert (tmp_path / "training.csv").read_text() == "step,loss,AP\n10,2.5,\n20,1.5,0.25\n"


def test_no_logger_needs_no_package(tmp_path):
    with open_loggers((), tmp_path, {}, "run", 1) as loggers:
        assert loggers == []


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_missing_package_is_named(name, tmp_path, monkeypatch):
    def missing(*_, **__):
        raise ModuleNotFoundError("no")

    kind = {"tensorboard": "TensorBoardLogger", "wandb": "WandbLogger"}[name]
    monkeypatch.setattr(f"leod.training.loggers.{kind}", missing)
    with pytest.raises(ConfigError, match=f"pip install {name}"), open_loggers((name,), tmp_path, {}, "run", 1):
        pass


def test_tensorboard_hides_what_a_resumed_run_repeats(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for first, last in ((1, 6), (4, 8)):
        with open_loggers(("tensorboard",), tmp_path, {"a": 1}, "run", first) as (logger,):
            for step in range(first, last):
                logger.log_metrics({"loss": float(10 * first + step)}, step=step)
    events = EventAccumulator(str(tmp_path / "logs" / "tensorboard"))
    events.Reload()
    logged = [(event.step, event.value) for event in events.Scalars("loss")]
    assert logged == [(1, 11.0), (2, 12.0), (3, 13.0), (4, 44.0), (5, 45.0), (6, 46.0), (7, 47.0)]


@pytest.mark.slow
def test_attempts_and_trainings_of_one_process_are_told_apart_by_weights_and_biases(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name, run_id, loss in (("round_0", "first", 1.0), ("round_0", "first", 2.0), ("round_1", "second", 3.0)):
        with open_loggers(("wandb",), tmp_path / name, {"a": 1}, run_id, 1) as (logger,):
            logger.log_metrics({"loss": loss}, step=1)
            assert logger.experiment.summary["loss"] == loss
        assert wandb.run is None
    runs = {name: [path.name for path in (tmp_path / name).rglob("run-*.wandb")] for name in ("round_0", "round_1")}
    assert runs == {"round_0": ["run-first.wandb"] * 2, "round_1": ["run-second.wandb"]}
