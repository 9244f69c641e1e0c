"""What is counted of a recording and its boxes, what cannot be right about it, and what is unlikely.

`preprocess` counts while it reads, refuses and warns; `check_dataset` and the report show the same figures. Limits are
`leod.config.schema.PlausibilityConfig`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any, Self

import numpy as np

from leod.boxes.dtypes import IGNORED_CLASS_ID, LEFT_OUT_CLASS_ID
from leod.boxes.operations import ious
from leod.config.schema import US_PER_UNIT, PlausibilityConfig, TimeUnit

_NOT_SQUARE = 1.2
"""A box is wider than high, or higher than wide, if one side is so many times the other."""
_NEARLY_EQUAL_IOU = 0.95
_ENOUGH_BOXES = 5
"""Shares of fewer boxes are luck."""
_NEARLY_ALL = 0.8
_SHOWN_NAMES = 5
_ALL_FRAMES_EMPTY = 5
"""So many labelled frames, all of them without events, are no accident."""
_UNITS: dict[str, TimeUnit] = {"nanoseconds": "ns", "milliseconds": "ms", "seconds": "s"}


@dataclass
class BoxFacts:
    """Counts of a box file.

    Attributes:
        moments: Label moments: different times, those found empty included.
        moments_found_empty: Moments that say that nothing is to be seen.
        moments_outside: Moments before the recording's first event, or a window or more after its last one.
        moments_unused: Moments that `label_times` does not take.
        first_us: Earliest label moment; None without any.
        last_us: Latest label moment.
        rate_hz: Inverse of the median distance between label moments.
        boxes: Boxes in the file.
        left_out: Boxes of classes that are not wanted.
        ignored: Boxes that are neither object nor background.
        doubled: Boxes equal to another one in time, place, size and class.
        nearly_doubled: Boxes that cover another one of their time and class (IoU 0.95), the doubled ones included.
        outside: Boxes without area inside the sensor, which are dropped.
        cut: Boxes that reach beyond the sensor and were cut at its border.
        filtered: Boxes that the box filters dropped.
        comparable: Boxes of moments that follow another one.
        frozen: Those of them that equal a box of the moment before in place, size and class.
        classes: Class name → boxes (ignored and unwanted ones do not count), and those clearly wider than high and
            higher than wide among the boxes that are not cut.
    """

    moments: int = 0
    moments_found_empty: int = 0
    moments_outside: int = 0
    moments_unused: int = 0
    first_us: int | None = None
    last_us: int | None = None
    rate_hz: float | None = None
    boxes: int = 0
    left_out: int = 0
    ignored: int = 0
    doubled: int = 0
    nearly_doubled: int = 0
    outside: int = 0
    cut: int = 0
    filtered: int = 0
    comparable: int = 0
    frozen: int = 0
    classes: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass
class RecordingFacts:
    """Counts of a recording and its sequence.

    Attributes:
        frames: Frames of the sequence.
        labelled_frames: Labelled frames.
        boxes: Boxes of the labelled frames.
        empty_frames: Frames without an event.
        empty_labelled_frames: Labelled frames without an event.
        events: Events that were read.
        first_event_us: Time of the first event.
        last_event_us: Time of the last event that was read; it was the recording's last if ``complete``.
        complete: Whether the recording was read to its end.
        pixels: Pixels of the sensor.
        fingerprint: Digest of the first events without their time on the clock: equal for copies and conversions.
        box_file: What is in the box file; None without one.
    """

    frames: int
    labelled_frames: int
    boxes: int
    empty_frames: int
    empty_labelled_frames: int
    events: int
    first_event_us: int
    last_event_us: int
    complete: bool
    pixels: int
    fingerprint: str
    box_file: BoxFacts | None = None

    @property
    def duration_s(self) -> float:
        """Time from the first to the last event read, in seconds."""
        return (self.last_event_us - self.first_event_us) / 1e6

    @property
    def events_per_pixel_s(self) -> float | None:
        """Events per pixel and second; None where all events are of one moment."""
        return self.events / self.pixels / self.duration_s if self.duration_s > 0 else None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave."""
        box_file = content["box_file"]
        return cls(**{**content, "box_file": None if box_file is None else BoxFacts(**box_file)})


@dataclass(frozen=True)
class Finding:
    """Something about a recording that cannot be right, or is unlikely.

    Attributes:
        kind: Short name of the kind, for counting.
        text: What was found, and what to do about it.
        refused: Whether it cannot be right.
    """

    kind: str
    text: str
    refused: bool = False


# ------------------------------------------------------------------------------------------------------- counting


