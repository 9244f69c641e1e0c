"""Published RVT and LEOD checkpoints: reading them safely, recognising them, renaming their tensors, and back.

The published files (public repositories uzh-rpg/RVT and Wuziyi616/LEOD) are Lightning checkpoints that hold Python
objects of packages we do not have; those are replaced by inert placeholders, so nothing in a file is ever executed.
"""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from leod.config.schema import ModelConfig, SensorSize, SequenceConfig
from leod.errors import CheckpointError
from leod.models.checkpoint import check_container, difference_table, first_line
from leod.models.detector import build_detector

Container = Literal["lightning", "bare"]
"""A Lightning checkpoint with the tensors under `state_dict`, or the tensors themselves."""

PUBLISHED_PREFIX = "mdl."
"""In front of every tensor name of the published files."""

PUBLISHED_MODELS = {
    model.name: model
    for model in (
        ModelConfig(name="rvt-base", embed_dim=64, dim_head=32, fpn_depth=0.67),
        ModelConfig(name="rvt-small", embed_dim=48, dim_head=24, fpn_depth=0.33),
        ModelConfig(name="rvt-tiny", embed_dim=32, dim_head=32, fpn_depth=0.33),
    )
}

PUBLISHED_DATASETS = {
    "gen1": SequenceConfig(
        sensor=SensorSize(height=240, width=304),
        classes=("car", "pedestrian"),
        time_reversal_label_offset=-1,
    ),
    "one_mpx": SequenceConfig(
        sensor=SensorSize(height=720, width=1280),
        classes=("pedestrian", "two-wheeler", "car"),
        downsample_by_2=True,
        time_reversal_label_offset=-2,
        partition_split_32=2,
    ),
}
"""As in `configs/datasets`, by the files' names."""

# ------------------------------------------------------------------------------------------------------- names

_SAME: tuple[tuple[str, str], ...] = (("", ""),)
_ATTENTION = (("self_attn.", "attn."), ("mlp.net.0.0.", "mlp.fc1."), ("mlp.net.2.", "mlp.fc2."), ("", ""))
_CONVOLUTION = (("bn.", "norm."), ("", ""))


def _under(published: str, ours: str, parts: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((published + theirs, ours + own) for theirs, own in parts)


_CSP = (
    *_under("conv1.", "main.", _CONVOLUTION),
    *_under("conv2.", "bypass.", _CONVOLUTION),
    *_under("conv3.", "merge.", _CONVOLUTION),
    *_under("m.#.conv1.", "bottlenecks.#.0.", _CONVOLUTION),
    *_under("m.#.conv2.", "bottlenecks.#.1.", _CONVOLUTION),
)
_STAGE = (
    *_under("downsample_cf2cl.", "downsample.", _SAME),
    *_under("att_blocks.#.att_window.", "blocks.#.window.", _ATTENTION),
    *_under("att_blocks.#.att_grid.", "blocks.#.grid.", _ATTENTION),
    *_under("lstm.conv1x1.", "lstm.gates.", _SAME),
)
_NECK = (
    *_under("lateral_conv0.", "reduce_32.", _CONVOLUTION),
    *_under("C3_p4.", "top_down_16.", _CSP),
    *_under("reduce_conv1.", "reduce_16.", _CONVOLUTION),
    *_under("C3_p3.", "top_down_8.", _CSP),
    *_under("bu_conv2.", "downsample_8.", _CONVOLUTION),
    *_under("C3_n3.", "bottom_up_16.", _CSP),
    *_under("bu_conv1.", "downsample_16.", _CONVOLUTION),
    *_under("C3_n4.", "bottom_up_32.", _CSP),
)
_HEAD = (
    *_under("cls_convs.#.#.", "class_branches.#.#.", _CONVOLUTION),
    *_under("reg_convs.#.#.", "box_branches.#.#.", _CONVOLUTION),
    *_under("cls_preds.#.", "class_outputs.#.", _SAME),
    *_under("reg_preds.#.", "box_outputs.#.", _SAME),
    *_under("obj_preds.#.", "objectness_outputs.#.", _SAME),
    *_under("stems.#.", "stems.#.", _CONVOLUTION),
)
NAME_TABLE = (
    *_under("backbone.stages.#.", "backbone.stages.#.", _STAGE),
    *_under("fpn.", "neck.", _NECK),
    *_under("yolox_head.", "head.", _HEAD),
)
"""Beginnings of tensor names, published → ours; # is an index. The first one that fits counts."""


def _rename(name: str, table: Iterable[tuple[re.Pattern[str], str]]) -> str | None:
    for pattern, template in table:
        found = pattern.match(name)
        if found:
            return template.replace("#", "{}").format(*found.groups()) + name[found.end() :]
    return None


def _patterns(pairs: Iterable[tuple[str, str]]) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(re.escape(source).replace(r"\#", r"(\d+)")), target) for source, target in pairs)


