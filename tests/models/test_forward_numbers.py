"""The network against figures of its own, taken when it agreed with the published code to rounding.

Weights are drawn for each published tensor name, so the figures hold however our modules are called or ordered.
"""

from __future__ import annotations

from zlib import crc32

import numpy as np
import pytest
import torch
from small_models import SMALL_MODEL, small_sequence

from leod.models.detector import build_detector
from leod.published.weights import PUBLISHED_DATASETS, PUBLISHED_MODELS, published_name

PREDICTION_ROWS = (0, 57, 95, 125)
PREDICTIONS = (
    (3.1832, -1.16611, 5.60952, 7.91195, 0.595777, 0.493934, 0.47195),
    (75.1976, 31.0453, 5.82025, 7.87737, 0.592704, 0.493574, 0.474319),
    (91.2834, 55.0833, 5.76331, 7.78541, 0.586455, 0.498212, 0.447653),
    (73.0216, 27.8074, 35.5336, 22.7354, 0.520126, 0.45075, 0.588141),
)
STATE_MEANS = (
    (0.0433862, 0.114911),
    (0.0132564, 0.0465611),
    (-0.0506227, -0.0830192),
    (-0.00345855, 0.000939191),
)


def drawn(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Values of the size that a trained network has."""
    values = np.random.default_rng(crc32(name.encode())).standard_normal(shape)
    if name.endswith("running_var"):
        values = 0.5 + np.abs(values)
    elif values.ndim == 1:
        # Scales of norms and layers lie around 1, biases around 0.
        is_scale = name.endswith(("gamma", ".weight"))
        values = 0.2 * values + (0.8 if is_scale else 0.0)
    else:
        values = values / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(values)


@torch.inference_mode()
def test_two_frames():
    detector = build_detector(SMALL_MODEL, small_sequence()).double().eval()
    state = detector.state_dict()
    detector.load_state_dict(
        {
            name: drawn(published_name(name), tuple(tensor.shape)) if tensor.is_floating_point() else tensor
            for name, tensor in state.items()
        }
    )
    frames = np.random.default_rng(0).poisson(0.5, (2, 1, 4, 60, 90)).astype(np.uint8)
    states = None
    for frame in torch.from_numpy(frames).double():
        features, states = detector.forward_backbone(frame, states)
    predictions, _ = detector.forward_head(features)
    assert predictions.shape == (1, 126, 7)
    np.testing.assert_allclose(predictions[0, list(PREDICTION_ROWS)], PREDICTIONS, rtol=1e-4, atol=1e-5)
    means = [[float(part.mean()) for part in stage] for stage in states]
    np.testing.assert_allclose(means, STATE_MEANS, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "dataset", "parameters"),
    [
        # RVT, and LEOD with its own number of classes
        ("rvt-tiny", "gen1", 4_405_141),
        ("rvt-small", "gen1", 9_870_165),
        ("rvt-base", "gen1", 18_536_469),
        ("rvt-tiny", "one_mpx", 4_405_336),
        ("rvt-small", "one_mpx", 9_870_456),
        ("rvt-base", "one_mpx", 18_536_856),
    ],
)
def test_published_numbers_of_parameters(model, dataset, parameters):
    with torch.device("meta"):
        detector = build_detector(PUBLISHED_MODELS[model], PUBLISHED_DATASETS[dataset])
    assert sum(parameter.numel() for parameter in detector.parameters()) == parameters
