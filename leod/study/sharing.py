"""Which experiments share a result: what has equal settings and equal inputs is made once."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from leod.config.load import ORACLE
from leod.config.schema import Settings
from leod.config.settings import (
    ChooseThresholdsSettings,
    GenerateSettings,
    QualitySettings,
    SubsampleSettings,
    SuggestLabelsSettings,
    TrackFilterSettings,
    TrainSettings,
)
from leod.study.experiments import Experiment

SETTINGS: dict[str, Callable[[Experiment], Settings]] = {
    "subsample_labels": lambda cell: SubsampleSettings.from_study(
        cell.study, cell.budget, cell.split_offset, cell.seed
    ),
    "suggest_labels": lambda cell: SuggestLabelsSettings.from_study(cell.study, cell.budget, cell.seed),
    "pretrain": lambda cell: TrainSettings.for_pretraining(cell.study, cell.budget),
    "choose_thresholds": lambda cell: ChooseThresholdsSettings.from_study(cell.study),
    "generate_pseudo_labels": lambda cell: GenerateSettings.from_study(cell.study),
    "track_filter": lambda cell: TrackFilterSettings.from_study(cell.study),
    "validate_quality": lambda cell: QualitySettings.from_study(cell.study),
    "self_train": lambda cell: TrainSettings.for_self_training(cell.study),
}
"""Rule whose settings an arm may change → what its stage uses in an experiment."""


def owners(experiments: Iterable[Experiment]) -> dict[tuple[str, str, int], str]:
    """Who has the result of each stage in its folder.

    Two experiments share a result if they have the same labels and seed, the stage's settings are equal, and so are the
    inputs, which is to say: shared. The first one with it has it in its folder.

    Args:
        experiments: All experiments, in the order of precedence.

    Returns:
        Rule, name of the experiment, round → name of the experiment in whose folder the result is.
    """
    found: dict[tuple[str, str, int], str] = {}
    first: dict[tuple[str | int | None, ...], str] = {}
    for cell in experiments:

        def place(rule: str, round: int, *inputs: str | None, cell: Experiment = cell) -> str:
            settings = SETTINGS[rule](cell).model_dump_json(by_alias=True)
            owner = first.setdefault((cell.base, rule, round, settings, *inputs), cell.name)
            found[rule, cell.name, round] = owner
            return owner

        if cell.budget.setting == "suggested":
            needed = () if cell.chooser is None else ("subsample_labels", "pretrain")
            labels = place("suggest_labels", 0, *(found[rule, cell.chooser.name, 0] for rule in needed))
        else:
            labels = place("subsample_labels", 0)
        model = place("pretrain", 0, labels)
        for round in range(1, cell.rounds + 1):
            dataset = None
            if cell.arm != ORACLE:
                chosen = place("choose_thresholds", round, model) if cell.chooses_thresholds else None
                predictions = place("generate_pseudo_labels", round, labels, model, chosen)
                dataset = place("track_filter", round, labels, predictions)
                place("validate_quality", round, labels, predictions, dataset)
            model = place("self_train", round, dataset, model if cell.trains_on else None)
    return found
