"""Stage `track_filter`: from predictions to a pseudo-labelled data set."""

from __future__ import annotations

import logging
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import h5py
import numpy as np

from leod.boxes.kept_labels import KeptLabels
from leod.boxes.operations import clamp, has_area, is_ground_truth, is_ignored
from leod.config.settings import TrackFilterSettings
from leod.errors import ConfigError, DataError
from leod.files import atomic_directory, locked, remove_leftovers, write_json
from leod.options import Argument
from leod.progress import progress
from leod.provenance import Stopwatch
from leod.pseudo_labels.predictions import PredictionShards
from leod.pseudo_labels.thresholds import read_keep_thresholds
from leod.pseudo_labels.tracking import TrackFilterResult, filter_tracks, weak_boxes
from leod.pseudo_labels.writer import (
    check_sequence,
    count_boxes,
    is_inpainted,
    link_split,
    write_pseudo_labelled,
)
from leod.sequences.frame_boxes import FrameBoxes, read_frame_boxes
from leod.sequences.layout import label_file, list_sequences, read_labelled_frames, representations_dir
from leod.sequences.links import frames_behind
from leod.sequences.representations import representation_file_name, representation_name

logger = logging.getLogger(__name__)

CHECKS = (
    "kept ground truth equals the original in every byte",
    "frames are sorted, unique, within the sequence, and none is without boxes",
    "the number of pseudo-labels equals that of predictions and inpainted boxes",
    "the links to the events lead to files",
)
MAX_NAMES_IN_MESSAGE = 5


@dataclass(frozen=True)
class _Layout:
    """Names and sizes that all sequences of a data set share."""

    representation: str
    frames_file: str
    sensor_size: tuple[int, int]
    classes: tuple[str, ...]

    @classmethod
    def of(cls, settings: TrackFilterSettings) -> _Layout:
        sequence = settings.sequence
        return cls(
            representation_name(sequence.representation, sequence.window_us),
            representation_file_name(sequence.downsample_by_2),
            (sequence.sensor.height, sequence.sensor.width),
            sequence.classes,
        )

    def num_frames(self, sequence_dir: Path) -> int:
        """Number of frames of a sequence.

        Raises:
            DataError: The file with the frames is missing or cannot be read.
        """
        path = frames_behind(representations_dir(sequence_dir) / self.representation / self.frames_file, None)
        try:
            with h5py.File(path, "r") as file:
                return int(file["data"].shape[0])
        except (OSError, KeyError) as error:
            raise DataError(path, f"cannot be read ({error}). Preprocess the sequence again.") from error


def track_filter(
    predictions: Annotated[list[Path], Argument()],
    sequences: Path,
    labels: Path,
    output: Path,
    manifest: Path,
    settings: TrackFilterSettings,
    thresholds: Path | None = None,
) -> None:
    """Mark boxes outside long tracks as ignored, inpaint gaps, and write the pseudo-labelled data set.

    It holds the kept ground truth, the tracked predictions and links to the events. Tracks are judged as in the LEOD
    paper, Sec. 3.3, at the sensor's full resolution. Sequences are read, filtered, written and checked one at a time.
    The folder appears only when all of it was checked.

    Args:
        predictions: All shards of `generate_pseudo_labels`.
        sequences: Folder of the original data set.
        labels: The split of record, `labels.json`.
        output: Folder of the new data set; `val` and `test` become links to the original splits.
        manifest: JSON file with what was kept, ignored and inpainted; written last.
        settings: Tracking rules.
        thresholds: What `choose_thresholds` wrote with ``max_background``; its ``keep`` takes the place of
            ``keep_thresholds`` in ``settings``.

    Raises:
        DataError: Predictions, sequences and labels do not belong together, or a check failed.
        ResourceError: The disk is full or not writable.
        LockedError: Another process writes in the same folder.
    """
    stopwatch = Stopwatch()
    layout = _Layout.of(settings)
    if thresholds is not None:
        settings = _with_keep_thresholds(settings, thresholds)
    kept_labels = KeptLabels.read(labels)
    sources = list_sequences(sequences, "train")
    output = Path(output)
    with locked(output.parent), PredictionShards(predictions) as shards:
        remove_leftovers(output.parent)
        _check_names(predictions, shards, sources, layout)
        accounts = []
        with atomic_directory(output) as folder:
            for source in progress(sources, "track filter", unit="sequence"):
                kept = (
                    _kept_ground_truth(source, kept_labels, layout)
                    if settings.use_ground_truth
                    else FrameBoxes.joined([])
                )
                found = shards[source.name]
                if found.num_frames != layout.num_frames(source):
                    raise DataError(
                        shards.path_of(source.name),
                        f"sequence {source.name!r} had {found.num_frames} frames when the predictions were made and "
                        f"has {layout.num_frames(source)} now. Generate the pseudo-labels again.",
                    )
                pseudo = FrameBoxes(found.boxes, found.frame_indices)
                _check_kept_frames(shards.path_of(source.name), source, pseudo, kept)
                accounts.append(
                    _write(source, folder / "train" / source.name, kept, pseudo, found.num_frames, settings, layout)
                )
            link_split(sequences, folder, "val")
            link_split(sequences, folder, "test")
        provenance = stopwatch.provenance(
            "track_filter",
            settings,
            {"predictions": predictions, "sequences": sequences, "labels": labels}
            | ({} if thresholds is None else {"thresholds": thresholds}),
        )
        write_json(Path(manifest), {"provenance": provenance, **_summary(accounts)})


