from __future__ import annotations

import multiprocessing
import os
import socket

import numpy as np
import pytest
import torch
from tiny_sequences import (
    CONFIG,
    CountingDetector,
    numbered_frames,
    random_detector,
    random_frames,
    write_tiny_sequence,
)

from leod.config.schema import DetectionConfig, EvaluationFilterConfig, MergingConfig
from leod.evaluation.labelled_frames import (
    detect_labelled_frames,
    evaluate_labelled_frames,
    gather_labelled_frames,
    share_of_rank,
)
from leod.sequences.layout import label_file, timestamps_file, write_labels
from leod.sequences.representations import representation_name
from leod.sequences.sequence import Sequence

DETECTION = DetectionConfig(confidence_threshold=0.1, batch_size=2, sequence_length=4)
LENGTHS = {"a": 7, "b": 12, "c": 3, "d": 9}
LABELLED = {"a": [2, 6], "b": [9], "c": [], "d": [8]}


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    root = tmp_path_factory.mktemp("numbered")
    for name, length in LENGTHS.items():
        write_tiny_sequence(root / name, numbered_frames(length), LABELLED[name])
    return [Sequence(root / name, CONFIG) for name in LENGTHS]


@pytest.fixture(scope="module")
def noisy_folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("noisy")
    for seed, (name, length) in enumerate(LENGTHS.items()):
        write_tiny_sequence(root / name, random_frames(seed, length), range(length))
    return root


def open_all(folder):
    return [Sequence(folder / name, CONFIG) for name in LENGTHS]


def widths(frames):
    return {entry.sequence_name: [boxes["w"].tolist() for boxes in entry.detections] for entry in frames}


def test_plain_detections_are_those_of_the_labelled_frames_with_their_time(numbered):
    frames = detect_labelled_frames(CountingDetector(), numbered, CONFIG, DETECTION)
    assert widths(frames) == {"a": [[3], [7]], "b": [[10]], "d": [[9]]}
    for entry in frames:
        for truth, found in zip(entry.ground_truth, entry.detections, strict=True):
            assert (found["t"] == truth["t"][0]).all()


def test_read_backwards_the_next_frame_is_compared_and_unseen_labels_vanish(numbered):
    frames = detect_labelled_frames(CountingDetector(), numbered, CONFIG, DETECTION, "time_reversed")
    # Frame 3 read backwards shows what frame 2's label tells; frame 7 of sequence a does not exist.
    assert widths(frames) == {"a": [[4]], "b": [[11]], "d": []}
    assert [len(entry.ground_truth) for entry in frames] == [1, 1, 0]


def test_tta_merges_the_views_on_labelled_frames(numbered):
    frames = detect_labelled_frames(CountingDetector(), numbered, CONFIG, DETECTION, "tta")
    # Mirrored views find the box 3 pixels to the left, 48 - 1 - 30 = 17: too far for boxes 3 or 7 wide to suppress each
    # other. Boxes of reversed views overlap forward ones, which come first at equal score; in sequence b the mirrored
    # reversed box outlives the mirrored one, whose place the plain one took.
    assert widths(frames) == {"a": [[3, 3], [7, 7]], "b": [[10, 11]], "d": [[9]]}
    assert [boxes["x"].tolist() for boxes in frames[0].detections] == [[18.5, 15.5], [16.5, 13.5]]


def test_tta_may_fuse_the_views(numbered):
    fusion = MergingConfig(method="weighted_box_fusion")
    frames = detect_labelled_frames(CountingDetector(), numbered, CONFIG, DETECTION, "tta", merging=fusion)
    # Boxes 3 wide read forwards and 4 wide read backwards are one of 3.5, on which two of four views agree; the last
    # frame of sequence a shows in two views only. In sequence b the mirrored boxes agree, the others do not.
    assert widths(frames) == {"a": [[3.5, 3.5], [7, 7]], "b": [[11, 10, 10]], "d": [[9, 9]]}
    shares = [(boxes["objectness"] / 0.9).tolist() for entry in frames for boxes in entry.detections]
    assert shares == [pytest.approx(each) for each in ([0.5, 0.5], [0.5, 0.5], [0.5, 0.25, 0.25], [0.5, 0.5])]


def test_sequences_without_labels_do_not_count(numbered):
    assert detect_labelled_frames(CountingDetector(), [numbered[2]], CONFIG, DETECTION) == []