def count_moments(times_us: np.ndarray, facts: BoxFacts) -> None:
    """Note the label moments; ``times_us``: int64 [n], increasing."""
    facts.moments = len(times_us)
    if len(times_us):
        facts.first_us, facts.last_us = int(times_us[0]), int(times_us[-1])
    if len(times_us) > 1:
        facts.rate_hz = round(1e6 / float(np.median(np.diff(times_us))), 3)


def same_as_before(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compare the boxes of each moment with those of the moment before.

    Args:
        boxes: `RECORDING_BOX_DTYPE` [M] sorted by time.

    Returns:
        bool [M] whether another moment precedes, bool [M] whether the box stood there already: equal in place, size
        and class.
    """
    _, moment = np.unique(boxes["t"], return_inverse=True)
    seen: dict[tuple[Any, ...], int] = {}
    frozen = np.zeros(len(boxes), bool)
    rows = zip(moment.tolist(), *(boxes[name].tolist() for name in ("x", "y", "w", "h", "class_id")), strict=True)
    for row, (number, *place) in enumerate(rows):
        key = tuple(place)
        frozen[row] = seen.get(key, -2) == number - 1
        seen[key] = number
    return moment > 0, frozen


def doubled_rows(boxes: np.ndarray) -> np.ndarray:
    """Tell which boxes occurred before in the file: equal in time, place, size and class.

    Args:
        boxes: `RECORDING_BOX_DTYPE` [M].

    Returns:
        bool [M]; the first of several equal ones is not among them.
    """
    plain = np.stack([boxes[name].astype(np.float64) for name in ("t", "x", "y", "w", "h", "class_id")], axis=1)
    _, first = np.unique(plain, axis=0, return_index=True)
    doubled = np.ones(len(boxes), bool)
    doubled[first] = False
    return doubled


def nearly_doubled_count(boxes: np.ndarray) -> int:
    """Number of boxes that cover an earlier one of their time and class with an IoU of 0.95 or more."""
    count = 0
    starts = np.flatnonzero(np.diff(boxes["t"], prepend=boxes["t"][:1] - 1)) if len(boxes) else []
    for group in np.split(boxes, starts[1:]):
        if len(group) < 2:
            continue
        close = ious(group, group) >= _NEARLY_EQUAL_IOU
        close &= group["class_id"][:, None] == group["class_id"][None]
        count += int(np.tril(close, -1).any(axis=1).sum())
    return count


def count_classes(boxes: np.ndarray, uncut: np.ndarray, classes: SequenceOf[str]) -> dict[str, dict[str, int]]:
    """Count the boxes of each class and their shapes.

    Args:
        boxes: `RECORDING_BOX_DTYPE` [M].
        uncut: bool [M], boxes whose shape is that of the object.
        classes: Class names in label-id order.

    Returns:
        See `BoxFacts.classes`.
    """
    counts = {}
    for class_id, name in enumerate(classes):
        of_class = boxes["class_id"] == class_id
        w, h = boxes["w"][of_class & uncut], boxes["h"][of_class & uncut]
        counts[name] = {
            "boxes": int(of_class.sum()),
            "wider": int((w > _NOT_SQUARE * h).sum()),
            "higher": int((h > _NOT_SQUARE * w).sum()),
        }
    return counts


def looks_counted_from_one(class_ids: np.ndarray, class_count: int) -> bool:
    """Whether the ids of a box file rather go from 1 to ``class_count`` than from 0."""
    ids = np.unique(class_ids[(class_ids != IGNORED_CLASS_ID) & (class_ids != LEFT_OUT_CLASS_ID)])
    return bool(len(ids)) and ids[0] > 0 and ids[-1] == class_count


# -------------------------------------------------------------------------------------------------------- judging


def _seconds(first_us: float, last_us: float) -> str:
    return f"{first_us:.0f} to {last_us:.0f} us ({first_us / 1e6:.6g} to {last_us / 1e6:.6g} s)"


def time_hints(labels_us: tuple[int, int], events_us: tuple[int, int]) -> str:
    """What may be wrong where label times and events do not go together: the explanations under which they would.

    Args:
        labels_us: First and last label moment.
        events_us: First and last event.
    """
    (first, last), (begin, end) = labels_us, events_us
    hints = []
    if first >= 0 and last + begin <= end and begin > 0:
        hints.append(
            "counted from the recording's first event they would lie inside it, as Metavision's tools shift times: "
            "box_times: {zero: first_event}"
        )
    for words, unit in _UNITS.items():
        factor = US_PER_UNIT[unit]
        if begin <= first * factor and last * factor <= end:
            hints.append(f"read as {words} they would lie inside it: box_times: {{unit: {unit}}}")
        if begin * factor <= first and last <= end * factor:
            hints.append(f"with the events' times read as {words} they would: recording_times: {{unit: {unit}}}")
    if not hints:
        return (
            "Likely causes: another unit or zero of the times (say it in the data set file: box_times, "
            "recording_times), or boxes of another recording."
        )
    return "Possible explanations, to be said in the data set file: " + "; or ".join(hints) + "."


def overlap_problem(box_file: BoxFacts, events_us: tuple[int, int]) -> str | None:
    """What is wrong if not a single label moment lies between the first and the last event, else None."""
    if box_file.first_us is None or box_file.last_us is None or box_file.moments_outside < box_file.moments:
        return None
    labels = (box_file.first_us, box_file.last_us)
    return (
        f"none of its {box_file.moments} label moments lies within the recording: they go from {_seconds(*labels)}, "
        f"the events from {_seconds(*events_us)}. {time_hints(labels, events_us)}"
    )


def sparse_problem(
    events: int, windows: int, window_us: int, limits: PlausibilityConfig, verb: str = "holds"
) -> str | None:
    """What is wrong if a recording has hardly any events for its length, else None."""
    least = limits.min_events_per_window
    if least is None or windows < 2 or events >= least * windows:
        return None
    return (
        f"{verb} {events} events in {windows} windows of {window_us / 1000:g} ms ({windows * window_us / 1e6:.6g} s): "
        f"{events / windows:.2g} events per window, at least {least:g} are expected. If times are not microseconds, "
        "say so in the data set file, for example recording_times: {unit: ns}; if its useful part is shorter, cut it: "
        "recording_times: {start_us: ..., end_us: ...}; if it is right as it is, set plausibility: "
        "{min_events_per_window: null}."
    )


def judge(facts: RecordingFacts, window_us: int, limits: PlausibilityConfig) -> Iterator[Finding]:
    """Everything that is wrong or unlikely about one recording."""
    if problem := sparse_problem(facts.events, facts.frames, window_us, limits):
        yield Finding("hardly any events", problem, refused=True)
    rate = facts.events_per_pixel_s
    if rate is not None:
        low, high = limits.min_events_per_pixel_s, limits.max_events_per_pixel_s
        for wrong, words, unit in (
            (low is not None and rate < low, "few", "ns"),
            (high is not None and rate > high, "many", "ms"),
        ):
            if wrong:
                yield Finding(
                    f"{words} events",
                    f"{facts.events} events in {facts.duration_s:.6g} s are {rate:.3g} per pixel and second, unusually "
                    f"{words}. Are the times microseconds? Otherwise say so, for example "
                    f"recording_times: {{unit: {unit}}}.",
                )
    if limits.max_empty_frames is not None and facts.empty_frames > limits.max_empty_frames * facts.frames:
        yield Finding("frames without events", f"{facts.empty_frames} of {facts.frames} frames hold no event.")
    if facts.empty_labelled_frames:
        yield Finding(
            "labelled frames without events",
            f"{facts.empty_labelled_frames} of {facts.labelled_frames} labelled frames hold no event: a detector "
            "cannot see what is labelled there. Are the boxes on the recording's clock?",
            refused=facts.empty_labelled_frames == facts.labelled_frames >= _ALL_FRAMES_EMPTY,
        )
    if facts.box_file is not None:
        yield from _judge_moments(facts.box_file, facts, limits)
        yield from judge_boxes(facts.box_file, limits)


def _judge_moments(boxes: BoxFacts, facts: RecordingFacts, limits: PlausibilityConfig) -> Iterator[Finding]:
    events = (facts.first_event_us, facts.last_event_us)
    if boxes.first_us is not None and boxes.last_us is not None:
        labels = (boxes.first_us, boxes.last_us)
        if boxes.moments_outside:
            mostly = 2 * boxes.moments_outside > boxes.moments
            yield Finding(
                "labels outside the recording",
                f"{boxes.moments_outside} of {boxes.moments} label moments lie before the first or after the last "
                f"event and are of no use: they go from {_seconds(*labels)}, the events from {_seconds(*events)}. "
                + (
                    time_hints(labels, events)
                    if mostly
                    else "Does the recording end early, or are boxes of another one?"
                ),
            )
        if limits.max_label_rate_hz is not None and (boxes.rate_hz or 0) > limits.max_label_rate_hz:
            yield Finding(
                "label moments too close",
                f"label moments follow each other at {boxes.rate_hz:g} Hz, from {_seconds(*labels)}. Are their times "
                "microseconds? Otherwise say so, for example box_times: {unit: ms}.",
            )
        if boxes.moments and not facts.labelled_frames:
            yield Finding(
                "no label used",
                f"none of {boxes.moments} label moments ({_seconds(*labels)}) becomes a labelled frame: they are too "
                "early, or the filters drop their boxes. The recording counts as unlabelled.",
            )


def judge_boxes(boxes: BoxFacts, limits: PlausibilityConfig) -> Iterator[Finding]:
    """What is unlikely about the boxes of one recording, whatever its events."""
    shares = (
        (
            "doubled boxes",
            boxes.nearly_doubled,
            boxes.boxes,
            limits.max_doubled_boxes,
            "lie on another box of their class and time",
        ),
        (
            "frozen boxes",
            boxes.frozen,
            boxes.comparable,
            limits.max_frozen_boxes,
            "equal a box of the label moment before to the last digit: were they copied on while the objects moved?",
        ),
        (
            "boxes outside the sensor",
            boxes.outside,
            boxes.boxes,
            limits.max_outside_boxes,
            "have no area inside the sensor and are dropped. Is the sensor's size right, and are they [x, y, w, h] in "
            "its pixels?",
        ),
        (
            "boxes cut",
            boxes.cut,
            boxes.boxes,
            limits.max_cut_boxes,
            "reach beyond the sensor and are cut. Are w and h sizes, not corners, and is the sensor's size right?",
        ),
        ("boxes filtered", boxes.filtered, boxes.boxes, limits.max_filtered_boxes, "are dropped by the box filters"),
    )
    for kind, count, total, limit, words in shares:
        least = 1 if kind == "doubled boxes" else _ENOUGH_BOXES
        if limit is not None and total >= least and count > limit * total:
            yield Finding(kind, f"{count} of {total} boxes {words}{'' if words[-1] in '?.' else '.'}")


def judge_split(box_files: Mapping[str, BoxFacts], classes: SequenceOf[str]) -> Iterator[tuple[str, Finding]]:
    """What is unlikely about the boxes of one split together.

    Args:
        box_files: Name of a recording → counts of its box file.
        classes: Class names in label-id order.

    Yields:
        Name of the recording (of several the first), and what was found.
    """
    totals = {
        name: sum(boxes.classes.get(name, {}).get("boxes", 0) for boxes in box_files.values()) for name in classes
    }
    found = ", ".join(f"{count} {name}" for name, count in totals.items() if count)
    for class_id, name in enumerate(classes):
        if found and not totals[name]:
            text = f"class {name!r} (id {class_id}) never occurs in {len(box_files)} box file(s); found: {found}."
            if class_id == 0 and all(totals[other] for other in classes[1:]):
                mapping = ", ".join(f"{number + 1}: {other}" for number, other in enumerate(classes))
                text += (
                    " Are ids counted from 1 in the files? Then every class is taken for the one after it; say what "
                    f"they stand for: class_map: {{{mapping}}}."
                )
            yield next(iter(box_files)), Finding("class never occurs", text)
    yield from _odd_shapes(box_files, classes)


def twins(facts: Mapping[str, RecordingFacts]) -> Iterator[tuple[str, Finding]]:
    """Recordings that begin with the same events as another one; ``facts`` and what comes as in `judge_split`."""
    names: dict[str, str] = {}
    for name, entry in facts.items():
        twin = names.setdefault(entry.fingerprint, name)
        if twin != name:
            yield name, Finding("recording twice", f"begins with the same events as {twin}: a copy of it?")


def findings_of(
    facts: Mapping[str, RecordingFacts], window_us: int, classes: SequenceOf[str], limits: PlausibilityConfig
) -> list[dict[str, Any]]:
    """What is unlikely about the recordings of one split, each of them and all together.

    Args:
        facts: Name of a recording → its counts.
        window_us: Length of a window in microseconds.
        classes: Class names in label-id order; empty if these are not all recordings of the split, so that nothing can
            be said about classes.
        limits: What counts as unlikely.

    Returns:
        See `collect`.
    """
    of_one = ((name, finding) for name, entry in facts.items() for finding in judge(entry, window_us, limits))
    box_files = {name: entry.box_file for name, entry in facts.items() if entry.box_file is not None}
    return collect(chain(of_one, judge_split(box_files, classes), twins(facts)))


def collect(found: Iterable[tuple[str, Finding]]) -> list[dict[str, Any]]:
    """Bring findings of one kind together.

    Args:
        found: Name of a recording and what was found about it.

    Returns:
        One entry a kind as plain JSON data: ``kind``, ``text`` (the first finding) and ``recordings`` (all names).
    """
    kinds: dict[str, dict[str, Any]] = {}
    for name, finding in found:
        entry = kinds.setdefault(
            finding.kind, {"kind": finding.kind, "text": f"{name}: {finding.text}", "recordings": []}
        )
        if name not in entry["recordings"]:
            entry["recordings"].append(name)
    return list(kinds.values())


def describe(finding: Mapping[str, Any]) -> str:
    """One line for people about an entry of `collect`."""
    others = finding["recordings"][1:]
    more = f" ({len(others)} more recording(s): {shorten(others)})" if others else ""
    return f"{finding['kind']}: {finding['text']}{more}"


def shorten(names: SequenceOf[str]) -> str:
    """A list of names for a message."""
    return ", ".join(names[:_SHOWN_NAMES]) + (", ..." if len(names) > _SHOWN_NAMES else "")


def _odd_shapes(box_files: Mapping[str, BoxFacts], classes: SequenceOf[str]) -> Iterator[tuple[str, Finding]]:
    """Recordings in which a class lies where it stands elsewhere, or the other way round."""
    for name in classes:
        shapes = {recording: boxes.classes[name] for recording, boxes in box_files.items() if name in boxes.classes}
        for recording, own in shapes.items():
            others = [counts for other, counts in shapes.items() if other != recording]
            for shape, opposite, words in (
                ("wider", "higher", "wider than high"),
                ("higher", "wider", "higher than wide"),
            ):
                elsewhere = sum(counts["boxes"] for counts in others)
                if (
                    own["boxes"] >= _ENOUGH_BOXES
                    and own[shape] >= _NEARLY_ALL * own["boxes"]
                    and elsewhere >= _ENOUGH_BOXES
                    and sum(counts[opposite] for counts in others) >= _NEARLY_ALL * elsewhere
                ):
                    yield (
                        recording,
                        Finding(
                            "odd shapes",
                            f"{own[shape]} of {own['boxes']} boxes of class {name!r} are {words}, unlike in the other "
                            "recordings. Are width and height exchanged, or classes mixed up?",
                        ),
                    )


# ---------------------------------------------------------------------------------------------------------- table


def table(facts: SequenceOf[RecordingFacts], box_files: SequenceOf[BoxFacts]) -> list[tuple[str, str]]:
    """The counts of a split for people: title and value of each row.

    Args:
        facts: Counts of its recordings; empty if nobody counted (sequences that were preprocessed elsewhere).
        box_files: Counts of their box files, or of their labels, of which less is known.
    """
    rows: list[tuple[str, object]] = []
    if facts:
        rates = sorted(rate for entry in facts if (rate := entry.events_per_pixel_s) is not None)
        empty, frames, empty_labelled, labelled = (
            sum(getattr(entry, name) for entry in facts)
            for name in ("empty_frames", "frames", "empty_labelled_frames", "labelled_frames")
        )
        rows += [
            ("recordings", len(facts)),
            ("  with a box file", len(box_files)),
            ("  length (s)", f"{sum(entry.duration_s for entry in facts):.6g}"),
            ("events", sum(entry.events for entry in facts)),
            (
                "  per pixel and second, min / med / max",
                "-" if not rates else " / ".join(f"{rates[place]:.3g}" for place in (0, len(rates) // 2, -1)),
            ),
            ("frames without events", f"{empty} of {frames}"),
            ("labelled frames without events", f"{empty_labelled} of {labelled}"),
        ]

    def total(name: str) -> int:
        return sum(getattr(entry, name) for entry in box_files)

    rows += [("label moments in the box files", total("moments")), ("boxes in the box files", total("boxes"))]
    if facts:
        rows[-1:-1] = [
            ("  found empty", total("moments_found_empty")),
            ("  outside the recording", total("moments_outside")),
            ("  not taken by label_times", total("moments_unused")),
        ]
        rows.append(("  of classes left out", total("left_out")))
    rows += [
        ("  ignored", total("ignored")),
        ("  doubled", total("doubled")),
        ("  nearly doubled", total("nearly_doubled") - total("doubled")),
    ]
    if facts:
        rows += [
            ("  outside the sensor", total("outside")),
            ("  cut at its border", total("cut")),
            ("  dropped by filters", total("filtered")),
        ]
    rows.append(("  frozen since the moment before", total("frozen")))
    for name in dict.fromkeys(name for entry in box_files for name in entry.classes):
        counts = [entry.classes[name] for entry in box_files if name in entry.classes]
        shapes = " / ".join(str(sum(entry[key] for entry in counts)) for key in ("boxes", "wider", "higher"))
        rows.append((f"  {name}: all / wider / higher", shapes))
    return [(title, str(value)) for title, value in rows]
