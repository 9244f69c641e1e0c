"""A study as one file: what is in it, what is not, and what comes out of it again."""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
from finished_study import EXPERIMENT, FinishedStudy, change_json, finished_study, tiny_study
from tool_environments import environment, tool_python

from leod.config.load import load_study
from leod.errors import ConfigError, DataError, LeodError
from leod.files import read_json
from leod.models.checkpoint import read_detector_file
from leod.stages.compare import compare
from leod.stages.pack import pack
from leod.stages.unpack import unpack

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = "results/tiny"
MODEL = f"{RESULTS}/{EXPERIMENT}/round_1/model.ckpt"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_study(tmp_path_factory.mktemp("original"))


@pytest.fixture(scope="module")
def packed(results: Path) -> Path:
    """The study in a file, with its detectors."""
    output = results.parents[1] / "tiny.zip"
    pack(results, output, detectors=True, workflow=REPOSITORY)
    return output


@pytest.fixture
def copied(results: Path, tmp_path: Path) -> Path:
    shutil.copytree(results.parents[1], tmp_path / "copy")
    return tmp_path / "copy" / RESULTS


def status_of_comparison(a: Path, b: Path) -> int:
    with pytest.raises(SystemExit) as ended:
        compare(a, b)
    return ended.value.code


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(path: Path, output: Path, **changes: Any) -> Path:
    """A copy of a pack with changed members; None leaves one out."""
    content = members(path) | {name.replace("__", "/"): value for name, value in changes.items()}
    with zipfile.ZipFile(output, "w") as archive:
        for name, value in content.items():
            if value is not None:
                archive.writestr(name, value)
    return output


