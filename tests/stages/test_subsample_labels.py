"""The stages that write the split of record."""

from __future__ import annotations

import json
import pickle
import time

import numpy as np
import pytest

from leod.boxes.dtypes import LABEL_DTYPE
from leod.boxes.kept_labels import KeptLabels
from leod.config.schema import LabelBudget, RepresentationConfig
from leod.config.settings import SubsampleSettings
from leod.errors import ConfigError, DataError
from leod.sequences.layout import labelled_frames_file, write_labelled_frames, write_labels
from leod.sequences.representations import representation_name
from leod.stages.import_split import ImportSplitSettings, import_split
from leod.stages.subsample_labels import subsample_labels

REPRESENTATION = RepresentationConfig()
NAME = representation_name(REPRESENTATION, 50_000)


def settings(setting="weakly_supervised", ratio=0.1, split_offset=0, history=21):
    return SubsampleSettings(
        budget=LabelBudget(setting=setting, ratio=ratio),
        split_offset=split_offset,
        history=history,
        representation=REPRESENTATION,
        window_us=50_000,
        downsample_by_2=False,
    )


def add_sequence(root, name, labelled_frames):
    write_labelled_frames(root / "train" / name, NAME, labelled_frames)


@pytest.fixture
def sequences(tmp_path):
    """Ten labelled sequences of 60 s and an unlabelled one."""
    root = tmp_path / "sequences"
    for number in range(10):
        add_sequence(root, f"drive-{number}", np.arange(2, 1200, 5))
    add_sequence(root, "drive-4-silent", [])
    return root


def test_weakly_supervised(sequences, tmp_path):
    subsample_labels(sequences, tmp_path / "labels.json", settings())
    kept = KeptLabels.read(tmp_path / "labels.json")
    assert len(kept.sequences) == 11
    assert kept.indices("drive-7").tolist() == list(range(4, 240, 10))
    assert kept.indices("drive-4-silent").tolist() == []


def test_semi_supervised_counts_labelled_sequences(sequences, tmp_path):
    subsample_labels(sequences, tmp_path / "labels.json", settings("semi_supervised", 0.2, 1))
    kept = KeptLabels.read(tmp_path / "labels.json")
    # The unlabelled sequence is neither chosen nor counted, but takes part as unlabelled data.
    assert {name for name, indices in kept.sequences.items() if indices} == {"drive-1", "drive-6"}
    assert kept.indices("drive-1").tolist() == list(range(240))
    assert len(kept.sequences) == 11


def test_fully_supervised(sequences, tmp_path):
    subsample_labels(sequences, tmp_path / "labels.json", settings("fully_supervised", 1.0))
    assert KeptLabels.read(tmp_path / "labels.json").labelled_frames == 2400


def test_the_file_tells_how_it_was_made(sequences, tmp_path):
    subsample_labels(sequences, tmp_path / "labels.json", settings(split_offset=3))
    content = json.loads((tmp_path / "labels.json").read_text())
    assert content["provenance"]["stage"] == "subsample_labels"
    assert content["provenance"]["settings"]["split_offset"] == content["split_offset"] == 3
    assert (content["setting"], content["ratio"], content["history"]) == ("weakly_supervised", 0.1, 21)


def test_nothing_to_keep(sequences, tmp_path):
    output = tmp_path / "labels.json"
    with pytest.raises(ConfigError, match="keeps none of 10 sequences"):
        subsample_labels(sequences, output, settings("semi_supervised", 0.01))
    with pytest.raises(DataError, match="does not exist"):
        subsample_labels(tmp_path / "elsewhere", output, settings())
    (tmp_path / "empty" / "train").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no sequences"):
        subsample_labels(tmp_path / "empty", output, settings())
    add_sequence(tmp_path / "unlabelled", "a", [])
    with pytest.raises(DataError, match="none of its 1 sequences has a labelled frame"):
        subsample_labels(tmp_path / "unlabelled", output, settings())
    labelled_frames_file(sequences / "train" / "drive-3", NAME).write_bytes(b"damaged")
    with pytest.raises(DataError, match="drive-3"):
        subsample_labels(sequences, output, settings())
    assert not output.exists()


def test_a_full_size_data_set_takes_seconds(tmp_path):
    add_sequence(tmp_path / "sequences", "0000", np.arange(2, 1200, 5))
    source = tmp_path / "sequences" / "train" / "0000"
    for number in range(1, 2359):
        (source.parent / f"{number:04d}").symlink_to(source)
    start = time.monotonic()
    subsample_labels(tmp_path / "sequences", tmp_path / "labels.json", settings(ratio=0.01))
    assert time.monotonic() - start < 10
    assert KeptLabels.read(tmp_path / "labels.json").labelled_frames == 3 * 2359


ORIGIN = ImportSplitSettings(setting="weakly_supervised", ratio=0.01)


@pytest.fixture
def split(tmp_path):
    path = tmp_path / "ssod_0.010-off0.pkl"
    path.write_bytes(pickle.dumps({"a": (1, 3), "b": (0,)}, protocol=2))
    return path


def test_importing_a_released_split(split, tmp_path):
    import_split(split, tmp_path / "labels.json", ORIGIN.model_copy(update={"history": 21}))
    kept = KeptLabels.read(tmp_path / "labels.json")
    assert kept.sequences == {"a": (1, 3), "b": (0,)}
    assert (kept.setting, kept.ratio, kept.history) == ("weakly_supervised", 0.01, 21)
    assert kept.provenance["stage"] == "import_split"


def test_imported_split_must_fit_the_data_set(split, tmp_path):
    root, output = tmp_path / "sequences", tmp_path / "labels.json"
    for name in "abc":
        write_labels(root / "train" / name, np.zeros(4, LABEL_DTYPE), np.arange(4))
    import_split(split, output, ORIGIN, root)
    assert KeptLabels.read(output).sequences == {"a": (1, 3), "b": (0,), "c": ()}
    write_labels(root / "train" / "a", np.zeros(3, LABEL_DTYPE), np.arange(3))
    with pytest.raises(DataError, match=r"keeps labelled frame 3 of sequence 'a', which has only 3"):
        import_split(split, output, ORIGIN, root)
    (root / "train" / "b").rename(root / "train" / "d")
    with pytest.raises(DataError, match=r"1 of its 2 sequences are not in .*'b'"):
        import_split(split, output, ORIGIN, root)
