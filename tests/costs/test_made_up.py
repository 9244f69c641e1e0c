"""Made-up data are as dense as they say, and sound enough for every reader."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_sequences import CONFIG, HEIGHT, WIDTH

from leod.costs.made_up import MadeUpSequences, made_up_events, write_made_up_recording
from leod.recordings.recording import open_recording
from leod.sequences.sequence import open_split


def test_events_have_the_density_that_was_asked_for():
    events = made_up_events(CONFIG.sensor, 5_000, 1_000_000, 9.0, np.random.default_rng(0))
    assert len(events) == 9 * HEIGHT * WIDTH
    assert (np.diff(events.t) >= 0).all()
    assert events.t[0] >= 5_000
    assert events.t[-1] < 1_005_000
    assert events.x.max() < WIDTH
    assert events.y.max() < HEIGHT
    # Edges: a fraction of the pixels has most of the events of a window.
    first = events.t < 55_000
    counts = np.bincount(events.y[first].astype(int) * WIDTH + events.x[first], minlength=HEIGHT * WIDTH)
    assert np.sort(counts)[-HEIGHT * WIDTH // 4 :].sum() > 0.5 * counts.sum()


def test_recordings_can_be_read(tmp_path):
    count = write_made_up_recording(tmp_path, "a", CONFIG, 45, 5, 2, 20.0, seed=0)
    with open_recording(tmp_path / "a_td.dat") as recording:
        chunks = list(recording.chunks())
    assert sum(map(len, chunks)) == count == pytest.approx(20 * HEIGHT * WIDTH * 45 * 0.05, rel=0.01)
    assert len(np.load(tmp_path / "a_bbox.npy")) == 18


def test_sequences_can_be_opened(tmp_path):
    maker = MadeUpSequences(CONFIG, boxes_per_frame=2, events_per_pixel_s=20.0)
    maker.write(tmp_path / "train" / "a", frames=30, label_every=5)
    maker.write(tmp_path / "train" / "b", frames=7, label_every=1, pseudo=True)
    first, second = open_split(tmp_path, "train", CONFIG)
    assert first.labelled_frames.tolist() == [4, 9, 14, 19, 24, 29]
    assert (first.labels["t"] > 0).all()
    assert first.read_frames(0, 30).any(axis=(1, 2, 3)).all()
    assert (second.num_frames, len(second.labels)) == (7, 14)
    assert (second.labels["t"] == 0).all()
