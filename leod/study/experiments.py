"""The cells of a study: which experiments a study file spans and what their folders are called."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from leod.config.load import CEILING, CHOOSER, CONTROL, MAIN, ORACLE, study_of_arm
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
        study: What its stages are run with.
        arm: What it is for: `MAIN`, the study's own chain of rounds; `CONTROL`, `CEILING` or `ORACLE`, a reference;
            `CHOOSER`, the detector that chooses the labels of another experiment; else the name of an arm.
    """

    budget: LabelBudget
    split_offset: int
    seed: int
    rounds: int
    study: StudyConfig
    arm: str = MAIN

    @property
    def base(self) -> str:
        """Name of the experiment whose labels and seed it has: what it is compared with."""
        offset = "" if self.budget.setting == "fully_supervised" else f"-offset{self.split_offset}"
        return f"{self.budget.slug}{offset}-seed{self.seed}"

    @property
    def name(self) -> str:
        """Name of the experiment's folder."""
        return self.base if self.arm in (MAIN, CEILING, CHOOSER) else f"{self.base}-{self.arm}"

    @property
    def chooser(self) -> Experiment | None:
        """The experiment whose detector chooses the rest of the labels; None where nothing is chosen by a detector."""
        if not self.budget.first_frames:
            return None
        first = LabelBudget(setting="random", frames=self.budget.first_frames, pretrain=self.budget.pretrain)
        return Experiment(first, self.split_offset, self.seed, 0, self.study, CHOOSER)

    @property
    def chooses_thresholds(self) -> bool:
        """Whether each round has its score thresholds chosen."""
        return self.study.pseudo_labels.choose_thresholds is not None

    @property
    def trains_on(self) -> bool:
        """Whether self-training goes on from the detector of the round before."""
        return self.study.self_train.initial_weights == "previous"


def find_budget(study: StudyConfig, setting: str, ratio: float | None, frames: int | None = None) -> LabelBudget | None:
    """The label budget of ``study``, the ceiling's included, that labels were chosen for; None if it has none such.

    Args:
        study: The study.
        setting: How the labels were chosen.
        ratio: Share of the labels; None if unknown. Without meaning where all labels are kept.
        frames: Number of labelled frames where the budget is one.
    """
    for experiment in study_experiments(study):
        # The study's own come first: what a control changes of their budgets is not meant.
        budget = experiment.budget
        same_size = budget.frames == frames if budget.counts_frames else budget.ratio == ratio
        if budget.setting == setting and (setting == "fully_supervised" or same_size):
            return budget
    return None


def study_experiments(study: StudyConfig) -> list[Experiment]:
    """All experiments of ``study``, each once: its own, references, arms in the order of the file.

    Raises:
        ConfigError: Two label budgets would share a folder.
    """
    own: dict[str, Experiment] = {}
    for budget in study.labels:
        # With all labels kept there is nothing for an offset to choose.
        offsets = (0,) if budget.setting == "fully_supervised" else study.split_offsets
        for split_offset in offsets:
            for seed in study.seeds:
                experiment = Experiment(budget, split_offset, seed, study.rounds, study)
                if experiment.name in own:
                    raise ConfigError(
                        f"study {study.name!r}: labels, split_offsets or seeds give {experiment.name!r} twice"
                    )
                own[experiment.name] = experiment
    # Labels that a detector chooses come after those that it was trained on.
    experiments = {cell.name: cell for cell in sorted(own.values(), key=lambda cell: cell.chooser is not None)}
    for cell in own.values():
        if cell.chooser is not None and cell.chooser.name not in experiments:
            experiments = {cell.chooser.name: cell.chooser} | experiments
    for compared in (*_references(study, list(own.values())), *_arms(study, list(own.values()))):
        # A study of its own on all labels has its ceiling among its experiments.
        experiments.setdefault(compared.name, compared)
    return list(experiments.values())


def _references(study: StudyConfig, own: list[Experiment]) -> Iterator[Experiment]:
    # A reference is trained also where the study itself takes somebody's weights.
    pretrain = study.pretrain.model_copy(update={"from_checkpoint": None})
    trained = study.model_copy(update={"pretrain": pretrain})
    for reference in study.references:
        if reference == CEILING:
            budget = LabelBudget(setting="fully_supervised", pretrain=study.reference_pretrain)
            yield from (Experiment(budget, 0, seed, 0, trained, CEILING) for seed in study.seeds)
        # Without rounds there is nothing to compare them with.
        elif study.rounds:
            for cell in own:
                if reference == CONTROL:
                    steps = study.pretraining(cell.budget).steps + study.self_training_steps
                    changes = cell.budget.pretrain.model_copy(update={"steps": steps})
                    budget = cell.budget.model_copy(update={"pretrain": changes})
                    yield Experiment(budget, cell.split_offset, cell.seed, 0, trained, CONTROL)
                else:
                    yield Experiment(cell.budget, cell.split_offset, cell.seed, 1, study, ORACLE)


def _arms(study: StudyConfig, own: list[Experiment]) -> Iterator[Experiment]:
    for name in study.arms:
        arm = study_of_arm(study, name)
        yield from (Experiment(cell.budget, cell.split_offset, cell.seed, arm.rounds, arm, name) for cell in own)
