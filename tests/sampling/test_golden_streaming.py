"""Comparison with the published windows, ranges, random-access items and dealing of sequences."""

import json

import numpy as np
import pytest

from leod.sampling.inference_stream import deal_out
from leod.sampling.random_access import LabelledItems
from leod.sampling.streaming import guaranteed_ranges, training_segments, whole_range
from leod.sampling.windows import FrameRange


@pytest.fixture(scope="module")
def cases(golden_dir):
    return json.loads((golden_dir / "streaming.json").read_text())


def kept_mask(case):
    kept = np.ones(len(case["objframe_idx_2_repr_idx"]), bool)
    if case["kept_objframe_idx"] is not None:
        kept[:] = False
        kept[case["kept_objframe_idx"]] = True
    return kept


def none_as_minus_one(values):
    return [-1 if value is None else value for value in values]


def check_item(window, case, item):
    """Compare one window with a reference item: frames, labels and order."""
    length, labelled = case["sequence_length"], case["objframe_idx_2_repr_idx"]
    kept = kept_mask(case)
    assert window.frame_indices(length).tolist() == item["ev_idx"]
    loaded = [frame for frame, padded in zip(item["loaded_frame"], item["padded"], strict=True) if not padded]
    assert loaded == [frame for frame in item["ev_idx"] if frame >= 0]
    assert [frame < 0 for frame in item["ev_idx"]] == item["padded"]
    assert window.time_reversed == item["is_reversed"] == item["channels_flipped"]
    frames = window.label_frames(length, case["tflip_offset"]).tolist()
    state = [labelled.index(frame) if frame in labelled else None for frame in frames]
    shown = [-1 if k is None or not kept[k] else labelled[k] for k in state]
    skipped = [-1 if k is None or kept[k] else labelled[k] for k in state]
    assert shown == none_as_minus_one(item["label_frame"])
    assert skipped == none_as_minus_one(item["skipped_label_frame"])


def test_whole_sequences(cases):
    for name, case in cases["streaming"].items():
        length = case["sequence_length"]
        frames = whole_range(
            case["num_ev_repr"],
            np.array(case["objframe_idx_2_repr_idx"]),
            length,
            start_at_first_label=not case["start_from_zero"],
        )
        for time_reversed, items, starts, stops in (
            (False, "items", "start_indices", "stop_indices"),
            (True, "items_time_flipped", "time_flip_start_indices", "time_flip_stop_indices"),
        ):
            windows = [frames.window(i, length, time_reversed) for i in range(frames.num_windows(length))]
            assert [window.start for window in windows] == case[starts], name
            assert [window.stop for window in windows] == case[stops], name
            assert len(windows) == len(case[items]), name
            for i, (window, item) in enumerate(zip(windows, case[items], strict=True)):
                check_item(window, case, item)
                assert (i == 0) == item["is_first"]
                assert (i == len(windows) - 1) == item["is_last"]


def test_guaranteed_ranges(cases):
    for name, case in cases["guaranteed_ranges"].items():
        length, labelled = case["sequence_length"], np.array(case["objframe_idx_2_repr_idx"])
        ranges = guaranteed_ranges(labelled, length)
        assert [[frames.start, frames.stop] for frames in ranges] == case["ranges"], name
        for frames, reference in zip(ranges, case["subsequences"], strict=True):
            count = frames.num_windows(length)
            for time_reversed, prefix in ((False, ""), (True, "time_flip_")):
                windows = [frames.window(i, length, time_reversed) for i in range(count)]
                assert [window.start for window in windows] == reference[prefix + "start_indices"], name
                assert [window.stop for window in windows] == reference[prefix + "stop_indices"], name
            windows = [frames.window(i, length, False) for i in range(count)]
            labels = [int(((labelled >= window.start) & (labelled < window.stop)).sum()) for window in windows]
            assert labels == reference["labels_per_item"], name


@pytest.mark.parametrize("offset", [-1, -2])
def test_segments_have_labels_in_both_directions(cases, offset):
    # The published ranges lose labels when they are read backwards; ours must not, except those that no events follow.
    for name, case in cases["guaranteed_ranges"].items():
        length, labelled, num_frames = case["sequence_length"], case["objframe_idx_2_repr_idx"], case["num_ev_repr"]
        segments = training_segments(0, num_frames, np.array(labelled), np.ones(len(labelled), bool), length, offset)
        shown = []
        for segment in segments:
            for i in range(segment.backward.num_windows(length) if segment.backward else 0):
                frames = segment.backward.window(i, length, True).label_frames(length, offset)
                assert set(frames) & set(labelled), name
                shown += [frame for frame in frames if frame in labelled]
        assert sorted(shown) == [frame for frame in labelled if frame - offset < num_frames], name


def test_random_access(cases):
    for name, case in cases["random_access"].items():
        items = LabelledItems(
            case["num_ev_repr"],
            np.array(case["objframe_idx_2_repr_idx"]),
            kept_mask(case),
            case["sequence_length"],
            case["tflip_offset"],
        )
        assert len(items) == case["length"], name
        if case["length"]:
            assert items.first_item == case["start_idx_offset"], name
        for time_reversed, key in ((False, "items"), (True, "items_time_flipped")):
            assert len(case[key]) == len(items)
            for i, reference in enumerate(case[key]):
                window = items.window(i, time_reversed)
                if reference == "resampled":
                    assert window is None, (name, key, i)
                else:
                    check_item(window, case, reference)
                    assert reference["is_first"]


def test_dealing_of_sequences(cases):
    for name, case in cases["sharding"].items():
        lengths = case["lengths"]
        assert deal_out(lengths, 1)[0] == case["sorted_order"], name
        workers = deal_out(lengths, case["num_workers"])
        for assigned, reference in zip(workers, case["workers"], strict=True):
            assert assigned == reference["assigned"], name
            slots = [
                [[assigned[i], chunk] for i in hand for chunk in range(lengths[assigned[i]])]
                for hand in deal_out([lengths[i] for i in assigned], case["batch_size"])
            ]
            batches = [
                [slot[step] if step < len(slot) else [-1, -1] for slot in slots]
                for step in range(max(len(slot) for slot in slots))
            ]
            assert batches == reference["batches"], name


def test_window_counts_of_ranges():
    assert FrameRange(3, 43).num_windows(10) == 4
    assert FrameRange(3, 44).num_windows(10) == 5
