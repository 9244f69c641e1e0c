"""Pseudo-labelled sets whose links the published programs can follow, and sets of theirs whose links lead nowhere."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import h5py
import pytest
from pseudo_label_study import (
    REPRESENTATION,
    SEQUENCES,
    sequence_config,
    track_filter_settings,
    write_data_set,
    write_shards,
)

from leod.errors import ConfigError, DataError
from leod.sequences.layout import label_file
from leod.sequences.sequence import open_split
from leod.stages.export_dataset import export_dataset
from leod.stages.track_filter import refilter_dataset, track_filter

FRAMES = Path("event_representations_v2", REPRESENTATION, "event_representations.h5")


@pytest.fixture
def project(tmp_path):
    """A project folder with sequences and a set pseudo-labelled by us."""
    folder = tmp_path / "project"
    sequences, labels = write_data_set(folder)
    round_folder = folder / "results" / "round_1"
    track_filter(
        predictions=write_shards(round_folder / "predictions"),
        sequences=sequences,
        labels=labels,
        output=round_folder / "dataset",
        manifest=round_folder / "dataset.json",
        settings=track_filter_settings(),
    )
    return folder


def follow(path):
    """Where a link leads for LEOD's programs: its text, from the working folder, as often as that is a link again."""
    while os.path.islink(path):  # noqa: PTH114
        path = os.readlink(path)  # noqa: PTH115
    return Path(path)


def frames_found_by_leod(dataset):
    """Frames of each sequence; None where LEOD's programs find no file."""
    found = {}
    for sequence in sorted((dataset / "train").iterdir()):
        path = follow(sequence / FRAMES)
        found[sequence.name] = None
        if path.is_file():
            with h5py.File(path) as file:
                found[sequence.name] = len(file["data"])
    return found


def as_leod_writes(dataset, destination):
    """The set with links as LEOD's program makes them for ``dataset.path=./datasets/gen1/``."""
    shutil.copytree(dataset, destination, symlinks=True)
    for sequence in (destination / "train").iterdir():
        (sequence / FRAMES).unlink()
        (sequence / FRAMES).symlink_to(f"./datasets/gen1/train/{sequence.name}/{FRAMES}")
        (sequence / FRAMES).with_name("timestamps_us.npy").unlink()
    for split in ("val", "test"):
        (destination / split).unlink()
        (destination / split).symlink_to(f"./datasets/gen1/{split}")
    return destination


def test_published_programs_read_an_exported_set_from_any_folder(project, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    dataset, exported = project / "results/round_1/dataset", tmp_path / "datasets/gen1_round_1"
    assert set(frames_found_by_leod(dataset).values()) == {None}
    export_dataset(dataset, exported)
    assert frames_found_by_leod(exported) == {name: frames for name, (frames, _) in SEQUENCES.items()}
    for name in SEQUENCES:
        ours, theirs = (label_file(root / "train" / name) for root in (dataset, exported))
        assert ours.read_bytes() == theirs.read_bytes()
        assert not theirs.is_symlink()
    for split in ("val", "test"):
        assert follow(exported / split) == project / "sequences" / split


def test_our_own_set_is_left_as_it_is_and_can_be_moved(project, tmp_path):
    export_dataset(project / "results/round_1/dataset", tmp_path / "exported")
    project.rename(tmp_path / "moved")
    sequences = open_split(tmp_path / "moved/results/round_1/dataset", "train", sequence_config())
    assert [sequence.num_frames for sequence in sequences] == [frames for frames, _ in SEQUENCES.values()]


def test_set_of_the_published_program_is_made_readable(project, tmp_path):
    published = as_leod_writes(project / "results/round_1/dataset", tmp_path / "published")
    with pytest.raises(DataError, match=r"is a link to datasets/gen1/train") as caught:
        open_split(published, "train", sequence_config())
    assert "working folder" in str(caught.value)
    assert "export-dataset" in str(caught.value)
    with pytest.raises(DataError, match="which does not exist"):
        export_dataset(published, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()

    export_dataset(published, tmp_path / "exported", sequences=project / "sequences")
    sequences = open_split(tmp_path / "exported", "train", sequence_config())
    assert [sequence.num_frames for sequence in sequences] == [frames for frames, _ in SEQUENCES.values()]
    assert follow(tmp_path / "exported/val") == project / "sequences/val"
    refilter_dataset(tmp_path / "exported", tmp_path / "filtered", track_filter_settings(min_track_length=3))


def test_filtering_a_set_of_the_published_program_names_the_link(project, tmp_path):
    published = as_leod_writes(project / "results/round_1/dataset", tmp_path / "published")
    with pytest.raises(DataError, match=r"is a link to datasets/gen1/train.*export-dataset"):
        refilter_dataset(published, tmp_path / "filtered", track_filter_settings())


def test_existing_folder_is_not_overwritten(project, tmp_path):
    dataset = project / "results/round_1/dataset"
    (tmp_path / "there").mkdir()
    for output in (tmp_path / "there", dataset / "inside"):
        with pytest.raises(ConfigError, match="new folder"):
            export_dataset(dataset, output)


def test_folder_that_is_no_data_set(tmp_path):
    with pytest.raises(DataError, match="is no data set"):
        export_dataset(tmp_path, tmp_path.parent / f"{tmp_path.name}-exported")


def test_sequence_that_the_given_sequences_lack(project, tmp_path):
    published = as_leod_writes(project / "results/round_1/dataset", tmp_path / "published")
    shutil.rmtree(project / "sequences/train/b")
    with pytest.raises(DataError, match=r"train/b/.*does not\s+exist either"):
        open_split(published, "train", sequence_config(), originals=project / "sequences")