_TO_OURS = _patterns(NAME_TABLE)
_TO_PUBLISHED = _patterns((ours, published) for published, ours in NAME_TABLE)


def our_name(published: str) -> str | None:
    """Our name of a published tensor name without prefixes, or None if there is none."""
    return _rename(published, _TO_OURS)


def published_name(ours: str) -> str | None:
    """The published name, without prefixes, of one of our tensors, or None if there is none."""
    return _rename(ours, _TO_PUBLISHED)


def _without_prefixes(name: str) -> str:
    """Drop what Lightning (mdl), DistributedDataParallel (module) and torch.compile (_orig_mod) put into names."""
    parts = [part for part in name.split(".") if part not in ("module", "_orig_mod")]
    return ".".join(parts).removeprefix(PUBLISHED_PREFIX)


# ----------------------------------------------------------------------------------------------------- reading


class _Placeholder:
    """Stands for an object of a class that we do not load. Takes everything, does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> _Placeholder:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _dictionary(*_: Any) -> dict[Any, Any]:
    return {}


_CONTAINERS = {"collections.defaultdict": _dictionary}
"""Harmless types whose content the restricted unpickler fills in itself, so that a placeholder will not do."""


def read_tensors(path: Path) -> tuple[Container, dict[str, Tensor]]:
    """Read the tensors of a checkpoint without running any code of it.

    PyTorch's restricted unpickler reads the file; every class or function that it does not know becomes a placeholder.

    Args:
        path: A Lightning checkpoint or a bare state dict, written by torch.save of PyTorch 1.6 or later.

    Returns:
        How the file holds the tensors, and names → CPU tensors in the file's order.

    Raises:
        CheckpointError: The file is missing, damaged, no checkpoint, or cannot be read safely.
    """
    path = Path(path)
    check_container(path)
    try:
        unknown = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        placeholders = [(_CONTAINERS.get(name, _Placeholder), name) for name in unknown]
        with torch.serialization.safe_globals(placeholders):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            path,
            f"cannot be read without running code that it contains ({first_line(error)}). If you trust it, load it "
            "where it was made and save checkpoint['state_dict'] with torch.save.",
        ) from None
    container: Container = "bare"
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        container, content = "lightning", content["state_dict"]
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(path, "holds no weights: expected a Lightning checkpoint or a state dict.")
    strangers = [name for name, value in content.items() if not isinstance(name, str) or not isinstance(value, Tensor)]
    if strangers:
        raise CheckpointError(path, f"is no state dict: {strangers[0]!r} is not a named tensor.")
    return container, {name: tensor.detach() for name, tensor in content.items()}


# ------------------------------------------------------------------------------------------------- recognising


@dataclass(frozen=True)
class ImportedWeights:
    """A published checkpoint, recognised and renamed."""

    model: ModelConfig
    sequence: SequenceConfig
    dataset: str | None
    """Name of the published data set it belongs to; None if the caller said what to expect."""

    state_dict: dict[str, Tensor]
    """Our names → tensors as they are in the file."""

    published: dict[str, Any]
    """What `published_state_dict` needs to restore the file: its container and its names in order."""


def _shape_settings(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Read the settings that shapes give away off a state dict with our names."""

    def dimension(name: str, axis: int) -> int | str:
        shape = shapes.get(name, ())
        return shape[axis] if len(shape) > axis else "missing"

    def count(pattern: str) -> int:
        return len({found.group(1) for found in map(re.compile(pattern).match, shapes) if found})

    stages = range(count(r"backbone\.stages\.(\d+)\."))
    return {
        "channels of a frame": dimension("backbone.stages.0.downsample.conv.weight", 1),
        "channels of the stages": tuple(
            dimension(f"backbone.stages.{stage}.downsample.conv.weight", 0) for stage in stages
        ),
        "blocks of the stages": tuple(count(rf"backbone\.stages\.{stage}\.blocks\.(\d+)\.") for stage in stages),
        "bottlenecks of the neck": count(r"neck\.top_down_8\.bottlenecks\.(\d+)\."),
        "classes": dimension("head.class_outputs.0.weight", 0),
    }