@pytest.mark.parametrize("variant", ["plain", "tta", "time_reversed"])
def test_batch_size_and_loader_processes_do_not_change_the_order(noisy_folder, variant):
    detector, sequences = random_detector(), open_all(noisy_folder)
    one = detect_labelled_frames(detector, sequences, CONFIG, DETECTION, variant)
    other = detect_labelled_frames(
        detector, sequences, CONFIG, DETECTION.model_copy(update={"batch_size": 3}), variant, num_workers=2
    )
    assert [entry.sequence_name for entry in one] == [entry.sequence_name for entry in other] == list(LENGTHS)
    for left, right in zip(one, other, strict=True):
        for boxes, same in zip(left.detections, right.detections, strict=True):
            np.testing.assert_allclose(boxes["class_confidence"], same["class_confidence"], atol=1e-4)


def test_the_shares_of_all_ranks_are_everything_once(noisy_folder):
    sequences = open_all(noisy_folder)
    shares = [share_of_rank(sequences, rank, 3) for rank in range(3)]
    assert sorted(sequence.name for share in shares for sequence in share) == list(LENGTHS)


FILTER = EvaluationFilterConfig(skip_us=0)


def test_gathering_over_ranks_gives_the_metrics_of_one_process(noisy_folder, monkeypatch):
    detector, sequences = random_detector(), open_all(noisy_folder)
    alone = gather_labelled_frames(detect_labelled_frames(detector, sequences, CONFIG, DETECTION))
    expected = evaluate_labelled_frames(alone, CONFIG, FILTER)
    assert expected["counts"]["detections"] > 50

    parts = [
        detect_labelled_frames(detector, share_of_rank(sequences, rank, 3), CONFIG, DETECTION) for rank in range(3)
    ]

    def all_gather_object(gathered, own):
        assert own is parts[1]
        gathered[:] = parts

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    monkeypatch.setattr(torch.distributed, "all_gather_object", all_gather_object)
    result = evaluate_labelled_frames(gather_labelled_frames(parts[1]), CONFIG, FILTER)
    assert result["counts"] == expected["counts"]
    assert result["metrics"] == pytest.approx(expected["metrics"], abs=1e-3)


@pytest.fixture
def unused_tcp_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def evaluate_share(rank, world_size, folder, port, results):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world_size)
    share = share_of_rank(open_all(folder), rank, world_size)
    frames = gather_labelled_frames(detect_labelled_frames(random_detector(), share, CONFIG, DETECTION))
    results.put(evaluate_labelled_frames(frames, CONFIG, FILTER))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_find_the_metrics_of_one(noisy_folder, unused_tcp_port):
    alone = gather_labelled_frames(detect_labelled_frames(random_detector(), open_all(noisy_folder), CONFIG, DETECTION))
    expected = evaluate_labelled_frames(alone, CONFIG, FILTER)
    assert expected["counts"]["detections"] > 50

    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [
        context.Process(target=evaluate_share, args=(rank, 2, noisy_folder, unused_tcp_port, results))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    both = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    for result in both:
        assert result["counts"] == expected["counts"]
        assert result["metrics"] == pytest.approx(expected["metrics"], abs=1e-3)


def test_the_start_of_a_sequence_is_skipped_on_any_clock(tmp_path):
    detector = random_detector()
    results = {}
    for name, offset in (("zero", 0), ("epoch", 1_600_000_000_000_000)):
        folder = tmp_path / name
        write_tiny_sequence(folder, random_frames(0, 20), [2, 9, 12, 19])
        representation = representation_name(CONFIG.representation, CONFIG.window_us)
        times = timestamps_file(folder, representation)
        np.save(times, np.load(times) + offset)
        with np.load(label_file(folder)) as file:
            arrays = dict(file)
        arrays["labels"]["t"] += offset
        np.savez(label_file(folder), **arrays)
        frames = detect_labelled_frames(detector, [Sequence(folder, CONFIG)], CONFIG, DETECTION)
        results[name] = {
            start: evaluate_labelled_frames(frames, CONFIG, EvaluationFilterConfig(skip_us=500_000, skip_from=start))
            for start in ("first_event", "clock_zero")
        }
    # Frame 9 ends after 0.5 s, which is still left out.
    assert results["zero"]["first_event"]["counts"]["images"] == 2
    assert results["zero"]["first_event"] == results["epoch"]["first_event"] == results["zero"]["clock_zero"]
    assert results["epoch"]["clock_zero"]["counts"]["images"] == 4


def test_frames_found_empty_do_not_count(tmp_path):
    write_tiny_sequence(tmp_path / "a", random_frames(0, 8), [2, 5])
    rows = np.load(label_file(tmp_path / "a"))["labels"][:1]
    write_labels(tmp_path / "a", rows, [0, 1])
    (found,) = detect_labelled_frames(random_detector(), [Sequence(tmp_path / "a", CONFIG)], CONFIG, DETECTION)
    assert len(found.ground_truth) == len(found.detections) == 1
