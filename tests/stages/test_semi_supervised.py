"""The semi-supervised setting from end to end: sequences without any kept label get pseudo-labels and train."""

from __future__ import annotations

import numpy as np
from pseudo_label_study import (
    CLASSES,
    HEIGHT,
    REPRESENTATION,
    SEQUENCES,
    WIDTH,
    predictions_of,
    sequence_config,
    track_filter_settings,
    write_data_set,
)

from leod.boxes.dtypes import IGNORED_CLASS_ID
from leod.boxes.kept_labels import KeptLabels
from leod.config.schema import LabelBudget, RepresentationConfig, TrainingConfig
from leod.config.settings import SubsampleSettings
from leod.files import read_json
from leod.pseudo_labels.predictions import write_predictions
from leod.sampling.training_data import TrainingData
from leod.sequences.frame_boxes import read_frame_boxes
from leod.sequences.sequence import open_split
from leod.stages.subsample_labels import subsample_labels
from leod.stages.track_filter import track_filter

TRAINING = TrainingConfig(steps=20, learning_rate=1e-3, batch_size=4, sequence_length=3)


def test_unlabelled_sequences_get_pseudo_labels_and_are_trained_on(tmp_path):
    sequences, labels = write_data_set(tmp_path)
    subsample_labels(
        sequences,
        labels,
        SubsampleSettings(
            budget=LabelBudget(setting="semi_supervised", ratio=0.5),
            split_offset=0,
            history=3,
            representation=RepresentationConfig(),
            window_us=50_000,
            downsample_by_2=False,
        ),
    )
    kept = KeptLabels.read(labels)
    # One of the two labelled sequences keeps everything; 'b' is as good as unlabelled, 'c' never had labels.
    assert kept.sequences == {"a": (0, 1, 2, 3), "b": (), "c": ()}

    before = TrainingData(open_split(sequences, "train", sequence_config()), kept, TRAINING, sequence_config(), seed=0)
    assert shown_sequences(before) == {0}

    shard = tmp_path / "predictions" / "0.h5"
    found = [predictions_of(name, SEQUENCES[name][1] if name == "a" else ()) for name in SEQUENCES]
    write_predictions(shard, found, (HEIGHT, WIDTH), {"stage": "generate_pseudo_labels"})
    dataset, manifest = tmp_path / "round_1" / "dataset", tmp_path / "round_1" / "dataset.json"
    track_filter([shard], sequences, labels, dataset, manifest, track_filter_settings())

    accounts = {account["name"]: account for account in read_json(manifest)["sequences"]}
    for name in ("b", "c"):
        boxes = read_frame_boxes(dataset / "train" / name, REPRESENTATION).boxes
        assert (boxes["t"] == 0).all()  # the ground truth of 'b' stays hidden
        assert (boxes["class_id"] < len(CLASSES)).any()
        assert accounts[name]["labelled_frames"] == 0
        assert accounts[name]["kept"]["car"] > 0
    truth = read_frame_boxes(dataset / "train" / "a", REPRESENTATION)
    assert np.unique(truth.frame_indices[truth.boxes["t"] > 0]).tolist() == SEQUENCES["a"][1]
    assert IGNORED_CLASS_ID not in truth.boxes["class_id"][truth.boxes["t"] > 0]

    pseudo_labelled = open_split(dataset, "train", sequence_config())
    after = TrainingData(pseudo_labelled, None, TRAINING, sequence_config(), seed=0)
    assert shown_sequences(after) == {0, 1, 2}


def shown_sequences(data):
    """Sequences that take part with labels in the first steps."""
    batches = [data[step] for step in range(TRAINING.steps)]
    return {
        int(sequence)
        for batch in batches
        for sequence, labelled in zip(batch.sequence_ids, batch.labelled.any(dim=0), strict=True)
        if labelled
    }
