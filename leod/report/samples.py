"""Frames that a report shows: detections and pseudo-labels of each round."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as SequenceOf
from pathlib import Path

import numpy as np

from leod.boxes.kept_labels import KeptLabels
from leod.config.schema import DetectionConfig, HardwareConfig
from leod.config.settings import ReportSettings
from leod.drawing.pictures import DARK, LIGHT, BoxKind, Theme, compose, kind_of, paint_frame
from leod.inference.devices import prepare_for_inference
from leod.inference.recurrent import detect_frames
from leod.models.checkpoint import load_detector
from leod.report.results import Picture, SampleFrame
from leod.sequences.layout import list_sequences
from leod.sequences.sequence import Sequence

_PICTURE_WIDTH = 448
_MOST_ROUNDS = 4
_MOST_BOXES = 40
"""A picture of more boxes shows nothing."""

_Layers = list[tuple[np.ndarray, BoxKind | None]]


def detection_samples(
    detectors: SequenceOf[tuple[int, Path]], settings: ReportSettings, hardware: HardwareConfig
) -> list[SampleFrame]:
    """Labelled frames of the evaluated split with the detections of each round.

    Args:
        detectors: Round and checkpoint, by round; of many rounds the first ones and the last one are shown.
        settings: The study; ``report`` says how many frames of how many sequences.
        hardware: Where the detectors run.
    """
    config = settings.dataset.sequence_config()
    chosen = list(_chosen_frames(settings, settings.evaluate.split, lambda sequence: sequence.labelled_frames))
    if not chosen:
        return []
    detection = DetectionConfig(confidence_threshold=settings.report.confidence_threshold)
    found: dict[int, list[dict[int, np.ndarray]]] = {}
    for round, checkpoint in _some(detectors):
        detector = prepare_for_inference(load_detector(checkpoint, settings.model, config), hardware)
        found[round] = [detect_frames(detector, sequence, frames, detection) for sequence, frames in chosen]
    samples = []
    for number, (sequence, frames) in enumerate(chosen):
        for frame in frames:
            truth = (_labels_at(sequence, frame), BoxKind.GROUND_TRUTH)
            layers: dict[str, _Layers] = {
                f"round {round}" + (" (supervised)" if round == 0 else ""): [
                    truth,
                    (by_sequence[number][frame], BoxKind.DETECTION),
                ]
                for round, by_sequence in found.items()
            }
            samples.append(_sample(sequence, frame, layers, settings))
    return samples


def pseudo_label_samples(
    datasets: SequenceOf[tuple[int, Path]], labels: Path, settings: ReportSettings
) -> list[SampleFrame]:
    """Frames of the train split with hidden ground truth and the pseudo-labels of each round.

    Args:
        datasets: Round and the pseudo-labelled data set it was trained on, by round.
        labels: The experiment's `labels.json`.
        settings: The study.
    """
    if not datasets:
        return []
    config = settings.dataset.sequence_config()
    kept = KeptLabels.read(labels)

    def hidden(sequence: Sequence) -> np.ndarray:
        indices = kept.indices_within(sequence.name, len(sequence.labelled_frames))
        return np.delete(sequence.labelled_frames, indices)

    samples = []
    for sequence, frames in _chosen_frames(settings, "train", hidden):
        pseudo_labelled = {
            round: Sequence(dataset / "train" / sequence.name, config) for round, dataset in _some(datasets)
        }
        for frame in frames:
            truth = (_labels_at(sequence, frame), BoxKind.GROUND_TRUTH)
            layers: dict[str, _Layers] = {
                f"pseudo-labels of round {round}": [truth, (_labels_at(labelled, frame), None)]
                for round, labelled in pseudo_labelled.items()
            }
            samples.append(_sample(sequence, frame, layers, settings))
    return samples


def _some(rounds: SequenceOf[tuple[int, Path]]) -> list[tuple[int, Path]]:
    return [*rounds[: _MOST_ROUNDS - 1], *rounds[_MOST_ROUNDS - 1 :][-1:]]


def _chosen_frames(
    settings: ReportSettings, split: str, candidates: Callable[[Sequence], np.ndarray]
) -> Iterator[tuple[Sequence, list[int]]]:
    """The first sequences that have candidates early on, each with the ones that show most boxes."""
    config, wanted = settings.dataset.sequence_config(), settings.report
    chosen = 0
    for path in list_sequences(settings.dataset.sequences, split):
        if chosen == wanted.sample_sequences:
            return
        sequence = Sequence(path, config)
        frames = candidates(sequence)
        frames = frames[frames < wanted.sample_span]
        counts = np.array([len(_labels_at(sequence, int(frame))) for frame in frames])
        if not counts.sum():
            continue
        # Among equals the later one: the detector has seen more by then.
        fullest = np.lexsort((-frames, -counts))[: wanted.sample_frames]
        chosen += 1
        yield sequence, sorted(int(frames[index]) for index in fullest if counts[index])


def _labels_at(sequence: Sequence, frame: int) -> np.ndarray:
    """Labels of a frame, none where it is not labelled."""
    position = int(np.searchsorted(sequence.labelled_frames, frame))
    if position < len(sequence.labelled_frames) and sequence.labelled_frames[position] == frame:
        return sequence.frame_labels(position)
    return sequence.labels[:0]


def _sample(sequence: Sequence, frame: int, layers: dict[str, _Layers], settings: ReportSettings) -> SampleFrame:
    shown = sequence.read_frames(frame, frame + 1)[0]
    scale = max(1, round(_PICTURE_WIDTH / shown.shape[2]))
    caption = f"{sequence.timestamps_us[frame] * 1e-6:.2f} s"

    def strongest(boxes: np.ndarray) -> np.ndarray:
        scores = boxes["objectness"] * boxes["class_confidence"]
        return boxes[np.sort(np.argsort(-scores, kind="stable")[:_MOST_BOXES])]

    def draw(boxes: _Layers, theme: Theme) -> np.ndarray:
        boxes = [(strongest(rows), kind) for rows, kind in boxes]
        kinds = {kind if kind is not None else kind_of(box) for rows, kind in boxes for box in rows}
        legend = [kind for kind in BoxKind if kind in kinds]
        return compose(paint_frame(shown, theme, scale), boxes, settings.dataset.classes, scale, caption, legend, theme)

    def titled(title: str, boxes: _Layers) -> str:
        most = max(len(rows) for rows, _ in boxes)
        return title if most <= _MOST_BOXES else f"{title}: the {_MOST_BOXES} strongest of {most} boxes"

    pictures = [Picture(titled(title, boxes), draw(boxes, LIGHT), draw(boxes, DARK)) for title, boxes in layers.items()]
    return SampleFrame(f"{sequence.name}, {caption}", pictures)
