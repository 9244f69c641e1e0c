"""The report of a study, from its files."""

import json
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
import torch
from made_up_study import CLASSES, made_up_results, made_up_settings
from pseudo_label_study import model_config, sequence_config, track_filter_settings, write_data_set, write_shards

from leod.errors import DataError
from leod.files import read_json, write_json
from leod.models.checkpoint import save_detector
from leod.models.detector import build_detector
from leod.report.captioned import report_figures
from leod.report.content import report_page
from leod.sequences.plausibility import BoxFacts, RecordingFacts
from leod.stages.report import report
from leod.stages.track_filter import track_filter
from leod.study.jobs import FIGURES
from leod.study.plan import DetectorFiles, read_plan

EXPERIMENT = "weakly_supervised-0.05-seed0"


def plausibility_of(name):
    """What preprocessing would have counted: frozen boxes, and a file that belongs to nothing."""
    boxes = BoxFacts(moments=20, first_us=100_000, last_us=900_000, boxes=20, comparable=19, frozen=19)
    boxes.classes = {class_name: {"boxes": 10, "wider": 0, "higher": 9} for class_name in CLASSES}
    facts = RecordingFacts(
        frames=20,
        labelled_frames=4,
        boxes=6,
        empty_frames=1,
        empty_labelled_frames=0,
        events=123_456,
        first_event_us=7,
        last_event_us=1_000_000,
        complete=True,
        pixels=6144,
        fingerprint="f",
        box_file=boxes,
    )
    overlooked = {"kind": "files overlooked", "text": "1 file(s): notes.txt", "recordings": []}
    return {"facts": {name: facts.to_json()}, "findings": [overlooked]}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Files of a study of two rounds on the small data set; its figures are made up."""
    root = tmp_path_factory.mktemp("study")
    sequences, labels = write_data_set(root)
    torch.manual_seed(0)
    save_detector(root / "model.ckpt", build_detector(model_config(), sequence_config()))
    write_shards(root / "predictions")
    dataset, manifest = root / "dataset", root / "dataset.json"
    shards = sorted((root / "predictions").glob("*.h5"))
    track_filter(shards, sequences, labels, dataset, manifest, track_filter_settings())

    results = made_up_results()
    runs = []
    for run in results.runs:
        folder = root / run.cell.experiment / f"round_{run.round}"
        folder.mkdir(parents=True)
        run.curves.to_csv(folder / "training.csv", index=False)
        for name in ("record", "metrics", "quality"):
            write_json(folder / f"{name}.json", getattr(run, name))
        files = {"labels": labels, "model": root / "model.ckpt", "curves": folder / "training.csv"}
        files |= {"record": folder / "record.json", "metrics": {"plain": folder / "metrics.json"}}
        if run.round:
            files |= {"quality": folder / "quality.json", "dataset": dataset, "manifest": manifest}
        runs.append(DetectorFiles(**run.cell.model_dump(), **files).model_dump(mode="json"))
    sequence_list = [{"name": "a", "frames": 20, "labelled_frames": 4, "boxes": 6}]
    write_json(root / "train-0.json", {"sequences": sequence_list} | plausibility_of("a"))
    benchmark = pd.DataFrame({"s": [61.5], "max_rss": [2048.0]})
    benchmark.to_csv(root / "pretrain.tsv", sep="\t", index=False)
    plan = {
        "split": "test",
        "detectors": runs,
        "manifests": {"train": [str(root / "train-0.json")]},
        "benchmarks": [{"stage": stage, "path": str(root / f"{stage}.tsv")} for stage in ("pretrain", "evaluate")],
    }
    write_json(root / "plan.json", plan)
    results.evaluations.to_csv(root / "summary.csv", index=False)
    return root


def settings_of(root, **changes):
    settings = made_up_settings("rounds=2")
    sequence = {name: getattr(sequence_config(), name) for name in ("sensor", "classes")}
    dataset = settings.dataset.model_copy(update=sequence | {"sequences": root / "sequences"})
    shown = settings.report.model_copy(update={"sample_frames": 1, "confidence_threshold": 0.0} | changes)
    return settings.model_copy(update={"dataset": dataset, "model": model_config(), "report": shown})


def make(root, output, **changes):
    report(
        read_plan(root / "plan.json"),
        root / "summary.csv",
        output,
        output.parent / "figures",
        settings_of(root, **changes),
    )
    return output.read_text()


@pytest.fixture(scope="module")
def page(finished, tmp_path_factory):
    return make(finished, tmp_path_factory.mktemp("out") / "report.html")


def test_page_and_figures_are_written(finished, tmp_path, page):
    assert "Self-training helped" in page
    again = make(finished, tmp_path / "report.html", sample_sequences=0)
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert names == {f"{name}.svg" for name in FIGURES if name not in ("thresholds", "arms")}
    assert "Sample frames" in page
    assert "Sample frames" not in again


def test_sample_frames_of_every_round(page):
    # One test sequence, and of the train split the sequences with hidden ground truth, one frame of each.
    # The untrained detector finds boxes everywhere: a picture shows the strongest ones.
    assert len(re.findall(r"<figcaption>round 0 \(supervised\): the 40 strongest of \d+ boxes</figcaption>", page)) == 1
    assert len(re.findall(r"<figcaption>round 2: the 40 strongest", page)) == 1
    assert page.count("<figcaption>pseudo-labels of round 1</figcaption>") == 2
    assert len(re.findall(r'srcset="data:image/png;base64', page)) == 3 + 2 * 2


def test_numbers_come_from_the_files(page):
    assert "1.0 min" in page or "61.5 s" in page  # the benchmark that exists
    assert "2.0 GB" in page
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", page)
    row = cells.index("train")
    assert cells[row + 1 : row + 5] == ["1", "20", "4", "6"]
    assert all(f"{name}: pseudo-labels" in page for name in CLASSES)


def test_counts_of_preprocessing_and_what_is_unlikely_about_them(page):
    assert "Warning: train: frozen boxes: a: 19 of 19 boxes equal a box of the label moment before" in page
    assert "Warning: train: files overlooked: 1 file(s): notes.txt" in page
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", page)
    shown = {"events": "123456", "frozen since the moment before": "19", "boxes in the box files": "20"}
    for title, value in shown.items():
        assert cells[cells.index(title) + 1] == value


def test_missing_result_is_named(finished, tmp_path):
    plan = read_json(finished / "plan.json")
    plan["detectors"][1]["quality"] = str(tmp_path / "gone.json")
    write_json(tmp_path / "plan.json", plan)
    with pytest.raises(DataError, match=r"gone.json: the file does not exist"):
        report(
            read_plan(tmp_path / "plan.json"),
            finished / "summary.csv",
            tmp_path / "r.html",
            tmp_path,
            settings_of(finished),
        )
    assert not (tmp_path / "r.html").exists()


def test_result_of_another_kind_is_named(finished, tmp_path):
    plan = read_json(finished / "plan.json")
    plan["detectors"][1]["manifest"] = plan["detectors"][1]["record"]
    write_json(tmp_path / "plan.json", plan)
    with pytest.raises(DataError, match="lacks totals"):
        report(
            read_plan(tmp_path / "plan.json"),
            finished / "summary.csv",
            tmp_path / "r.html",
            tmp_path,
            settings_of(finished),
        )


def test_wrong_plan_is_refused(tmp_path):
    (tmp_path / "plan.json").write_text(json.dumps({"split": "test", "detectors": [{"experiment": "x"}]}))
    with pytest.raises(DataError, match=r"is not the plan of a study \(detectors\.0\.setting: Field required\)"):
        read_plan(tmp_path / "plan.json")


CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
BROWSER = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_shows_it_in_both_themes(tmp_path):
    from PIL import Image

    results = made_up_results(budgets=(0.01, 0.05), seeds=(0, 1), chosen=True)
    page = tmp_path / "report.html"
    # The probe tells from inside whether figures have a size and pictures were decoded.
    probe = (
        "<script>addEventListener('load', () => { const sized = [...document.querySelectorAll('svg.plot, img')]"
        ".map(e => e.getBoundingClientRect()).filter(r => r.width > 50 && r.height > 50).length;"
        "console.log('sized', sized, 'wide', document.documentElement.scrollWidth <= innerWidth,"
        "'broken', [...document.images].filter(i => !i.naturalWidth).length)})</script>"
    )
    text = report_page(results, report_figures(results))
    page.write_text(text.replace("</head>", f"{probe}</head>"))
    expected = text.count('class="plot"') + text.count("<img")
    brightness = []
    for theme in ("light", "dark"):
        picture = tmp_path / f"{theme}.png"
        options = ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if theme == "dark" else []
        profile = f"--user-data-dir={tmp_path / theme}"
        command = [CHROMIUM, *BROWSER, *options, profile, "--window-size=1250,3000", f"--screenshot={picture}"]
        run = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=300, check=True)
        console = [line for line in run.stderr.splitlines() if "CONSOLE" in line]
        assert len(console) == 1, console  # nothing but the probe
        assert f"sized {expected} wide true broken 0" in console[0]
        image = Image.open(picture).convert("L")
        brightness.append(np.asarray(image).mean())
    assert brightness[0] > 200
    assert brightness[1] < 60
