# Configuration → typed study, paths, settings of each stage. No rule computes anything itself.
import os
import shlex
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.rules import Rule

from leod.config import settings as stage
from leod.errors import LeodError
from leod.gpus import visible_gpus
from leod.sequences.layout import SPLITS
from leod.study.graph import PRIORITY_BEFORE_ROUNDS
from leod.study.manifests import describe_names, lost_recordings, lost_sequences
from leod.study.study import Study


def checkout() -> Path | None:
    """The folder of this workflow, also where another one imports it as a module; None if it was not cloned.

    `workflow.basedir` would be the importer's folder.
    """
    rules_folder = workflow.current_basedir
    return Path(rules_folder).resolve().parent if isinstance(rules_folder, os.PathLike) else None


def read_study() -> Study:
    """The study of the configuration, or the default one.

    What it names is looked up beside the user's configuration files and in `configs/` of the working directory, then
    among the workflow's own, also where the study itself is one of these.
    """
    files = [Path(file) for file in workflow.configfiles]
    own = [CHECKOUT / "configs"] if CHECKOUT else []
    folders = [*(file.parent for file in files), Path("configs")]
    folders = [folder for folder in folders if folder.resolve() not in own] + own
    study = config if "name" in config else {"base": "quickstart", **config}
    try:
        return Study(study, folders, ", ".join(map(str, files)) or "--config")
    except LeodError as error:
        raise WorkflowError(str(error))


def refuse_prefix() -> None:
    """A module's prefix would move what rules declare, but not the folders that they give to the stages."""
    if workflow.modifier.path_modifier.replace_prefix(RESULTS) != RESULTS:
        raise WorkflowError(
            "LEOD takes no 'prefix' and no 'replace_prefix' as a module. Its configuration says where files lie: "
            "results: FOLDER, dataset: {base: NAME, recordings: FOLDER, sequences: FOLDER}"
        )


def tell_where_leod_is() -> None:
    """For envs/leod.post-deploy.sh, a copy of which installs the package `leod` into a conda environment."""
    source = workflow.current_basedir
    if CHECKOUT is not None:
        os.environ.setdefault("LEOD_SOURCE", str(CHECKOUT))
    elif hasattr(source, "repo"):
        os.environ.setdefault("LEOD_SOURCE", f"git+https://{source.host}/{source.repo}@{source.ref}")


CHECKOUT = checkout()
FILES = read_study()
STUDY = FILES.config
DATASET = STUDY.dataset
RESULTS = FILES.folder
ROUND = FILES.round
refuse_prefix()
tell_where_leod_is()


wildcard_constraints:
    experiment="|".join(FILES.experiments),
    round=r"\d+",
    split="|".join(SPLITS),
    shard=r"\d+",
    variant="plain|tta|time_reversed",


def settings(stage_settings):
    """The stage's settings as one line of JSON: the parameter that decides whether a result is stale."""
    return stage_settings.model_dump_json(by_alias=True)


def settings_of(rule: str):
    """The settings of a rule's stage in the experiment of the job: those of its arm."""
    return lambda wildcards: settings(FILES.settings(rule, wildcards.experiment))


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


def labels_of(wildcards) -> str:
    return FILES.labels_of(wildcards.experiment)


def predictions_of(wildcards) -> list[str]:
    return FILES.predictions(wildcards.experiment, int(wildcards.round))


def pseudo_labels_of(wildcards) -> list[str]:
    return FILES.pseudo_labels(wildcards.experiment, int(wildcards.round))


def results_of_detectors(*kinds: str) -> list[str]:
    """Files of all detectors, each once: some experiments share theirs."""
    return list(dict.fromkeys(str(path) for detector in FILES.plan().detectors for path in detector.results(*kinds)))


def previous_model(wildcards) -> str:
    return FILES.model(wildcards.experiment, int(wildcards.round) - 1)


def memory(megabytes: int):
    """Memory of a job: half as much again for its second attempt, twice as much from the third on.

    Snakemake does not say why an attempt failed. With the same memory one that ran out of it would fail again; without
    an end, a training that needs many attempts because of its time limit would come to ask for more than a node has.
    """
    return lambda wildcards, attempt: megabytes * min(attempt + 1, 4) // 2


def threads_of_detector() -> int:
    """CPU threads of a job that runs the detector."""
    return STUDY.hardware.threads or workflow.cores or 4


def priority_of_pretraining():
    """Before trainings that nothing waits for, such as the control: these fill the cores that rounds leave."""
    # Older versions take a number only.
    if not hasattr(Rule, "expand_priority"):
        return 0
    return lambda wildcards: PRIORITY_BEFORE_ROUNDS if FILES.feeds_rounds(wildcards.experiment) else 0


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


if missing := FILES.missing_data():
    logger.warning(missing)
limit_gpu_jobs()
