from __future__ import annotations

import json

import pytest

from leod.study.manifests import describe_names, lost_recordings, lost_sequences


@pytest.fixture
def manifest(tmp_path):
    path = tmp_path / "manifests" / "train-0.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"split": "train", "sequences": [{"name": "a"}, {"name": "b"}], "removed": ["c"]}))
    return path


def test_deleted_sequences_are_named(tmp_path, manifest) -> None:
    (tmp_path / "train" / "a").mkdir(parents=True)
    assert lost_sequences(manifest, tmp_path) == ["train/b"]
    (tmp_path / "train" / "b").mkdir()
    assert lost_sequences(manifest, tmp_path) == []


def test_without_the_splits_folder_all_sequences_are_lost(tmp_path, manifest) -> None:
    assert lost_sequences(manifest, tmp_path) == ["train/a", "train/b"]


@pytest.mark.parametrize("content", [None, "", "[]", "{}"])  # missing, damaged, of something else, of nothing
def test_a_manifest_that_lists_nothing_lost_nothing(tmp_path, content) -> None:
    path = tmp_path / "manifest.json"
    if content is not None:
        path.write_text(content)
    assert lost_sequences(path, tmp_path) == []
    assert lost_recordings(path, tmp_path) == []


def test_either_file_of_a_simulated_recording_counts(tmp_path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"splits": {"train": [{"name": "a"}], "val": [], "test": [{"name": "b"}]}}))
    for name in ("train/a_td.dat", "test/b_bbox.npy"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    assert lost_recordings(path, tmp_path) == ["train/a_bbox.npy", "test/b_td.dat"]


def test_description_changes_with_the_visible_names_only(tmp_path) -> None:
    folder = tmp_path / "train"
    absent = describe_names(folder)
    (folder / "a").mkdir(parents=True)
    one = describe_names(folder)
    (folder / ".lock").touch()
    assert describe_names(folder) == one
    (folder / "a").rename(folder / "b")
    assert len({absent, one, describe_names(folder)}) == 3
