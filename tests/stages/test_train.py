"""Real trainings of a tiny detector: what they write, and that nothing is lost when they are interrupted."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pandas
import pytest
import torch
from train_scenario import CPU, LABELLED_FRAMES, settings, write_dataset

from leod.boxes.kept_labels import KeptLabels
from leod.errors import CheckpointError, ConfigError, DataError, LockedError, ResourceError
from leod.files import locked
from leod.models.checkpoint import load_detector
from leod.stages.pretrain import pretrain
from leod.stages.self_train import self_train
from leod.training.checkpoints import WorkingCheckpoints
from leod.training.control import TrainingControl
from leod.training.module import DetectionTraining

RESULTS = {"model.ckpt", "training.csv", "training.json"}
EVENT_AUGMENTATION = {
    "drop_events": {"probability": 0.5},
    "drop_polarity": 0.3,
    "jitter_counts": {"probability": 0.5},
    "erase": {"probability": 0.5},
}


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("training_data") / "sequences"
    labels = write_dataset(root)
    return root, labels


def weights(output):
    return torch.load(output / "model.ckpt", weights_only=True)["state_dict"]


def assert_equal_weights(output, expected):
    ours, theirs = weights(output), weights(expected)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def assert_equal_results(output, expected):
    assert_equal_weights(output, expected)
    assert (output / "training.csv").read_text() == (expected / "training.csv").read_text()


def files(folder):
    """Names below ``folder``, without the hidden ones directly in it: its lock and the second names of results."""
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    return {name for name in names if not name.startswith((".lock", ".finished"))}


@pytest.fixture(scope="session")
def undisturbed(dataset, tmp_path_factory):
    """Output of an uninterrupted training with the given settings; each is trained once."""
    done = {}

    def train(**changes):
        key = json.dumps(changes, sort_keys=True)
        if key not in done:
            done[key] = tmp_path_factory.mktemp("undisturbed")
            pretrain(*dataset, done[key], settings(**changes), seed=3, hardware=CPU)
        return done[key]

    return train


class Crash(BaseException):
    """Ends a training as abruptly as a kill does, but within the test."""


@pytest.fixture
def crash_at(monkeypatch):
    """Let training crash before its n-th batch (counted from its very beginning), once for each given n."""
    original = DetectionTraining.training_step

    def install(*batches):
        remaining = list(batches)

        def training_step(self, batch, batch_idx):
            if self.batches_done in remaining:
                remaining.remove(self.batches_done)
                raise Crash
            return original(self, batch, batch_idx)

        monkeypatch.setattr(DetectionTraining, "training_step", training_step)

    return install


# --------------------------------------------------------------------------------------------------- what is written


def test_pretraining_writes_exactly_its_results(undisturbed):
    output = undisturbed()
    assert files(output) == RESULTS
    curves = pandas.read_csv(output / "training.csv")
    assert curves["step"].tolist() == list(range(1, 9))
    assert curves["loss"].notna().all()
    assert curves.loc[curves["validation_AP"].notna(), "step"].tolist() == [4, 8]
    record = json.loads((output / "training.json").read_text())
    assert record["provenance"]["seed"] == 3
    assert record["provenance"]["resumed_at"] == []
    assert record["steps"] == 8
    assert record["selected_step"] in (4, 8)
    load_detector(output / "model.ckpt", settings().model, settings().sequence)


def test_training_learns(dataset, undisturbed):
    curves = pandas.read_csv(undisturbed(steps=8, learning_rate=3e-3) / "training.csv")
    fresh = settings()
    assert curves["loss"].iloc[-3:].mean() < curves["loss"].iloc[:3].mean()
    assert curves["learning_rate"].iloc[-1] == pytest.approx(3e-3 / fresh.training.final_divisor)


def test_self_training_uses_all_labels_and_the_previous_detector(dataset, undisturbed, tmp_path, caplog):
    root, _ = dataset
    previous = undisturbed() / "model.ckpt"
    chosen = settings(initial_weights="previous", steps=1, learning_rate=1e-12)
    with caplog.at_level(logging.INFO, logger="leod.sampling"):
        self_train(root, root, tmp_path / "out", chosen, hardware=CPU, previous=previous)
    assert f"training on {3 * len(LABELLED_FRAMES)} kept labelled frames" in caplog.text
    assert files(tmp_path / "out") == RESULTS
    before, after = weights(previous.parent), weights(tmp_path / "out")
    for name in before:
        if "running" not in name and "num_batches" not in name:
            assert torch.allclose(before[name], after[name], atol=1e-6), name


def test_self_training_on_a_set_of_the_published_program_takes_the_frames_from_the_sequences(dataset, tmp_path, caplog):
    root, _ = dataset
    published = tmp_path / "published"
    for sequence in sorted((root / "train").iterdir()):
        copy = published / "train" / sequence.name
        shutil.copytree(sequence, copy)
        frames = next(copy.rglob("*.h5"))
        frames.unlink()
        # As the program leaves them, which was started in another folder with dataset.path=./datasets/gen1/.
        frames.symlink_to(f"./datasets/gen1/train/{sequence.name}/{frames.relative_to(copy)}")
        frames.with_name("timestamps_us.npy").unlink()
    with caplog.at_level(logging.INFO, logger="leod.sequences"):
        self_train(published, root, tmp_path / "out", settings(steps=1), hardware=CPU)
    assert f"the links of 3 of them lead nowhere: their frames are taken from {root}" in caplog.text
    assert files(tmp_path / "out") == RESULTS
    self_train(root, root, tmp_path / "expected", settings(steps=1), hardware=CPU)
    assert_equal_weights(tmp_path / "out", tmp_path / "expected")


def test_self_training_from_previous_needs_a_detector(dataset, tmp_path):
    root, _ = dataset
    with pytest.raises(ConfigError, match="--previous"):
        self_train(root, root, tmp_path, settings(initial_weights="previous"), hardware=CPU)


def test_detector_of_another_size_is_refused(dataset, undisturbed, tmp_path):
    root, _ = dataset
    chosen = settings(initial_weights="previous")
    chosen = chosen.model_copy(update={"model": chosen.model.model_copy(update={"embed_dim": 16})})
    with pytest.raises(CheckpointError, match="embed_dim"):
        self_train(root, root, tmp_path, chosen, hardware=CPU, previous=undisturbed() / "model.ckpt")


def test_weights_of_a_file_instead_of_pretraining(dataset, undisturbed, tmp_path):
    source = undisturbed() / "model.ckpt"
    pretrain(*dataset, tmp_path / "out", settings(from_checkpoint=source), hardware=CPU)
    assert files(tmp_path / "out") == RESULTS
    assert_equal_weights(tmp_path / "out", source.parent)
    assert json.loads((tmp_path / "out" / "training.json").read_text())["steps"] == 0


def test_select_last_takes_the_last_weights(undisturbed):
    validation = settings().training.validation.model_dump()
    last = undisturbed(validation={**validation, "select": "last"})
    record = json.loads((last / "training.json").read_text())
    assert record["selected_step"] == 8
    best = json.loads((undisturbed() / "training.json").read_text())
    assert best["best"]["step"] == best["selected_step"]


def test_best_is_the_highest_and_among_equals_the_earliest(dataset, tmp_path, monkeypatch):
    scores = iter([0.1, 0.3, 0.3, 0.2])
    seen = {}

    def fake_validation(detector, *_):
        ap = next(scores)
        seen[len(seen)] = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
        return dict.fromkeys(("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L"), ap)

    monkeypatch.setattr("leod.training.run.validate", fake_validation)
    validation = {**settings().training.validation.model_dump(), "every_steps": 2}
    pretrain(*dataset, tmp_path, settings(validation=validation), hardware=CPU)
    record = json.loads((tmp_path / "training.json").read_text())
    assert record["selected_step"] == 4
    assert record["last"] == {"step": 8, "metrics": dict.fromkeys(record["last"]["metrics"], 0.2)}
    assert all(torch.equal(tensor, seen[1][name]) for name, tensor in weights(tmp_path).items())


def test_validation_does_not_touch_training(undisturbed):
    validation = {**settings().training.validation.model_dump(), "select": "last"}
    often = undisturbed(validation={**validation, "every_steps": 2})
    once = undisturbed(validation={**validation, "every_steps": 100})
    assert_equal_weights(often, once)


# ---------------------------------------------------------------------------------------------- averaged weights


@pytest.fixture
def record_steps(monkeypatch):
    """The weights that training has before the first step and after every step."""
    recorded = []

    def snapshot(module):
        recorded.append({name: tensor.clone() for name, tensor in module.detector.state_dict().items()})

    def before(name, due):
        original = getattr(TrainingControl, name)

        def hook(self, trainer, pl_module, *arguments):
            if due(self, pl_module):
                snapshot(pl_module)
            return original(self, trainer, pl_module, *arguments)

        monkeypatch.setattr(TrainingControl, name, hook)

    before("on_train_start", lambda control, module: True)
    before("on_train_batch_end", lambda control, module: module.batches_done % control._training.accumulate == 0)
    return recorded


def average_by_hand(recorded, decay):
    average = {name: tensor.double() for name, tensor in recorded[0].items()}
    for step, current in enumerate(recorded[1:], start=1):
        share = min(decay, (1 + step) / (10 + step))
        for name, tensor in current.items():
            average[name] = (
                share * average[name] + (1 - share) * tensor.double() if tensor.is_floating_point() else tensor.double()
            )
    return average


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("changes", [{}, {"accumulate": 2, "precision": "bf16-mixed", "steps": 3}])
def test_average_of_the_weights_is_what_is_validated_and_kept(changes, dataset, tmp_path, record_steps, monkeypatch):
    validated = []

    def fake_validation(detector, *_):
        validated.append({name: tensor.clone() for name, tensor in detector.state_dict().items()})
        return dict.fromkeys(("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L"), 0.1 * len(validated))

    monkeypatch.setattr("leod.training.run.validate", fake_validation)
    decay = 0.4
    pretrain(*dataset, tmp_path, settings(ema_decay=decay, **changes), seed=3, hardware=CPU)
    expected = average_by_hand(record_steps, decay)
    kept = weights(tmp_path)
    for name, tensor in expected.items():
        assert torch.allclose(kept[name].double(), tensor, rtol=1e-5, atol=1e-6), name
        assert torch.equal(kept[name], validated[-1][name])
    assert not torch.allclose(kept["head.stems.0.norm.running_var"], record_steps[-1]["head.stems.0.norm.running_var"])


def test_average_of_the_weights_does_not_touch_training(dataset, undisturbed, tmp_path, record_steps):
    validation = {**settings().training.validation.model_dump(), "select": "last", "every_steps": 2}
    expected = weights(undisturbed(validation=validation))
    record_steps.clear()
    pretrain(*dataset, tmp_path, settings(ema_decay=0.9, validation=validation), seed=3, hardware=CPU)
    assert all(torch.equal(record_steps[-1][name], tensor) for name, tensor in expected.items())
    average = average_by_hand(record_steps, 0.9)
    assert all(
        torch.allclose(tensor.double(), average[name], rtol=1e-5, atol=1e-6)
        for name, tensor in weights(tmp_path).items()
    )


# --------------------------------------------------------------------------------------------------- early stopping

PATIENT = {"every_steps": 2, "patience": 2, "sequence_fraction": 1.0, "detection": {"confidence_threshold": 0.001}}


@pytest.fixture
def scores(monkeypatch):
    """AP that validations come to by step, and the weights that were validated; `train_scenario` has no real ones."""
    seen = {}

    def install(ap_by_step):
        original = TrainingControl._validate

        def remember(self, trainer, module):
            def scored():
                step = self.progress.step
                seen[step] = {name: tensor.clone() for name, tensor in module.detector.state_dict().items()}
                return dict.fromkeys(("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L"), ap_by_step[step])

            self._validation = scored
            original(self, trainer, module)

        monkeypatch.setattr(TrainingControl, "_validate", remember)
        return seen

    return install


def test_training_ends_when_patience_does_and_keeps_the_best(dataset, tmp_path, scores, caplog):
    seen = scores({2: 0.1, 4: 0.3, 6: 0.2, 8: 0.3, 10: 0.9})
    chosen = settings(steps=410, validation=PATIENT, schedule="constant", learning_rate=1e-4)
    with caplog.at_level(logging.INFO, logger="leod.training"):
        pretrain(*dataset, tmp_path, chosen, seed=3, hardware=CPU)
    record = json.loads((tmp_path / "training.json").read_text())
    assert record["stopped_early"] is True
    assert (record["steps"], record["selected_step"], record["last"]["step"]) == (8, 4, 8)
    assert all(torch.equal(tensor, seen[4][name]) for name, tensor in weights(tmp_path).items())
    assert "no better AP in 2 validations: training ends at step 8 of 410" in caplog.text
    curves = pandas.read_csv(tmp_path / "training.csv")
    assert curves.loc[curves["validation_AP"].notna(), "step"].tolist() == [2, 4, 6, 8]
    assert curves.loc[curves["loss"].notna(), "step"].tolist() == [2, 4, 6, 8]
    assert curves["learning_rate"].iloc[-1] == pytest.approx(1e-4)
    assert files(tmp_path) == RESULTS


def test_better_validations_renew_patience(dataset, tmp_path, scores):
    scores({2: 0.3, 4: 0.2, 6: 0.4, 8: 0.1})
    pretrain(*dataset, tmp_path, settings(validation=PATIENT), seed=3, hardware=CPU)
    record = json.loads((tmp_path / "training.json").read_text())
    assert (record["stopped_early"], record["steps"], record["selected_step"]) == (False, 8, 6)


def test_losses_up_to_an_early_end_are_in_the_curves(dataset, tmp_path, scores):
    """Rows of losses follow at a distance of 3 steps here, and training ends between two of them."""
    scores({2: 0.3, 4: 0.2})
    pretrain(*dataset, tmp_path, settings(steps=600, validation={**PATIENT, "patience": 1}), hardware=CPU)
    curves = pandas.read_csv(tmp_path / "training.csv")
    assert curves.loc[curves["loss"].notna(), "step"].tolist() == [3, 4]


@pytest.mark.parametrize("place", ["step 6", "validation", "after validation", "results"])
def test_training_that_ends_early_is_interrupted(place, dataset, tmp_path, scores, crash_at, monkeypatch):
    """With the average of the weights; wherever it is interrupted, it ends at the same step with the same results."""
    chosen = settings(steps=600, validation=PATIENT, schedule="constant", ema_decay=0.9)
    seen = scores({2: 0.1, 4: 0.3, 6: 0.2, 8: 0.3})
    pretrain(*dataset, tmp_path / "expected", chosen, seed=3, hardware=CPU)
    seen.clear()

    def crash(*_):
        raise Crash

    with monkeypatch.context() as patch:
        if place == "step 6":
            crash_at(6)
        elif place == "results":
            patch.setattr("leod.training.results.save_detector", crash)
        else:
            original = TrainingControl._validate

            def validate(self, *arguments):
                if self.progress.step == 8 and place == "validation":
                    raise Crash
                original(self, *arguments)
                if self.progress.step == 8:
                    raise Crash

            patch.setattr(TrainingControl, "_validate", validate)
        with pytest.raises(Crash):
            pretrain(*dataset, tmp_path / "out", chosen, seed=3, hardware=CPU)
    pretrain(*dataset, tmp_path / "out", chosen, seed=3, hardware=CPU)
    assert_equal_results(tmp_path / "out", tmp_path / "expected")
    records = [json.loads((tmp_path / name / "training.json").read_text()) for name in ("out", "expected")]
    names = ("stopped_early", "steps", "selected_step", "best", "last")
    assert [records[0][name] for name in names] == [records[1][name] for name in names]
    assert records[0]["steps"] == 8
    assert files(tmp_path / "out") == RESULTS


@pytest.mark.slow
def test_two_processes_end_early_together(dataset, tmp_path):
    """A detector of so few steps finds nothing: no validation is better than the first."""
    chosen = settings(batch_size=4, steps=40, validation=PATIENT, learning_rate=1e-7, schedule="constant")
    pretrain(*dataset, tmp_path, chosen, seed=3, hardware=CPU.model_copy(update={"devices": 2}))
    assert json.loads((tmp_path / "training.json").read_text())["steps"] == 6


def test_patience_needs_a_best_checkpoint():
    with pytest.raises(ValueError, match="patience = 2: only with select: best"):
        settings(validation={**PATIENT, "select": "last"})


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
@pytest.mark.filterwarnings("ignore")
def test_mixed_precision(precision, dataset, tmp_path):
    pretrain(*dataset, tmp_path, settings(steps=2, precision=precision), hardware=CPU)
    assert files(tmp_path) == RESULTS
    assert all(torch.isfinite(tensor.float()).all() for tensor in weights(tmp_path).values())


def test_accumulated_batches_make_one_step(undisturbed):
    output = undisturbed(accumulate=2, steps=4)
    assert pandas.read_csv(output / "training.csv")["step"].tolist() == [1, 2, 3, 4]


def test_train_split_without_kept_labels_is_an_error(dataset, tmp_path):
    root, labels = dataset
    none = KeptLabels(sequences=dict.fromkeys(KeptLabels.read(labels).sequences, ()), setting="weakly_supervised")
    none.write(tmp_path / "labels.json")
    with pytest.raises(DataError, match="keeps no labelled frame"):
        pretrain(root, tmp_path / "labels.json", tmp_path / "out", settings(), hardware=CPU)
    assert files(tmp_path / "out") == set()


def test_missing_train_split_is_an_error(dataset, tmp_path):
    with pytest.raises(DataError, match="train"):
        pretrain(tmp_path, dataset[1], tmp_path / "out", settings(), hardware=CPU)


def test_diverging_training_says_so(dataset, tmp_path):
    with pytest.raises(ConfigError, match=r"diverged.*Lower the learning rate"):
        pretrain(*dataset, tmp_path, settings(learning_rate=1e30, clip_value=None), hardware=CPU)


def test_two_trainings_never_write_the_same_folder(dataset, tmp_path):
    with locked(tmp_path), pytest.raises(LockedError):
        pretrain(*dataset, tmp_path, settings(), hardware=CPU)


def test_out_of_memory_names_the_settings_that_help(dataset, tmp_path, monkeypatch):
    def no_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(DetectionTraining, "training_step", no_memory)
    with pytest.raises(ResourceError, match=r"batch_size.*sequence_length.*gradient_checkpointing"):
        pretrain(*dataset, tmp_path, settings(), hardware=CPU)


def test_damaged_frames_are_reported_by_a_loader_process_as_data_error(dataset, tmp_path, monkeypatch):
    def unreadable(self, start, stop):
        raise DataError("frames.h5", "cut off: delete it")

    monkeypatch.setattr("leod.sequences.sequence.Sequence.read_frames", unreadable)
    with pytest.raises(DataError) as caught:
        pretrain(*dataset, tmp_path, settings(), hardware=CPU.model_copy(update={"num_workers": 1}))
    assert str(caught.value) == "frames.h5: cut off: delete it"


# ------------------------------------------------------------------------------------------------------ interruption


@pytest.mark.parametrize(
    ("changes", "num_workers", "crashes"),
    [
        ({"sampling": "mixed"}, 0, (1, 4, 7)),  # before the first checkpoint, right after one, late
        ({"sampling": "mixed"}, 2, (5, 6)),
        ({"sampling": "stream"}, 0, (4, 7)),
        ({"sampling": "random"}, 2, (3, 7)),
        ({"accumulate": 2, "steps": 4, "checkpoint_every_steps": 1}, 0, (3, 5, 7)),  # inside and between steps
        ({"ema_decay": 0.9}, 0, (1, 4, 7)),
        ({"augmentation": EVENT_AUGMENTATION}, 2, (5,)),
    ],
)
def test_interrupted_training_ends_with_the_same_weights(
    changes, num_workers, crashes, dataset, undisturbed, tmp_path, crash_at
):
    expected = undisturbed(**changes)
    hardware = CPU.model_copy(update={"num_workers": num_workers})
    crash_at(*crashes)
    for _ in crashes:
        with pytest.raises(Crash):
            pretrain(*dataset, tmp_path, settings(**changes), seed=3, hardware=hardware)
        assert not (tmp_path / "model.ckpt").exists()
    pretrain(*dataset, tmp_path, settings(**changes), seed=3, hardware=hardware)
    assert_equal_results(tmp_path, expected)
    assert files(tmp_path) == RESULTS


def test_only_the_two_newest_checkpoints_are_kept(dataset, tmp_path, crash_at):
    crash_at(7)
    with pytest.raises(Crash):
        pretrain(*dataset, tmp_path, settings(checkpoint_every_steps=1), hardware=CPU)
    assert {name for name in files(tmp_path) if name.endswith(".ckpt")} == {
        "checkpoints/step-000000006.ckpt",
        "checkpoints/step-000000007.ckpt",
    }


@pytest.mark.parametrize("changes", [{}, {"ema_decay": 0.9}])
def test_interrupted_in_a_validation(changes, dataset, undisturbed, tmp_path, monkeypatch):
    def crash(*_):
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr("leod.training.run.validate", crash)
        with pytest.raises(Crash):
            pretrain(*dataset, tmp_path, settings(**changes), seed=3, hardware=CPU)
    assert "checkpoints/step-000000004.ckpt" in files(tmp_path)
    pretrain(*dataset, tmp_path, settings(**changes), seed=3, hardware=CPU)
    assert_equal_results(tmp_path, undisturbed(**changes))
    assert json.loads((tmp_path / "training.json").read_text())["provenance"]["resumed_at"] == [4]


@pytest.mark.parametrize("changes", [{}, {"ema_decay": 0.9}])
def test_interrupted_while_the_results_are_written(changes, dataset, undisturbed, tmp_path, monkeypatch):
    def crash(*_):
        raise Crash

    changes["validation"] = {**settings().training.validation.model_dump(), "select": "last"}
    with monkeypatch.context() as patch:
        patch.setattr("leod.training.results.save_detector", crash)
        with pytest.raises(Crash):
            pretrain(*dataset, tmp_path, settings(**changes), seed=3, hardware=CPU)
    pretrain(*dataset, tmp_path, settings(**changes), seed=3, hardware=CPU)
    assert_equal_results(tmp_path, undisturbed(**changes))


@pytest.fixture
def finished(dataset, tmp_path):
    """A data set of its own, the output of a finished training on it, and that training's results."""
    root = shutil.copytree(dataset[0], tmp_path / "sequences")
    output = tmp_path / "round_0"
    pretrain(root, dataset[1], output, settings(), seed=3, hardware=CPU)
    return root, output, {name: (output / name).read_bytes() for name in RESULTS}


