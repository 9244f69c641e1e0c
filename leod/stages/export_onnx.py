"""Stage `export_onnx`: the detector as an ONNX file, with its recurrent state as inputs and outputs."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from leod.errors import CheckpointError, ConfigError
from leod.files import atomic_file, check_writable
from leod.models.checkpoint import load_detector
from leod.models.detector import Detector

if TYPE_CHECKING:
    import onnxruntime

logger = logging.getLogger(__name__)

_STAGES = 4
_CHECKED_FRAMES = 8
_EVENTS_PER_PIXEL = 0.3
_TOLERANCE = 1e-3


class _StatelessDetector(nn.Module):
    """One step of the detector as a function of frame and state."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, frames: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        pairs = [(states[2 * stage], states[2 * stage + 1]) for stage in range(_STAGES)]
        predictions, pairs = self.detector(frames, pairs)
        return predictions, *(tensor for pair in pairs for tensor in pair)


def export_onnx(checkpoint: Path, output: Path, opset: int = 18) -> float:
    """Write a detector as ONNX file, its recurrent state as inputs and outputs, and check it against PyTorch.

    Inputs: `frames`, uint8 [1, C, H, W] (int8 for mixed-density stacks), unpadded; `hidden_0`, `cell_0` … `hidden_3`,
    `cell_3`, float32 [1, C_s, H_s, W_s], zeros at the start of a sequence. Outputs: `predictions`, float32 [1, N, 5+C]
    (centre x, centre y, w, h in pixels of the frame, objectness, class probabilities), before score threshold and
    non-maximum suppression; `new_hidden_0` … `new_cell_3`, the states for the next frame. The file's metadata name
    classes, sensor, window length and representation.

    Args:
        checkpoint: The detector, `model.ckpt`.
        output: The `.onnx` file to write; it is not written if the check fails.
        opset: Version of ONNX's operators.

    Returns:
        The largest difference between ONNX Runtime and PyTorch over the sequence, relative to 1 + the value.

    Raises:
        ConfigError: The packages of the extra export are missing, or ``output`` has another suffix or cannot be a
            file.
        CheckpointError: The detector is missing or damaged, or the exported one computes something else.
        ResourceError: The disk is full or not writable.
    """
    if Path(output).suffix != ".onnx":
        raise ConfigError(f"{output}: end the name in .onnx")
    check_writable(output)
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 -- torch.onnx.export needs it
    except ImportError as error:
        raise ConfigError(f"exporting to ONNX needs {error.name}: pip install '.[export]' in the clone") from None
    detector = load_detector(checkpoint).eval()
    frames = _random_frames(detector)
    with torch.inference_mode():
        _, states = detector.forward_backbone(frames[0])
    zeros = [torch.zeros_like(tensor) for pair in states for tensor in pair]
    names = [f"{kind}_{stage}" for stage in range(_STAGES) for kind in ("hidden", "cell")]
    module = _StatelessDetector(detector)
    with atomic_file(output) as temporary:
        with _quiet_exporter():
            torch.onnx.export(
                module,
                (frames[0], *zeros),
                temporary,
                input_names=["frames", *names],
                output_names=["predictions", *(f"new_{name}" for name in names)],
                opset_version=opset,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        content = onnx.load(temporary)
        onnx.helper.set_model_props(content, _metadata(detector))
        onnx.save(content, temporary)
        onnx.checker.check_model(str(temporary))
        session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
        difference = _compare(module, session, frames, zeros)
        if not difference <= _TOLERANCE:
            raise CheckpointError(
                checkpoint,
                f"the exported detector differs from PyTorch by {difference:.2g} (relative) over {len(frames)} frames; "
                f"at most {_TOLERANCE:g} is allowed. Nothing was written; other versions of torch and onnxruntime may "
                "help.",
            )
    logger.info(
        "%s: equal to PyTorch over %d frames up to %.2g (relative to 1 + the value)", output, len(frames), difference
    )
    return difference


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep back what the exporter tells about its own workings."""
    exporters = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [exporter.level for exporter in exporters]
    for exporter in exporters:
        exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for exporter, level in zip(exporters, levels, strict=True):
            exporter.setLevel(level)


def _random_frames(detector: Detector) -> Tensor:
    """Frames of a made-up sequence, [L, 1, C, H, W], the last but one without events."""
    representation = detector.sequence.representation
    shape = (_CHECKED_FRAMES, 1, representation.channels, *detector.frame_size)
    counts = np.random.default_rng(0).poisson(_EVENTS_PER_PIXEL, shape)
    counts[-2] = 0
    dtype = np.uint8 if representation.kind == "stacked_histogram" else np.int8
    return torch.from_numpy(counts.astype(dtype))


def _metadata(detector: Detector) -> dict[str, str]:
    sequence = detector.sequence
    return {
        "classes": json.dumps(list(sequence.classes)),
        "sensor": sequence.sensor.model_dump_json(),
        "window_us": str(sequence.window_us),
        "representation": sequence.representation.model_dump_json(),
        "downsample_by_2": json.dumps(sequence.downsample_by_2),
        "model": detector.model.model_dump_json(),
    }


@torch.inference_mode()
def _compare(
    module: _StatelessDetector, session: onnxruntime.InferenceSession, frames: Tensor, zeros: list[Tensor]
) -> float:
    """Run both over the frames, each with its own states; the largest relative difference of all outputs."""
    names = [entry.name for entry in session.get_inputs()]
    ours: list[Tensor] = list(zeros)
    theirs = [tensor.numpy() for tensor in zeros]
    largest = 0.0
    for frame in frames:
        expected = module(frame, *ours)
        found = session.run(None, dict(zip(names, [frame.numpy(), *theirs], strict=True)))
        for wanted, got in zip(expected, found, strict=True):
            difference = np.abs(wanted.numpy() - got) / (1 + np.abs(wanted.numpy()))
            # NaN must not compare as small.
            largest = max(largest, float(np.nan_to_num(difference, nan=np.inf).max()))
        ours, theirs = list(expected[1:]), found[1:]
    return largest
