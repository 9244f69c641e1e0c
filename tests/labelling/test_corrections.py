"""From a round's doubtful pseudo-labels to a person's boxes and back, which are ground truth from then on."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from correction_lab import CLASSES, Lab, box, empty_moment

from leod.boxes.box_files import read_boxes, write_boxes
from leod.boxes.kept_labels import KeptLabels
from leod.errors import ConfigError, DataError
from leod.labelling.moments import Moment, read_moments
from leod.sequences.frame_boxes import read_frame_boxes
from leod.sequences.layout import STAMP_NAME, list_sequences, read_labelled_frames, read_timestamps
from leod.stages.suggest_corrections import suggest_corrections


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """The study after its first run."""
    lab = Lab(tmp_path_factory.mktemp("corrections"))
    lab.simulate()
    lab.run()
    return lab


@pytest.fixture
def lab(finished: Lab, tmp_path: Path) -> Lab:
    """A copy of it that may be changed; `copytree` keeps the times of the box files."""
    shutil.copytree(finished.root, tmp_path / "lab", symlinks=True)
    return Lab(tmp_path / "lab")


def suggest(lab: Lab, folder: Path, count: int = 6, **options: object) -> list[Moment]:
    suggest_corrections(
        lab.round(1),
        output=folder / "moments.csv",
        boxes=folder / "boxes",
        count=count,
        recordings=lab.recordings,
        sequences=lab.sequences,
        **options,
    )
    return read_moments(folder / "moments.csv")


def name_of(moment: Moment) -> str:
    return moment.recording.name.removesuffix("_td.dat")


def frame_at(lab: Lab, name: str, t_us: int) -> int:
    times_us = read_timestamps(lab.sequences / "train" / name, lab.representation)
    return int(np.searchsorted(times_us, t_us))


def test_moments_name_recordings_and_ends_of_windows(finished: Lab, tmp_path: Path) -> None:
    moments = suggest(finished, tmp_path)
    assert len(moments) >= 3
    assert [moment.score for moment in moments] == sorted((moment.score for moment in moments), reverse=True)
    for moment in moments:
        name = name_of(moment)
        assert moment.recording == (finished.recordings / "train" / f"{name}_td.dat").resolve()
        assert moment.reason
        source = finished.sequences / "train" / name
        times_us = read_timestamps(source, finished.representation)
        assert moment.t_us in times_us
        others = [other.t_us for other in moments if name_of(other) == name and other is not moment]
        seen = times_us[read_labelled_frames(source, finished.representation)].tolist()
        assert all(abs(moment.t_us - t_us) >= 900_000 for t_us in others + seen), "a near-duplicate"


def test_the_same_round_gives_the_same_moments(finished: Lab, tmp_path: Path) -> None:
    suggest(finished, tmp_path / "one")
    suggest(finished, tmp_path / "two")
    for file in ("moments.csv", *(f"boxes/{path.name}" for path in (tmp_path / "one" / "boxes").iterdir())):
        one, two = ((tmp_path / folder / file).read_text() for folder in ("one", "two"))
        assert one == two


def test_pre_annotations_are_the_pseudo_labels_at_the_moments(finished: Lab, tmp_path: Path) -> None:
    moments = suggest(finished, tmp_path)
    for name in {name_of(moment) for moment in moments}:
        rows = read_boxes(tmp_path / "boxes" / f"{name}_bbox.csv", CLASSES)
        assert set(rows["t"]) <= {moment.t_us for moment in moments if name_of(moment) == name}
        assert len(rows), "every chosen frame has a doubtful box here"
        stored = read_frame_boxes(finished.round(1) / "dataset" / "train" / name, finished.representation)
        for t_us in np.unique(rows["t"]):
            pseudo = stored.boxes[stored.frame_indices == frame_at(finished, name, t_us)]
            proposed = rows[rows["t"] == t_us]
            assert len(proposed) == len(pseudo)
            for field in ("x", "y", "w", "h"):
                assert sorted(proposed[field]) == sorted(pseudo[field])
            # The labels have lost the class of what is ignored; a person gets it.
            assert (proposed["class_id"] < len(CLASSES)).all()


@dataclass(frozen=True)
class Corrected:
    """The study after a person has looked at two moments.

    Attributes:
        lab: The study, run again.
        drawn: Moment of a recording that had no boxes; two boxes were drawn.
        empty: Moment at which nothing is to be seen.
        rows: The boxes.
        frames: Moment → its frame before the correction.
        lengths: Sequence → its number of frames before.
        made: Sequence → when it had been made.
    """

    lab: Lab
    drawn: Moment
    empty: Moment
    rows: np.ndarray
    frames: dict[Moment, int]
    lengths: dict[str, int]
    made: dict[str, int]


def lengths_of(lab: Lab) -> dict[str, int]:
    folders = list_sequences(lab.sequences, "train")
    return {folder.name: len(read_timestamps(folder, lab.representation)) for folder in folders}


def made_at(lab: Lab) -> dict[str, int]:
    folders = list_sequences(lab.sequences, "train")
    return {folder.name: (folder / STAMP_NAME).stat().st_mtime_ns for folder in folders}


@pytest.fixture(scope="module")
def corrected(finished: Lab, tmp_path_factory: pytest.TempPathFactory) -> Corrected:
    root = tmp_path_factory.mktemp("corrected")
    shutil.copytree(finished.root, root / "lab", symlinks=True)
    lab = Lab(root / "lab")
    moments = suggest(lab, root)
    drawn = next(moment for moment in moments if name_of(moment) == "c")
    empty = next(moment for moment in moments if name_of(moment) != "c")
    rows = np.concatenate([box(drawn.t_us, class_id=1), box(drawn.t_us)])
    rows["x"][1] = 50.25
    frames = {moment: frame_at(lab, name_of(moment), moment.t_us) for moment in (drawn, empty)}
    before = Corrected(lab, drawn, empty, rows, frames, lengths_of(lab), made_at(lab))
    lab.add("c", rows)
    lab.add(name_of(empty), empty_moment(empty.t_us))
    with pytest.raises(DataError, match=r"_bbox.csv: the boxes of this recording have changed"):
        suggest(lab, root / "too_early")
    lab.run()
    return before


def test_corrections_become_labelled_frames_where_they_were_made(corrected: Corrected) -> None:
    lab = corrected.lab
    for moment, frame in corrected.frames.items():
        source = lab.sequences / "train" / name_of(moment)
        assert frame in read_labelled_frames(source, lab.representation)
        assert read_timestamps(source, lab.representation)[frame] == moment.t_us
    stored = read_frame_boxes(lab.sequences / "train" / "c", lab.representation)
    assert stored.labelled_frames.tolist() == [corrected.frames[corrected.drawn]]
    assert (stored.boxes["t"] == corrected.drawn.t_us).all()
    for field in ("x", "y", "w", "h", "class_id"):
        assert stored.boxes[field].tolist() == corrected.rows[field].tolist()


def test_only_corrected_recordings_are_preprocessed_again_and_keep_their_frames(corrected: Corrected) -> None:
    made = made_at(corrected.lab)
    again = {name for name in made if made[name] != corrected.made[name]}
    assert again == {"c", name_of(corrected.empty)}
    assert lengths_of(corrected.lab) == corrected.lengths


def test_all_labels_are_used_at_ratio_1(corrected: Corrected) -> None:
    lab, kept = corrected.lab, KeptLabels.read(corrected.lab.labels)
    for source in list_sequences(lab.sequences, "train"):
        assert len(kept.indices(source.name)) == len(read_labelled_frames(source, lab.representation))


@pytest.mark.parametrize("number", [1, 2])
def test_what_a_person_drew_survives_every_round(corrected: Corrected, number: int) -> None:
    lab, frame = corrected.lab, corrected.frames[corrected.drawn]
    stored = read_frame_boxes(lab.sequences / "train" / "c", lab.representation)
    labels = read_frame_boxes(lab.round(number) / "dataset" / "train" / "c", lab.representation)
    there = labels.boxes[labels.frame_indices == frame]
    assert (there["t"] == corrected.drawn.t_us).all(), "pseudo-labels beside a person's boxes"
    for field in stored.boxes.dtype.names:
        assert there[field].tobytes() == stored.boxes[field].tobytes()
    assert (labels.boxes["t"] == 0).any(), "the rest of the recording lost its pseudo-labels"


@pytest.mark.parametrize("number", [1, 2])
def test_a_frame_that_a_person_found_empty_stays_empty(corrected: Corrected, number: int) -> None:
    lab, name = corrected.lab, name_of(corrected.empty)
    labels = read_frame_boxes(lab.round(number) / "dataset" / "train" / name, lab.representation)
    frame = corrected.frames[corrected.empty]
    assert frame in labels.empty_frames
    assert frame not in labels.frame_indices


def test_corrected_moments_are_not_suggested_again(corrected: Corrected, tmp_path: Path) -> None:
    again = suggest(corrected.lab, tmp_path, count=20)
    assert again
    for done in (corrected.drawn, corrected.empty):
        assert not [m for m in again if name_of(m) == name_of(done) and abs(m.t_us - done.t_us) < 900_000]


def test_moments_are_on_the_clock_that_boxes_are_on(lab: Lab, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shift_us = 1_790_000_000_000_123
    before = suggest(lab, tmp_path / "before")
    shifted = Lab(lab.root, recording_times={"offset_us": shift_us})
    for split, name in (("train", "a"), ("train", "b"), ("val", "v")):
        path = lab.recordings / split / f"{name}_bbox.csv"
        rows = read_boxes(path, CLASSES)
        rows["t"] += shift_us
        write_boxes(path, rows, CLASSES)
    # Neither frames nor pseudo-labels depend on the clock.
    shifted.prepare()
    moments = suggest(shifted, tmp_path / "after")
    assert [(m.recording, m.t_us - shift_us) for m in moments] == [(m.recording, m.t_us) for m in before]
    assert f"give export-frames --time-offset-us {shift_us}, too" in caplog.text
    for moment in moments:
        frame = frame_at(shifted, name_of(moment), moment.t_us)
        shifted.add(name_of(moment), box(moment.t_us))
        shifted.prepare()
        assert frame in read_labelled_frames(shifted.sequences / "train" / name_of(moment), shifted.representation)
        assert frame_at(shifted, name_of(moment), moment.t_us) == frame


def test_corrections_that_subsampling_would_drop_are_refused(lab: Lab, tmp_path: Path) -> None:
    kept = KeptLabels.read(lab.labels)
    KeptLabels(sequences=kept.sequences | {"a": (1,)}, setting="weakly_supervised", ratio=0.5).write(lab.labels)
    shutil.rmtree(lab.round(1))
    lab.make_pseudo_labels(1)
    with pytest.raises(DataError, match=r"keeps 1 of the sequence's 3 labelled frames: .* ratio: 1.0"):
        suggest(lab, tmp_path)


def test_published_sequences_do_not_know_their_recordings(lab: Lab, tmp_path: Path) -> None:
    (lab.sequences / "train" / "b" / STAMP_NAME).unlink()
    with pytest.raises(DataError, match=r"train/b: has no preprocess.json, so nothing tells which recording"):
        suggest(lab, tmp_path)


def test_another_recording_of_the_name_is_refused(lab: Lab, tmp_path: Path) -> None:
    with (lab.recordings / "train" / "b_td.dat").open("ab") as file:
        file.write(bytes(8))
    with pytest.raises(DataError, match=r"b_td.dat: is not the recording that the sequence was made from"):
        suggest(lab, tmp_path)


def test_a_recording_that_is_gone_is_named(lab: Lab, tmp_path: Path) -> None:
    (lab.recordings / "train" / "c_td.dat").unlink()
    with pytest.raises(DataError, match=r"train/c: was made from a recording 'c' that is not in"):
        suggest(lab, tmp_path)


def test_a_study_without_recordings_is_a_configuration_error(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--recordings and --sequences are not given"):
        suggest_corrections(lab.round(1), output=tmp_path / "m.csv", boxes=tmp_path / "boxes", sequences=lab.sequences)


def test_pseudo_labels_are_never_written_beside_the_recordings(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="box files are ground truth"):
        suggest_corrections(
            lab.round(1),
            output=tmp_path / "m.csv",
            boxes=lab.recordings / "train",
            recordings=lab.recordings,
            sequences=lab.sequences,
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_times": {"mode": "fixed_step", "step_us": 250_000}}, r"label_times.mode is 'fixed_step'"),
        ({"box_times": {"zero": "first_event"}}, r"box_times says that the box file .* is not on its clock"),
    ],
)
def test_settings_under_which_corrections_would_be_lost_are_refused(
    tmp_path: Path, finished: Lab, changes: dict, message: str
) -> None:
    shutil.copytree(finished.root, tmp_path / "lab", symlinks=True)
    lab = Lab(tmp_path / "lab", **changes)
    lab.prepare()
    with pytest.raises(DataError, match=message):
        suggest(lab, tmp_path)


def test_labels_that_tracking_did_not_make_are_refused(lab: Lab, tmp_path: Path) -> None:
    manifest = lab.round(1) / "dataset.json"
    manifest.write_text(manifest.read_text().replace('"smooth_frames": 2', '"smooth_frames": 0'))
    with pytest.raises(DataError, match=r"not what the track filter makes of the round's predictions"):
        suggest(lab, tmp_path)


def test_a_round_without_predictions_says_where_they_may_be(lab: Lab, tmp_path: Path) -> None:
    shard = lab.round(1) / "predictions" / "0.h5"
    shard.rename(tmp_path / "0.h5")
    with pytest.raises(DataError, match=r"holds no predictions \(\*.h5\). .* name them: --predictions"):
        suggest(lab, tmp_path)
    assert suggest(lab, tmp_path, predictions=[tmp_path / "0.h5"])


def test_a_folder_that_is_no_round_is_an_error(lab: Lab, tmp_path: Path) -> None:
    manifest = lab.round(1) / "dataset.json"
    manifest.write_text(manifest.read_text().replace('"stage": "track_filter"', '"stage": "another"'))
    with pytest.raises(DataError, match=r"dataset.json: does not tell how track_filter made the data set"):
        suggest(lab, tmp_path)
    with pytest.raises(DataError, match=r"dataset.json: the file does not exist"):
        suggest_corrections(
            lab.round(0),
            output=tmp_path / "m.csv",
            boxes=tmp_path / "boxes",
            recordings=lab.recordings,
            sequences=lab.sequences,
        )
