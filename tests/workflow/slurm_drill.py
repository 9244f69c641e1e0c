"""A small study on a real SLURM through `--profile slurm`, with everything that a shared cluster does to jobs.

    python tests/workflow/slurm_drill.py [--tasks] [--keep FOLDER]

Installs and boots a one-node SLURM with two fake GPUs (root on Debian; elsewhere it says why not and ends with 0).
Checked: results equal those of an undisturbed local run; pseudo-label shards run as GPU jobs of their own at the same
time with different GPUs; trainings that are requeued, preempted, cancelled, out of time, or lose their node go on where
they were; the logs of all attempts are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import yaml
from checkout import copy_workflow
from slurm_lab import LabError, SlurmLab, install, running_job, wait_until, why_not_here
from small_study import EXPERIMENT, TARGETS, difference, results_of, small_study

STEPS = 48
# Preempted early, the first attempt stops for its time limit six seconds later: on no machine enough for these.
LIMITED_STEPS = 240
STUDY = small_study(
    # Without accelerator: cpu every job of the detector asks for a GPU; the fake ones are of no use to PyTorch.
    hardware={"accelerator": "auto", "save_before_time_limit_s": 54.0},
    pretrain={"steps": STEPS, "validation": {"every_steps": STEPS, "sequence_fraction": 1.0}},
    self_train={"steps": LIMITED_STEPS, "validation": {"every_steps": LIMITED_STEPS, "sequence_fraction": 1.0}},
)


STARTED = time.monotonic()
# On a busy machine everything takes longer; what the drill waits for in vain it waits for this long.
PATIENCE_S = float(os.environ.get("LEOD_DRILL_PATIENCE", "180"))


def say(text: str) -> None:
    """Tell what happens."""
    sys.stdout.write(f"[{time.monotonic() - STARTED:5.0f} s] {text}\n")
    sys.stdout.flush()


def environment() -> dict[str, str]:
    """With the programs of this interpreter's environment, one thread a process."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin", "/sbin"])
    return os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"}


