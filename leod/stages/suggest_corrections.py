"""Tool `suggest_corrections`: which pseudo-labels of a round a person should correct first."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence as SequenceOf
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import ValidationError

from leod.boxes.box_files import write_boxes
from leod.boxes.dtypes import LABEL_DTYPE
from leod.boxes.operations import is_ground_truth
from leod.config.schema import MergingConfig, PositiveInt, StudyConfig, ViewsConfig
from leod.config.settings import TrackFilterSettings
from leod.errors import ConfigError, DataError
from leod.files import check_writable, read_json
from leod.labelling.doubtful import ChosenFrame, SequenceDoubts, choose_frames, doubts_of, proposals_at
from leod.labelling.moments import Moment, write_moments
from leod.labelling.origins import origin_of
from leod.options import Argument, FromStudy, Names
from leod.progress import progress
from leod.pseudo_labels.predictions import PredictionsFile, PredictionShards, SequencePredictions
from leod.recordings.discovery import recordings_by_name
from leod.sequences.frame_boxes import FrameBoxes, read_frame_boxes
from leod.sequences.layout import label_file, list_sequences, read_labelled_frames, read_timestamps
from leod.sequences.representations import representation_name
from leod.stages.track_filter import track_sequence

logger = logging.getLogger(__name__)

_SPLIT = "train"
_SETTLING_US = 500_000
"""So long after the first event the detector's memory is empty, and all that it says is doubtful for that reason."""


def _recordings_of(study: StudyConfig) -> Path | None:
    """Folder of the recordings."""
    return study.dataset.recordings


def _sequences_of(study: StudyConfig) -> Path:
    """Folder of the sequences."""
    return study.dataset.sequences


def suggest_corrections(
    round_folder: Annotated[Path, Argument()],
    *,
    output: Path,
    boxes: Path,
    count: PositiveInt = 50,
    apart_s: Annotated[float, Names("--apart")] = 1.0,
    recordings: Annotated[Path | None, FromStudy(_recordings_of)] = None,
    sequences: Annotated[Path | None, FromStudy(_sequences_of)] = None,
    predictions: list[Path] | None = None,
) -> int:
    """Name the moments whose pseudo-labels a person should correct first, and write these pseudo-labels.

    The most doubtful ones come first: high scores without a track, short tracks, views that disagree, low scores,
    interrupted tracks; more of them in one picture count more. What comes back through `import-labels` is ground truth
    from the study's next run on.

    Args:
        round_folder: Results of a self-training round, with dataset/, dataset.json and predictions/.
        output: CSV file of the moments, see `leod.labelling.moments`; for `export-frames`.
        boxes: Folder for a box file of each recording, with the pseudo-labels at its moments, for the person to begin
            with (`export-frames` --boxes … --confidence 0). Not in the folder of the recordings.
        count: Moments that are wanted.
        apart_s: Least seconds between two moments of a recording, and between a moment and a labelled one.
        recordings: Folder of the data set's recordings, with train/.
        sequences: Folder of the sequences that were made of them.
        predictions: The round's predictions, where they are not in its folder (an arm may share another's).

    Returns:
        Number of moments.

    Raises:
        ConfigError: An option is out of range or missing, or files would be written beside the recordings.
        DataError: Files are missing or damaged or do not belong together, nothing tells which recording a sequence was
            made from, or corrections would not reach the training.
        ResourceError: The disk is full or not writable.
    """
    if not (math.isfinite(apart_s) and apart_s >= 0):
        raise ConfigError(f"--apart {apart_s}: expected seconds, at least 0")
    if recordings is None or sequences is None:
        raise ConfigError(
            "--recordings and --sequences are not given, and the study has none. Boxes are written beside recordings; "
            "a data set of sequences alone cannot be corrected."
        )
    found = _Round(Path(round_folder), Path(sequences), Path(recordings), predictions)
    _refuse_recordings_folder(Path(boxes), Path(recordings))
    check_writable(output)
    check_writable(Path(boxes) / "boxes.csv")
    with PredictionShards(found.shards) as shards:
        doubts = [
            found.doubts(source, shards[source.name])
            for source in progress(found.sources, "looking for doubts", unit="sequence")
        ]
    apart = max(math.ceil(apart_s * 1e6 / found.settings.sequence.window_us), 1)
    chosen = choose_frames(doubts, count, apart, found.settings.sequence.classes)
    if not chosen:
        raise DataError(
            found.dataset,
            "has no doubtful pseudo-label at a moment that can be labelled: nothing to correct. A smaller --apart "
            "leaves more moments.",
        )
    moments = [found.moment(doubts[each.sequence].name, each) for each in chosen]
    _write_boxes(Path(boxes), doubts, chosen, moments, found.settings.sequence.classes)
    write_moments(Path(output), moments)
    recordings_named = len({moment.recording for moment in moments})
    logger.info("%s: %d moments of %d recordings; boxes in %s", output, len(moments), recordings_named, boxes)
    found.advise({doubts[each.sequence].name for each in chosen})
    return len(moments)


