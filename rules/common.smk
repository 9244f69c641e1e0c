# Configuration → typed study, paths, settings of each stage. No rule computes anything itself.
import shlex
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from leod.config.experiments import Experiment, study_experiments
from leod.config.load import resolve_study
from leod.config.stages import (
    ChooseThresholdsSettings,
    EvaluateSettings,
    GenerateSettings,
    PreprocessSettings,
    QualitySettings,
    ReportSettings,
    SimulateSettings,
    SubsampleSettings,
    TrackFilterSettings,
    TrainSettings,
)
from leod.errors import LeodError
from leod.events.discovery import files_of_split
from leod.gpus import visible_gpus
from leod.manifests import describe_names, lost_recordings, lost_sequences


def nulls(value):
    """`snakemake --config key=null` arrives as the text 'null'."""
    if isinstance(value, dict):
        return {key: nulls(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [nulls(entry) for entry in value]
    return None if value == "null" else value


def read_study():
    files = [Path(file) for file in workflow.configfiles]
    folders = [file.parent for file in files] + [Path(workflow.basedir) / "configs"]
    source = ", ".join(map(str, files)) or "--config"
    try:
        study = resolve_study(nulls(config), folders, source)
        return study, {entry.name: entry for entry in study_experiments(study)}
    except LeodError as error:
        raise WorkflowError(str(error))


STUDY, EXPERIMENTS = read_study()
DATASET = STUDY.dataset
SPLITS = ("train", "val", "test")

RESULTS = STUDY.results / STUDY.name
EXPERIMENT = str(RESULTS / "{experiment}")
ROUND = f"{EXPERIMENT}/round_{{round}}"
LOGS = f"{RESULTS}/logs"
BENCHMARKS = f"{RESULTS}/benchmarks"

SHARDS = range(STUDY.pseudo_labels.shards)
CHOOSES_THRESHOLDS = STUDY.pseudo_labels.choose_thresholds is not None
MANIFESTS = f"{DATASET.sequences}/manifests" if DATASET.recordings else f"{RESULTS}/data"


# Figure of the report → its category.
FIGURES = {
    "average_precision": "Result",
    "precision_recall": "Result",
    "training": "Training",
    "box_sizes": "Labels",
}
if any(experiment.rounds for experiment in EXPERIMENTS.values()):
    FIGURES |= dict.fromkeys(("pseudo_label_quality", "score_relation", "tracking"), "Pseudo-labels")
    if CHOOSES_THRESHOLDS:
        FIGURES["thresholds"] = "Pseudo-labels"


wildcard_constraints:
    experiment="|".join(EXPERIMENTS),
    round=r"\d+",
    split="|".join(SPLITS),
    shard=r"\d+",
    variant="plain|tta|time_reversed",


def settings(stage_settings):
    """The stage's settings as one line of JSON: the parameter that decides whether a result is stale."""
    return stage_settings.model_dump_json(by_alias=True)


def without_influence(stage_settings):
    """What a stage is told, but what makes no result stale: how it uses the machine, what it warns about.

    Snakemake compares no parameter that is a function of the output. An `ancient` input would not do: a job that has to
    write it keeps Snakemake from seeing other changes of what follows.
    """
    text = settings(stage_settings)
    return lambda wildcards, output: text


def logged(command: str) -> str:
    """The command with its output in the job's log.

    Snakemake deletes the log before the job's next attempt. A second name of the file, with the time of the start, in
    the folder `attempts` beside it, keeps the log of every attempt, however it ended.
    """
    return (
        ': > {log:q}; attempts="$(dirname {log:q})/attempts"; mkdir -p "$attempts";'
        ' ln {log:q} "$attempts/$(basename {log:q} .log).$(date +%Y%m%dT%H%M%S)-$$.log" 2> /dev/null || true;'
        f" exec >> {{log:q}} 2>&1; {command}"
    )


def cell(wildcards) -> Experiment:
    return EXPERIMENTS[wildcards.experiment]


def model_of_round(experiment: str, round: int) -> str:
    return f"{RESULTS}/{experiment}/round_{round}/model.ckpt"


def previous_model(wildcards) -> str:
    return model_of_round(wildcards.experiment, int(wildcards.round) - 1)


def published_weights() -> list[str]:
    """The file that pretraining takes instead of training, if the study names one."""
    return [str(STUDY.pretrain.from_checkpoint)] if STUDY.pretrain.from_checkpoint else []


def pretraining_sequences() -> list[str]:
    """What pretraining reads, unless it takes published weights."""
    return [] if STUDY.pretrain.from_checkpoint else sequence_manifests("train", "val")


def previous_detector(wildcards) -> list[str]:
    """Self-training starts from scratch unless the study says otherwise: only then it depends on the weights."""
    return [previous_model(wildcards)] if STUDY.self_train.initial_weights == "previous" else []


def chosen_thresholds(wildcards) -> list[str]:
    """The file of chosen score thresholds, if the study has them chosen."""
    return [f"{RESULTS}/{wildcards.experiment}/round_{wildcards.round}/thresholds.json"] if CHOOSES_THRESHOLDS else []


def detectors() -> list[str]:
    """Every detector of the study; as targets, so that a deleted one is made again."""
    return [model_of_round(entry["experiment"], entry["round"]) for entry in plan()]


def threads_of_detector() -> int:
    """CPU threads of a job that runs the detector."""
    return STUDY.hardware.threads or workflow.cores or 4


def gpus() -> int:
    """GPUs of a training job; inference takes one."""
    return 0 if STUDY.hardware.accelerator == "cpu" else STUDY.hardware.devices


def limit_gpu_jobs() -> None:
    """As many GPU jobs at a time as this machine has GPUs, unless told otherwise by `--resources gpu=N`."""
    here = len(visible_gpus())
    if here and workflow.is_main_process and "gpu" not in workflow.global_resources:
        workflow.register_resource("gpu", here)


def sequence_manifests(*splits) -> list[str]:
    """Files that say that the sequences of these splits are complete."""
    shards = STUDY.preprocess.shards if DATASET.recordings else 1
    return [f"{MANIFESTS}/{split}-{shard}.json" for split in splits for shard in range(shards)]


def make_again(manifest: str, lost: list[str]) -> None:
    """Have the job of a manifest run, if something that it lists is gone; the job remakes only what is missing.

    Called by the input functions of its rule, so it concerns no manifest that nothing asks for. Snakemake has no other
    reason to run a job whose outputs and inputs are all there: a parameter or an input that tells what is missing would
    have changed again after the repair, and the job would run twice. What is added here is what `--forcerun` fills.
    """
    if lost and workflow.is_main_process and manifest not in workflow.dag.forcefiles:
        shown = ", ".join(lost[:5]) + (", …" if len(lost) > 5 else "")
        logger.warning(f"{len(lost)} of the files or folders listed in {manifest} are gone and made again: {shown}")
        workflow.dag.forcefiles.add(manifest)


def simulated_before(wildcards) -> list[str]:
    """No input: simulated recordings come from nothing. Deleted ones are noticed."""
    manifest = rules.simulate.output.manifest
    make_again(manifest, lost_recordings(manifest, DATASET.recordings))
    return []


def recordings_of(wildcards) -> list[str]:
    """The recordings of a split: a new or changed one makes preprocessing run again, as does a deleted sequence."""
    manifest = f"{MANIFESTS}/{wildcards.split}-{wildcards.shard}.json"
    make_again(manifest, lost_sequences(manifest, DATASET.sequences))
    if DATASET.simulate is not None:
        return [rules.simulate.output.manifest]
    return [str(file) for file in files_of_split(Path(DATASET.recordings) / wildcards.split)]


def subsample_settings(wildcards) -> str:
    experiment = cell(wildcards)
    return settings(SubsampleSettings.from_study(STUDY, experiment.budget, experiment.split_offset))


def pretrain_settings(wildcards) -> str:
    return settings(TrainSettings.for_pretraining(STUDY, cell(wildcards).budget))


def plan() -> list[dict]:
    """What the summary is about: each evaluation with its cell of the study."""
    return [
        {
            "experiment": experiment.name,
            "setting": experiment.budget.setting,
            "ratio": experiment.budget.ratio,
            "split_offset": experiment.split_offset,
            "seed": experiment.seed,
            "round": round,
            "variant": variant,
            "split": STUDY.evaluate.split,
            "metrics": f"{RESULTS}/{experiment.name}/round_{round}/metrics/{STUDY.evaluate.split}_{variant}.json",
            "quality": f"{RESULTS}/{experiment.name}/round_{round}/quality.json" if round else None,
        }
        for experiment in EXPERIMENTS.values()
        for round in range(experiment.rounds + 1)
        for variant in STUDY.evaluate.variants
    ]


def report_plan() -> dict:
    """What the report is about: each detector with its cell of the study and its files."""
    folders = {
        (experiment, round): f"{RESULTS}/{experiment.name}/round_{round}"
        for experiment in EXPERIMENTS.values()
        for round in range(experiment.rounds + 1)
    }
    return {
        "runs": [
            {
                "experiment": experiment.name,
                "setting": experiment.budget.setting,
                "ratio": experiment.budget.ratio,
                "split_offset": experiment.split_offset,
                "seed": experiment.seed,
                "round": round,
                "labels": f"{RESULTS}/{experiment.name}/labels.json",
                "model": f"{folder}/model.ckpt",
                "curves": f"{folder}/training.csv",
                "record": f"{folder}/training.json",
                "metrics": f"{folder}/metrics/{STUDY.evaluate.split}_{STUDY.evaluate.variants[0]}.json",
                "dataset": f"{folder}/dataset" if round else None,
                "manifest": f"{folder}/dataset.json" if round else None,
                "quality": f"{folder}/quality.json" if round else None,
                "thresholds": f"{folder}/thresholds.json" if round and CHOOSES_THRESHOLDS else None,
            }
            for (experiment, round), folder in folders.items()
        ],
        "manifests": {split: sequence_manifests(split) for split in SPLITS} if DATASET.recordings else {},
        "benchmarks": benchmarks(),
    }


def report_figures() -> dict:
    """Figures of the report as outputs, each with its caption."""
    return {
        name: report(
            f"{RESULTS}/figures/{name}.svg",
            caption=f"../workflow/report/{name}.rst",
            category=category,
            labels={"figure": name.replace("_", " ")},
        )
        for name, category in FIGURES.items()
    }


def report_inputs() -> list[str]:
    """Results that the report shows."""
    keys = ("labels", "model", "curves", "record", "metrics", "dataset", "manifest", "quality", "thresholds")
    return sorted({run[key] for run in report_plan()["runs"] for key in keys if run[key]})


def benchmarks() -> list[dict]:
    """Snakemake's record of the time and memory of each job, with the name of its stage."""
    found = {"simulate": [f"{BENCHMARKS}/simulate.tsv"]} if DATASET.simulate is not None else {}
    kind = "preprocess" if DATASET.recordings else "check_sequences"
    found[kind] = [f"{BENCHMARKS}/{kind}/{Path(file).stem}.tsv" for file in sequence_manifests(*SPLITS)]
    for experiment in EXPERIMENTS.values():
        folder = f"{BENCHMARKS}/{experiment.name}"
        found.setdefault("subsample_labels", []).append(f"{folder}/subsample_labels.tsv")
        for round in range(experiment.rounds + 1):
            jobs = {"evaluate": [f"evaluate-{STUDY.evaluate.split}_{variant}" for variant in STUDY.evaluate.variants]}
            if round:
                jobs["generate_pseudo_labels"] = [f"generate_pseudo_labels-{shard}" for shard in SHARDS]
                alone = ("choose_thresholds", "track_filter", "validate_quality", "self_train")
            else:
                alone = ("pretrain",)
            for stage, names in (jobs | {name: [name] for name in alone}).items():
                found.setdefault(stage, []).extend(f"{folder}/round_{round}/{name}.tsv" for name in names)
    return [{"stage": stage, "path": path} for stage, paths in found.items() for path in paths]


def tell_about_missing_data() -> None:
    """`snakemake -n` works without data; whoever runs for real should know where to put them."""
    if DATASET.simulate is not None:
        return
    folder = DATASET.recordings or DATASET.sequences
    if not Path(folder).is_dir():
        kind = "recordings" if DATASET.recordings else "preprocessed sequences"
        logger.warning(
            f"Data set '{DATASET.name}': {folder} does not exist yet. Put its {kind} into {folder}/train, /val and /test, "
            f"or name another folder: dataset: {{base: {DATASET.name}, {kind.split()[-1]}: FOLDER}}"
        )


tell_about_missing_data()
limit_gpu_jobs()