def preprocess_again(split):
    """Replace the frames of a sequence, as other settings do that leave the labels as they are."""
    path = next(split.rglob("event_representations.h5"))
    new = path.with_suffix(".new")
    with h5py.File(path) as old, h5py.File(new, "w") as file:
        file.create_dataset("data", data=old["data"][()] + 1, chunks=old["data"].chunks)
    new.replace(path)


def delete_results(output):
    """What Snakemake does before it starts a job whose end it has not seen."""
    for name in RESULTS:
        (output / name).unlink()


def test_finished_training_whose_results_were_deleted_is_put_back(dataset, finished, crash_at):
    root, output, results = finished
    delete_results(output)
    started = time.time()
    crash_at(0)
    pretrain(root, dataset[1], output, settings(), seed=3, hardware=CPU)
    assert {name: (output / name).read_bytes() for name in RESULTS} == results
    # Snakemake compares times: results have to be newer than what they are made from.
    assert all((output / name).stat().st_mtime >= started - 1 for name in RESULTS)


@pytest.mark.parametrize("change", ["settings", "seed", "frames", "program", "damage", "index"])
def test_finished_training_is_not_put_back_for_another_one(change, dataset, finished, crash_at, monkeypatch, caplog):
    root, output, _ = finished
    chosen, seed = settings(), 3
    if change == "settings":
        chosen = settings(learning_rate=5e-4)
    elif change == "seed":
        seed = 4
    elif change == "frames":
        preprocess_again(root / "train")
    elif change == "program":
        monkeypatch.setattr("leod.reuse.program_digest", lambda: "another version")
    elif change == "damage":
        # The second name is the same file: whoever alters one alters the other.
        with (output / "model.ckpt").open("r+b") as file:
            file.seek(1000)
            file.write(b"damage")
    else:
        (output / ".finished" / "index.json").write_text("[]")
    delete_results(output)
    crash_at(0)
    with pytest.raises(Crash):
        pretrain(root, dataset[1], output, chosen, seed=seed, hardware=CPU)
    assert files(output) == set()
    assert ("are damaged" in caplog.text) == (change in ("damage", "index"))


