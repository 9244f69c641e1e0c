import numpy as np
import pytest
from event_frames import mixed_density, stacked_histogram
from hypothesis import given, settings
from hypothesis import strategies as st

from leod.config.schema import RepresentationConfig
from leod.sequences.representations import representation_file_name, representation_name

HEIGHT, WIDTH = 5, 7
EVENT = st.tuples(st.integers(0, 60_000), st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1), st.integers(0, 1))


def columns(events):
    return np.array(sorted(events), np.int64).reshape(-1, 4).T


def naive_histogram(t, x, y, p, bins):
    counts = np.zeros((2, bins, HEIGHT, WIDTH), np.int64)
    if len(t):
        span = max(t[-1] - t[0], 1)
        np.add.at(counts, (p, np.minimum(bins * (t - t[0]) // span, bins - 1), y, x), 1)
    return counts.reshape(2 * bins, HEIGHT, WIDTH)


@settings(max_examples=60, deadline=None)
@given(events=st.lists(EVENT, max_size=300), bins=st.integers(1, 12), cutoff=st.sampled_from([1, 3, 10, None]))
def test_histogram_equals_naive_count(events, bins, cutoff):
    t, x, y, p = columns(events)
    frame = stacked_histogram(t, x, y, p, HEIGHT, WIDTH, bins=bins, count_cutoff=cutoff)
    expected = np.minimum(naive_histogram(t, x, y, p, bins), 255 if cutoff is None else cutoff)
    np.testing.assert_array_equal(frame, expected)


@settings(max_examples=40, deadline=None)
@given(events=st.lists(EVENT, min_size=1, max_size=200), bins=st.integers(1, 12))
def test_mixed_density_equals_naive_sum(events, bins):
    t, x, y, p = columns(events)
    frame = mixed_density(t, x, y, p, HEIGHT, WIDTH, bins=bins)
    span = max(t[-1] - t[0], 1)
    for b in range(bins):
        # Everything below span / 2**(bins - 1 - b); the last channel takes the whole window.
        inside = ((t - t[0]) * 2 ** (bins - 1 - b) < span) | (b == bins - 1)
        total = np.zeros((HEIGHT, WIDTH), np.int64)
        np.add.at(total, (y[inside], x[inside]), 2 * p[inside] - 1)
        np.testing.assert_array_equal(frame[b], total)


@settings(max_examples=20, deadline=None)
@given(events=st.lists(EVENT, max_size=200))
def test_downsampling_takes_the_odd_pixels(events):
    t, x, y, p = columns(events)
    for function in (stacked_histogram, mixed_density):
        whole = function(t, x, y, p, HEIGHT, WIDTH)
        half = function(t, x, y, p, HEIGHT, WIDTH, downsample_by_2=True)
        np.testing.assert_array_equal(half, whole[:, 1::2, 1::2])


def hot_pixel(count, polarity=1):
    return np.zeros(count, np.int64), np.ones(count, int), np.full(count, 2), np.full(count, polarity)


@pytest.mark.parametrize(
    ("count", "options", "expected"),
    [
        (255, {}, 10),
        (300, {}, 10),
        (300, {"count_cutoff": None}, 255),
        (260, {"wrap_counts": True}, 4),  # 260 - 256
        (300, {"wrap_counts": True}, 10),  # 44, cut
        (300, {"wrap_counts": True, "count_cutoff": None}, 44),
        (512, {"wrap_counts": True}, 0),
    ],
)
def test_hot_pixel_in_a_histogram(count, options, expected):
    frame = stacked_histogram(*hot_pixel(count), HEIGHT, WIDTH, **options)
    assert frame[10, 2, 1] == expected  # positive polarity, first bin
    assert frame.sum() == expected


@pytest.mark.parametrize(
    ("count", "polarity", "options", "expected"),
    [
        (200, 1, {}, 127),
        (200, 0, {}, -128),
        (200, 0, {"count_cutoff": 32}, -32),
        (200, 1, {"wrap_counts": True}, -56),  # 200 - 256
        (200, 1, {"wrap_counts": True, "count_cutoff": 32}, -32),
    ],
)
def test_hot_pixel_in_a_mixed_density_stack(count, polarity, options, expected):
    frame = mixed_density(*hot_pixel(count, polarity), HEIGHT, WIDTH, **options)
    assert frame[:, 2, 1].tolist() == [expected] * 10


def test_names_of_the_published_layout():
    assert representation_name(RepresentationConfig(), 50_000) == "stacked_histogram_dt=50_nbins=10"
    mixed = RepresentationConfig(kind="mixed_density", count_cutoff=32, bins=8)
    assert representation_name(mixed, 33_333) == "mixeddensity_stack_dt=33.333_nbins=8_cutoff=32"
    assert representation_file_name(True) == "event_representations_ds2_nearest.h5"
    assert representation_file_name(False) == "event_representations.h5"
