"""Augmentation of a sample's events: other counts and missing events, on the frames as the network sees them.

What is drawn holds for all windows of a sample, and of a stream's run through a segment; what happens to the single
event is drawn for each window.

Sources: random erasing of pictures (Zhong et al., AAAI 2020); dropping events at random, in an area, and of one
polarity (Gu et al., EventDrop, IJCAI 2021; EventDrop has no polarity); other contrast thresholds make more or fewer
events (Stoffregen et al., ECCV 2020).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from leod.boxes.dtypes import IGNORED_CLASS_ID
from leod.config.schema import AugmentationConfig
from leod.jit import compiled

_ERASED_ASPECT = 3.3
"""Width over height of an erased rectangle lies between one over this and this."""

HIDDEN_SHARE = 0.7
"""A box of which more than this lies in an erased rectangle is ignored: it cannot be seen, yet may be remembered."""


@dataclass(frozen=True)
class EventAugmentation:
    """What is done to the events of a sample; the default does nothing.

    Attributes:
        kept_share: Probability of each event to stay.
        dropped_polarity: 0 (negative) or 1 (positive), by the channels of the finished frames; None = both stay.
        count_factor: Counts are multiplied by this.
        erased: x, y, width, height in whole pixels of the rectangle without events, inside the frame; None = none.
        noise_seed: Seed of what is drawn for single events; differs between the windows of a stream.
    """

    kept_share: float = 1.0
    dropped_polarity: int | None = None
    count_factor: float = 1.0
    erased: tuple[int, int, int, int] | None = None
    noise_seed: int = 0


def draw_event_augmentation(
    config: AugmentationConfig,
    frame_size: tuple[int, int],
    generator: np.random.Generator,
    noise: np.random.Generator,
) -> EventAugmentation:
    """Draw an augmentation; what is drawn of one kind does not depend on the settings of the others.

    Args:
        config: Probabilities and extents.
        frame_size: (height, width) in pixels.
        generator: Where the random numbers come from.
        noise: Where the seed for single events comes from.
    """
    drop, share, drop_polarity, polarity, jitter, factor, erase, area, aspect, x, y = generator.random(11).tolist()
    return EventAugmentation(
        kept_share=1.0 - share * config.drop_events.max_fraction if drop < config.drop_events.probability else 1.0,
        dropped_polarity=int(polarity * 2) if drop_polarity < config.drop_polarity else None,
        count_factor=(
            config.jitter_counts.max_factor ** (2.0 * factor - 1.0)
            if jitter < config.jitter_counts.probability
            else 1.0
        ),
        erased=(
            _rectangle(area * config.erase.max_fraction, aspect, (x, y), frame_size)
            if erase < config.erase.probability
            else None
        ),
        noise_seed=int(noise.integers(1 << 63)),
    )


def _rectangle(
    share: float, aspect: float, corner: tuple[float, float], frame_size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """A rectangle that covers at most a share of the frame, or one pixel; aspect and corner are fractions in [0, 1)."""
    frame_height, frame_width = frame_size
    area, ratio = share * frame_height * frame_width, _ERASED_ASPECT ** (2.0 * aspect - 1.0)
    width = min(max(int(math.sqrt(area * ratio)), 1), frame_width)
    height = min(max(int(math.sqrt(area / ratio)), 1), frame_height)
    x, y = (
        int(place * (extent - size + 1))
        for place, extent, size in zip(corner, (frame_width, frame_height), (width, height), strict=True)
    )
    return x, y, width, height


# ------------------------------------------------------------------------------------------------------- counts


@compiled
def _uniform(seed: int, number: int) -> float:
    """The ``number``-th random number of a seed, in [0, 1) (SplitMix64; Steele, Lea & Flood, OOPSLA 2014)."""
    state = np.uint64(seed) + (np.uint64(number) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state = state ^ (state >> np.uint64(31))
    return np.float64(state >> np.uint64(11)) / 9007199254740992.0


@compiled
def _thin(counts: np.ndarray, kept_share: float, seed: int) -> None:
    number = 0
    for cell in range(counts.shape[0]):
        kept = 0
        for _ in range(counts[cell]):
            if _uniform(seed, number) < kept_share:
                kept += 1
            number += 1
        counts[cell] = kept


@compiled
def _multiply(counts: np.ndarray, factor: float, limit: int, seed: int) -> None:
    number = 0
    for cell in range(counts.shape[0]):
        if counts[cell]:
            # Rounded up as often as the fraction says, so that the mean is right.
            counts[cell] = min(int(counts[cell] * factor + _uniform(seed, number)), limit)
            number += 1


def augment_events(
    augmentation: EventAugmentation, frames: np.ndarray, labels: Mapping[int, np.ndarray], count_limit: int
) -> dict[int, np.ndarray]:
    """Augment the events of a sample in place.

    Args:
        augmentation: What to do. Everything but erasing needs stacked histograms.
        frames: [n, C, H, W], each frame contiguous; changed. Counts uint8, negative polarity in the first half of C.
        labels: Labelled step of the sample → its `LABEL_DTYPE` rows, in frame pixels; unchanged.
        count_limit: Largest count of a frame.

    Returns:
        The rows of the same steps; boxes that the erased rectangle hides have become ignored ones.
    """
    if augmentation.dropped_polarity is not None:
        channels = frames.shape[1] // 2
        first = augmentation.dropped_polarity * channels
        frames[:, first : first + channels] = 0
    seeds = np.random.default_rng(augmentation.noise_seed).integers(1 << 63, size=(2, len(frames)))
    for frame, thin_seed, factor_seed in zip(frames, *seeds.tolist(), strict=True):
        counts = frame.reshape(-1)
        if augmentation.kept_share < 1.0:
            _thin(counts, augmentation.kept_share, thin_seed)
        if augmentation.count_factor != 1.0:
            _multiply(counts, augmentation.count_factor, count_limit, factor_seed)
    if augmentation.erased is None:
        return dict(labels)
    x, y, width, height = augmentation.erased
    frames[:, :, y : y + height, x : x + width] = 0
    return {step: _ignore_hidden(rows, augmentation.erased) for step, rows in labels.items()}


def _ignore_hidden(rows: np.ndarray, rectangle: tuple[int, int, int, int]) -> np.ndarray:
    x, y, width, height = rectangle
    right, bottom = rows["x"] + rows["w"], rows["y"] + rows["h"]
    common_width = np.clip(np.minimum(right, x + width) - np.maximum(rows["x"], x), 0, None)
    common_height = np.clip(np.minimum(bottom, y + height) - np.maximum(rows["y"], y), 0, None)
    hidden = common_width * common_height > HIDDEN_SHARE * rows["w"] * rows["h"]
    changed = rows.copy()
    changed["class_id"][hidden] = IGNORED_CLASS_ID
    return changed
