"""What moves in a window: edges do, noise and hot pixels do not."""

from __future__ import annotations

import numpy as np
import pytest

from leod.config.schema import RepresentationConfig
from leod.labelling.activity import GRID, ActivityMeter
from leod.recordings.chunk import EventChunk
from leod.sequences.representations import FrameBuilder

HEIGHT, WIDTH = 240, 304


def events(x, y) -> EventChunk:
    x, y = np.asarray(x), np.asarray(y)
    return EventChunk(
        np.arange(len(x), dtype=np.int64), x.astype(np.uint16), y.astype(np.uint16), (x % 2).astype(np.uint8)
    )


def noise(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, WIDTH, count), rng.integers(0, HEIGHT, count)


def edge(left: int, top: int, height: int = 60, width: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """A bar that has moved by a few pixels."""
    y, x = np.mgrid[top : top + height, left : left + width]
    return x.reshape(-1), y.reshape(-1)


@pytest.mark.parametrize("rate_hz", [0.0, 0.1, 1.0, 5.0])
def test_noise_alone_does_not_move(rate_hz: float) -> None:
    meter = ActivityMeter(HEIGHT, WIDTH)
    for seed in range(5):
        seen = meter.of_events(events(*noise(round(rate_hz * 0.05 * HEIGHT * WIDTH), seed)))
        assert not seen.moves


def test_hot_pixels_do_not_move() -> None:
    x, y = noise(40)
    assert not ActivityMeter(HEIGHT, WIDTH).of_events(events(np.repeat(x, 500), np.repeat(y, 500))).moves


@pytest.mark.parametrize("rate_hz", [0.0, 1.0])
def test_an_edge_moves_where_it_is(rate_hz: float) -> None:
    noise_x, noise_y = noise(round(rate_hz * 0.05 * HEIGHT * WIDTH))
    x, y = edge(20, 100)
    seen = ActivityMeter(HEIGHT, WIDTH).of_events(events(np.append(x, noise_x), np.append(y, noise_y)))
    assert seen.moves
    where = seen.where.reshape(GRID)
    assert (where[2:4, 0] > 0.2).all()
    assert where[:, 2:].max() < 0.1


def test_a_window_leaves_nothing_to_the_next() -> None:
    meter = ActivityMeter(HEIGHT, WIDTH)
    meter.of_events(events(*edge(20, 100)))
    assert meter.of_events(events([], [])).share == 0.0


@pytest.mark.parametrize("kind", ["stacked_histogram", "mixed_density"])
def test_frames_tell_what_their_events_tell(kind: str) -> None:
    # Pixels whose polarities cancel out are lost in the last channel only.
    builder = FrameBuilder(RepresentationConfig(kind=kind, bins=10), HEIGHT, WIDTH)
    window = events(*(np.append(*parts) for parts in zip(edge(120, 30), noise(2000), strict=True)))
    meter = ActivityMeter(HEIGHT, WIDTH)
    of_events, of_frame = meter.of_events(window), meter.of_frame(builder.build(window))
    assert of_events.moves
    assert of_frame.share == pytest.approx(of_events.share, abs=2e-3)
    np.testing.assert_allclose(of_frame.where, of_events.where, atol=0.05)


def test_tiny_sensors() -> None:
    assert not ActivityMeter(3, 5).of_events(events([0, 4], [0, 2])).moves
