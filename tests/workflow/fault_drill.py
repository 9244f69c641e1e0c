"""A small study under faults; after each of them a rerun has to end in the results of an undisturbed run.

    python tests/workflow/fault_drill.py [--kills 50] [--seed 0] [--only NAME …] [--keep FOLDER]

Faults: kills      Snakemake and all its children are killed with KILL at random moments, again and again
        orphan     Snakemake alone is killed; its training goes on while a second one starts
        checkpoint a training's newest working checkpoint, then its final one, are cut short
        chunk      a chunk of a sequence's HDF5 file is altered
        vanished   a sequence disappears
        two        two Snakemake processes run the same study
        full       the disk with the results is full (root only: a small tmpfs)
        readonly   the disk with the results cannot be written to (root only: a read-only bind mount)
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import yaml
from checkout import copy_workflow
from small_study import EXPERIMENT, TARGETS, difference, results_of, small_study

STUDY = small_study(hardware={"accelerator": "cpu"})
STARTED = time.monotonic()
PATIENCE_S = float(os.environ.get("LEOD_DRILL_PATIENCE", "300"))


class DrillError(Exception):
    """A fault did not end as it should."""


def say(text: str) -> None:
    """Tell what happens."""
    sys.stdout.write(f"[{time.monotonic() - STARTED:5.0f} s] {text}\n")
    sys.stdout.flush()


class Study:
    """A checkout with the small study, and Snakemake on it.

    Args:
        folder: Made if needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        if not folder.exists():
            folder.mkdir(parents=True)
            copy_workflow(folder)
            (folder / "configs" / "small.yaml").write_text(yaml.safe_dump(STUDY))

    def copy(self, folder: Path) -> Study:
        """A second checkout in the same state."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Study(folder)

    def path(self, name: str) -> Path:
        """A file of the experiment."""
        return self.folder / EXPERIMENT / name

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start Snakemake with its children in a process group of their own."""
        environment = os.environ | {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-m", "snakemake", "--configfile", "configs/small.yaml", "--cores", "2", *arguments]
        log = (self.folder / "snakemake.log").open("w")
        return subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=log, stderr=log, text=True, start_new_session=True
        )

    def run(self, *arguments: str) -> int:
        """Run Snakemake to its end; returns its status."""
        return self.start(*(arguments or TARGETS)).wait(PATIENCE_S)

    @property
    def output(self) -> str:
        """What the last Snakemake has printed, with the logs of its failed jobs."""
        return (self.folder / "snakemake.log").read_text()

    def finish(self) -> None:
        """A plain rerun has to succeed; where it names `--unlock`, that comes first, as a user would do."""
        status = self.run()
        if status and "--unlock" in self.output:
            self.run("--unlock")
            status = self.run()
        if status:
            raise DrillError(f"a rerun failed:\n{self.output[-5000:]}")

    def stages(self) -> list[int]:
        """Running stages of this checkout."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if len(words) > 2 and words[1].endswith(b"/leod") and (entry / "cwd").readlink() == self.folder:
                    found.append(int(entry.name))
            except (OSError, ValueError):
                continue
        return found


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Poll until something is true."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise DrillError(f"waited in vain until {what}")
        time.sleep(0.05)


def expect_equal(study: Study, expected: dict[str, str]) -> None:
    """The results of ``study`` are those of the undisturbed run."""
    differences = difference(results_of(study.folder / "results" / "small"), expected)
    if differences:
        raise DrillError(f"results differ from those of the undisturbed run:\n{differences}")


def expect_error(study: Study, *parts: str) -> None:
    """Snakemake fails, and a message says what is wrong where."""
    if not study.run():
        raise DrillError(f"no error; expected one that says {parts}")
    output = " ".join(study.output.split())
    missing = [part for part in parts if part not in output]
    if missing:
        raise DrillError(f"the message lacks {missing}:\n{study.output[-5000:]}")


def kills(study: Study, expected: dict[str, str], count: int, seed: int) -> None:
    """Kill everything at random moments while stages run; when the study is finished, start over."""
    chance = random.Random(seed)
    done, studies = 0, 0
    while done < count:
        process = study.start(*TARGETS)
        wait_until(lambda: study.stages() or process.poll() is not None, "a stage runs")  # noqa: B023
        time.sleep(chance.uniform(0.0, 8.0))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            wait_until(lambda: not study.stages(), "the stages are gone")
            done += 1
            study.run("--unlock")
        elif process.returncode:
            raise DrillError(f"a rerun failed after {done} kills:\n{study.output[-5000:]}")
        else:
            expect_equal(study, expected)
            studies += 1
            shutil.rmtree(study.folder / "results")
            shutil.rmtree(study.folder / "data")
    study.finish()
    expect_equal(study, expected)
    say(f"kills: {done} survived, {studies + 1} studies with equal results (random seed {seed})")


def orphan(study: Study, expected: dict[str, str]) -> None:
    """Snakemake dies, its training lives on; the next one waits for it."""
    forget(study, "round_0/model.ckpt")
    process = study.start(*TARGETS)
    wait_for_checkpoints(study, process, 1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    if not study.stages():
        raise DrillError("the training ended too early")
    study.finish()
    expect_equal(study, expected)
    say("orphan: the second training waited for the first; equal results")


def checkpoint(study: Study, expected: dict[str, str]) -> None:
    """Checkpoints are cut short."""
    forget(study, "round_0/model.ckpt")
    process = study.start(*TARGETS)
    wait_for_checkpoints(study, process, 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    newest = max(study.path("round_0/checkpoints").glob("step-*"))
    newest.write_bytes(newest.read_bytes()[:-1000])
    study.finish()
    expect_equal(study, expected)
    model = study.path("round_0/model.ckpt")
    model.write_bytes(model.read_bytes()[:-1000])
    expect_error(study, "error:", "round_0/model.ckpt")
    model.unlink()
    study.finish()
    expect_equal(study, expected)
    say("checkpoint: a cut working checkpoint was set aside, a cut detector named; equal results")


def chunk(study: Study, expected: dict[str, str]) -> None:
    """A frame on the disk is altered."""
    path = next((study.folder / "data/sequences/test").rglob("*.h5"))
    with h5py.File(path) as file:
        frames = file["data"]
        stored = frames.id.get_chunk_info(frames.id.get_num_chunks() // 2)
    with path.open("r+b") as file:
        file.seek(stored.byte_offset)
        file.write(bytes(stored.size))
    forget(study, "round_1/metrics/test_plain.json")
    expect_error(study, "error:", path.name, path.parents[2].name)
    remake_sequences(study, "test", path.parents[2])
    study.finish()
    expect_equal(study, expected)
    say("chunk: an altered frame was named; equal results after preprocessing again")


def vanished(study: Study, expected: dict[str, str]) -> None:
    """A sequence is deleted behind the workflow's back."""
    sequence = min((study.folder / "data/sequences/test").glob("[!.]*"))
    forget(study, "round_1/metrics/test_plain.json")
    shutil.rmtree(sequence)
    expect_error(study, "error:", "data/sequences/test")
    remake_sequences(study, "test", sequence)
    study.finish()
    expect_equal(study, expected)
    say("vanished: a missing sequence was named; equal results after preprocessing again")


