"""Stage `import_split`: turn a released, pickled split of LEOD into our split of record."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Literal

from leod.boxes.kept_labels import KeptLabels, read_released_split
from leod.config.schema import NonNegativeInt, PositiveFraction, PositiveInt, Settings
from leod.errors import DataError
from leod.options import Argument, FromOptions
from leod.progress import progress
from leod.provenance import Stopwatch
from leod.sequences.layout import list_sequences, read_labels

logger = logging.getLogger(__name__)


class ImportSplitSettings(Settings):
    """What a released split does not say about itself.

    Args:
        setting: How its labels were chosen; the released ssod_*.pkl are weakly supervised.
        ratio: Share of the labels that it keeps, e.g. 0.01.
        split_offset: Which of the possible shares.
        history: Frames that precede a sequence's first kept labelled frame, itself included.
    """

    setting: Literal["weakly_supervised", "semi_supervised"]
    ratio: PositiveFraction
    split_offset: NonNegativeInt = 0
    history: PositiveInt | None = None


def import_split(
    split: Annotated[Path, Argument()],
    output: Path,
    settings: Annotated[ImportSplitSettings, FromOptions(ImportSplitSettings)],
    sequences: Path | None = None,
) -> None:
    """Convert a released split of LEOD into labels.json. Nothing in the pickle can run code.

    Args:
        split: The pickle, e.g. LEOD's `data/genx_utils/splits/gen1/ssod_0.010-off0.pkl`.
        output: The `labels.json` to write.
        settings: What to note about the split's origin.
        sequences: Root of the preprocessed data set; if given, the split is checked against its train split, and
            sequences that the split does not list are added as unlabelled.

    Raises:
        DataError: The file is not a split, asks for foreign code, or does not fit the data set.
    """
    stopwatch = Stopwatch()
    kept = read_released_split(split)
    inputs = {"split": split}
    if sequences is not None:
        kept = _fit_to(split, kept, sequences)
        inputs["sequences"] = sequences
    imported = KeptLabels(
        sequences=kept,
        setting=settings.setting,
        ratio=settings.ratio,
        split_offset=settings.split_offset,
        history=settings.history,
        provenance=stopwatch.provenance("import_split", settings, inputs),
    )
    imported.write(output)
    logger.info("imported %d kept labelled frames of %d sequences", imported.labelled_frames, len(kept))


def _fit_to(split: Path, kept: dict[str, tuple[int, ...]], sequences: Path) -> dict[str, tuple[int, ...]]:
    folders = {folder.name: folder for folder in list_sequences(sequences, "train")}
    foreign = sorted(set(kept) - set(folders))
    if foreign:
        raise DataError(
            split,
            f"{len(foreign)} of its {len(kept)} sequences are not in {Path(sequences) / 'train'}, e.g. {foreign[0]!r}. "
            "It belongs to another data set, or the data set is incomplete.",
        )
    for name, indices in progress(kept.items(), "checking labels", unit="sequence"):
        available = len(read_labels(folders[name]))
        if indices and indices[-1] >= available:
            raise DataError(
                split,
                f"keeps labelled frame {indices[-1]} of sequence {name!r}, which has only {available}. The sequences "
                "were preprocessed differently from those that the split was made for.",
            )
    unlisted = sorted(set(folders) - set(kept))
    if unlisted:
        logger.warning("%d sequences are not in the split and stay unlabelled, e.g. %s", len(unlisted), unlisted[0])
    return {name: kept.get(name, ()) for name in folders}