def refilter_dataset(
    dataset: Annotated[Path, Argument()], output: Path, settings: TrackFilterSettings, manifest: Path | None = None
) -> None:
    """Filter an existing pseudo-labelled data set by tracks, without running the detector again.

    The counterpart of tracking-only post-processing in the public repository Wuziyi616/LEOD, which is meant for data
    sets written without a track filter; for those the result is the same. In a set that was filtered before, inpainted
    boxes are removed and made anew, but a box that was ignored has lost its class for good: it stays ignored and takes
    no part in tracking. Such a set can therefore only be filtered more strictly; to filter it less strictly, run
    `track_filter` on its predictions.

    Args:
        dataset: The pseudo-labelled data set, ours or LEOD's.
        output: Folder of the new data set; its links lead to the original events.
        settings: Tracking rules; ``use_ground_truth`` does not matter.
        manifest: JSON file with what was kept, ignored and inpainted; if none is given, none is written.

    Raises:
        ConfigError: The track filter is switched off, or ``output`` is ``dataset``.
        DataError: The data set is damaged, or a check failed.
        ResourceError: The disk is full or not writable.
        LockedError: Another process writes in the same folder.
    """
    stopwatch = Stopwatch()
    dataset, output = Path(dataset), Path(output)
    if not settings.track_filter.enabled:
        raise ConfigError("track_filter.enabled is false: there is nothing to do. Set it to true.")
    if output.resolve() == dataset.resolve():
        raise ConfigError(f"{output}: a data set cannot be filtered into its own folder. Choose another output.")
    layout = _Layout.of(settings)
    with locked(output.parent):
        remove_leftovers(output.parent)
        accounts = []
        with atomic_directory(output) as folder:
            for source in progress(list_sequences(dataset, "train"), "track filter", unit="sequence"):
                boxes = read_frame_boxes(source, layout.representation, class_count=len(layout.classes))
                boxes = boxes.select(~is_inpainted(boxes.boxes))
                truth = is_ground_truth(boxes.boxes)
                accounts.append(
                    _write(
                        source,
                        folder / "train" / source.name,
                        boxes.select(truth),
                        boxes.select(~truth),
                        layout.num_frames(source),
                        settings,
                        layout,
                    )
                )
            link_split(dataset, folder, "val")
            link_split(dataset, folder, "test")
        if manifest is not None:
            provenance = stopwatch.provenance("refilter_dataset", settings, {"dataset": dataset})
            write_json(Path(manifest), {"provenance": provenance, **_summary(accounts)})


def track_sequence(
    kept: FrameBoxes, pseudo: FrameBoxes, settings: TrackFilterSettings
) -> tuple[FrameBoxes, TrackFilterResult]:
    """Filter one sequence by tracks.

    Args:
        kept: Kept ground truth in pixels of the full sensor; ignored boxes among it belong to no track, and in frames
            that it knows to be empty nothing is inpainted.
        pseudo: Pseudo-labels in pixels of the full sensor; ignored ones among them are left as they are.
        settings: Tracking rules.

    Returns:
        All boxes of the pseudo-labelled sequence, and the verdict on the boxes that were tracked: kept ground truth
        and pseudo-labels, without ignored boxes, by frame, ground truth first.
    """
    known = is_ignored(pseudo.boxes)
    tracked = kept.select(~is_ignored(kept.boxes)).merge(pseudo.select(~known))
    sensor_size = (settings.sequence.sensor.height, settings.sequence.sensor.width)
    # Ground truth is stored as it came; pseudo-labels were cut when they were made, and cutting again would round.
    inside = tracked.boxes.copy()
    truth = is_ground_truth(inside)
    inside[truth] = clamp(inside[truth], sensor_size)
    weak = weak_boxes(tracked.boxes, settings.track_filter.keep_thresholds, settings.sequence.classes)
    result = filter_tracks(FrameBoxes(inside, tracked.frame_indices), sensor_size, settings.track_filter, weak)
    result = result.outside(kept.empty_frames)
    judged = result.apply(tracked)
    # The ground truth as it came, ignored boxes in their places.
    return kept.merge(judged.select(~is_ground_truth(judged.boxes))).merge(pseudo.select(known)), result


def _with_keep_thresholds(settings: TrackFilterSettings, thresholds: Path) -> TrackFilterSettings:
    """The settings with what was chosen as the thresholds for keeping."""
    keep = read_keep_thresholds(thresholds, settings.sequence.classes)
    rules = settings.track_filter.model_copy(update={"keep_thresholds": keep})
    return settings.model_copy(update={"track_filter": rules})


