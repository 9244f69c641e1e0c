"""Recordings and box files whose times, classes or boxes do not mean what one would think: nothing is lost silently."""

import json
import logging
import shutil

import h5py
import hdf5plugin  # noqa: F401 -- registers the filter
import numpy as np
import pytest

from leod.boxes.dtypes import RECORDING_BOX_DTYPE
from leod.config.schema import BoxFilterConfig, DatasetConfig, LabelTimesConfig, SensorSize
from leod.config.settings import PreprocessSettings
from leod.errors import ConfigError, DataError
from leod.stages.check_dataset import inspect_dataset
from leod.stages.preprocess import preprocess

WIDTH, HEIGHT = 96, 64
REPRESENTATION = "event_representations_v2/stacked_histogram_dt=50_nbins=10"
EPOCH_US = 1_600_000_000_000_000
HOUR_US = 3_600_000_000


def moving(seconds, seed=0, rate=10_000):
    """A block that moves to the right at 20 pixels a second, in noise: t, x, y, p."""
    rng = np.random.default_rng(seed)
    count = int(seconds * rate)
    t = np.sort(rng.integers(0, int(seconds * 1e6), count))
    x, y, p = rng.integers(0, WIDTH, count), rng.integers(0, HEIGHT, count), rng.integers(0, 2, count)
    block = np.arange(count) % 2 == 0
    x[block] = ((5 + 20 * t[block] / 1e6) % (WIDTH - 24) + rng.integers(0, 24, block.sum())).astype(int)
    y[block] = 20 + rng.integers(0, 14, block.sum())
    return t, x, y, p


def boxes(start=0, seconds=3.0, name="car", every_us=250_000):
    times = range(250_000, int(seconds * 1e6), every_us)
    return [(start + time, round((5 + 20 * time / 1e6) % (WIDTH - 24), 2), 20, 24, 14, name) for time in times]


class Folder:
    """Recordings of a data set, and its sequences."""

    def __init__(self, root):
        self.root, self.recordings, self.sequences = root, root / "recordings", root / "sequences"

    def events(self, t, x, y, p, name="drive.h5", split="train"):
        path = self.recordings / split / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            for key, values, kind in (("t", t, "i8"), ("x", x, "u2"), ("y", y, "u2"), ("p", p, "u1")):
                file[f"events/{key}"] = np.asarray(values).astype(kind)
            file["events/height"], file["events/width"] = HEIGHT, WIDTH
        return self

    def csv(self, rows, name="drive_bbox.csv", split="train", header="t_us,x,y,w,h,class"):
        lines = [header, *(",".join(map(str, row)) for row in rows)]
        (self.recordings / split).mkdir(parents=True, exist_ok=True)
        (self.recordings / split / name).write_text("\n".join(lines) + "\n")
        return self

    def run(self, split="train", **changes):
        values = {
            "name": "odd",
            "sequences": self.sequences,
            "sensor": SensorSize(height=HEIGHT, width=WIDTH),
            "classes": ("car", "pedestrian"),
            "label_filter": BoxFilterConfig(min_side=4),
        }
        dataset = DatasetConfig(**(values | changes))
        settings = PreprocessSettings.from_dataset(dataset)
        manifest = self.root / f"{split}.json"
        preprocess(self.recordings, self.sequences, split, manifest, settings, limits=dataset.plausibility)
        return json.loads(manifest.read_text())

    def frames(self, name="drive", split="train"):
        with h5py.File(self.sequences / split / name / REPRESENTATION / "event_representations.h5") as file:
            return file["data"][:]

    def array(self, file, name="drive", split="train"):
        return np.load(self.sequences / split / name / REPRESENTATION / file)

    def labels(self, name="drive", split="train"):
        with np.load(self.sequences / split / name / "labels_v2/labels.npz") as file:
            return file["labels"], file["objframe_idx_2_label_idx"]


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def counts(manifest, name="drive"):
    (entry,) = [entry for entry in manifest["sequences"] if entry["name"] == name]
    return entry["frames"], entry["labelled_frames"], entry["boxes"]


def findings(manifest):
    return {finding["kind"]: finding["text"] for finding in manifest["findings"]}


def box_facts(manifest, name="drive"):
    return manifest["facts"][name]["box_file"]


# ------------------------------------------------------------------------------------------------------ clocks


