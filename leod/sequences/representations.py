"""Event representations: the events of one window as a tensor.

Stacked histograms and mixed-density event stacks follow RVT (uzh-rpg/RVT, `data/utils/representations.py`; Gehrig &
Scaramuzza, CVPR 2023, Sec. 3.1). The events are sorted by time, so the bins are runs of events: the borders are
found by bisection and the events counted straight into the result.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from leod.config.schema import RepresentationConfig
from leod.jit import compiled
from leod.recordings.chunk import EventChunk

_UINT8_LIMIT = 255
_INT8_LIMIT = 127
# RVT cuts the relative time at 1e-6 before it takes the logarithm: log2(1e-6) lies between -20 and -19.
_MOST_HALVINGS = 20


@compiled
def _linear_borders(t, bins):  # noqa: ANN001, ANN202 -- compiled
    """Index of each bin's first event for bins of equal length between the first and the last event, int64 [bins+1].

    The published data were binned in single precision: bin = floor(float32(t - t_first) / float32(span) * bins).
    The same arithmetic is used here to find the first microsecond of each bin.
    """
    count = len(t)
    borders = np.empty(bins + 1, np.int64)
    borders[0] = 0
    borders[bins] = count
    span = max(t[count - 1] - t[0], 1)
    for b in range(1, bins):
        first = (b * span + bins - 1) // bins
        while first > 0 and np.float32(first - 1) / np.float32(span) * np.float32(bins) >= np.float32(b):
            first -= 1
        while np.float32(first) / np.float32(span) * np.float32(bins) < np.float32(b):
            first += 1
        borders[b] = np.searchsorted(t, t[0] + first)
    return borders


@compiled
def _halving_borders(t, bins):  # noqa: ANN001, ANN202 -- compiled
    """Index of each bin's first event when bin ``bins - k`` begins at span / 2**k, int64 [bins+1]."""
    count = len(t)
    borders = np.empty(bins + 1, np.int64)
    borders[0] = 0
    borders[bins] = count
    span = max(t[count - 1] - t[0], 1)
    for b in range(1, bins):
        halvings = bins - b
        if halvings >= _MOST_HALVINGS:
            borders[b] = 0
        else:
            borders[b] = np.searchsorted(t, t[0] + ((span - 1) >> halvings) + 1)
    return borders


@compiled
def _count(t, x, y, p, bins, cutoff, wrap, halve, out):  # noqa: ANN001, ANN202 -- compiled
    """Stacked histogram of sorted events into ``out``, uint8 [2*bins, height, width]."""
    out[:] = 0
    if len(t) == 0:
        return
    borders = _linear_borders(t, bins)
    limit = np.uint8(_UINT8_LIMIT if wrap else cutoff)
    one = np.uint8(1)
    for b in range(bins):
        for i in range(borders[b], borders[b + 1]):
            column = np.int64(x[i])
            row = np.int64(y[i])
            if halve:
                # Nearest-exact sampling takes the odd pixel of every pair.
                if (column & row & 1) == 0:
                    continue
                column >>= 1
                row >>= 1
            channel = np.int64(p[i]) * bins + b
            value = out[channel, row, column]
            if value < limit:
                out[channel, row, column] = value + one
            elif wrap:
                out[channel, row, column] = 0
    if wrap and cutoff < _UINT8_LIMIT:
        flat = out.reshape(-1)
        for i in range(len(flat)):
            flat[i] = min(flat[i], np.uint8(cutoff))


@compiled
def _accumulate(t, x, y, p, bins, cutoff, wrap, halve, out):  # noqa: ANN001, ANN202 -- compiled
    """Mixed-density stack of sorted events into ``out``, int8 [bins, height, width]."""
    out[:] = 0
    if len(t) == 0:
        return
    borders = _halving_borders(t, bins)
    total = np.zeros(out.shape[1:], np.int32)
    low = np.int32(-cutoff if cutoff < _INT8_LIMIT else -_INT8_LIMIT - 1)
    high = np.int32(cutoff)
    for b in range(bins):
        for i in range(borders[b], borders[b + 1]):
            column = np.int64(x[i])
            row = np.int64(y[i])
            if halve:
                if (column & row & 1) == 0:
                    continue
                column >>= 1
                row >>= 1
            total[row, column] += 2 * np.int32(p[i]) - 1
        for row in range(total.shape[0]):
            for column in range(total.shape[1]):
                value = total[row, column]
                if wrap:
                    value = np.int32(np.int8(value))
                out[b, row, column] = min(max(value, low), high)


class FrameBuilder:
    """Turns the events of one window into a frame.

    Args:
        representation: Kind, bins and cut-off. Exact counts are cut at the type's limit; with ``wrap_counts`` they
            wrap around there before the cut, as in the released data sets (it shows at hot pixels only).
        height: Sensor height in pixels.
        width: Sensor width in pixels.
        downsample_by_2: Keep one of every four pixels (the odd row and column: nearest-exact sampling); counts are
            not summed.

    Attributes:
        shape: (channels, height, width) of a frame.
        dtype: uint8 for stacked histograms (channel = polarity * bins + bin, negative polarity first), int8 for
            mixed-density stacks.
    """

    def __init__(
        self, representation: RepresentationConfig, height: int, width: int, downsample_by_2: bool = False
    ) -> None:
        divisor = 2 if downsample_by_2 else 1
        self.shape = (representation.channels, height // divisor, width // divisor)
        self.dtype: np.dtype
        self._kernel: Callable[..., None]
        if representation.kind == "stacked_histogram":
            self.dtype, limit, self._kernel = np.dtype(np.uint8), _UINT8_LIMIT, _count
        else:
            self.dtype, limit, self._kernel = np.dtype(np.int8), _INT8_LIMIT, _accumulate
        cutoff = limit if representation.count_cutoff is None else min(representation.count_cutoff, limit)
        self._arguments = (representation.bins, cutoff, representation.wrap_counts, downsample_by_2)

    def build(self, events: EventChunk, out: np.ndarray | None = None) -> np.ndarray:
        """Count the events of one window.

        Args:
            events: Sorted events inside the sensor, as `Recording.chunks` gives them.
            out: C-contiguous array of `shape` and `dtype` that is overwritten; None = a new one.

        Returns:
            The frame.
        """
        if out is None:
            out = np.empty(self.shape, self.dtype)
        self._kernel(events.t, events.x, events.y, events.p, *self._arguments, out)
        return out


def representation_name(representation: RepresentationConfig, window_us: int) -> str:
    """Folder name of an event representation in RVT's layout, for example `stacked_histogram_dt=50_nbins=10`.

    Args:
        representation: Kind, bins and cut-off.
        window_us: Length of a window in microseconds.
    """
    window = f"dt={window_us / 1000:g}_nbins={representation.bins}"
    if representation.kind == "stacked_histogram":
        return f"stacked_histogram_{window}"
    cutoff = "" if representation.count_cutoff is None else f"_cutoff={representation.count_cutoff}"
    return f"mixeddensity_stack_{window}{cutoff}"


def representation_file_name(downsample_by_2: bool) -> str:
    """File name of the frames of a sequence in RVT's layout."""
    return "event_representations_ds2_nearest.h5" if downsample_by_2 else "event_representations.h5"
