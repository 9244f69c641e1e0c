"""The detector file `model.ckpt`: weights together with what they are the weights of.

Written by torch.save, read with weights_only=True, so that opening somebody else's file runs no code of theirs.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from leod.config.schema import ModelConfig, SequenceConfig, Settings
from leod.errors import CheckpointError
from leod.files import atomic_file
from leod.models.detector import Detector, build_detector
from leod.tables import aligned

FORMAT = "leod-detector"
FORMAT_VERSION = 1
_DATA_SETTINGS = ("time_reversal_label_offset", "wrap_counts")
"""Settings that concern the data only: a detector works whatever they are."""


@dataclass(frozen=True)
class DetectorFile:
    """Everything in a `model.ckpt`."""

    model: ModelConfig
    sequence: SequenceConfig
    state_dict: dict[str, Tensor]
    provenance: dict[str, Any] = field(default_factory=dict)
    published: dict[str, Any] | None = None
    """For imported weights: container and key order of the published file (see `leod.published.weights`)."""


def save_detector(path: Path, detector: Detector, provenance: Mapping[str, Any] | None = None) -> None:
    """Write a detector's weights and description, atomically.

    Args:
        path: Usually `round_r/model.ckpt`.
        detector: The detector.
        provenance: JSON data that says what it was made from.

    Raises:
        ResourceError: The disk is full.
    """
    state = {name: tensor.detach().cpu() for name, tensor in detector.state_dict().items()}
    write_detector_file(path, DetectorFile(detector.model, detector.sequence, state, dict(provenance or {})))


def write_detector_file(path: Path, content: DetectorFile) -> None:
    """Write a `model.ckpt`, atomically.

    Raises:
        ResourceError: The disk is full.
    """
    with atomic_file(path) as temporary:
        torch.save(_record(content), temporary)


def detector_file_bytes(content: DetectorFile) -> bytes:
    """The bytes of a `model.ckpt`, the same for the same content: a file on disk has its own name in it."""
    buffer = io.BytesIO()
    torch.save(_record(content), buffer)
    return buffer.getvalue()


def _record(content: DetectorFile) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": content.model.model_dump(mode="json"),
        "sequence": _sequence_part(content.sequence).model_dump(mode="json"),
        "provenance": content.provenance,
        "published": content.published,
        "state_dict": content.state_dict,
    }


def read_detector_file(path: Path) -> DetectorFile:
    """Read a `model.ckpt` without building the detector; tensors are on the CPU.

    Raises:
        CheckpointError: The file is missing, damaged, or no detector file.
    """
    path = Path(path)
    check_container(path)
    try:
        record = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(path, f"{_NOT_OURS} (it cannot be read safely: {first_line(error)})") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise CheckpointError(path, _NOT_OURS)
    if record["format_version"] > FORMAT_VERSION:
        raise CheckpointError(path, "was written by a newer version of leod. Update leod to read it.")
    try:
        return DetectorFile(
            model=ModelConfig(**record["model"]),
            sequence=SequenceConfig(**record["sequence"]),
            state_dict=record["state_dict"],
            provenance=record["provenance"],
            published=record["published"],
        )
    except (KeyError, TypeError, ValidationError) as error:
        raise CheckpointError(path, f"is a detector file, but its description is wrong: {error}") from None


def load_detector(
    path: Path,
    expected_model: ModelConfig | None = None,
    expected_sequence: SequenceConfig | None = None,
    device: torch.device | str = "cpu",
) -> Detector:
    """Build the detector of a `model.ckpt`.

    Args:
        path: The file.
        expected_model: If given, the network must be of this size (its name does not matter).
        expected_sequence: If given, the detector must be made for such sequences.
        device: Where the detector shall live.

    Raises:
        CheckpointError: The file is missing, damaged, or belongs to another model, classes or event representation; the
            message has a table of what differs.
    """
    content = read_detector_file(path)
    differences = [
        *(_compare(content.model, expected_model, ignored=("name",)) if expected_model is not None else []),
        *(_compare_sequences(content.sequence, expected_sequence) if expected_sequence is not None else []),
    ]
    if differences:
        raise CheckpointError(
            path,
            "belongs to another detector. Use this study's checkpoint, or give the study the checkpoint's settings.\n"
            + difference_table(differences),
        )
    detector = build_detector(content.model, content.sequence)
    load_weights(path, detector, content.state_dict)
    return detector.to(device)


def load_weights(path: Path, detector: Detector, state_dict: Mapping[str, Tensor]) -> None:
    """Copy weights into a detector.

    Args:
        path: The file they come from, for the message.
        detector: Receives the weights.
        state_dict: Our names → tensors.

    Raises:
        CheckpointError: Names or shapes are not the detector's; the message has a table of what differs.
    """
    own = {name: tuple(tensor.shape) for name, tensor in detector.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in state_dict.items()}
    differences = [
        (name, given.get(name, "missing"), own.get(name, "not there"))
        for name in dict.fromkeys((*own, *given))
        if own.get(name) != given.get(name)
    ]
    if differences:
        raise CheckpointError(path, "its tensors are not those of the detector:\n" + difference_table(differences))
    detector.load_state_dict(dict(state_dict))


def check_container(path: Path) -> None:
    """Check the container of a file written by torch.save, every byte of it.

    PyTorch itself does not look at the checksums that it writes.

    Raises:
        CheckpointError: The file is missing, no such container, or damaged.
    """
    if not path.is_file():
        raise CheckpointError(path, "the file does not exist. Run the stage that makes it, or correct the path.")
    try:
        with zipfile.ZipFile(path) as container:
            damaged = container.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise CheckpointError(
            path, f"is damaged or no checkpoint ({first_line(error)}). Get it again: delete it and rerun its stage."
        ) from None
    if damaged is not None:
        raise CheckpointError(
            path, f"is damaged: wrong checksum of {damaged}. Delete it and rerun the stage that makes it."
        )


def difference_table(differences: list[tuple[str, Any, Any]], limit: int = 12) -> str:
    """Lay out rows of (setting, in the checkpoint, expected) as a text table of at most ``limit`` rows."""
    rows = [("setting", "checkpoint", "expected")]
    rows += [(name, str(found), str(wanted)) for name, found, wanted in differences[:limit]]
    lines = [f"  {line}" for line in aligned(rows)]
    if len(differences) > limit:
        lines.append(f"  ... and {len(differences) - limit} more")
    return "\n".join(lines)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type if it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)


_NOT_OURS = (
    "is no detector file of leod. Published RVT and LEOD checkpoints have to be brought in with import_weights first"
)


def _sequence_part(sequence: SequenceConfig) -> SequenceConfig:
    return SequenceConfig(**{name: getattr(sequence, name) for name in SequenceConfig.model_fields})


def _compare(
    found: Settings, expected: Settings, ignored: tuple[str, ...], prefix: str = ""
) -> list[tuple[str, Any, Any]]:
    """Differing leaves of two settings of the same class."""
    differences = []
    for name in type(found).model_fields:
        left, right = getattr(found, name), getattr(expected, name)
        if name in ignored or left == right:
            continue
        if isinstance(left, Settings) and type(left) is type(right):
            differences += _compare(left, right, ignored, f"{prefix}{name}.")
        else:
            differences.append((prefix + name, left, right))
    return differences


def _compare_sequences(found: SequenceConfig, expected: SequenceConfig) -> list[tuple[str, Any, Any]]:
    return _compare(found, _sequence_part(expected), ignored=_DATA_SETTINGS)