@pytest.mark.parametrize("offset", [HOUR_US, EPOCH_US])
def test_any_clock_gives_the_same_sequence_of_a_minute(tmp_path, offset):
    t, x, y, p = moving(60, rate=2_000)
    rows = boxes(seconds=60)
    zero, other = Folder(tmp_path / "zero"), Folder(tmp_path / "other")
    zero.events(t, x, y, p).csv(rows)
    other.events(t + offset, x, y, p).csv([(row[0] + offset, *row[1:]) for row in rows])
    assert counts(zero.run()) == counts(other.run()) == (1200, len(rows), len(rows))
    np.testing.assert_array_equal(zero.frames(), other.frames())
    for file in ("timestamps_us.npy", "objframe_idx_2_repr_idx.npy"):
        shift = offset if file == "timestamps_us.npy" else 0
        np.testing.assert_array_equal(zero.array(file) + shift, other.array(file))
    # Label moments are ends of windows, and what is in the box is what moves.
    assert zero.array("timestamps_us.npy")[zero.array("objframe_idx_2_repr_idx.npy")].tolist() == [r[0] for r in rows]
    inside = zero.frames()[zero.array("objframe_idx_2_repr_idx.npy")][:, :, 20:34].sum()
    assert inside > 0.5 * zero.frames()[zero.array("objframe_idx_2_repr_idx.npy")].sum()


def test_first_labels_are_too_early_by_the_recordings_own_time(folder):
    t, x, y, p = moving(3)
    rows = [(EPOCH_US + time, 10, 20, 24, 14, "car") for time in (10_000, 99_000, 150_000)]
    folder.events(t + EPOCH_US, x, y, p).csv(rows)
    assert counts(folder.run(label_times=LabelTimesConfig(first_us=100_000))) == (60, 1, 1)


def test_boxes_on_another_clock_are_refused_with_both_ranges_and_the_remedy(folder):
    t, x, y, p = moving(10)
    folder.events(t + 6_430_000, x, y, p).csv(boxes(seconds=6))
    with pytest.raises(DataError) as caught:
        folder.run()
    message = str(caught.value)
    assert caught.value.path.name == "drive_bbox.csv"
    for part in ("none of its 23 label moments", "250000 to 5750000 us", "box_times: {zero: first_event}"):
        assert part in message
    assert str(6_430_000 + t[0]) in message
    assert not (folder.sequences / "train" / "drive").exists()

    assert counts(folder.run(box_times={"zero": "first_event"}))[1:] == (23, 23)
    assert (folder.labels()[0]["t"] - t[0] - 6_430_000).tolist() == [row[0] for row in boxes(seconds=6)]


@pytest.mark.parametrize(("unit", "factor"), [("ns", 1000), ("ms", 1e-3), ("s", 1e-6)])
def test_box_times_in_another_unit(folder, unit, factor):
    rows = boxes()
    folder.events(*moving(3)).csv([(f"{row[0] * factor:.12g}", *row[1:]) for row in rows], header="t,x,y,w,h,class")
    if unit == "ns":
        with pytest.raises(DataError, match=r"read as nanoseconds they would lie inside it: box_times: \{unit: ns\}"):
            folder.run()
    elif unit == "ms":
        assert "Are their times microseconds?" in findings(folder.run())["label moments too close"]
    else:
        with pytest.raises(DataError, match=r"line 2: t is 0\.25, expected a whole number .*box_times: \{unit: s\}"):
            folder.run()
    assert counts(folder.run(box_times={"unit": unit})) == (60, 11, 11)
    assert folder.labels()[0]["t"].tolist() == [row[0] for row in rows]


def test_events_in_nanoseconds_are_refused_before_a_million_frames_are_made(folder):
    t, x, y, p = moving(60, rate=500)
    folder.events(t * 1000, x, y, p)
    with pytest.raises(DataError, match=r"begins with .* in 20000 windows .*recording_times: \{unit: ns\}"):
        folder.run(unlabelled_recordings=True)
    assert not (folder.sequences / "train" / "drive").exists()
    assert counts(folder.run(unlabelled_recordings=True, recording_times={"unit": "ns"}))[0] == 1200


def test_a_few_events_over_a_day_make_no_frames_without_a_word(folder):
    t = np.arange(160) * 540_000_000
    folder.events(t, t % WIDTH, t % HEIGHT, t % 2)
    with pytest.raises(DataError, match=r"20000 windows of 50 ms \(1000 s\).*at least 1 are expected"):
        folder.run(unlabelled_recordings=True)


