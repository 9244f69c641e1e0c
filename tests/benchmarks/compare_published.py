"""This project beside the published code of LEOD, with the same weights and the same tensors.

    python tests/benchmarks/compare_published.py prepare FOLDER
    python tests/benchmarks/compare_published.py run FOLDER --code CHECKOUT --python VENV/bin/python

`prepare` makes detectors of Gen1's size with random weights, writes them for both, and makes frames, labels and
sequences. `run` lets both work alternately, each time in a new process on one thread, compares what they give, and
prints medians and ratios. CHECKOUT is github.com/Wuziyi616/LEOD; see `published_code.py` for what its Python needs.

What is measured: a training step (reset of states, backbone, head, loss, backward, clipping, AdamW, schedule) on 5 x 2
frames that are all labelled; detections of one frame with its states carried on, and of 5 x 2 frames; and, with
`--pseudo-labels`, everything from sequences on disk to the pseudo-labelled set, with all four views.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from published_code import measure

from leod.boxes.dtypes import LABEL_DTYPE
from leod.boxes.kept_labels import KeptLabels
from leod.boxes.operations import to_yolox
from leod.config.schema import (
    BoxFilterConfig,
    DetectionConfig,
    HardwareConfig,
    LossConfig,
    TrackFilterConfig,
    TrainingConfig,
    ViewsConfig,
)
from leod.config.settings import GenerateSettings, TrackFilterSettings
from leod.costs.made_up import MadeUpSequences
from leod.inference.devices import prepare_cpu, prepare_for_inference
from leod.inference.recurrent import RecurrentDetector
from leod.models.checkpoint import load_detector, save_detector
from leod.models.detector import Detector, build_detector
from leod.models.loss import DetectionLoss
from leod.published.weights import PUBLISHED_DATASETS, PUBLISHED_MODELS
from leod.sampling.batch import Batch
from leod.sequences.frame_boxes import read_frame_boxes
from leod.sequences.representations import representation_name
from leod.sequences.sequence import Sequence
from leod.stages.export_weights import export_weights
from leod.stages.generate_pseudo_labels import generate_pseudo_labels
from leod.stages.track_filter import track_filter
from leod.training.module import DetectionTraining
from leod.training.processes import Processes

SEQUENCE = PUBLISHED_DATASETS["gen1"]
SIZES = {"rvt-small": "small", "rvt-tiny": "tiny"}
LENGTH, BATCH, BOXES = 5, 2, 6
SEQUENCES, NMS_THRESHOLD, SCORE_THRESHOLD = 4, 0.45, 0.01
BOXES_OF_A_FRAME = 20
EVENTS_PER_PIXEL_S = 9.0
TOLERANCE = 2e-3
"""Of pixels and scores, and relative of losses: operations follow in another order, so that rounding differs."""


# ----------------------------------------------------------------------------------------------------- preparing


def prepare(folder: Path, frames: int) -> None:
    """Write what both work on.

    Args:
        folder: New folder.
        frames: Frames of each of the four sequences.
    """
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    maker = MadeUpSequences(SEQUENCE, 3, EVENTS_PER_PIXEL_S)
    for number in range(SEQUENCES):
        maker.write(folder / "gen1" / "train" / f"sequence-{number}", frames, frames // 2)
    for split in ("val", "test"):
        (folder / "gen1" / split).mkdir()
    names = [f"sequence-{number}" for number in range(SEQUENCES)]
    # All of the few labelled frames: the published code knows only its own lists of kept ones.
    KeptLabels(dict.fromkeys(names, (0, 1)), "fully_supervised", 1.0).write(folder / "labels.json")
    rows = torch.zeros(LENGTH, BATCH, BOXES, 8)
    rows[..., 0] = 1
    rows[..., 1] = torch.randint(20, 200, rows.shape[:3], generator=generator)
    rows[..., 2] = torch.randint(20, 140, rows.shape[:3], generator=generator)
    rows[..., 3:5] = torch.randint(20, 80, (*rows.shape[:3], 2), generator=generator)
    rows[..., 5] = torch.randint(0, len(SEQUENCE.classes), rows.shape[:3], generator=generator)
    rows[..., 6:] = 1
    rates = torch.full((LENGTH, BATCH, SEQUENCE.representation.channels, *SEQUENCE.frame_size), 0.1)
    tensors = {"frames": torch.poisson(rates, generator=generator).to(torch.uint8), "label_rows": rows}
    torch.save(tensors, folder / "tensors.pt")
    cases = []
    for name, published in SIZES.items():
        torch.manual_seed(0)
        detector = build_detector(PUBLISHED_MODELS[name], SEQUENCE)
        with torch.no_grad():
            # Fresh ones are so small that attention would not show in the results.
            for parameter_name, parameter in detector.named_parameters():
                if parameter_name.endswith(".gamma"):
                    parameter.fill_(0.5)
            for output in (*detector.head.class_outputs, *detector.head.objectness_outputs):
                output.weight.normal_(0.0, 2.0)
                output.bias.zero_()
        calibrate(detector, tensors["frames"])
        (folder / name).mkdir()
        save_detector(folder / name / "model.ckpt", detector)
        export_weights(folder / name / "model.ckpt", folder / name / "published.ckpt", "lightning")
        sequence = Sequence(folder / "gen1" / "train" / "sequence-0", SEQUENCE)
        read = torch.from_numpy(sequence.read_frames(0, min(LENGTH * BATCH, frames)))[:, None]
        cases.append(
            {
                "name": name,
                "published": published,
                "confidence_threshold": confidence_threshold(detector, tensors["frames"]),
                "confidence_threshold_of_sequences": confidence_threshold(detector, read),
                "nms_threshold": NMS_THRESHOLD,
                "score_thresholds": [SCORE_THRESHOLD] * len(SEQUENCE.classes),
                "batch_size": SEQUENCES,
            }
        )
    (folder / "cases.json").write_text(json.dumps(cases, indent=2) + "\n")


@torch.no_grad()
def calibrate(detector: Detector, frames: torch.Tensor) -> None:
    """Give batch normalisation the statistics of the frames: with fresh ones all places would look alike."""
    norms = [module for module in detector.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    detector.train()
    for norm in norms:
        # The mean over all passes, of which there is one.
        norm.momentum = None
    features, _ = detector.forward_sequence(frames)
    detector.forward_head([maps.flatten(0, 1) for maps in features])
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


@torch.inference_mode()
def confidence_threshold(detector: Detector, frames: torch.Tensor) -> float:
    """The product of scores that so many boxes of a frame reach before suppression."""
    detector.eval()
    features, _ = detector.forward_sequence(frames)
    predictions, _ = detector.forward_head([maps.flatten(0, 1) for maps in features])
    scores = (predictions[..., 4] * predictions[..., 5:].amax(dim=-1)).flatten()
    return float(scores.topk(BOXES_OF_A_FRAME * frames.shape[0] * frames.shape[1]).values[-1])


# ---------------------------------------------------------------------------------------------------------- ours


class Ours:
    """This project's detector of one size; see `published_code.Published`."""

    def __init__(self, folder: Path, case: dict[str, Any]) -> None:
        self._folder, self._case = folder, case
        self._tensors = torch.load(folder / "tensors.pt", weights_only=True)
        self._detection = DetectionConfig(
            confidence_threshold=case["confidence_threshold"],
            nms_threshold=case["nms_threshold"],
            batch_size=case["batch_size"],
            sequence_length=21,
        )
        self._checkpoint = folder / case["name"] / "model.ckpt"

    def _detector(self) -> Detector:
        return load_detector(self._checkpoint, PUBLISHED_MODELS[self._case["name"]], SEQUENCE)

    def training(self) -> tuple[Callable[[], None], list[float]]:
        """One step of training, and the list to which it adds its loss."""
        training = TrainingConfig(steps=400_000, learning_rate=2e-4, batch_size=BATCH, sequence_length=LENGTH)
        module = DetectionTraining(
            self._detector(), DetectionLoss(LossConfig(), SEQUENCE.classes), training, 0, Processes()
        )
        module.train()
        found = module.configure_optimizers()
        optimizer, schedule = found["optimizer"], found["lr_scheduler"]["scheduler"]
        losses: list[float] = []

        def step() -> None:
            loss = module.training_step(self._batch(), 0)
            loss.backward()
            torch.nn.utils.clip_grad_value_(module.parameters(), training.clip_value)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.item())

        return step, losses

    def _batch(self) -> Batch:
        rows = self._tensors["label_rows"].numpy()
        labels = np.zeros(rows.shape[:-1], LABEL_DTYPE)
        for column, name in enumerate(LABEL_DTYPE.names):
            labels[name] = rows[..., column]
        return Batch(
            frames=self._tensors["frames"],
            is_first=torch.ones(BATCH, dtype=torch.bool),
            targets=torch.from_numpy(to_yolox(labels.ravel()).reshape(LENGTH, BATCH, BOXES, 7)),
            labelled=torch.ones(LENGTH, BATCH, dtype=torch.bool),
            frame_indices=torch.arange(LENGTH)[:, None].expand(LENGTH, BATCH),
            sequence_ids=torch.arange(BATCH),
        )

    def inference(self, frames: torch.Tensor, carried: bool) -> Callable[[], list[torch.Tensor]]:
        """Detections of the frames [L, B, C, H, W]."""
        detector = prepare_for_inference(self._detector(), HardwareConfig(accelerator="cpu", threads=1))
        recurrent = RecurrentDetector(detector, self._detection)
        every = np.ones(tuple(frames.shape[:2]), bool)

        def detect() -> list[torch.Tensor]:
            if not carried:
                recurrent.states = None
            return [torch.from_numpy(rows) for *_, rows in recurrent.detect(frames, every)]

        return detect

    def pseudo_labels(self, output: Path) -> Callable[[], None]:
        """Pseudo-labels of all sequences, from files to the pseudo-labelled set."""
        folder, case = self._folder, self._case
        generate = GenerateSettings(
            sequence=SEQUENCE,
            model=PUBLISHED_MODELS[case["name"]],
            views=ViewsConfig(mirror=True, time_reversal=True),
            detection=self._detection.model_copy(
                update={"confidence_threshold": case["confidence_threshold_of_sequences"]}
            ),
            score_thresholds=dict(zip(SEQUENCE.classes, case["score_thresholds"], strict=True)),
            box_filter=BoxFilterConfig(min_side=5, max_width_fraction=0.9),
            use_ground_truth=True,
            skip_first_frames=0,
        )
        track = TrackFilterSettings(sequence=SEQUENCE, track_filter=TrackFilterConfig(), use_ground_truth=True)

        def work() -> None:
            output.mkdir()
            sequences, labels, predictions = folder / "gen1", folder / "labels.json", output / "0.h5"
            hardware = HardwareConfig(accelerator="cpu", threads=1, num_workers=0)
            generate_pseudo_labels(self._checkpoint, sequences, labels, predictions, generate, hardware=hardware)
            track_filter([predictions], sequences, labels, output / "gen1", output / "manifest.json", track)

        return work