def test_finished_training_is_put_back_without_hard_links(dataset, tmp_path, crash_at, monkeypatch):
    def no_links(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    pretrain(*dataset, tmp_path, settings(), seed=3, hardware=CPU)
    results = {name: (tmp_path / name).read_bytes() for name in RESULTS}
    (tmp_path / "model.ckpt").write_bytes(b"cut")
    crash_at(0)
    pretrain(*dataset, tmp_path, settings(), seed=3, hardware=CPU)
    assert {name: (tmp_path / name).read_bytes() for name in RESULTS} == results


def test_interrupted_training_does_not_go_on_with_other_frames(dataset, tmp_path, crash_at, caplog):
    root = shutil.copytree(dataset[0], tmp_path / "sequences")
    crash_at(5)
    with pytest.raises(Crash):
        pretrain(root, dataset[1], tmp_path / "out", settings(), seed=3, hardware=CPU)
    preprocess_again(root / "val")
    pretrain(root, dataset[1], tmp_path / "out", settings(), seed=3, hardware=CPU)
    assert "was made with other settings" in caplog.text
    assert json.loads((tmp_path / "out" / "training.json").read_text())["provenance"]["resumed_at"] == []


def test_interrupted_training_is_not_gone_on_with_by_another_program(
    dataset, undisturbed, tmp_path, crash_at, monkeypatch, caplog
):
    crash_at(5)
    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr("leod.reuse.program_digest", lambda: "an older version")
        pretrain(*dataset, tmp_path, settings(), seed=3, hardware=CPU)
    pretrain(*dataset, tmp_path, settings(), seed=3, hardware=CPU)
    assert "by another program" in caplog.text
    assert json.loads((tmp_path / "training.json").read_text())["provenance"]["resumed_at"] == []


def test_damaged_checkpoint_is_set_aside(dataset, undisturbed, tmp_path, crash_at, caplog):
    crash_at(7)
    with pytest.raises(Crash):
        pretrain(*dataset, tmp_path, settings(), seed=3, hardware=CPU)
    newest = max((tmp_path / "checkpoints").glob("*.ckpt"))
    newest.write_bytes(newest.read_bytes()[:-100])
    pretrain(*dataset, tmp_path, settings(), seed=3, hardware=CPU)
    assert_equal_results(tmp_path, undisturbed())
    assert files(tmp_path) == RESULTS | {"checkpoints", f"checkpoints/{newest.name}.damaged"}
    assert f"{newest.name}.damaged" in caplog.text
    assert json.loads((tmp_path / "training.json").read_text())["provenance"]["resumed_at"] == [4]


@pytest.mark.parametrize("change", ["settings", "labels"])
def test_checkpoint_of_another_training_is_set_aside(change, dataset, undisturbed, tmp_path, crash_at, caplog):
    root, labels = dataset
    other = {"settings": settings(), "labels": labels}
    if change == "settings":
        other["settings"] = settings(learning_rate=5e-4)
    else:
        kept = KeptLabels.read(labels)
        other["labels"] = tmp_path / "other_labels.json"
        KeptLabels({name: chosen[1:] for name, chosen in kept.sequences.items()}, kept.setting).write(other["labels"])
    output = tmp_path / "out"
    crash_at(5)
    with pytest.raises(Crash):
        pretrain(root, other["labels"], output, other["settings"], seed=3, hardware=CPU)
    pretrain(root, labels, output, settings(), seed=3, hardware=CPU)
    assert_equal_results(output, undisturbed())
    assert "was made with other settings" in caplog.text


def test_working_checkpoints_on_scratch_storage(dataset, undisturbed, tmp_path, crash_at):
    output, scratch = tmp_path / "study" / "round_0", tmp_path / "scratch"
    hardware = CPU.model_copy(update={"scratch": scratch})
    crash_at(5)
    with pytest.raises(Crash):
        pretrain(*dataset, output, settings(), seed=3, hardware=hardware)
    assert files(output) == set()
    assert len(list(scratch.rglob("*.ckpt"))) == 2
    pretrain(*dataset, output, settings(), seed=3, hardware=hardware)
    assert_equal_results(output, undisturbed())
    assert files(output) == RESULTS
    assert list(scratch.rglob("*")) == []


def test_settings_of_the_machine_may_change_in_between(dataset, undisturbed, tmp_path, crash_at):
    crash_at(5)
    with pytest.raises(Crash):
        pretrain(*dataset, tmp_path, settings(), seed=3, hardware=CPU.model_copy(update={"num_workers": 1}))
    hardware = CPU.model_copy(update={"gradient_checkpointing": True})
    pretrain(*dataset, tmp_path, settings(), seed=3, hardware=hardware)
    assert json.loads((tmp_path / "training.json").read_text())["provenance"]["resumed_at"] == [4]
    expected = weights(undisturbed())
    assert all(torch.allclose(ours, expected[name], atol=1e-5) for name, ours in weights(tmp_path).items())


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_saves_at_the_next_step(number, status, dataset, undisturbed, tmp_path, monkeypatch):
    original = DetectionTraining.training_step

    def training_step(self, batch, batch_idx):
        if self.batches_done == 4:
            os.kill(os.getpid(), number)
        return original(self, batch, batch_idx)

    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(DetectionTraining, "training_step", training_step)
        with pytest.raises(SystemExit) as stopped:
            pretrain(*dataset, tmp_path, settings(), seed=3, hardware=CPU)
    assert stopped.value.code == status
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    pretrain(*dataset, tmp_path, settings(), seed=3, hardware=CPU)
    assert json.loads((tmp_path / "training.json").read_text())["provenance"]["resumed_at"] == [5]
    assert_equal_results(tmp_path, undisturbed())


class WaitingError(Exception):
    """Training has come to waiting to be killed."""


@pytest.mark.parametrize(
    ("place", "accumulate", "step"),
    [("save", 1, 4), ("on_fit_start", 1, 1), ("on_train_start", 1, 1), ("on_train_start", 2, 0)],
)
def test_terminated_training_waits_wherever_the_signal_meets_it(
    place, accumulate, step, dataset, tmp_path, monkeypatch, caplog
):
    """Also after step 3 was asked for requests, and while the handlers are Lightning's."""
    owner = WorkingCheckpoints if place == "save" else TrainingControl
    original, signalled = getattr(owner, place), []

    def terminated(self, *arguments):
        if not signalled:
            signalled.append(os.kill(os.getpid(), signal.SIGTERM))
        return original(self, *arguments)

    def wait():
        raise WaitingError

    monkeypatch.setattr(owner, place, terminated)
    monkeypatch.setattr("leod.training.run.wait_to_be_killed", wait)
    hardware = CPU.model_copy(update={"on_terminate": "wait"})
    with pytest.raises(WaitingError):
        pretrain(*dataset, tmp_path, settings(accumulate=accumulate), seed=3, hardware=hardware)
    assert f"stopped by signal 15; training is saved at step {step}" in caplog.text


def test_end_of_the_time_limit_saves_and_fails(dataset, undisturbed, tmp_path):
    hardware = CPU.model_copy(update={"time_limit_s": 60.0, "save_before_time_limit_s": 60.0})
    attempts = 0
    while not (tmp_path / "model.ckpt").exists() and attempts < 2:
        attempts += 1
        with pytest.raises(ResourceError, match=rf"saved at step {attempts}; run again"):
            pretrain(*dataset, tmp_path, settings(), seed=3, hardware=hardware)
    pretrain(*dataset, tmp_path, settings(), seed=3, hardware=CPU)
    assert_equal_results(tmp_path, undisturbed())


def start_process(dataset, output, variables=None, **hardware):
    arguments = {
        "sequences": str(dataset[0]),
        "labels": str(dataset[1]),
        "output": str(output),
        "settings": settings(steps=30, checkpoint_every_steps=2).model_dump(mode="json", by_alias=True),
        "seed": 3,
        "hardware": {**CPU.model_dump(mode="json"), **hardware},
    }
    script = Path(__file__).with_name("train_scenario.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **(variables or {})}
    return subprocess.Popen(
        [sys.executable, str(script), json.dumps(arguments)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_checkpoint(output, process, minimum_step):
    deadline = time.monotonic() + 120.0
    while time.monotonic() < deadline:
        steps = [int(path.stem.split("-")[1]) for path in (output / "checkpoints").glob("step-*.ckpt")]
        if max(steps, default=0) >= minimum_step:
            return
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    raise AssertionError("no checkpoint appeared")


def test_killed_process_and_waiting_process_go_on_where_they_were(dataset, undisturbed, tmp_path):
    """KILL, then TERM to the whole group with loader processes and `on_terminate: wait`, then a rerun."""
    process = start_process(dataset, tmp_path, num_workers=2)
    wait_for_checkpoint(tmp_path, process, minimum_step=2)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()

    process = start_process(dataset, tmp_path, num_workers=2, on_terminate="wait")
    wait_for_checkpoint(tmp_path, process, minimum_step=6)
    os.killpg(process.pid, signal.SIGTERM)
    os.killpg(process.pid, signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        log = process.communicate(timeout=3.0)[1]
        raise AssertionError(f"ended with {process.returncode}: {log}")
    # It waits by now; a scheduler may repeat itself.
    os.kill(process.pid, signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        raise AssertionError(f"ended: {process.communicate(timeout=1.0)[1]}")
    with pytest.raises(LockedError):
        pretrain(*dataset, tmp_path, settings(), hardware=CPU)
    os.killpg(process.pid, signal.SIGKILL)
    _, log = process.communicate()
    assert "waiting to be killed" in log

    changes = {"steps": 30, "checkpoint_every_steps": 2}
    pretrain(*dataset, tmp_path, settings(**changes), seed=3, hardware=CPU)
    assert_equal_results(tmp_path, undisturbed(**changes))
    assert len(json.loads((tmp_path / "training.json").read_text())["provenance"]["resumed_at"]) == 2


# --------------------------------------------------------------------------------------------------- several processes


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_two_processes_train_like_one(ema_decay, dataset, undisturbed, tmp_path):
    changes = {"batch_size": 4, "steps": 4, "learning_rate": 1e-4, "ema_decay": ema_decay}
    expected = undisturbed(**changes)
    hardware = CPU.model_copy(update={"devices": 2})
    pretrain(*dataset, tmp_path / "two", settings(**changes), seed=3, hardware=hardware)
    assert files(tmp_path / "two") == RESULTS
    ours, theirs = weights(tmp_path / "two"), weights(expected)
    assert all(torch.allclose(ours[name].float(), theirs[name].float(), atol=5e-5) for name in theirs)
    curves, single = (pandas.read_csv(folder / "training.csv") for folder in (tmp_path / "two", expected))
    assert curves["loss"].tolist() == pytest.approx(single["loss"].tolist(), rel=1e-3)
    assert curves["validation_AP"].tolist() == pytest.approx(single["validation_AP"].tolist(), abs=1e-3, nan_ok=True)


def start_tasks(dataset, output, nodes, tasks):
    """Processes with the variables that `srun` gives its tasks, each on a node of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NAME": "pretrain",
        "SLURM_NTASKS": str(tasks),
        "SLURM_NNODES": str(nodes),
        "SLURM_LOCALID": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    return [
        start_process(dataset, output, given | {"SLURM_PROCID": str(i), "SLURM_NODEID": str(i)}, devices=tasks)
        for i in range(nodes)
    ]


@pytest.mark.slow
def test_tasks_on_two_nodes_train_like_two_processes(dataset, tmp_path):
    changes = {"steps": 30, "checkpoint_every_steps": 2}
    processes = start_tasks(dataset, tmp_path / "nodes", nodes=2, tasks=2)
    logs = [process.communicate(timeout=240)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], logs
    hardware = CPU.model_copy(update={"devices": 2})
    pretrain(*dataset, tmp_path / "processes", settings(**changes), seed=3, hardware=hardware)
    assert_equal_results(tmp_path / "nodes", tmp_path / "processes")
    assert files(tmp_path / "nodes") == RESULTS


def test_tasks_that_are_not_divided_equally_are_refused(dataset, tmp_path, monkeypatch):
    for name, value in {"SLURM_NTASKS": "3", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "pretrain"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="3 tasks on 2 nodes"):
        pretrain(*dataset, tmp_path, settings(batch_size=3), hardware=CPU.model_copy(update={"devices": 3}))


@pytest.mark.slow
def test_processes_stop_together_and_one_goes_on(dataset, undisturbed, tmp_path):
    changes = {"batch_size": 4, "steps": 4, "learning_rate": 1e-4, "checkpoint_every_steps": 1}
    hardware = CPU.model_copy(update={"devices": 2, "time_limit_s": 1.0})
    with pytest.raises(ResourceError, match="saved at step 1; run again"):
        pretrain(*dataset, tmp_path, settings(**changes), seed=3, hardware=hardware)
    pretrain(*dataset, tmp_path, settings(**changes), seed=3, hardware=CPU)
    ours, theirs = weights(tmp_path), weights(undisturbed(**changes))
    assert all(torch.allclose(ours[name].float(), theirs[name].float(), atol=5e-5) for name in theirs)
    assert json.loads((tmp_path / "training.json").read_text())["provenance"]["resumed_at"] == [1]


def test_batch_that_cannot_be_divided_is_refused(dataset, tmp_path):
    with pytest.raises(ConfigError, match="batch_size 3 cannot be divided"):
        pretrain(*dataset, tmp_path, settings(batch_size=3), hardware=CPU.model_copy(update={"devices": 2}))