class _Round:
    """One round's pseudo-labels, with the sequences and recordings that they belong to.

    Args:
        folder: Results of the round.
        sequences: Root of the original data set.
        recordings: Root of its recordings.
        predictions: The shards; None: those in the round's folder.
    """

    def __init__(self, folder: Path, sequences: Path, recordings: Path, predictions: SequenceOf[Path] | None) -> None:
        self.dataset = folder / "dataset"
        self.settings = _settings_of(folder)
        # The second names of finished shards are hidden.
        self.shards = list(predictions or sorted((folder / "predictions").glob("[!.]*.h5")))
        if not self.shards:
            raise DataError(
                folder / "predictions",
                "holds no predictions (*.h5). If this arm uses those of another experiment, name them: --predictions.",
            )
        self._views_agree = _views_agree(self.shards[0])
        config = self.settings.sequence
        self._representation = representation_name(config.representation, config.window_us)
        self.sources = list_sequences(sequences, _SPLIT)
        split = recordings / _SPLIT
        known = recordings_by_name(split)
        self._origins = {source.name: origin_of(source, split, known) for source in self.sources}
        self._times_us = {source.name: read_timestamps(source, self._representation) for source in self.sources}
        self._unlabelled: set[str] = set()

    def doubts(self, source: Path, found: SequencePredictions) -> SequenceDoubts:
        """The doubts of one sequence, of which ``found`` are the predictions.

        Raises:
            DataError: Files are damaged or do not belong together, or labels of the sequence are not kept.
        """
        config, name = self.settings.sequence, source.name
        folder = self.dataset / _SPLIT / name
        if not folder.is_dir():
            raise DataError(folder, "the sequence is not in the round's data set. Run the study again.")
        times_us, origin = self._times_us[name], self._origins[name]
        self._check_same_frames(source, found, len(times_us))
        labels = read_frame_boxes(folder, self._representation, class_count=len(config.classes))
        kept = labels.select(is_ground_truth(labels.boxes))
        labelled = read_labelled_frames(source, self._representation)
        if len(labelled) == 0:
            self._unlabelled.add(name)
        dropped = np.setdiff1d(labelled, kept.labelled_frames)
        if len(dropped):
            raise DataError(
                folder,
                f"keeps {len(kept.labelled_frames)} of the sequence's {len(labelled)} labelled frames: what a person "
                "adds would be subsampled with the others, or left out. Corrections need a study that uses all labels: "
                "labels: [{setting: weakly_supervised, ratio: 1.0}] and pseudo_labels.use_ground_truth: true.",
            )
        pseudo = FrameBoxes(found.boxes, found.frame_indices)
        judged, result = track_sequence(kept, pseudo, self.settings)
        if not _equal(judged, labels):
            raise DataError(
                label_file(folder),
                "its labels are not what the track filter makes of the round's predictions. Run track_filter again.",
            )
        begin_us = max(origin.first_label_us, origin.first_event_us + _SETTLING_US)
        taboo = (times_us < begin_us) | (times_us > origin.last_event_us)
        taboo[labelled] = True
        return doubts_of(name, len(times_us), kept, pseudo, result, self.settings, self._views_agree, taboo)

    def moment(self, name: str, chosen: ChosenFrame) -> Moment:
        """The moment of a frame, on its recording's clock."""
        t_us = int(self._times_us[name][chosen.frame])
        return Moment(self._origins[name].recording, t_us, chosen.reason, chosen.score)

    def advise(self, names: set[str]) -> None:
        """Warn of what the person has to know about the chosen sequences."""
        origins = {name: self._origins[name] for name in sorted(names)}
        shifted = [name for name, origin in origins.items() if (origin.times.unit, origin.times.offset_us) != (None, 0)]
        if shifted:
            times = origins[shifted[0]].times
            unit = "" if times.unit is None else f"--time-unit {times.unit} "
            logger.warning(
                "recording_times puts the clock of %s right, and the moments are on that clock, as box files are: give "
                "export-frames %s--time-offset-us %d, too",
                *(", ".join(shifted), unit, times.offset_us),
            )
        cut = [name for name, origin in origins.items() if origin.ends_at_last_label and name in self._unlabelled]
        if cut:
            logger.warning(
                "windows.train_until is last_label: of %s, which have no label yet, training will see nothing after "
                "the last moment that is labelled. Set it to last_event.",
                ", ".join(cut),
            )

    def _check_same_frames(self, source: Path, found: SequencePredictions, num_frames: int) -> None:
        if found.num_frames != num_frames:
            raise DataError(
                source,
                f"has {num_frames} frames, but had {found.num_frames} when the round's pseudo-labels were made. Run "
                "the study again.",
            )