def _config_settings(model: ModelConfig, sequence: SequenceConfig) -> dict[str, Any]:
    """The same settings as a configuration gives them."""
    return {
        "channels of a frame": sequence.representation.channels,
        "channels of the stages": model.stage_dims,
        "blocks of the stages": model.blocks_per_stage,
        "bottlenecks of the neck": round(3 * model.fpn_depth),
        "classes": len(sequence.classes),
    }


def _differences(
    found: Mapping[str, tuple[int, ...]], model: ModelConfig, sequence: SequenceConfig
) -> list[tuple[str, Any, Any]]:
    """Differing settings where shapes give them away, otherwise differing tensors."""
    found_settings, expected_settings = _shape_settings(found), _config_settings(model, sequence)
    settings = [
        (name, found_settings[name], expected_settings[name])
        for name in found_settings
        if found_settings[name] != expected_settings[name]
    ]
    if settings:
        return settings
    with torch.device("meta"):
        detector = build_detector(model, sequence)
    expected = {name: tuple(tensor.shape) for name, tensor in detector.state_dict().items()}
    return [
        (name, found.get(name, "missing"), expected.get(name, "not there"))
        for name in dict.fromkeys((*expected, *found))
        if found.get(name) != expected.get(name)
    ]


def recognise(path: Path, model: ModelConfig | None = None, sequence: SequenceConfig | None = None) -> ImportedWeights:
    """Read a published checkpoint and find out which network and data set it belongs to.

    Shapes tell sizes apart by their channels and data sets by their number of classes.

    Args:
        path: A published checkpoint, see `read_tensors`.
        model: Expect this network; None: one of the published ones.
        sequence: Expect these frames and classes; None: one of the published data sets.

    Raises:
        CheckpointError: The file cannot be read, or its tensors are not those expected; the message has a table of what
            differs from the nearest possibility.
    """
    container, tensors = read_tensors(path)
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        plain = _without_prefixes(name)
        ours = our_name(plain) or plain
        if ours in renamed:
            raise CheckpointError(path, f"holds {plain!r} twice, under different prefixes.")
        renamed[ours] = tensor
    found = {name: tuple(tensor.shape) for name, tensor in renamed.items()}

    models = [model] if model is not None else list(PUBLISHED_MODELS.values())
    datasets = {None: sequence} if sequence is not None else PUBLISHED_DATASETS
    nearest: tuple[list[tuple[str, Any, Any]], ModelConfig, str | None] | None = None
    for candidate in models:
        for dataset, frames in datasets.items():
            differences = _differences(found, candidate, frames)
            if not differences:
                return ImportedWeights(
                    model=candidate,
                    sequence=frames,
                    dataset=dataset,
                    state_dict=renamed,
                    published={"container": container, "names": list(tensors)},
                )
            if nearest is None or len(differences) < len(nearest[0]):
                nearest = (differences, candidate, dataset)
    differences, candidate, dataset = nearest
    wanted = f"model {candidate.name!r}" + (f" for {dataset}" if dataset is not None else "")
    raise CheckpointError(
        path, f"its tensors do not fit. They differ from {wanted} in\n{difference_table(differences)}"
    )


# ----------------------------------------------------------------------------------------------------- writing


def published_state_dict(
    state_dict: Mapping[str, Tensor], names: Iterable[str] | None = None
) -> OrderedDict[str, Tensor]:
    """Rename our tensors as the published files do.

    Args:
        state_dict: Our names → tensors of a detector.
        names: Names of the file that the weights were imported from, in its order; None: the published names in the
            published order, with the prefix `mdl.`.

    Raises:
        ValueError: Some tensor has no published name, or ``names`` are not those of ``state_dict``.
    """
    by_published_name = {}
    for name, tensor in state_dict.items():
        plain = published_name(name)
        if plain is None:
            raise ValueError(f"{name!r} has no published name")
        by_published_name[plain] = tensor
    wanted = list(names) if names is not None else [PUBLISHED_PREFIX + plain for plain in by_published_name]
    renamed = OrderedDict((name, by_published_name.get(_without_prefixes(name))) for name in wanted)
    if len(renamed) != len(by_published_name) or any(tensor is None for tensor in renamed.values()):
        raise ValueError("the recorded names do not belong to these tensors")
    return renamed


def published_record(tensors: OrderedDict[str, Tensor], container: Container) -> dict[str, Any]:
    """Wrap tensors as a published file does.

    A Lightning container has what `LightningModule.load_from_checkpoint` and the published scripts look at, no more.
    """
    if container == "bare":
        return tensors
    return {
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": "1.8.6",
        "state_dict": tensors,
        "loops": {},
        "hparams_name": "kwargs",
        "hyper_parameters": {},
    }
