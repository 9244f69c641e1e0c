"""The cells of a study: which experiments a study file spans and what their folders are called."""

from __future__ import annotations

from dataclasses import dataclass

from leod.config.schema import LabelBudget, StudyConfig
from leod.errors import ConfigError


@dataclass(frozen=True)
class Experiment:
    """One cell of a study.

    Attributes:
        budget: Which share of the labels it may use.
        split_offset: Which of the possible shares of that size.
        seed: Seed of its trainings.
        rounds: Self-training rounds after pretraining.
    """

    budget: LabelBudget
    split_offset: int
    seed: int
    rounds: int

    @property
    def name(self) -> str:
        """Name of the experiment's folder."""
        offset = "" if self.budget.setting == "fully_supervised" else f"-offset{self.split_offset}"
        return f"{self.budget.slug}{offset}-seed{self.seed}"

    @property
    def is_reference(self) -> bool:
        """True for a detector trained on all labels only to compare with."""
        return self.budget.setting == "fully_supervised" and self.rounds == 0


def find_budget(study: StudyConfig, setting: str, ratio: float | None) -> LabelBudget | None:
    """The label budget of ``study``, references included, that labels were chosen for; None if it has no such budget.

    Args:
        study: The study.
        setting: How the labels were chosen.
        ratio: Share of the labels; None if unknown. Without meaning where all labels are kept.
    """
    for experiment in study_experiments(study):
        budget = experiment.budget
        if budget.setting == setting and (setting == "fully_supervised" or budget.ratio == ratio):
            return budget
    return None


def study_experiments(study: StudyConfig) -> list[Experiment]:
    """All experiments of ``study``, references last, each once.

    Raises:
        ConfigError: Two label budgets would share a folder.
    """
    experiments: dict[str, Experiment] = {}
    for budget in study.labels:
        # With all labels kept there is nothing for an offset to choose.
        offsets = (0,) if budget.setting == "fully_supervised" else study.split_offsets
        for split_offset in offsets:
            for seed in study.seeds:
                experiment = Experiment(budget, split_offset, seed, study.rounds)
                if experiment.name in experiments:
                    raise ConfigError(
                        f"study {study.name!r}: labels, split_offsets or seeds give {experiment.name!r} twice"
                    )
                experiments[experiment.name] = experiment
    for setting in study.references:
        budget = LabelBudget(setting=setting, pretrain=study.reference_pretrain)
        for seed in study.seeds:
            reference = Experiment(budget, 0, seed, rounds=0)
            experiments.setdefault(reference.name, reference)
    return list(experiments.values())
