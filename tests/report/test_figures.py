"""Figures of the report, and the page that holds them."""

import dataclasses
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from made_up_study import ARMS, made_up_results

from leod.report.captioned import report_figures
from leod.report.content import report_page
from leod.report.figures import COLOURS, average_precision, themed, to_svg
from leod.report.schematic import study_schematic
from leod.study.jobs import FIGURES

EVERYTHING = set(FIGURES)


@pytest.fixture(scope="module")
def results():
    return made_up_results(chosen=True, arms=True)


@pytest.fixture(scope="module")
def drawn(results):
    return report_figures(results)


def words(svg):
    return " ".join(ElementTree.fromstring(svg).itertext())


def test_every_figure_is_drawn(drawn):
    assert set(drawn) == EVERYTHING
    assert "AP50 in %" in words(drawn["average_precision"].svg)
    assert "pedestrian, after tracking" in words(drawn["pseudo_label_quality"].svg)
    assert "wanted precision" in words(drawn["thresholds"].svg)
    assert "inpainted" in words(drawn["tracking"].svg)
    assert "control" in words(drawn["average_precision"].svg)
    assert all(name in words(drawn["arms"].svg) for name in ("control", *ARMS))


def test_figures_are_the_same_in_every_run(results, drawn):
    again = to_svg(average_precision(results.main_evaluations), "average_precision")
    assert again == drawn["average_precision"].svg


@pytest.mark.parametrize("name", sorted(EVERYTHING))
def test_every_colour_follows_the_theme(drawn, name):
    used = set(re.findall(r"#[0-9a-f]{6}\b", drawn[name].svg))
    assert used <= {*COLOURS.values(), "#ffffff"}
    element = themed(drawn[name].svg, 'what "it" shows')
    assert not re.search(r"(fill|stroke): ?#", element)
    assert "var(--ink)" in element
    assert "DejaVu" not in element
    assert ElementTree.fromstring(element).attrib["aria-label"] == 'what "it" shows'


def test_identifiers_differ_between_figures(drawn):
    defined = [re.findall(r'<clipPath id="([^"]+)"', entry.svg) for entry in drawn.values()]
    everything = [name for names in defined for name in names]
    assert len(set(everything)) == len(everything) > 0


def test_study_of_several_budgets_and_seeds():
    drawn = report_figures(made_up_results(budgets=(0.01, 0.05), seeds=(0, 1), rounds=1))
    assert set(drawn) == EVERYTHING - {"thresholds", "arms"}
    text = words(drawn["precision_recall"].svg)
    assert "weakly supervised, 1 %" in text
    assert "weakly supervised, 5 %" in text


def test_arms_appear_only_where_they_are_compared():
    drawn = {
        name: report_figures(made_up_results(seeds=(0, 1, 2), arms=arms))
        for name, arms in (("with", True), ("without", False))
    }
    for name in set(drawn["without"]) - {"average_precision", "precision_recall", "training", "box_sizes"}:
        assert words(drawn["with"][name].svg) == words(drawn["without"][name].svg)
    for name in drawn["without"]:
        assert "no_tracks" not in words(drawn["with"][name].svg)
    assert "95 % interval of the mean" in words(drawn["with"]["arms"].svg)


def test_the_schematic_shows_the_ceiling_only_if_there_is_one():
    results = made_up_results()
    page = report_page(results, report_figures(results))
    assert "also on all labels:" in page
    without = dataclasses.replace(results, settings=results.settings.model_copy(update={"references": ("control",)}))
    assert "also on all labels:" not in report_page(without, report_figures(without))


def test_study_without_self_training():
    results = made_up_results(rounds=0)
    drawn = report_figures(results)
    assert set(drawn) == {"average_precision", "precision_recall", "training", "box_sizes"}
    page = report_page(results, drawn)
    assert "There is no self-training round to judge." in page
    assert "Pseudo-labels</h2>" not in page


def test_without_hidden_ground_truth_the_page_says_so():
    results = made_up_results(hidden=False)
    page = report_page(results, report_figures(results))
    assert "No labelled frame was hidden from training" in page


class Collector(HTMLParser):
    """What a page refers to, and whether its elements are closed in turn."""

    def __init__(self, page):
        super().__init__()
        self.links, self.anchors, self.headings, self.stack = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("src", "srcset", "href", "xlink:href"):
                self.links.append(value)
            if name == "id":
                self.anchors.append(value)
        if tag not in ("meta", "link", "img", "source"):
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in ("meta", "link", "img", "source"):
            self.stack.pop()

    def handle_data(self, data):
        if self.stack and self.stack[-1] == "h2":
            self.headings.append(data)


def test_page_stands_alone(results, drawn):
    page = report_page(results, drawn)
    found = Collector(page)
    assert found.stack == []
    assert [link for link in found.links if not link.startswith(("data:", "#"))] == []
    assert {link[1:] for link in found.links if link.startswith("#")} <= set(found.anchors)
    assert "<script" not in page
    assert "@import" not in page
    assert "url(http" not in page
    assert found.headings == [
        "Did self-training help?",
        "The study",
        "Precision and recall",
        "Pseudo-labels",
        "Score thresholds",
        "Labels",
        "Training",
        "Sample frames",
        "Provenance",
    ]


def test_page_tells_what_a_reader_asks(results, drawn):
    page = report_page(results, drawn)
    assert "Self-training helped: from equally long supervised training (the control) to round 2" in page
    assert "AP of the control, supervised for as long as all rounds" in page
    assert "<dt>Arm no_tracks</dt><dd>{track_filter: {enabled: false}}</dd>" in page
    assert "no_tracks, round 2" in page
    assert "chosen on the validation split for a precision of car 0.75, pedestrian 0.99" in page
    assert "0.523 *" in page  # no threshold reaches the wanted precision
    assert "taught as background" in page
    assert "12.5" in page  # per cent of the hidden objects, in round 1
    assert "0123456789abcdef" in page
    assert page.count('prefers-color-scheme: dark)" srcset') == 3
    assert "a &lt;sequence&gt;" in page


def test_both_thresholds_are_shown():
    results = made_up_results(rounds=2, chosen=True, weak=True)
    drawn = report_figures(results)
    assert "weak above" in drawn["thresholds"].svg
    page = report_page(results, drawn)
    assert "0.125" in page
    assert "weak boxes such that at most 10 % of the objects have none" in page
    assert "round 1: no threshold was found that leaves at most 10 % of the objects without a box" in page
    assert "round 2: no threshold was found" not in page


@pytest.mark.parametrize(("rounds", "lanes"), [(0, 2), (2, 4), (9, 5)])
def test_schematic_shows_each_round(rounds, lanes):
    svg = study_schematic(rounds, simulated=True, chooses_thresholds=True, has_reference=True)
    drawing = ElementTree.fromstring(svg)
    assert sum(element.get("class") == "lane" for element in drawing.iter()) == lanes
    text = " ".join(drawing.itertext())
    assert ("self-train" in text) == (rounds > 0)
    assert f"round {rounds}" in text
