"""Stage `generate_pseudo_labels`: run a detector over all training events and keep the confident boxes."""

from __future__ import annotations

import logging
import shutil
import zipfile
from collections.abc import Callable, Mapping
from collections.abc import Sequence as SequenceOf
from pathlib import Path

import numpy as np
import numpy.typing as npt

from leod.boxes.kept_labels import KeptLabels
from leod.config.schema import HardwareConfig, NonNegativeInt, PositiveInt
from leod.config.settings import GenerateSettings
from leod.errors import ConfigError, DataError
from leod.files import atomic_file, file_digest, locked, remove_leftovers
from leod.inference.devices import prepare_for_inference
from leod.inference.merge import detect_merged
from leod.inference.views import views_of
from leod.models.checkpoint import load_detector
from leod.provenance import Stopwatch
from leod.pseudo_labels.filtering import ScoreThresholds, select_pseudo_labels
from leod.pseudo_labels.predictions import SequencePredictions, write_predictions
from leod.pseudo_labels.thresholds import read_thresholds
from leod.reuse import FinishedResults, key
from leod.sampling.inference_stream import deal_out
from leod.sequences.frame_boxes import FrameBoxes
from leod.sequences.sequence import Sequence, open_split

logger = logging.getLogger(__name__)


def generate_pseudo_labels(
    checkpoint: Path,
    sequences: Path,
    labels: Path,
    output: Path,
    settings: GenerateSettings,
    shard: NonNegativeInt = 0,
    shards: PositiveInt = 1,
    hardware: HardwareConfig = HardwareConfig(),  # noqa: B008  (immutable)
    thresholds: Path | None = None,
) -> None:
    """Run a detector over all training events with test-time augmentation and keep the confident boxes.

    This is what there is before tracking (LEOD paper, Sec. 3.2 and 3.3). Each view's detections pass the score
    thresholds and the box filter in pixels of the (halved) frame. They are then carried back to the true frames,
    enlarged to the full sensor, and merged. Frames with kept ground truth get no predictions unless
    ``settings.use_ground_truth`` is False. The sequences are divided among the shards by length: longest first, dealt
    back and forth.

    A sequence that is done is kept in ``<output>.parts/`` at once, so a run that was killed goes on with the next one.
    The finished file has a second name in ``.finished-<output>/``; where Snakemake has deleted it, it is put back.

    Args:
        checkpoint: The detector, `model.ckpt`.
        sequences: Folder of the data set.
        labels: The split of record, `labels.json`.
        output: HDF5 file to write, see `leod.pseudo_labels.predictions`.
        settings: Views, thresholds, post-processing.
        shard: Which share of the sequences, from 0.
        shards: Number of shares.
        hardware: How the machine is used.
        thresholds: What `choose_thresholds` wrote; its thresholds take the place of those in ``settings``.

    Raises:
        ConfigError: There is no such shard, or no thresholds are given.
        DataError: Sequences, labels or checkpoint are damaged or do not belong together.
        ResourceError: Out of memory or disk.
        LockedError: Another process makes the same shard.
    """
    stopwatch = Stopwatch()
    output = Path(output)
    if not 0 <= shard < shards:
        raise ConfigError(f"shard {shard} of {shards} does not exist; shards are counted from 0")
    if thresholds is not None:
        chosen_thresholds = read_thresholds(thresholds, settings.sequence.classes)
        settings = settings.model_copy(update={"score_thresholds": chosen_thresholds})
    if settings.score_thresholds is None:
        raise ConfigError("there are no score thresholds: give them in the settings, or a file of choose-thresholds")
    kept = KeptLabels.read(labels)
    train = open_split(sequences, "train", settings.sequence)
    chosen = [train[position] for position in sorted(deal_out([s.num_frames for s in train], shards)[shard])]
    forbidden = {sequence.name: _frames_without_predictions(sequence, kept, settings) for sequence in chosen}

    parts_folder = output.with_name(f"{output.name}.parts")
    with locked(parts_folder):
        remove_leftovers(parts_folder)
        finished_folder = output.with_name(f".finished-{output.name}")
        remove_leftovers(output.parent, of={output.name, finished_folder.name})
        try:
            detector = file_digest(checkpoint).hex()
        except FileNotFoundError:
            raise DataError(checkpoint, "the checkpoint does not exist. Train the detector first.") from None
        keys = {sequence.name: _key(detector, settings, sequence, forbidden[sequence.name]) for sequence in chosen}
        parts = _Parts(parts_folder, keys)
        inputs = {"shard": [shard, shards], "parts": list(keys.values())}
        finished = FinishedResults(finished_folder, key("generate_pseudo_labels", settings, inputs))
        if not finished.restore(output.parent):
            remaining = [sequence for sequence in chosen if not parts.holds(sequence)]
            if len(remaining) < len(chosen):
                logger.info("%d of %d sequences are done already", len(chosen) - len(remaining), len(chosen))
            if remaining:
                _detect(checkpoint, remaining, settings, hardware, forbidden, parts)
            provenance = stopwatch.provenance(
                "generate_pseudo_labels",
                settings,
                {"checkpoint": checkpoint, "sequences": sequences, "labels": labels}
                | ({} if thresholds is None else {"thresholds": thresholds}),
            )
            write_predictions(
                output,
                (parts.read(sequence) for sequence in chosen),
                (settings.sequence.sensor.height, settings.sequence.sensor.width),
                provenance | {"shard": shard, "shards": shards},
            )
            finished.keep([output])
    shutil.rmtree(parts_folder, ignore_errors=True)
    logger.info("%s: predictions of %d sequences", output, len(chosen))


