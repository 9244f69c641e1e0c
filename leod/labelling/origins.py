"""From a sequence back to the recording that it was made from, and whether boxes at its times would be taken there.

The time stamps of a sequence are on the clock of its recording as the data set file reads it (`recording_times`), and
so are box files unless `box_times` says otherwise. What preprocessing was told stands in the sequence's
`preprocess.json`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from leod.config.schema import BoxTimesConfig, LabelTimesConfig, RecordingTimesConfig, WindowsConfig
from leod.errors import DataError
from leod.files import read_json
from leod.recordings.discovery import RecordingFiles
from leod.sequences.layout import STAMP_NAME

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """What a sequence was made from.

    Attributes:
        recording: The file, or the folder in DSEC's layout.
        times: How its clock is read.
        first_event_us: Time of the first event.
        first_label_us: Earliest moment at which preprocessing takes a label.
        last_event_us: Time of the last event that was read.
        ends_at_last_label: Whether a label makes what follows it in the recording disappear.
    """

    recording: Path
    times: RecordingTimesConfig
    first_event_us: int
    first_label_us: int
    last_event_us: int
    ends_at_last_label: bool


def origin_of(sequence: Path, folder: Path, recordings: Mapping[str, RecordingFiles]) -> Origin:
    """Find the recording of a preprocessed sequence.

    Args:
        sequence: Folder of the sequence.
        folder: Folder of the split's recordings.
        recordings: Name → the recordings in it.

    Raises:
        DataError: Nothing tells what the sequence was made from (a published one, for example), the recording is gone
            or another one, its boxes changed since, or labels at the sequence's times would not be taken.
    """
    stamp = sequence / STAMP_NAME
    if not stamp.is_file():
        raise DataError(
            sequence,
            f"has no {STAMP_NAME}, so nothing tells which recording it was made from (published sequences and those "
            "of older programs have none). Boxes are written beside recordings: preprocess the recordings here.",
        )
    files = recordings.get(sequence.name)
    if files is None:
        raise DataError(
            sequence,
            f"was made from a recording {sequence.name!r} that is not in {folder}. Restore it, or say where the "
            "recordings are (--recordings).",
        )
    content = read_json(stamp)
    try:
        made_from, facts = content["made_from"], content["facts"]
        settings = made_from["settings"]
        windows = WindowsConfig.model_validate(settings["windows"])
        label_times = LabelTimesConfig.model_validate(settings["label_times"])
        times = RecordingTimesConfig.model_validate(settings["recording_times"])
        box_times = BoxTimesConfig.model_validate(settings["box_times"])
        first_event_us, last_event_us = int(facts["first_event_us"]), int(facts["last_event_us"])
        _check_unchanged(files, made_from)
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise DataError(stamp, f"is damaged ({error!r:.200}). Preprocess the recording again.") from None
    if label_times.mode != "any":
        raise DataError(
            stamp,
            f"label_times.mode is {label_times.mode!r}: preprocessing takes labels at regular steps only and would "
            "drop most of what a person adds between them. Set label_times: {mode: any} in the data set file and run "
            "the study again.",
        )
    if box_times != BoxTimesConfig():
        raise DataError(
            stamp,
            f"box_times says that the box file of this recording is not on its clock ({box_times!r}), but what a "
            "person adds to it will be. Write the existing boxes on the recording's clock and remove this.",
        )
    origin_us = first_event_us if windows.origin == "first_event" else 0
    is_folder = files.events.parent != folder
    return Origin(
        recording=folder / files.name if is_folder else files.events,
        times=times,
        first_event_us=first_event_us,
        first_label_us=max(origin_us + label_times.first_us, 1),
        last_event_us=last_event_us,
        ends_at_last_label=windows.train_until == "last_label",
    )


def _check_unchanged(files: RecordingFiles, made_from: Mapping[str, Any]) -> None:
    """Compare recording and box file with what the sequence was made from.

    Raises:
        DataError: They differ.
    """
    events = made_from["events"]
    if files.events.name != events["name"] or files.events.stat().st_size != events["bytes"]:
        raise DataError(
            files.events,
            f"is not the recording that the sequence was made from ({events['name']}, {events['bytes']} bytes). Run "
            "the study again, so that its sequences and pseudo-labels are those of this file.",
        )
    boxes, before = files.boxes, made_from["boxes"]
    now = None if boxes is None else (boxes.name, boxes.stat().st_size, boxes.stat().st_mtime_ns)
    if now != (None if before is None else (before["name"], before["bytes"], before["modified_ns"])):
        raise DataError(
            files.events if boxes is None else boxes,
            "the boxes of this recording have changed since its sequence was made, and the pseudo-labels do not know "
            "them. Run the study again (snakemake) before asking what else to correct.",
        )