def measure_ours(folder: Path, output: Path, repetitions: int, pseudo_labels: bool) -> None:
    """As `published_code.main` for the other side."""
    prepare_cpu(1)
    results = {}
    for case in json.loads((folder / "cases.json").read_text()):
        ours = Ours(folder, case)
        frames = ours._tensors["frames"]
        found = results[case["name"]] = {}
        if pseudo_labels:
            place = folder / case["name"] / "ours"
            shutil.rmtree(place, ignore_errors=True)
            found["pseudo-labels"] = measure(ours.pseudo_labels(place), 1)
            continue
        step, losses = ours.training()
        step()
        found["training step"] = measure(step, repetitions)
        found["losses"] = losses
        one = ours.inference(frames[:1, :1], carried=True)
        first = one()
        found["inference, 1 frame"] = measure(one, 5 * repetitions)
        several = ours.inference(frames, carried=False)
        all_frames = several()
        found["inference, 5 x 2 frames"] = measure(several, repetitions)
        torch.save([*first, *all_frames], output.with_suffix(f".{case['name']}.pt"))
    output.write_text(json.dumps(results, indent=2) + "\n")


# ------------------------------------------------------------------------------------------------------- comparing


def run(folder: Path, code: Path, python: str, rounds: int, repetitions: int, pseudo_labels: bool) -> None:
    """Let both work alternately, and print how long they took and whether they agree."""
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    kind = "pseudo-labels" if pseudo_labels else "steps"
    options = ["--repetitions", str(repetitions), *(["--pseudo-labels"] if pseudo_labels else [])]
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "theirs": []}
    for number in range(rounds):
        for side in found:
            output = folder / f"{kind}-{side}-{number}.json"
            here = Path(__file__).parent
            command = (
                [sys.executable, here / "compare_published.py", "ours", folder, "--output", output]
                if side == "ours"
                else [python, here / "published_code.py", folder, "--code", code, "--output", output]
            )
            subprocess.run([*map(str, command), *options], check=True, env=environment, stdout=subprocess.DEVNULL)
            found[side].append(json.loads(output.read_text()))
    sys.stdout.write(f"{'':<14}{'':<26}{'ours CPU s':>12}{'theirs CPU s':>14}{'ratio':>8}{'ratio wall':>12}\n")
    for case in json.loads((folder / "cases.json").read_text()):
        name = case["name"]
        for what in found["ours"][0][name]:
            if what == "losses":
                continue
            cpu, wall = (
                [statistics.median(result[name][what][clock] for result in found[side]) for side in found]
                for clock in ("cpu_s", "wall_s")
            )
            sys.stdout.write(
                f"{name:<14}{what:<26}{cpu[0]:>12.4f}{cpu[1]:>14.4f}{cpu[1] / cpu[0]:>8.2f}{wall[1] / wall[0]:>12.2f}\n"
            )
        if pseudo_labels:
            sys.stdout.write(f"{name:<14}{compare_sets(folder / name)}\n")
        else:
            files = [folder / f"{kind}-{side}-0.{name}.pt" for side in found]
            losses = [found[side][0][name]["losses"] for side in found]
            sys.stdout.write(f"{name:<14}{compare_detections(*files)}; {compare_losses(*losses)}\n")