def two(study: Study, expected: dict[str, str]) -> None:
    """A second Snakemake is refused, the first one is not disturbed."""
    forget(study, "round_0/model.ckpt")
    first = study.start(*TARGETS)
    wait_until(study.stages, "a stage runs")
    log = study.folder / "snakemake.log"
    log.rename(log.with_name("first.log"))
    expect_error(study, "Directory cannot be locked")
    if first.wait(PATIENCE_S):
        raise DrillError(f"the first Snakemake failed:\n{log.with_name('first.log').read_text()[-5000:]}")
    expect_equal(study, expected)
    say("two: the second Snakemake was refused; equal results")


def full(study: Study, expected: dict[str, str]) -> None:
    """The results' disk has space for half a study."""
    results = study.folder / "results"
    used = sum(path.stat().st_size for path in results.rglob("*") if path.is_file())
    shutil.rmtree(results)
    results.mkdir()
    mount("-t", "tmpfs", "-o", f"size={used // 2}", "tmpfs", str(results))
    try:
        expect_error(study, "no space left on the disk")
        mount("-o", "remount,size=1G", str(results))
        study.finish()
        expect_equal(study, expected)
    finally:
        subprocess.run(["umount", str(results)], check=True)
    say("full: a full disk was named; equal results with more space")


def readonly(study: Study, expected: dict[str, str]) -> None:
    """The results' disk is mounted read-only."""
    forget(study, "round_0/model.ckpt")
    results = str(study.folder / "results")
    mount("--bind", results, results)
    try:
        mount("-o", "remount,bind,ro", results)
        expect_error(study, "Write-protected output files")
        mount("-o", "remount,bind,rw", results)
        study.finish()
        expect_equal(study, expected)
    finally:
        subprocess.run(["umount", results], check=True)
    say("readonly: a read-only disk was named; equal results when it could be written to")


