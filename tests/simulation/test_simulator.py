"""The simulated recordings look like recordings of an event camera, and are a function of their settings."""

import numpy as np
import pytest

from leod.config.schema import SensorSize, SimulationConfig
from leod.simulation.scene import make_scene
from leod.simulation.sensor import EventSensor, crossings
from leod.simulation.simulator import RecordingSimulator, visible_box

SIZE = SensorSize(height=72, width=96)
CLASS_IDS = {"car": 0, "pedestrian": 1}
CONFIG = SimulationConfig(duration_s=5.0, render_rate_hz=100.0, objects_per_second=1.2, stop_probability=0.5)
QUIET = {"noise_rate_hz": 0.0, "hot_pixel_fraction": 0.0}


def simulate_one(config=CONFIG, split="train", index=0, size=SIZE):
    simulator = RecordingSimulator(size, CLASS_IDS, config, split, index)
    return simulator, np.concatenate(list(simulator.chunks())), simulator.boxes()


@pytest.fixture(scope="module")
def recordings():
    return [simulate_one(index=index) for index in range(5)]


def test_events_are_sorted_and_lie_on_the_sensor_and_in_the_recording(recordings):
    for _, events, _ in recordings:
        t, x, y, p = events.T
        assert np.all(np.diff(t) >= 0)
        assert t[0] >= 0
        assert t[-1] < 5_000_000
        assert x.min() >= 0
        assert x.max() < SIZE.width
        assert y.min() >= 0
        assert y.max() < SIZE.height
        assert set(np.unique(p)) == {0, 1}


def test_event_rate_and_polarities_are_those_of_a_street(recordings):
    for _, events, _ in recordings:
        per_pixel_and_second = len(events) / (SIZE.height * SIZE.width * CONFIG.duration_s)
        assert 0.2 < per_pixel_and_second < 20
        assert 0.35 < events[:, 3].mean() < 0.65


def test_no_pixel_fires_within_its_refractory_period(recordings):
    _, events, _ = recordings[0]
    pixel = events[:, 2] * SIZE.width + events[:, 1]
    order = np.argsort(pixel, kind="stable")
    same_pixel = np.diff(pixel[order]) == 0
    assert np.diff(events[order, 0])[same_pixel].min() >= CONFIG.refractory_us


def test_boxes_lie_on_the_sensor_at_the_label_times(recordings):
    for _, _, boxes in recordings:
        assert np.all(boxes["t"] % 250_000 == 0)
        assert np.all(np.diff(boxes["t"]) >= 0)
        assert np.all((boxes["x"] >= 0) & (boxes["x"] + boxes["w"] <= SIZE.width))
        assert np.all((boxes["y"] >= 0) & (boxes["y"] + boxes["h"] <= SIZE.height))
        assert np.all((boxes["w"] >= 3) & (boxes["h"] >= 3))
        assert np.all(boxes["class_confidence"] == 1)


def test_a_track_is_one_object(recordings):
    for _, _, boxes in recordings:
        for track in np.unique(boxes["track_id"]):
            rows = boxes[boxes["track_id"] == track]
            assert len(np.unique(rows["class_id"])) == 1
            assert np.all(np.diff(rows["t"]) > 0), "two boxes of one track at one time"


def test_both_classes_occur(recordings):
    boxes = np.concatenate([boxes for _, _, boxes in recordings])
    assert np.bincount(boxes["class_id"], minlength=2).min() > 20


def test_stopped_objects_keep_their_boxes_and_make_no_events():
    """A waiting camera, no noise: where a stopped object stands alone nothing fires."""
    config = SimulationConfig(
        duration_s=8.0, render_rate_hz=100.0, objects_per_second=0.5, stop_probability=1.0, ego_motion=0.0, clutter=0.0,
        **QUIET,
    )  # fmt: skip
    quiet, moving = [], []
    for index in range(4):
        simulator, events, boxes = simulate_one(config, index=index)
        for row in boxes:
            others = boxes[(boxes["t"] == row["t"]) & (boxes["track_id"] != row["track_id"])]
            overlaps = (
                (others["x"] < row["x"] + row["w"] + 6)
                & (row["x"] < others["x"] + others["w"] + 6)
            )  # fmt: skip
            if overlaps.any():
                continue
            image = round(row["t"] * 1e-6 * 100)
            standing = simulator.scene.standing[max(0, image - 10) : image + 1, row["track_id"] - 1]
            recent = events[(events[:, 0] > row["t"] - 100_000) & (events[:, 0] <= row["t"])]
            inside = (
                (recent[:, 1] >= row["x"]) & (recent[:, 1] < row["x"] + row["w"])
                & (recent[:, 2] >= row["y"]) & (recent[:, 2] < row["y"] + row["h"])
            ).sum()  # fmt: skip
            if standing.all():
                quiet.append(inside)
            elif not standing.any():
                moving.append(inside)
    assert len(quiet) >= 5
    assert np.median(quiet) == 0
    assert np.median(moving) > 10