def test_labels_partly_outside_are_counted_and_dropped(folder, caplog):
    t, x, y, p = moving(3)
    folder.events(t, x, y, p).csv(boxes(seconds=12))
    with caplog.at_level(logging.INFO):
        manifest = folder.run()
    assert counts(manifest) == (60, 12, 12)
    assert "outside the recording: 35" in caplog.text
    assert "35 of 47 label moments lie before the first or after the last event" in caplog.text
    assert box_facts(manifest)["moments_outside"] == 35
    assert folder.array("timestamps_us.npy")[-1] < 3_050_001


def test_published_grid_refuses_a_clock_that_starts_late(folder):
    t, x, y, p = moving(3)
    folder.events(t + HOUR_US, x, y, p).csv(boxes(HOUR_US))
    with pytest.raises(DataError, match=r"begins at 36000000\d\d us .*origin: first_event"):
        folder.run(windows={"origin": "clock_zero"})


# ------------------------------------------------------------------------------------------------- whole recordings


def test_training_recordings_are_used_to_their_end(folder):
    t, x, y, p = moving(30)
    rows = boxes(seconds=2)
    folder.events(t, x, y, p).csv(rows)
    assert counts(folder.run()) == (600, 7, 7)
    ends = folder.array("timestamps_us.npy")
    assert ends[0] - 50_000 <= t[0]
    assert ends[-1] >= t[-1]
    # The published grid, and evaluation splits, end at the last label.
    published = {"origin": "clock_zero", "train_until": "last_label"}
    assert counts(folder.run(windows=published)) == (34, 7, 7)
    (folder.recordings / "train").rename(folder.recordings / "val")
    assert counts(folder.run("val")) == (35, 7, 7)
    assert counts(folder.run("val", windows={"evaluation_until": "last_event"})) == (600, 7, 7)


def test_a_training_recording_whose_boxes_are_all_filtered_out_is_of_use_without_labels(folder):
    folder.events(*moving(3)).csv([(250_000, 10, 20, 3, 3, "car")])
    manifest = folder.run()
    assert counts(manifest) == (60, 0, 0)
    assert "counts as unlabelled" in findings(manifest)["no label used"]
    (folder.recordings / "train").rename(folder.recordings / "val")
    assert folder.run("val")["removed"] == [{"name": "drive", "reason": "no box is left after filtering"}]


# ---------------------------------------------------------------------------------------------------------- boxes


def test_a_class_that_never_occurs_is_named_with_the_likely_reason(folder, caplog):
    folder.events(*moving(3)).csv(boxes(name=1))
    with caplog.at_level(logging.WARNING):
        folder.run()
    assert "class 'car' (id 0) never occurs" in caplog.text
    assert "class_map: {1: car, 2: pedestrian}" in caplog.text
    manifest = folder.run(class_map={1: "car", 2: "pedestrian"})
    assert (folder.labels()[0]["class_id"] == 0).all()
    assert "ids counted from 1" not in json.dumps(manifest["findings"])


def test_ids_up_to_the_number_of_classes_look_counted_from_one(folder):
    folder.events(*moving(3)).csv([*boxes(name=1), *boxes(name=2)])
    with pytest.raises(DataError, match=r"counted from 1, say class_map: \{1: car, 2: pedestrian\}"):
        folder.run()


def test_doubled_boxes_are_dropped_and_counted(folder):
    folder.events(*moving(3)).csv([row for row in boxes() for _ in range(3)])
    manifest = folder.run()
    assert counts(manifest) == (60, 11, 11)
    assert box_facts(manifest)["doubled"] == 22
    assert "22 of 33 boxes" in findings(manifest)["doubled boxes"]
    assert counts(folder.run(doubled_boxes="keep")) == (60, 11, 33)


def test_frozen_cut_outside_and_nearly_doubled_boxes_are_counted(folder):
    frozen = [(row[0], 30, *row[2:]) for row in boxes()]
    others = [(250_000, 90, 20, 24, 14, "car"), (250_000, 200, 20, 24, 14, "car"), (250_000, 30.2, 20, 24, 14, "car")]
    folder.events(*moving(3)).csv([*frozen, *others])
    manifest = folder.run()
    facts = box_facts(manifest)
    assert (facts["frozen"], facts["comparable"]) == (10, 10)
    assert (facts["cut"], facts["outside"], facts["nearly_doubled"], facts["doubled"]) == (1, 1, 1, 0)
    assert {"frozen boxes", "boxes outside the sensor", "doubled boxes"} <= findings(manifest).keys()
    # The command shows the same figures and the same words.
    report = inspect_dataset(folder.sequences, split="train")
    rows = dict(report.splits[0].plausibility)
    assert rows["  frozen since the moment before"] == "10"
    assert rows["boxes in the box files"] == "14"
    assert "10 of 10 boxes equal a box of the label moment before" in report.render()