def compare_losses(ours: list[float], theirs: list[float]) -> str:
    """Whether the losses of the steps agree."""
    difference = max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True))
    verdict = "equal" if difference <= TOLERANCE else "DIFFERENT"
    return f"losses of {len(ours)} steps {verdict} (relative difference {difference:.1e})"


def compare_detections(ours: Path, theirs: Path) -> str:
    """Whether the detections of all frames agree."""
    pairs = list(zip(*(torch.load(path, weights_only=True) for path in (ours, theirs)), strict=True))
    boxes = sum(len(b) for _, b in pairs)
    if any(len(a) != len(b) for a, b in pairs):
        return f"DIFFERENT numbers of boxes: {[(len(a), len(b)) for a, b in pairs]}"
    difference = max(float((a - b).abs().max()) for a, b in pairs if len(a))
    verdict = "equal" if difference <= TOLERANCE else "DIFFERENT"
    return f"{boxes} boxes of {len(pairs)} frames {verdict} (difference {difference:.1e})"


def compare_sets(folder: Path) -> str:
    """How many boxes of the pseudo-labelled sets agree.

    Not all do: the published code gives the first frame of each view no boxes.
    """
    representation = representation_name(SEQUENCE.representation, SEQUENCE.window_us)
    counts = {"ours": 0, "theirs": 0, "equal": 0}
    for sequence in sorted((folder / "ours" / "gen1" / "train").iterdir()):
        sets = {}
        for side in ("ours", "theirs"):
            found = read_frame_boxes(folder / side / "gen1" / "train" / sequence.name, representation)
            rows = np.stack([found.frame_indices, *(found.boxes[name] for name in ("class_id", "x", "y", "w", "h"))], 1)
            sets[side] = rows
            counts[side] += len(rows)
        for frame in np.unique(sets["ours"][:, 0]):
            ours, theirs = (rows[rows[:, 0] == frame] for rows in sets.values())
            if len(theirs):
                # Classes are whole numbers: rows of two classes are further apart than the tolerance.
                apart = np.abs(ours[:, None] - theirs).max(axis=2)
                counts["equal"] += int((apart.min(axis=1) <= TOLERANCE).sum())
    return f"{counts['equal']} boxes equal of {counts['ours']} of ours and {counts['theirs']} of theirs"