def snakemake(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start Snakemake on the study; its output goes to a file."""
    log = (folder / "snakemake.log").open("a")
    command = [sys.executable, "-m", "snakemake", "--configfile", "configs/small.yaml", *arguments]
    return subprocess.Popen(command, cwd=folder, env=environment(), stdout=log, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str], folder: Path) -> None:
    """Wait for Snakemake to end well."""
    if process.wait(2 * PATIENCE_S):
        raise LabError(f"snakemake failed:\n{(folder / 'snakemake.log').read_text()[-6000:]}")


def adapt_profile(folder: Path) -> None:
    """What a site does: edit the profile. No accounts, quick checks, one-minute trainings."""
    path = folder / "profiles" / "slurm" / "config.yaml"
    profile = yaml.safe_load(path.read_text())
    profile["slurm-status-command"] = "squeue"
    profile["slurm-init-seconds-before-status-checks"] = 3
    profile["latency-wait"] = 5
    profile["retries"] = 5
    # As in the undisturbed run: with other numbers of threads sums are rounded in another order.
    profile["set-threads"] = dict.fromkeys(profile["set-threads"], 1)
    limited = {"time_limit_min": "1 if attempt == 1 else 0"}
    profile["set-resources"]["self_train"] = profile["set-resources"]["self_train"] | limited
    # There are two GPUs for the two shards.
    profile["set-resources"]["evaluate"]["gpu"] = 0
    for entry in profile["set-resources"].values():
        entry["mem_mb"] = 4000
    path.write_text(yaml.safe_dump(profile))


def saved_step(folder: Path, round: int) -> int:
    """The newest working checkpoint of a round."""
    found = (folder / EXPERIMENT / f"round_{round}" / "checkpoints").glob("step-*.ckpt")
    return max((int(path.stem.split("-")[1]) for path in found), default=0)


def training_at(folder: Path, rule: str, round: int, step: int) -> str:
    """Wait until a training runs and has come to a step; returns its job's id."""
    wait_until(lambda: running_job(rule) and saved_step(folder, round) >= step, PATIENCE_S, f"{rule} is at step {step}")
    number = running_job(rule)
    if number is None:
        raise LabError(f"{rule} ended before it could be interrupted")
    return number


def processes(folder: Path, command: str) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Command lines and environments of the stages that run in ``folder``."""
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().decode().split("\0")
            # The program itself, not the shells and Snakemakes above it.
            if command not in words or (entry / "cwd").readlink() != folder:
                continue
            variables = (entry / "environ").read_bytes().decode().split("\0")
        except (OSError, ValueError):
            continue
        yield words, dict(variable.split("=", 1) for variable in variables if "=" in variable)


class GpuWatch(threading.Thread):
    """Looks at the environments of the running inference processes.

    Attributes:
        together: Sets of CUDA_VISIBLE_DEVICES that were seen at the same time.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.together: set[tuple[str, ...]] = set()
        self.ended = threading.Event()
        self._folder = folder

    def run(self) -> None:
        """Until told to end."""
        while not self.ended.wait(0.3):
            shards = {
                words[words.index("--shard") + 1]: variables.get("CUDA_VISIBLE_DEVICES", "")
                for words, variables in processes(self._folder, "generate-pseudo-labels")
            }
            if len(shards) > 1:
                self.together.add(tuple(sorted(shards.values())))


def drill(folder: Path) -> None:
    """Everything, in ``folder``."""
    lab, clean = folder / "cluster", folder / "undisturbed"
    lab.mkdir()
    copy_workflow(lab)
    (lab / "slurm").symlink_to("profiles/slurm")
    (lab / "configs" / "small.yaml").write_text(yaml.safe_dump(STUDY))
    adapt_profile(lab)
    manifests = [f"data/sequences/manifests/{split}-0.json" for split in ("train", "val", "test")]
    finish(snakemake(lab, "--cores", "2", *manifests, f"{EXPERIMENT}/labels.json"), lab)
    say("recordings, sequences and labels are made")
    shutil.copytree(lab, clean, symlinks=True)

    with SlurmLab(folder / "slurm") as cluster:
        say("SLURM is up")
        watch = GpuWatch(lab)
        watch.start()
        run = snakemake(lab, "--profile", "slurm", "--", *TARGETS)
        undisturbed = snakemake(clean, "--cores", "1", *TARGETS)
        try:
            steps = interrupt(lab, cluster)
            finish(run, lab)
        finally:
            watch.ended.set()
            for process in (run, undisturbed) if sys.exc_info()[0] else ():
                process.kill()
        queue = subprocess.run(["squeue", "-h", "-t", "all", "-o", "%i"], capture_output=True, text=True, check=True)
        jobs = len(queue.stdout.split())
        say(f"the study is finished: {jobs} SLURM jobs")
    finish(undisturbed, clean)
    check(lab, clean, watch, steps)


def several_tasks(folder: Path) -> None:
    """A training in two processes that SLURM starts as tasks equals one whose processes were started by itself."""
    lab, local = folder / "tasks", folder / "processes"
    target = f"{EXPERIMENT}/round_0/model.ckpt"
    lab.mkdir()
    copy_workflow(lab)
    (lab / "slurm").symlink_to("profiles/slurm")
    study = small_study(hardware={"accelerator": "cpu", "devices": 2})
    (lab / "configs" / "small.yaml").write_text(yaml.safe_dump(study))
    shutil.copytree(lab, local, symlinks=True)
    adapt_profile(lab)
    path = lab / "profiles" / "slurm" / "config.yaml"
    profile = yaml.safe_load(path.read_text())
    launcher = "'srun --cpus-per-task=1 --cpu-bind=q'"
    profile["set-resources"]["pretrain"] |= {"tasks_per_node": 2, "mpi": "srun", "launcher": launcher}
    path.write_text(yaml.safe_dump(profile))
    finish(snakemake(local, "--cores", "2", target), local)
    shutil.copytree(local / "data", lab / "data")
    with SlurmLab(folder / "slurm"):
        finish(snakemake(lab, "--profile", "slurm", "--", target), lab)
    name = str(Path(target).relative_to("results/small"))
    if results_of(lab / "results/small")[name] != results_of(local / "results/small")[name]:
        raise LabError("tasks of SLURM and processes started by the training itself gave different weights")
    say("two tasks of SLURM gave the same weights as two processes that the training started")


def interrupt(lab: Path, cluster: SlurmLab) -> dict[int, list[int]]:
    """Do to the trainings what happens on clusters; returns the steps saved before each interruption, by round."""
    steps: dict[int, list[int]] = {0: [], 1: []}

    def act(rule: str, round: int, what: str, step: int, *command: str) -> None:
        number = training_at(lab, rule, round, step)
        steps[round].append(saved_step(lab, round))
        subprocess.run([word.format(job=number) for word in command], cwd=lab, check=True, stdout=subprocess.DEVNULL)
        say(f"{what}: job {number} of {rule} at step {steps[round][-1]}")
        command = rule.replace("_", "-")
        wait_until(lambda: not any(processes(lab, command)), PATIENCE_S, f"{rule} has stopped")

    act("pretrain", 0, "requeued", 2, "scontrol", "requeue", "{job}")
    act("pretrain", 0, "cancelled", 6, "scancel", "{job}")
    number = training_at(lab, "pretrain", 0, 10)
    steps[0].append(saved_step(lab, 0))
    cluster.kill_node()
    say(f"killed the node under job {number} of pretrain at step {steps[0][-1]}")
    cluster.revive_node()
    urgent = ("sbatch", "-p", "urgent", "--gres=gpu:2", "--output=/dev/null", "--wrap=sleep 1")
    act("self_train", 1, "preempted", 2, *urgent)
    return steps


def check(lab: Path, clean: Path, watch: GpuWatch, steps: dict[int, list[int]]) -> None:
    """Compare the results and look for traces of the interruptions."""
    differences = difference(results_of(lab / "results" / "small"), results_of(clean / "results" / "small"))
    if differences:
        raise LabError(f"results differ from the undisturbed run:\n{differences}")
    say(f"{len(results_of(lab / 'results' / 'small'))} result files equal those of the undisturbed run")
    if ("0", "1") not in watch.together:
        raise LabError(f"pseudo-label shards did not run together on two GPUs: saw {watch.together}")
    say("pseudo-label shards ran at the same time on GPUs 0 and 1")
    for round, rule in ((0, "pretrain"), (1, "self_train")):
        record = json.loads((lab / EXPERIMENT / f"round_{round}" / "training.json").read_text())
        resumed = record["provenance"]["resumed_at"]
        say(f"{rule} was taken up at steps {resumed}; interrupted at {steps[round]}")
        attempts = lab / "results/small/logs" / Path(EXPERIMENT).name / f"round_{round}" / "attempts"
        logs = {log.name: log.read_text() for log in sorted(attempts.glob(f"{rule}.*.log"))}
        # A training may end just before its node does: then its results are put back.
        restored = any("the results are put back" in text for text in logs.values())
        progress = zip(resumed, steps[round], strict=False)
        if len(resumed) + restored < len(steps[round]) or any(taken < given for taken, given in progress):
            raise LabError(f"{rule} did not go on from where it was")
        if len(logs) <= len(resumed) or not any("going on from step" in text for text in logs.values()):
            raise LabError(f"{attempts} lacks logs of attempts: {list(logs)}")
    texts = [log.read_text() for log in (lab / "results/small/logs").rglob("attempts/self_train*.log")]
    if not any("the job's time (60 s) has run out" in text for text in texts):
        raise LabError("no attempt of self_train ended at its time limit")
    say("a training out of time saved, failed, and went on in the next attempt")


def main() -> int:
    """Run the drill; status 0 also where it cannot be run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, help="work here and leave everything behind")
    parser.add_argument("--tasks", action="store_true", help="instead: distributed training as tasks of SLURM")
    arguments = parser.parse_args()
    reason = why_not_here()
    if reason is not None:
        say(f"skipped: the drill needs root on Debian ({reason})")
        return 0
    # The daemons must not outlive the drill.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    install()
    chosen = several_tasks if arguments.tasks else drill
    if arguments.keep is not None:
        arguments.keep.mkdir(parents=True)
        chosen(arguments.keep.resolve())
    else:
        with tempfile.TemporaryDirectory() as folder:
            chosen(Path(folder))
    say("passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
