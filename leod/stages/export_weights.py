"""Stage `export_weights`: hand a detector back to the published RVT and LEOD code."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import torch

from leod.errors import CheckpointError
from leod.files import atomic_file
from leod.models.checkpoint import read_detector_file
from leod.published.weights import published_record, published_state_dict

logger = logging.getLogger(__name__)


def export_weights(
    checkpoint: Path, output: Path, container: Literal["original", "lightning", "bare"] = "original"
) -> None:
    """Write a detector's weights under the published names.

    Weights that came from a published file get its tensors back exactly: names, order, types and every byte of their
    values, in the same kind of container. What else a Lightning checkpoint held (optimiser, configuration) is not kept.

    Args:
        checkpoint: A detector file, `model.ckpt`.
        output: The file to write.
        container: `lightning` puts the tensors under `state_dict`, as the published scripts expect; `bare` writes the
            state dict itself; `original` does what the imported file did, `lightning` for detectors trained here.

    Raises:
        CheckpointError: The detector file is missing or damaged.
        ResourceError: The disk is full.
    """
    content = read_detector_file(checkpoint)
    published = content.published or {"container": "lightning", "names": None}
    try:
        tensors = published_state_dict(content.state_dict, published["names"])
    except ValueError as error:
        raise CheckpointError(checkpoint, f"cannot be exported: {error}.") from None
    kind = published["container"] if container == "original" else container
    with atomic_file(output) as temporary:
        torch.save(published_record(tensors, kind), temporary)
    logger.info("wrote %d tensors of %s to %s (%s)", len(tensors), content.model.name, output, kind)