def test_exchanged_width_and_height_are_noticed(folder):
    for number in range(4):
        t, x, y, p = moving(3, seed=number)
        rows = [(*row[:3], 24, 14, "car") if number else (*row[:3], 14, 24, "car") for row in boxes()]
        folder.events(t, x, y, p, name=f"drive-{number}.h5").csv(rows, name=f"drive-{number}_bbox.csv")
    text = findings(folder.run())["odd shapes"]
    assert text.startswith("drive-0: 11 of 11 boxes of class 'car' are higher than wide")


EIGHT = ("person", "child", "car", "bus", "truck", "bicycle", "motorcycle", "sign")


def test_classes_are_merged_ignored_and_left_out_by_name(folder):
    folder.events(*moving(3)).csv([(250_000 * (i + 1), 20, 20, 24, 14, name) for i, name in enumerate(EIGHT)])
    classes = ("person", "vehicle", "cycle")
    with pytest.raises(DataError, match=r"line 3: class 'child' .*class_map: \{child: CLASS\}"):
        folder.run(classes=classes)
    mapping = {"child": "person", "car": "vehicle", "bus": "vehicle", "truck": "vehicle", "bicycle": "cycle"}
    mapping |= {"motorcycle": "ignored", "sign": None}
    manifest = folder.run(classes=classes, class_map=mapping)
    assert folder.labels()[0]["class_id"].tolist() == [0, 0, 1, 1, 1, 2, 1024]
    facts = box_facts(manifest)
    assert (facts["boxes"], facts["left_out"], facts["ignored"]) == (8, 1, 1)


def test_classes_are_mapped_by_id_in_numpy_files(folder):
    rows = np.zeros(4, RECORDING_BOX_DTYPE)
    rows["t"], rows["x"], rows["y"], rows["w"], rows["h"] = 250_000 * np.arange(1, 5), 20, 20, 24, 14
    rows["class_id"] = [5, 7, 9, 5]
    folder.events(*moving(3))
    np.save(folder.recordings / "train" / "drive_bbox.npy", rows)
    with pytest.raises(DataError, match=r"row 2: class id 9 is not in the data set's class_map"):
        folder.run(class_map={5: "pedestrian", 7: None})
    folder.run(class_map={5: "pedestrian", 7: None, 9: "car"})
    assert folder.labels()[0]["class_id"].tolist() == [1, 0, 1]


def test_a_class_map_to_an_unknown_class_is_a_configuration_error(folder):
    with pytest.raises(ValueError, match=r"class_map.bus = 'vehicle': expected one of the classes"):
        folder.run(class_map={"bus": "vehicle"})


def write_npy(path, rows):
    array = np.zeros(len(rows), RECORDING_BOX_DTYPE)
    for target, (t, *cells) in zip(array, rows, strict=True):
        target["t"] = t
        if cells[-1] == "":
            target["class_id"] = 1024
        else:
            target["x"], target["y"], target["w"], target["h"] = cells[:4]
    np.save(path, array)


def write_coco(path, rows):
    times = sorted({row[0] for row in rows})
    boxed = [row for row in rows if row[-1]]
    content = {
        "images": [{"id": number, "timestamp_us": time} for number, time in enumerate(times)],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [{"image_id": times.index(row[0]), "category_id": 1, "bbox": list(row[1:5])} for row in boxed],
    }
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("suffix", ["csv", "npy", "json"])
def test_moments_found_empty_are_labelled_frames_in_every_format(folder, suffix):
    rows = sorted([*boxes(), (300_000, "", "", "", "", ""), (2_900_000, "", "", "", "", "")])
    folder.events(*moving(3))
    path = folder.recordings / "train" / f"drive_bbox.{suffix}"
    if suffix == "csv":
        folder.csv(rows)
    else:
        (write_npy if suffix == "npy" else write_coco)(path, rows)
    manifest = folder.run()
    assert counts(manifest)[1:] == (13, 11)
    assert box_facts(manifest)["moments_found_empty"] == 2
    labels, first = folder.labels()
    assert np.diff(first, append=len(labels)).tolist() == [1, 0, *[1] * 10, 0]
    ends = folder.array("timestamps_us.npy")[folder.array("objframe_idx_2_repr_idx.npy")]
    assert ends.tolist() == [row[0] for row in rows]


def test_a_moment_cannot_be_empty_and_hold_boxes(folder):
    folder.events(*moving(3)).csv([*boxes(), (250_000, "", "", "", "", "")])
    with pytest.raises(DataError, match="nothing is to be seen at 250000 us, but has boxes there"):
        folder.run()