def test_a_parked_camera_without_objects_sees_nothing_but_noise():
    config = SimulationConfig(
        duration_s=2.0, render_rate_hz=50.0, objects_per_second=0.0, ego_motion=0.0, clutter=0.0,
        hot_pixel_fraction=0.0, noise_rate_hz=1.0,
    )  # fmt: skip
    _, events, boxes = simulate_one(config)
    expected = 1.0 * 2.0 * SIZE.height * SIZE.width
    assert len(boxes) == 0
    assert abs(len(events) - expected) < 6 * np.sqrt(expected)


def test_hot_pixels_fire_all_the_time():
    config = SimulationConfig(
        duration_s=2.0, render_rate_hz=50.0, objects_per_second=0.0, ego_motion=0.0, clutter=0.0, noise_rate_hz=0.0,
        hot_pixel_fraction=0.002,
    )  # fmt: skip
    _, events, _ = simulate_one(config)
    counts = np.bincount(events[:, 2] * SIZE.width + events[:, 1])
    assert 3 <= (counts > 0).sum() <= 35
    assert counts[counts > 0].min() > 100


def test_a_recording_is_a_function_of_seed_split_and_index():
    config = CONFIG.model_copy(update={"duration_s": 0.5})
    _, events, boxes = simulate_one(config)
    _, again, boxes_again = simulate_one(config)
    assert np.array_equal(events, again)
    assert boxes.tobytes() == boxes_again.tobytes()
    for other in (
        simulate_one(config, index=1)[1],
        simulate_one(config, split="val")[1],
        simulate_one(config.model_copy(update={"seed": 1}))[1],
    ):
        assert not np.array_equal(events, other)


def test_crossings_follow_the_reference_level():
    """Log intensity 0 → 1 in 1 ms with threshold 0.3: events at 0.3, 0.6, 0.9; the remaining 0.1 carries on."""
    before, now = np.zeros((1, 2)), np.array([[1.0, -0.35]])
    reference, threshold = np.zeros((1, 2)), np.full((1, 2), 0.3)
    buffer, count = crossings(
        before, now, reference, threshold, threshold, 1000.0, 2000.0, np.empty((2, 4), np.int64), 0
    )
    events = buffer[:count]
    assert events[:, 0].tolist() == [1300, 1600, 1900, 1857]
    assert events[:, 1].tolist() == [0, 0, 0, 1]
    assert events[:, 3].tolist() == [1, 1, 1, 0]
    assert reference == pytest.approx(np.array([[0.9, -0.3]]))
    later = np.array([[1.25, -0.35]])
    buffer, count = crossings(now, later, reference, threshold, threshold, 2000.0, 3000.0, buffer, 0)
    assert buffer[:count].tolist() == [[2800, 0, 0, 1]]  # 1.2 is reached after 0.2 of 0.25


def test_thresholds_vary_between_pixels():
    sensor = EventSensor(
        SIZE, SimulationConfig(contrast_threshold=0.3, contrast_variation=0.1), np.random.default_rng(0)
    )
    assert sensor.threshold_on.mean() == pytest.approx(0.3, abs=0.005)
    assert sensor.threshold_on.std() == pytest.approx(0.03, abs=0.003)
    assert not np.array_equal(sensor.threshold_on, sensor.threshold_off)


@pytest.mark.parametrize(
    ("extent", "whole", "seen", "expected"),
    [
        ((10.2, 5.5, 20.7, 15.1), (100, 10, 5, 21, 16), (100, 10, 5, 21, 16), (10.2, 5.5, 20.7, 15.1)),  # all visible
        (
            (-8.0, 5.0, 12.0, 15.0),
            (120, 0, 5, 12, 15),
            (120, 0, 5, 12, 15),
            (0.0, 5.0, 12.0, 15.0),
        ),  # leaves at the left
        (
            (10.0, 5.0, 30.0, 15.0),
            (200, 10, 5, 30, 15),
            (90, 10, 5, 19, 15),
            (10.0, 5.0, 19.0, 15.0),
        ),  # right half hidden
        ((10.0, 5.0, 30.0, 15.0), (200, 10, 5, 30, 15), (50, 10, 5, 15, 15), None),  # mostly hidden
        ((10.0, 5.0, 12.0, 15.0), (20, 10, 5, 12, 15), (20, 10, 5, 12, 15), None),  # too narrow
        ((10.0, 5.0, 12.0, 15.0), (0, 96, 72, 0, 0), (0, 96, 72, 0, 0), None),  # off the sensor
    ],
)
def test_visible_box(extent, whole, seen, expected):
    assert visible_box(np.array([*extent, *whole, *seen], dtype=float), SIZE) == expected


def test_nobody_appears_out_of_nothing():
    """Whoever enters after the start comes from the side, from behind the camera or from afar."""
    times = np.arange(801) / 100.0
    for index in range(15):
        scene = make_scene(times, 96, SimulationConfig(), np.random.default_rng(index))
        z = scene.poses[:, :, 1]
        for actor in range(z.shape[1]):
            first = np.argmax(z[:, actor] > 0)
            if first > 0:
                x, depth = scene.poses[first, actor, 0], z[first, actor]
                assert depth < 2.3 or depth >= 23 or abs(x) - 0.6 > 0.6 * depth
