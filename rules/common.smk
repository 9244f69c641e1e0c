# Configuration → typed study, paths, settings of each stage. No rule computes anything itself.
import shlex
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from leod.config.settings import (
    ChooseThresholdsSettings,
    EvaluateSettings,
    GenerateSettings,
    PreprocessSettings,
    QualitySettings,
    ReportSettings,
    SimulateSettings,
    TrackFilterSettings,
    TrainSettings,
)
from leod.errors import LeodError
from leod.gpus import visible_gpus
from leod.study.manifests import describe_names, lost_recordings, lost_sequences
from leod.study.study import Study


def nulls(value):
    """`snakemake --config key=null` arrives as the text 'null'."""
    if isinstance(value, dict):
        return {key: nulls(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [nulls(entry) for entry in value]
    return None if value == "null" else value


def read_study() -> Study:
    files = [Path(file) for file in workflow.configfiles]
    folders = [file.parent for file in files] + [Path(workflow.basedir) / "configs"]
    try:
        return Study(nulls(config), folders, ", ".join(map(str, files)) or "--config")
    except LeodError as error:
        raise WorkflowError(str(error))


FILES = read_study()
STUDY = FILES.config
DATASET = STUDY.dataset
SPLITS = ("train", "val", "test")
RESULTS = FILES.folder
ROUND = FILES.round


wildcard_constraints:
    experiment="|".join(FILES.experiments),
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


def previous_model(wildcards) -> str:
    return FILES.model(wildcards.experiment, int(wildcards.round) - 1)


def published_weights() -> list[str]:
    """The file that pretraining takes instead of training, if the study names one."""
    return [str(STUDY.pretrain.from_checkpoint)] if STUDY.pretrain.from_checkpoint else []


def pretraining_sequences() -> list[str]:
    """What pretraining reads, unless it takes published weights."""
    return [] if STUDY.pretrain.from_checkpoint else FILES.manifests("train", "val")


def previous_detector(wildcards) -> list[str]:
    """Self-training starts from scratch unless the study says otherwise: only then it depends on the weights."""
    return [previous_model(wildcards)] if STUDY.self_train.initial_weights == "previous" else []


def chosen_thresholds(wildcards) -> list[str]:
    """The file of chosen score thresholds, if the study has them chosen."""
    return [f"{ROUND}/thresholds.json".format(**wildcards)] if FILES.chooses_thresholds else []


def detectors() -> list[str]:
    """Every detector of the study; as targets, so that a deleted one is made again."""
    return [str(detector.model) for detector in FILES.plan().detectors]


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
    manifest = FILES.manifest.format(**wildcards)
    make_again(manifest, lost_sequences(manifest, DATASET.sequences))
    if DATASET.simulate is not None:
        return [rules.simulate.output.manifest]
    return FILES.recordings(wildcards.split)


def report_figures() -> dict:
    """Figures of the report as outputs, each with its caption."""
    return {
        name: report(
            f"{RESULTS}/figures/{name}.svg",
            caption=f"../workflow/report/{name}.rst",
            category=category,
            labels={"figure": name.replace("_", " ")},
        )
        for name, category in FILES.figures().items()
    }


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