# ---------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("name", ["drive_boxes.csv", "drive.xml", "drive_labels.txt", "drive.npy", "drive-boxes.json"])
def test_a_file_that_may_hold_the_boxes_of_an_unlabelled_recording_is_not_overlooked(folder, name):
    folder.events(*moving(1)).csv(boxes(seconds=1), name=name)
    with pytest.raises(DataError, match=r"lies beside drive\.h5, which has no box file: .*drive_bbox") as caught:
        folder.run(unlabelled_recordings=True)
    assert caught.value.path.name == name
    assert counts(folder.run(unlabelled_recordings=True, ignore_files=[name])) == (20, 0, 0)


def test_files_that_belong_to_nothing_are_named(folder, caplog):
    folder.events(*moving(1)).csv(boxes(seconds=1))
    for name in ("notes.txt", "other_boxes.csv", ".hidden", "drive.h5.tmp_index"):
        (folder.recordings / "train" / name).write_text("")
    (folder.recordings / "train" / "more").mkdir()
    with caplog.at_level(logging.WARNING):
        manifest = folder.run()
    assert "3 file(s)" in findings(manifest)["files overlooked"]
    assert "more, notes.txt, other_boxes.csv" in caplog.text


def test_a_dangling_link_is_an_error(folder):
    folder.events(*moving(1)).csv(boxes(seconds=1))
    (folder.recordings / "train" / "other.h5").symlink_to("gone.h5")
    with pytest.raises(DataError, match=r"other\.h5: is a link to gone\.h5, which does not exist"):
        folder.run()


def test_endings_count_in_upper_case(folder):
    folder.events(*moving(1)).csv(boxes(seconds=1), name="drive_BBOX.CSV")
    folder.events(*moving(1, seed=1), name="other.H5")
    manifest = folder.run(unlabelled_recordings=True)
    assert counts(manifest) == (20, 3, 3)
    assert counts(manifest, "other") == (20, 0, 0)


def test_dsec_folders_are_recordings(folder):
    folder.events(*moving(3), name="zurich/events/left/events.h5")
    tracks = folder.recordings / "train/zurich/object_detections/left/tracks.npy"
    tracks.parent.mkdir(parents=True)
    write_npy(tracks, boxes())
    assert counts(folder.run(), "zurich") == (60, 11, 11)


def test_the_same_name_in_two_splits_is_refused(folder):
    for seed, split in enumerate(("train", "test")):
        folder.events(*moving(1, seed=seed), split=split).csv(boxes(seconds=1), split=split)
    with pytest.raises(DataError, match=r"has the recording drive, and so has .*test"):
        folder.run()


def test_the_same_events_in_two_splits_are_refused_whatever_name_clock_and_format(folder):
    t, x, y, p = moving(1)
    folder.events(t, x, y, p).csv(boxes(seconds=1))
    folder.events(t + HOUR_US, x, y, p, "copy.h5", "test").csv(boxes(HOUR_US, 1), "copy_bbox.csv", "test")
    folder.run("test")
    with pytest.raises(DataError, match=r"drive: begins with the same events as test/copy"):
        folder.run()
    manifest = folder.run(plausibility={"recording_in_two_splits": "warn"})
    assert "drive (also in test)" in findings(manifest)["recordings in two splits"]
    # A recording that was moved: its old sequence is no evidence.
    shutil.rmtree(folder.recordings / "test")
    folder.run()


def test_exceptions_for_recordings_that_do_not_exist(folder):
    folder.events(*moving(1)).csv(boxes(seconds=1))
    with pytest.raises(ConfigError, match=r"box_times.of_recording names \['dirve'\]"):
        folder.run(box_times={"of_recording": {"dirve": {"unit": "ns"}}})


def test_an_exception_for_one_recording_remakes_only_its_sequence(folder):
    for number in range(2):
        t, x, y, p = moving(3, seed=number)
        rows = [(row[0] * (1000 if number else 1), *row[1:]) for row in boxes()]
        folder.events(t, x, y, p, name=f"{number}.h5").csv(rows, name=f"{number}_bbox.csv")
    with pytest.raises(DataError, match=r"1_bbox\.csv"):
        folder.run()
    before = (folder.sequences / "train" / "0").stat().st_ino
    manifest = folder.run(box_times={"of_recording": {"1": {"unit": "ns"}}})
    assert counts(manifest, "0") == counts(manifest, "1") == (60, 11, 11)
    assert (folder.sequences / "train" / "0").stat().st_ino == before
