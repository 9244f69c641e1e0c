"""A drawing of what a study does: its stages, and how each round feeds the next."""

from __future__ import annotations

from html import escape

_LANE_WIDTH = 208
_INSET = 18
"""From the edge of a lane to its boxes."""
_GAP = 34
_BOX_HEIGHT = 34
_STEP = 58
_TOP = 44
_MOST_ROUNDS = 4


class _Drawing:
    """SVG elements one after the other; coordinates in units of the view box."""

    def __init__(self) -> None:
        self.elements: list[str] = []

    def rectangle(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        self.elements.append(f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>')

    def text(self, x: float, y: float, text: str, kind: str = "") -> None:
        self.elements.append(f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(text)}</text>')

    def box(self, left: float, row: float, text: str, kind: str = "box") -> None:
        """A box in a lane, ``row`` steps from its top."""
        top = _TOP + row * _STEP
        self.rectangle(left + _INSET, top, _LANE_WIDTH - 2 * _INSET, _BOX_HEIGHT, kind)
        self.text(left + _LANE_WIDTH / 2, top + _BOX_HEIGHT / 2 + 4.5, text)

    def down(self, left: float, row: float) -> None:
        """An arrow from the box in ``row`` to the one beneath."""
        x, y = left + _LANE_WIDTH / 2, _TOP + row * _STEP + _BOX_HEIGHT
        self.elements.append(f'<path d="M{x:g} {y:g}v{_STEP - _BOX_HEIGHT - 3:g}" marker-end="url(#arrow)"/>')

    def around(self, left: float, row: float, end_row: float) -> None:
        """An arrow along the right edge of a lane, past the boxes in between."""
        x = left + _LANE_WIDTH - _INSET
        y, end_y = (_TOP + at * _STEP + _BOX_HEIGHT / 2 for at in (row, end_row))
        self.elements.append(f'<path d="M{x:g} {y + 8:g}h12V{end_y:g}h-9" marker-end="url(#arrow)"/>')

    def across(self, left: float, row: float, next_left: float, next_row: float, kind: str = "") -> None:
        """An arrow from the right of a box to the left of a box in another lane."""
        x, y = left + _LANE_WIDTH - _INSET, _TOP + row * _STEP + _BOX_HEIGHT / 2
        end_x, end_y = next_left + _INSET - 3, _TOP + next_row * _STEP + _BOX_HEIGHT / 2
        middle = next_left - _GAP / 2
        marker = "arrow-round" if kind else "arrow"
        self.elements.append(
            f'<path class="{kind}" d="M{x:g} {y:g}H{middle:g}V{end_y:g}H{end_x:g}" marker-end="url(#{marker})"/>'
        )


def study_schematic(rounds: int, simulated: bool, chooses_thresholds: bool, has_reference: bool) -> str:
    """The stages of one experiment as an SVG element for a page with the style sheet of the report.

    Args:
        rounds: Number of self-training rounds.
        simulated: Whether the recordings come from the simulator.
        chooses_thresholds: Whether score thresholds are chosen on the validation split.
        has_reference: Whether a detector is trained on all labels as well.
    """
    drawing = _Drawing()
    shown = list(range(rounds + 1)) if rounds < _MOST_ROUNDS else [0, 1, 2, rounds]
    stages = ["choose thresholds"] if chooses_thresholds else []
    stages += ["generate pseudo-labels", "filter by tracks", "self-train"]
    model_row, evaluate_row, quality_row = len(stages), len(stages) + 1, len(stages) + 2
    height = _TOP + ((quality_row if rounds else evaluate_row) + 1) * _STEP - 8
    lanes = [index * (_LANE_WIDTH + _GAP) for index in range(len(shown) + 1)]
    width = lanes[-1] + _LANE_WIDTH

    titles = ["data", *("round 0: supervised" if number == 0 else f"round {number}" for number in shown)]
    for left, title in zip(lanes, titles, strict=True):
        drawing.rectangle(left, 0, _LANE_WIDTH, height, "lane")
        drawing.text(left + _LANE_WIDTH / 2, 26, title, "title")

    data = ["simulate"] if simulated else []
    data += ["preprocess", "subsample labels"]
    offset = model_row - len(data)
    for row, stage in enumerate(data):
        drawing.box(0, offset + row, stage)
        if row + 1 < len(data):
            drawing.down(0, offset + row)
    drawing.text(_LANE_WIDTH / 2, _TOP + model_row * _STEP + 14, "sequences, kept labels", "small")

    for index, number in enumerate(shown):
        left = lanes[index + 1]
        own = ["pretrain"] if number == 0 else stages
        start = model_row - len(own)
        for row, stage in enumerate(own):
            drawing.box(left, start + row, stage)
            drawing.down(left, start + row)
        drawing.box(left, model_row, "detector", "model")
        drawing.down(left, model_row)
        drawing.box(left, evaluate_row, "evaluate")
        if index:
            drawing.across(lanes[index], model_row, left, start, "round")
            drawing.box(left, quality_row, "measure quality")
            drawing.around(left, stages.index("filter by tracks"), quality_row)
    drawing.across(0, model_row - 1, lanes[1], model_row - 1)
    if has_reference:
        drawing.text(lanes[1] + _LANE_WIDTH / 2, _TOP + 14, "also on all labels:", "small")
        drawing.text(lanes[1] + _LANE_WIDTH / 2, _TOP + 30, "the ceiling", "small")
    markers = "".join(
        f'<marker id="{name}" class="{kind}" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0L8 4L0 8z"/></marker>'
        for name, kind in (("arrow", ""), ("arrow-round", "round"))
    )
    description = (
        f"Stages of an experiment: data, supervised pretraining, {rounds} rounds of self-training, evaluation."
    )
    return (
        f'<svg class="schematic" role="img" aria-label="{description}" viewBox="-2 -2 {width + 4:g} {height + 4:g}" '
        f'style="max-width: {width * 1.05:g}px"><defs>{markers}</defs>{"".join(drawing.elements)}</svg>'
    )