def main() -> None:
    """Prepare, or measure one side, or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    preparing = commands.add_parser("prepare", help="write weights, tensors and sequences")
    preparing.add_argument("--frames", type=int, default=42, help="of each of the four sequences")
    ours = commands.add_parser("ours", help="measure this project")
    ours.add_argument("--output", type=Path, required=True)
    both = commands.add_parser("run", help="measure both alternately")
    both.add_argument("--code", type=Path, required=True, help="checkout of the published code")
    both.add_argument("--python", default=sys.executable, help="Python that has what the published code needs")
    both.add_argument("--rounds", type=int, default=3, help="processes of each side")
    for command in (preparing, ours, both):
        command.add_argument("folder", type=Path)
    for command in (ours, both):
        command.add_argument("--repetitions", type=int, default=3, help="calls in a process")
        command.add_argument("--pseudo-labels", action="store_true", help="pseudo-labels instead of single steps")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    if arguments.command == "prepare":
        prepare(folder, arguments.frames)
    elif arguments.command == "ours":
        measure_ours(folder, arguments.output.resolve(), arguments.repetitions, arguments.pseudo_labels)
    else:
        run(
            folder,
            arguments.code.resolve(),
            arguments.python,
            arguments.rounds,
            arguments.repetitions,
            arguments.pseudo_labels,
        )


if __name__ == "__main__":
    main()
