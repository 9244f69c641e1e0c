"""Stage `import_weights`: bring a published RVT or LEOD checkpoint into the pipeline."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

from leod import __version__
from leod.config.schema import ModelConfig, SequenceConfig
from leod.models.checkpoint import DetectorFile, write_detector_file
from leod.options import Argument
from leod.published.weights import recognise

logger = logging.getLogger(__name__)


def import_weights(
    checkpoint: Annotated[Path, Argument()],
    output: Path,
    model: ModelConfig | None = None,
    sequence: SequenceConfig | None = None,
) -> None:
    """Turn released weights into a detector of this project; says which model and data set they belong to.

    Args:
        checkpoint: Lightning checkpoint or bare state dict of RVT or LEOD. Nothing in it is executed.
        output: The detector file to write, usually called `model.ckpt`.
        model: The network to expect; without it, whichever of the published ones it is.
        sequence: The frames and classes to expect; without them, those of the published data set that it belongs to.

    Raises:
        CheckpointError: The checkpoint cannot be read or does not fit; the message has a table of what differs.
        ResourceError: The disk is full.
    """
    weights = recognise(checkpoint, model, sequence)
    provenance = {
        "stage": "import_weights",
        "inputs": {"checkpoint": str(checkpoint)},
        "versions": {"leod": __version__},
    }
    write_detector_file(
        output, DetectorFile(weights.model, weights.sequence, weights.state_dict, provenance, weights.published)
    )
    purpose = weights.dataset or f"the given data set with {len(weights.sequence.classes)} classes"
    logger.info("%s holds %s for %s; written to %s", checkpoint, weights.model.name, purpose, output)