def test_what_was_unpacked_equals_the_folder_that_it_came_from(
    results: Path, packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unpack(packed, tmp_path / "elsewhere")
    assert status_of_comparison(results, packed) == 0
    assert status_of_comparison(tmp_path / "elsewhere", results) == 0
    assert "First difference" not in capsys.readouterr().out


@pytest.mark.parametrize("options", [{}, {"detectors": True}, {"frames": False}], ids=str)
def test_a_pack_compares_whatever_it_leaves_out(results: Path, tmp_path: Path, options: dict[str, bool]) -> None:
    pack(results, tmp_path / "tiny.zip", workflow=REPOSITORY, **options)
    names = set(members(tmp_path / "tiny.zip"))
    assert (MODEL in names) == options.get("detectors", False)
    assert not any(name.endswith((".h5", ".npz", ".npy")) for name in names)
    assert {f"{RESULTS}/{EXPERIMENT}/{name}" for name in ("labels.json", "round_1/quality.json")} < names
    assert {"study.json", "README.md", "ro-crate-metadata.json", f"{RESULTS}/report.html"} < names
    assert status_of_comparison(results, tmp_path / "tiny.zip") == 0


def test_a_changed_study_differs_from_its_pack(packed: Path, copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_json(copied / EXPERIMENT / "round_1/quality.json", "hidden_frames", value=2)
    assert status_of_comparison(packed, copied) == 4
    assert "validate_quality" in capsys.readouterr().out


def test_the_same_study_makes_the_same_bytes(results: Path, packed: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.zip"
    pack(results, again, detectors=True, workflow=REPOSITORY)
    assert again.read_bytes() == packed.read_bytes()


def test_the_configuration_runs_the_same_study_again(results: Path, packed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    unpack(packed, folder)
    assert load_study(folder / "study.json") == load_study(results / "study.json")
    same = FinishedStudy(tmp_path, read_json(folder / "study.json")).write()
    assert status_of_comparison(folder, same) == 0


def test_unpacking_says_what_to_do_next(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    unpack(packed, Path("theirs"))
    printed = capsys.readouterr().out
    assert "needs the recordings of the data set drives in `data/recordings/train`, `/val` and `/test`" in printed
    assert "snakemake --configfile 'theirs/study.json'" in printed
    assert f"leod compare 'theirs' {RESULTS}" in printed


def test_nothing_in_it_names_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All folders of the study are absolute, and the lock file names a private package index."""
    home = tmp_path / "home" / "jane.doe"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    study = tiny_study(
        dataset={"recordings": str(home / "recordings"), "sequences": str(home / "sequences")},
        results=str(home / "results"),
        hardware={"scratch": str(home / "scratch")},
    )
    study["pretrain"] = study["pretrain"] | {"from": str(home / "weights" / "rvt.ckpt")}
    results = FinishedStudy(tmp_path, study).write()
    lock = home / "requirements.lock"
    lock.write_text(
        "# made by: uv pip compile /srv/somewhere/pyproject.toml\n--index-url https://jane:secret@pypi.local/simple\n"
        f"numpy==2.0.0 --hash=sha256:0123\nleod @ file://{home}/leod\n"
    )
    monkeypatch.chdir(home)
    pack(results, home / "tiny.zip", detectors=True, lock=[lock], workflow=REPOSITORY)
    content = members(home / "tiny.zip")
    assert MODEL in content
    private = [str(tmp_path), "jane", "/srv", "somewhere", "pypi.local", "/home/", str(REPOSITORY)]
    private.append(f"/{getpass.getuser()}/")
    host = re.compile(rf"\b{re.escape(socket.gethostname())}\b".encode())
    for name, text in content.items():
        for word in private:
            assert word.encode() not in text, (name, word)
        assert name.endswith(".ckpt") or not host.search(text), name
    packed = json.loads(content["study.json"])
    assert packed["dataset"]["sequences"] == "data/drives/sequences"
    assert packed["pretrain"]["from"] == "weights/rvt.ckpt"
    assert packed["results"] == "results"
    assert b"numpy==2.0.0 --hash=sha256:0123\n" in content["locks/requirements.lock"]
    assert b"Sequences: data/drives/sequences</p><p>" in content[f"{RESULTS}/report.html"]
    # Other names for the same things make no difference.
    assert status_of_comparison(results, home / "tiny.zip") == 0


def test_sequences_from_elsewhere_are_checked_and_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    studies = []
    for place in ("mine", "theirs"):
        data = tmp_path / place / "sequences"
        study = tiny_study(dataset={"recordings": None, "sequences": str(data)})
        studies.append(FinishedStudy(tmp_path / place, study).write())
    pack(studies[0], tmp_path / "tiny.zip", workflow=REPOSITORY)
    for theirs in (tmp_path / "tiny.zip", studies[1]):
        assert status_of_comparison(studies[0], theirs) == 0
        assert "First difference" not in capsys.readouterr().out
    unpack(tmp_path / "tiny.zip", tmp_path / "unpacked")
    assert "needs the sequences of the data set drives in `data/drives/sequences/train`" in capsys.readouterr().out
    assert str(tmp_path).encode() not in members(tmp_path / "tiny.zip")[f"{RESULTS}/data/train-0.json"]


def test_the_metadata_hang_together(results: Path, tmp_path: Path) -> None:
    author = "Jane Doe <https://orcid.org/0000-0002-1825-0097>"
    pack(results, tmp_path / "tiny.zip", author=[author], license="CC-BY-4.0", workflow=REPOSITORY)
    content = members(tmp_path / "tiny.zip")
    graph = {entity["@id"]: entity for entity in json.loads(content["ro-crate-metadata.json"])["@graph"]}
    root = graph["./"]
    assert graph[root["license"]["@id"]]["name"] == "CC-BY-4.0"
    assert graph[root["author"]["@id"]]["name"] == "Jane Doe"
    assert [graph[entry["@id"]]["name"] for entry in root["citation"]] == [
        "LEOD: Label-Efficient Object Detection for Event Cameras",
        "Recurrent Vision Transformers for Object Detection with Event Cameras",
    ]
    assert "AP rose by 5 points." in root["description"]
    assert {entry["@id"] for entry in root["hasPart"]} == set(content) - {"ro-crate-metadata.json"}

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["@id"]] if set(value) == {"@id"} else []
            return own + [found for entry in value.values() for found in references(entry)]
        return [found for entry in value for found in references(entry)] if isinstance(value, list) else []

    outside = {found for entity in graph.values() for found in references(entity) if found not in graph}
    assert all(found.startswith(("http://", "https://")) for found in outside), outside
    actions = [entity for entity in graph.values() if entity["@type"] == "CreateAction"]
    assert len(actions) == 1 + 12
    training = graph[f"#run/self_train/{EXPERIMENT}/round_1"]
    assert training["instrument"] == {"@id": "#leod-self_train"}
    assert {"@id": f"{RESULTS}/{EXPERIMENT}/round_1/training.json"} in training["result"]
    assert {"@id": "#seed-0"} in training["object"]
    # The detector is not in this pack, but its digest is.
    assert graph[f"#{MODEL}"]["identifier"].startswith("sha256 of the content: ")
    assert {"@id": f"#{MODEL}"} in training["result"]


def test_without_a_licence_the_metadata_say_so(packed: Path) -> None:
    graph = json.loads(members(packed)["ro-crate-metadata.json"])["@graph"]
    root = next(entity for entity in graph if entity["@id"] == "./")
    assert root["license"] == {"@id": "#no-licence"}
    assert "author" not in root


@pytest.mark.slow
def test_the_validator_of_ro_crates_finds_nothing_wrong(packed: Path, tmp_path: Path) -> None:
    python = tool_python("ro-crate", "roc-validator>=0.13,<0.14", "rocrate==0.14.0")
    unpack(packed, tmp_path / "crate")
    script = Path(__file__).with_name("validate_crate.py")
    command = [str(python), str(script), str(tmp_path / "crate"), "REQUIRED"]
    found = subprocess.run(command, check=True, env=environment(), timeout=900, capture_output=True, text=True)
    report = json.loads(found.stdout)
    assert report["checks"] > 80
    assert report["issues"] == []
    assert report["passed"]


# ------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "missing", [f"{EXPERIMENT}/round_1/model.ckpt", f"{EXPERIMENT}/labels.json", "summary.csv", "report.html"]
)
def test_an_unfinished_study_is_not_packed(copied: Path, tmp_path: Path, missing: str) -> None:
    (copied / missing).unlink()
    with pytest.raises(DataError, match=r"does not exist\. The study is not finished: run it to its end"):
        pack(copied, tmp_path / "out" / "tiny.zip", workflow=REPOSITORY)
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_results_of_another_configuration_are_not_packed(copied: Path, tmp_path: Path) -> None:
    change_json(copied / "study.json", "track_filter", "min_track_length", value=4)
    with pytest.raises(DataError, match=r"made with track_filter\.min_track_length = 6, but .* says 4"):
        pack(copied, tmp_path / "tiny.zip", workflow=REPOSITORY)
    change_json(copied / "study.json", "seeds", value=[0, 1])
    with pytest.raises(DataError, match="lists other detectors"):
        pack(copied, tmp_path / "tiny.zip", workflow=REPOSITORY)
    assert not (tmp_path / "tiny.zip").exists()


def test_what_else_can_be_wrong_with_a_command(copied: Path, tmp_path: Path) -> None:
    for error, words, options in (
        (ConfigError, "ends in .zip", {"output": tmp_path / "tiny.tar"}),
        (ConfigError, 'expected "Name"', {"author": ["<jane>"]}),
        (DataError, "Run leod pack in the clone", {"workflow": tmp_path}),
        (DataError, "does not exist", {"lock": [tmp_path / "none.lock"]}),
        (DataError, "no such folder", {"results": tmp_path / "none"}),
        (DataError, r"holds no plan\.json", {"results": tmp_path}),
    ):
        given = {"results": copied, "output": tmp_path / "tiny.zip", "workflow": REPOSITORY} | options
        with pytest.raises(error, match=words):
            pack(**given)
    study = copied / "study.json"
    study.rename(tmp_path / "study.json")
    with pytest.raises(DataError, match="--study FILE"):
        pack(copied, tmp_path / "tiny.zip", workflow=REPOSITORY)
    assert not (tmp_path / "tiny.zip").exists()


def truncated(packed: Path, output: Path) -> Path:
    output.write_bytes(packed.read_bytes()[:-2000])
    return output


def flipped(packed: Path, output: Path) -> Path:
    content = bytearray(packed.read_bytes())
    with zipfile.ZipFile(packed) as archive:
        content[archive.getinfo(MODEL).header_offset + 5000] ^= 1
    output.write_bytes(content)
    return output


def foreign(_: Path, output: Path) -> Path:
    with zipfile.ZipFile(output, "w") as archive:
        archive.writestr("holiday.txt", "sun")
    return output


def linked(packed: Path, output: Path) -> Path:
    rewrite(packed, output)
    with zipfile.ZipFile(output, "a") as archive:
        member = zipfile.ZipInfo("passwords")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    return output


def twice(packed: Path, output: Path) -> Path:
    rewrite(packed, output)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(output, "a") as archive:
        archive.writestr("study.json", "{}")
    return output


DAMAGES = {
    "truncated": (truncated, "only a part of one"),
    "a flipped bit": (flipped, "damaged"),
    "no archive": (lambda _, output: output.write_text("hello") and output, "is no ZIP file"),
    "another archive": (foreign, r"holds no contents\.json: it is no pack of leod, or"),
    "a link": (linked, "holds 'passwords', which is no plain file"),
    "a name twice": (twice, "holds 'study.json' twice"),
    "a name that leads out": (lambda p, o: rewrite(p, o, **{"..__evil.py": "x"}), "no plain file inside the pack"),
    "an absolute name": (lambda p, o: rewrite(p, o, **{"__evil.py": "x"}), "no plain file inside the pack"),
    "a backslash": (lambda p, o: rewrite(p, o, **{"..\\evil.py": "x"}), "no plain file inside the pack"),
    "an altered file": (lambda p, o: rewrite(p, o, **{"README.md": "x"}), r"README\.md is not as it was packed"),
    "a further file": (lambda p, o: rewrite(p, o, **{"extra.txt": "x"}), r"extra\.txt was added"),
    "a file less": (lambda p, o: rewrite(p, o, **{"README.md": None}), r"README\.md is missing"),
    "a newer format": (lambda p, o: rewrite(p, o, **{"contents.json": '{"format": "leod-pack-9"}'}), "newer version"),
    "damaged digests": (
        lambda p, o: rewrite(p, o, **{"contents.json": '{"format": "leod-pack-1", "files": 3}'}),
        r"contents\.json is damaged",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_wrong_with_a_pack_is_said_and_nothing_is_written(packed: Path, tmp_path: Path, damage: str) -> None:
    make, words = DAMAGES[damage]
    broken = make(packed, tmp_path / "broken.zip")
    target = tmp_path / "target" / "folder"
    with pytest.raises(DataError, match=words):
        unpack(broken, target)
    assert not target.exists()
    assert not any((tmp_path / "target").glob("*"))
    assert not (tmp_path / "evil.py").exists()
    with pytest.raises(LeodError):
        compare(packed, broken)


def test_an_unpacked_file_that_was_altered_is_named(packed: Path, tmp_path: Path) -> None:
    unpack(packed, tmp_path / "theirs")
    (tmp_path / "theirs" / RESULTS / "summary.md").write_text("It helped.")
    with pytest.raises(DataError, match=r"summary\.md: is not as it was packed"):
        compare(tmp_path / "theirs", packed)


def test_a_folder_that_holds_something_is_left_alone(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="exists and is not empty"):
        unpack(packed, tmp_path)
    assert os.listdir(tmp_path) == ["mine.txt"]


def test_detectors_in_a_pack_are_the_same_detectors(results: Path, packed: Path, tmp_path: Path) -> None:
    unpack(packed, tmp_path / "theirs")
    mine = read_detector_file(results / EXPERIMENT / "round_1/model.ckpt")
    theirs = read_detector_file(tmp_path / "theirs" / MODEL)
    assert mine.model == theirs.model
    assert all((mine.state_dict[name] == tensor).all() for name, tensor in theirs.state_dict.items())
