"""Frames of single windows from bare columns, to compare with what preprocessing writes."""

from __future__ import annotations

import numpy as np

from leod.config.schema import RepresentationConfig
from leod.recordings.chunk import EventChunk
from leod.sequences.representations import FrameBuilder


def frame_of(representation, t, x, y, p, height, width, downsample_by_2=False):
    """Count sorted events that lie on the sensor."""
    events = EventChunk(
        t=np.asarray(t, np.int64), x=np.asarray(x, np.uint16), y=np.asarray(y, np.uint16), p=np.asarray(p, np.uint8)
    )
    return FrameBuilder(representation, height, width, downsample_by_2).build(events)


def stacked_histogram(t, x, y, p, height, width, downsample_by_2=False, **representation):
    """Counts per polarity, time bin and pixel."""
    return frame_of(RepresentationConfig(**representation), t, x, y, p, height, width, downsample_by_2)


def mixed_density(t, x, y, p, height, width, downsample_by_2=False, **representation):
    """Polarities summed over ever longer stretches of time; cut at the limits of int8 if nothing else is said."""
    mixed = RepresentationConfig(**{"kind": "mixed_density", "count_cutoff": None, **representation})
    return frame_of(mixed, t, x, y, p, height, width, downsample_by_2)