def _settings_of(folder: Path) -> TrackFilterSettings:
    """The settings with which the round's data set was made."""
    manifest = folder / "dataset.json"
    content = read_json(manifest)
    try:
        provenance = content["provenance"]
        if provenance["stage"] != "track_filter":
            raise KeyError(provenance["stage"])
        return TrackFilterSettings.model_validate(provenance["settings"])
    except (KeyError, TypeError, ValidationError) as error:
        raise DataError(
            manifest, f"does not tell how track_filter made the data set ({error!r:.200}). Run track_filter again."
        ) from None


def _views_agree(shard: Path) -> bool:
    """Whether the scores of the predictions carry how many views agree."""
    with PredictionsFile(shard) as file:
        settings = file.provenance.get("settings", {})
    merging = MergingConfig.model_validate(settings.get("merging", {}))
    views = ViewsConfig.model_validate(settings.get("views", {}))
    several = views.mirror or views.time_reversal
    return merging.method == "weighted_box_fusion" and merging.agreement and several


def _equal(made: FrameBoxes, stored: FrameBoxes) -> bool:
    return np.array_equal(made.frame_indices, stored.frame_indices) and all(
        np.array_equal(made.boxes[name], stored.boxes[name]) for name in LABEL_DTYPE.names
    )


def _refuse_recordings_folder(boxes: Path, recordings: Path) -> None:
    """Pseudo-labels beside the recordings would be taken for ground truth."""
    if boxes.resolve().is_relative_to(recordings.resolve()):
        raise ConfigError(
            f"--boxes {boxes}: lies in the folder of the recordings ({recordings}), where box files are ground truth. "
            "Give another folder."
        )


def _write_boxes(
    folder: Path,
    doubts: SequenceOf[SequenceDoubts],
    chosen: SequenceOf[ChosenFrame],
    moments: SequenceOf[Moment],
    classes: tuple[str, ...],
) -> None:
    """Write the pseudo-labels at the moments, a file for each recording; it is empty where there are none."""
    rows: dict[str, list[np.ndarray]] = {}
    for each, moment in zip(chosen, moments, strict=True):
        sequence = doubts[each.sequence]
        rows.setdefault(sequence.name, []).append(proposals_at(sequence, each.frame, moment.t_us))
    for name, parts in rows.items():
        joined = np.concatenate(parts)
        write_boxes(folder / f"{name}_bbox.csv", joined[np.argsort(joined["t"], kind="stable")], classes)