def _frames_without_predictions(
    sequence: Sequence, kept: KeptLabels, settings: GenerateSettings
) -> npt.NDArray[np.int64]:
    """Frames that get no predictions: those with kept ground truth, and those that are skipped at the start."""
    skipped = np.arange(min(settings.skip_first_frames, sequence.num_frames), dtype=np.int64)
    labelled = kept.indices_within(sequence.name, len(sequence.labelled_frames))
    if not settings.use_ground_truth:
        return skipped
    return np.union1d(skipped, sequence.labelled_frames[labelled])


def _detect(
    checkpoint: Path,
    sequences: SequenceOf[Sequence],
    settings: GenerateSettings,
    hardware: HardwareConfig,
    forbidden: dict[str, npt.NDArray[np.int64]],
    parts: _Parts,
) -> None:
    """Run the detector and keep every sequence's predictions as soon as it is complete."""
    detector = load_detector(checkpoint, settings.model, settings.sequence)
    results = detect_merged(
        prepare_for_inference(detector, hardware),
        sequences,
        settings.sequence,
        settings.detection,
        views=views_of(settings.views),
        merging=settings.merging,
        to_labels=_label_maker(settings),
        full_sensor=True,
        num_workers=hardware.num_workers,
        description="pseudo-labels",
    )
    for sequence, found in results:
        parts.write(sequence, found.select(~np.isin(found.frame_indices, forbidden[sequence.name])))


def _label_maker(settings: GenerateSettings) -> Callable[[npt.NDArray[np.float32]], np.ndarray]:
    thresholds = ScoreThresholds.from_settings(settings.score_thresholds or {}, settings.sequence.classes)
    frame_size = settings.sequence.frame_size

    def to_labels(detections: npt.NDArray[np.float32]) -> np.ndarray:
        return select_pseudo_labels(detections, frame_size, thresholds, settings.box_filter)[0]

    return to_labels


def _key(checkpoint: str, settings: GenerateSettings, sequence: Sequence, forbidden: npt.NDArray[np.int64]) -> str:
    """What one sequence's predictions depend on: the detector, its frames, and which of them get no predictions."""
    inputs = {
        "checkpoint": checkpoint,
        "sequence": [sequence.name, sequence.num_frames, sequence.frames_digest().hex()],
        "frames_without_predictions": forbidden.tolist(),
    }
    return key("generate_pseudo_labels", settings, inputs)


class _Parts:
    """Finished sequences of a shard that is not complete yet, one file each.

    Args:
        folder: Where they lie.
        keys: What each sequence's part depends on, by name; parts with another key are made again.
    """

    def __init__(self, folder: Path, keys: Mapping[str, str]) -> None:
        self._folder = folder
        self._keys = keys

    def _path(self, sequence: Sequence) -> Path:
        return self._folder / f"{sequence.name}.npz"

    def holds(self, sequence: Sequence) -> bool:
        """Whether the sequence is done, with the same detector, settings and kept labels."""
        path = self._path(sequence)
        if not path.exists():
            return False
        try:
            with np.load(path, allow_pickle=False) as part:
                return str(part["key"]) == self._keys[sequence.name]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            logger.warning("%s is damaged (%s); the sequence is done again", path, error)
            return False

    def write(self, sequence: Sequence, predictions: FrameBoxes) -> None:
        """Keep the predictions of one sequence, atomically."""
        with atomic_file(self._path(sequence)) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                key=np.array(self._keys[sequence.name]),
                boxes=predictions.boxes,
                frame_indices=predictions.frame_indices,
            )

    def read(self, sequence: Sequence) -> SequencePredictions:
        """Read the predictions of one sequence back.

        Raises:
            DataError: The part is damaged.
        """
        path = self._path(sequence)
        try:
            with np.load(path, allow_pickle=False) as part:
                return SequencePredictions(sequence.name, sequence.num_frames, part["boxes"], part["frame_indices"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(path, f"cannot be read ({error}). Delete it and run again.") from error