def _kept_ground_truth(source: Path, kept_labels: KeptLabels, layout: _Layout) -> FrameBoxes:
    """The rows of the kept labelled frames, as they are in the original file."""
    labelled_frames = read_labelled_frames(source, layout.representation)
    kept = kept_labels.indices_within(source.name, len(labelled_frames))
    boxes = read_frame_boxes(source, layout.representation, kept, len(layout.classes))
    if not is_ground_truth(boxes.boxes).all():
        raise DataError(
            label_file(source),
            "a kept labelled frame has boxes with t = 0, which marks pseudo-labels. Give the original data set as "
            "the sequences, not a pseudo-labelled one.",
        )
    if not has_area(clamp(boxes.boxes, layout.sensor_size)).all():
        height, width = layout.sensor_size
        raise DataError(
            label_file(source),
            f"a kept box has no area inside the sensor of {height} x {width} pixels (height x width). Check the data "
            "set's sensor size, or preprocess the recording again.",
        )
    return boxes


def _check_names(paths: SequenceOf[Path], shards: PredictionShards, sources: SequenceOf[Path], layout: _Layout) -> None:
    """Check that the predictions are those of exactly the train split's sequences."""
    expected, found = {source.name for source in sources}, set(shards.names)
    for names, problem in (
        (sorted(expected - found), "have no predictions; pass all shards, or generate the pseudo-labels again"),
        (sorted(found - expected), "have predictions but are not in the train split; generate the pseudo-labels again"),
    ):
        if names:
            shown = ", ".join(names[:MAX_NAMES_IN_MESSAGE]) + (", …" if len(names) > MAX_NAMES_IN_MESSAGE else "")
            raise DataError(paths[0].parent if paths else Path(), f"{len(names)} sequences ({shown}) {problem}.")
    if shards.sensor_size != layout.sensor_size:
        raise DataError(
            paths[0],
            f"was made for a sensor of {shards.sensor_size} pixels (height, width), the settings say "
            f"{layout.sensor_size}. Generate the pseudo-labels again with the same data set.",
        )


def _check_kept_frames(path: Path, source: Path, pseudo: FrameBoxes, kept: FrameBoxes) -> None:
    both = np.intersect1d(pseudo.frame_indices, kept.labelled_frames)
    if len(both):
        raise DataError(
            path,
            f"sequence {source.name!r} has predictions in frame {both[0]}, which has kept ground truth "
            f"({len(both)} such frames). They were made with other kept labels; generate the pseudo-labels again.",
        )


def _write(
    source: Path,
    destination: Path,
    kept: FrameBoxes,
    pseudo: FrameBoxes,
    num_frames: int,
    settings: TrackFilterSettings,
    layout: _Layout,
) -> dict[str, Any]:
    """Filter, write and check one sequence; returns its account for the manifest."""
    labels, result = track_sequence(kept, pseudo, settings)
    write_pseudo_labelled(source, destination, layout.representation, layout.frames_file, labels)
    check_sequence(
        destination,
        layout.representation,
        layout.frames_file,
        num_frames,
        kept,
        len(pseudo) + len(result.inpainted),
        len(layout.classes),
    )
    class_count = len(layout.classes)
    found = count_boxes(pseudo.boxes, class_count)
    passed = count_boxes(labels.boxes[labels.boxes["t"] == 0], class_count)
    inpainted = np.bincount(result.inpainted_class_ids, minlength=class_count)
    weak = pseudo.select(weak_boxes(pseudo.boxes, settings.track_filter.keep_thresholds, layout.classes))
    by_class = {
        "ground_truth": count_boxes(kept.boxes, class_count),
        "kept": passed,
        "ignored": found - passed,
        "inpainted": inpainted,
        "weak": count_boxes(weak.boxes, class_count),
    }
    return {
        "name": source.name,
        "frames": num_frames,
        "labelled_frames": len(kept.labelled_frames),
        "pseudo_labelled_frames": len(np.unique(labels.frame_indices[labels.boxes["t"] == 0])),
        "ignored_before": int(is_ignored(pseudo.boxes).sum()),
        **{
            kind: dict(zip(layout.classes, (int(count) for count in counts), strict=True))
            for kind, counts in by_class.items()
        },
    }


def _summary(accounts: SequenceOf[dict[str, Any]]) -> dict[str, Any]:
    """Totals, then every sequence's account."""
    totals: dict[str, Any] = {"sequences": len(accounts)}
    for kind in ("frames", "labelled_frames", "pseudo_labelled_frames", "ignored_before"):
        totals[kind] = sum(account[kind] for account in accounts)
    for kind in ("ground_truth", "kept", "ignored", "inpainted", "weak"):
        totals[kind] = {name: sum(account[kind][name] for account in accounts) for name in accounts[0][kind]}
    logger.info("%d sequences: %s", len(accounts), {kind: totals[kind] for kind in ("kept", "ignored", "inpainted")})
    return {"checks": list(CHECKS), "totals": totals, "sequences": list(accounts)}