def forget(study: Study, name: str) -> None:
    """Delete a result, with its second name, so that it is made again."""
    study.path(name).unlink()
    shutil.rmtree(study.path(name).parent / ".finished", ignore_errors=True)


def remake_sequences(study: Study, split: str, sequence: Path) -> None:
    """What the messages advise: delete the sequence, and the manifest, so that preprocessing runs."""
    shutil.rmtree(sequence, ignore_errors=True)
    (study.folder / f"data/sequences/manifests/{split}-0.json").unlink()


def wait_for_checkpoints(study: Study, process: subprocess.Popen[str], count: int) -> None:
    """Wait until pretraining has that many working checkpoints."""
    checkpoints = study.path("round_0/checkpoints")
    wait_until(
        lambda: len(list(checkpoints.glob("step-*"))) >= count or process.poll() is not None, "there are checkpoints"
    )
    if process.poll() is not None:
        raise DrillError(f"the training ended too early:\n{study.output[-5000:]}")


def mount(*arguments: str) -> None:
    """Mount something."""
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise DrillError(f"mount {' '.join(arguments)}: {done.stderr}")


FAULTS: dict[str, Callable[[Study, dict[str, str]], None]] = {
    function.__name__: function for function in (orphan, checkpoint, chunk, vanished, two, full, readonly)
}
NEED_ROOT = {"full", "readonly"}


def drill(folder: Path, names: list[str], count: int, seed: int) -> None:
    """Run the named faults in ``folder``."""
    undisturbed = Study(folder / "undisturbed")
    undisturbed.finish()
    expected = results_of(undisturbed.folder / "results" / "small")
    say(f"undisturbed run: {len(expected)} result files")
    for name in names:
        if name in NEED_ROOT and os.geteuid():
            say(f"{name}: skipped, only root can mount")
            continue
        if name == "kills":
            kills(Study(folder / name), expected, count, seed)
        else:
            FAULTS[name](undisturbed.copy(folder / name), expected)
    say("passed")


def main() -> None:
    """Run the drill."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ["kills", *FAULTS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="these faults; default: all")
    parser.add_argument("--kills", type=int, default=50, help="how often to kill; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the moments; default: %(default)s")
    parser.add_argument("--keep", type=Path, help="work here and leave everything behind")
    arguments = parser.parse_args()
    if arguments.keep is not None:
        drill(arguments.keep, arguments.only, arguments.kills, arguments.seed)
    else:
        with tempfile.TemporaryDirectory() as folder:
            drill(Path(folder), arguments.only, arguments.kills, arguments.seed)


if __name__ == "__main__":
    main()
