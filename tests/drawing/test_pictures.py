"""What a viewer must be able to tell apart in a picture."""

import itertools

import numpy as np
import pytest

from leod.boxes.dtypes import IGNORED_CLASS_ID, LABEL_DTYPE
from leod.drawing.pictures import (
    DARK,
    LIGHT,
    THEMES,
    BoxKind,
    comfortable_scale,
    compose,
    kind_of,
    paint_counts,
    paint_frame,
)

CLASSES = ("car", "pedestrian")


def draw_boxes(picture, boxes, classes, scale=1, theme=LIGHT, kind=None):
    """The picture alone, without what stands beneath it."""
    return compose(picture, [(boxes, kind)], classes, scale, "", theme=theme)[: len(picture)]


def box(t=5, x=30, y=30, w=40, h=30, class_id=0, class_confidence=1.0, objectness=1.0):
    return np.array([(t, x, y, w, h, class_id, class_confidence, objectness)], LABEL_DTYPE)


def empty(theme=LIGHT):
    return np.full((160, 240, 3), theme.background, np.uint8)


def bare_outline(kind, theme):
    """Mask of what is drawn for a box without text, and the picture."""
    picture = draw_boxes(empty(theme), box(), CLASSES, theme=theme, kind=kind)
    below_text = picture[45:]  # The text stands above the box.
    return (below_text != np.array(theme.background)).any(axis=2), below_text


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(BoxKind, 2)))
def test_kinds_differ_in_colour_and_in_line_style(theme, one, other):
    mask, picture = bare_outline(one, theme)
    other_mask, other_picture = bare_outline(other, theme)
    assert not np.array_equal(mask, other_mask)
    assert {tuple(pixel) for pixel in picture[mask]}.isdisjoint({tuple(pixel) for pixel in other_picture[other_mask]})


def test_only_ground_truth_has_a_solid_line():
    shares = {kind: bare_outline(kind, LIGHT)[0].sum() for kind in BoxKind}
    solid = shares.pop(BoxKind.GROUND_TRUTH)
    assert all(0.25 * solid < share < 0.95 * solid for share in shares.values())


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (box(t=5), BoxKind.GROUND_TRUTH),
        (box(t=0, objectness=0.8), BoxKind.PSEUDO_LABEL),
        (box(t=0, class_id=IGNORED_CLASS_ID, objectness=0.8), BoxKind.IGNORED),
        (box(t=0, class_id=IGNORED_CLASS_ID, class_confidence=0.0, objectness=0.0), BoxKind.INPAINTED),
    ],
)
def test_the_row_tells_its_kind(row, kind):
    assert kind_of(row[0]) is kind
    assert np.array_equal(draw_boxes(empty(), row, CLASSES), draw_boxes(empty(), row, CLASSES, kind=kind))


def test_class_names_and_scores_are_written():
    pictures = [
        draw_boxes(empty(), row, CLASSES, kind=BoxKind.DETECTION)
        for row in (box(), box(class_id=1), box(objectness=0.5))
    ]
    for one, other in itertools.combinations(pictures, 2):
        assert not np.array_equal(one, other)


def test_boxes_reach_exactly_as_far_as_told():
    picture = draw_boxes(empty(), box(x=10, y=20, w=15, h=10), CLASSES, scale=4, kind=BoxKind.INPAINTED)
    rows, columns = np.nonzero((picture != 255).any(axis=2))
    assert abs(columns.min() - 40) <= 1
    assert abs(columns.max() - 100) <= 1
    assert abs(rows.min() - 80) <= 1
    assert abs(rows.max() - 120) <= 1


@pytest.mark.parametrize(
    "row",
    [box(x=-10, y=-5), box(x=230, y=150, w=50, h=50), box(x=0, y=0, w=240, h=160), box(x=50, w=0.2, h=0.2)],
    ids=["left of the border", "across the corner", "whole picture", "less than a pixel"],
)
def test_boxes_at_the_border_are_drawn_and_the_input_is_left_alone(row):
    before = empty()
    picture = draw_boxes(before, row, CLASSES)
    assert picture.shape == before.shape
    assert (picture != before).any()
    assert np.array_equal(before, empty())


def test_polarities_have_their_colours_and_more_events_are_stronger():
    counts = np.array([[0, 1, 8]])
    for theme in (LIGHT, DARK):
        rising, falling = paint_counts(counts, 0 * counts, theme), paint_counts(0 * counts, counts, theme)
        assert tuple(rising[0, 0]) == theme.background

        def distance(pixel, colour):
            return np.abs(pixel.astype(int) - colour).sum()

        assert distance(rising[0, 2], theme.positive) < distance(rising[0, 1], theme.positive)
        assert distance(falling[0, 2], theme.negative) < distance(falling[0, 1], theme.negative)
        assert not np.array_equal(rising[0, 1:], falling[0, 1:])


def test_a_histogram_and_its_events_look_the_same():
    generator = np.random.default_rng(0)
    x, y, p = generator.integers(0, 12, 60), generator.integers(0, 8, 60), generator.integers(0, 2, 60)
    frame = np.zeros((20, 8, 12), np.uint8)
    np.add.at(frame, (10 * p + generator.integers(0, 10, 60), y, x), 1)
    picture = paint_frame(frame, scale=3)
    assert picture.shape == (24, 36, 3)
    pixel = 12 * y + x
    rising, falling = (np.bincount(pixel[mask], minlength=96).reshape(8, 12) for mask in (p == 1, p == 0))
    assert np.array_equal(picture, paint_counts(rising, falling, scale=3))


def test_a_mixed_density_stack_shows_its_last_channel():
    frame = np.zeros((10, 2, 2), np.int8)
    frame[-1] = [[3, 0], [0, -2]]
    expected = paint_counts(np.array([[3, 0], [0, 0]]), np.array([[0, 0], [0, 2]]))
    assert np.array_equal(paint_frame(frame), expected)


def test_many_events_in_one_bin_do_not_overflow():
    assert not np.array_equal(
        paint_frame(np.full((20, 1, 1), 255, np.uint8)), paint_frame(np.zeros((20, 1, 1), np.uint8))
    )


def test_the_size_with_caption_does_not_depend_on_the_caption():
    sizes = {
        compose(empty(), [(box(), None)], CLASSES, 1, caption, list(BoxKind)).shape for caption in ("", "a", "b" * 300)
    }
    assert len(sizes) == 1
    assert sizes.pop()[0] > 160


@pytest.mark.parametrize(("width", "scale"), [(128, 5), (304, 2), (640, 1), (1280, 1), (16, 8)])
def test_small_sensors_are_enlarged(width, scale):
    assert comfortable_scale(width) == scale
