"""Pictures mark each thing that they are of, name it as it is, and are there only where there is something to see."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support import sample_records as sample

from clip_eval.report import render_html
from clip_eval.report.pictures import Colour, Picture, canvas, svg
from clip_eval.report.pictures.answers import calibration_picture, confusions_picture
from clip_eval.report.pictures.intervals import Row, intervals_svg, score_rows, scores_picture, speeds_picture
from clip_eval.report.pictures.layers import layers_picture, towers_of
from clip_eval.report.pictures.margins import closest, margins_of, margins_picture
from clip_eval.report.samples import samples_of, similarity_of
from clip_eval.verdict.run_record import CheckResult, RunRecord

HOSTILE = [
    "<script>alert(1)</script>",
    "a \u202e right to left &amp;",
    "x" * 10_000,
    "$\\frac{1}{0}$ 漢字 \x00\x1b[31m",
    "]]>--",
]
BROKEN = "vision_model.encoder.layers.1.self_attn"


def tower_checks(*, broken: bool = False) -> tuple[CheckResult, ...]:
    """A comparison of both towers with the reference, the vision tower's wrong after its second layer if `broken`."""
    states = [sample.measurement(name=f"hidden_states[{number}]") for number in range(3)]
    last = [sample.measurement(name=name) for name in ("last_hidden_state", "pooler_output")]
    wrong = [*states[:2], sample.failed_measurement(name="hidden_states[2]")]
    vision = sample.check("reference_values.vision_tower", case="default", measurements=tuple(states + last))
    if broken:
        vision = dataclasses.replace(vision, outcome="failed", measurements=tuple(wrong), diverges_at=BROKEN)
    text = sample.check("reference_values.text_tower", case="padding-default", measurements=tuple(states + last))
    head = tuple(sample.measurement(name=name) for name in ("text_embeds", "image_embeds"))
    return (text, vision, sample.check("reference_values.embeddings_and_logits", case="none", measurements=head))


def marks(picture: Picture | None, colour: str) -> int:
    """How many marks of a colour a picture has."""
    assert picture is not None
    style = f"var(--{colour})"
    root = ElementTree.fromstring(str(picture.svg))
    groups = [node for node in root.iter("g") if f"fill: {style}" in (node.get("style") or "")]
    single = [node for node in root.iter("use") if f"fill: {style}" in (node.get("style") or "")]
    return len(single) + sum(len(node.findall("use")) for node in groups)


def texts(picture: Picture | str | None) -> str:
    """All text of a picture."""
    assert picture is not None
    drawn = picture.svg if isinstance(picture, Picture) else picture
    return "".join(ElementTree.fromstring(str(drawn)).itertext())


def test_every_check_with_a_bound_has_one_mark() -> None:
    """Passed, failed and deviating checks are marked each in its own way; exact ones are counted in the caption."""
    exact = sample.check("weights.values", measurements=(sample.measurement(error=0.0, bound=0.0, required=0.0),))
    checks = (
        *(sample.check("masks.hold", case=str(case)) for case in range(30)),
        sample.failed_check(),
        sample.check("towers.differ", outcome="deviation", deviation="nested-states-missing"),
        exact,
    )
    picture = margins_picture(sample.record(checks=checks))
    assert [marks(picture, colour) for colour in ("bar", "bad", "open")] == [30, 1, 1]
    assert picture is not None
    assert "1 of 32 lie beyond it" in picture.caption
    assert "Not drawn: 1 that compares exactly." in picture.caption


def test_zero_and_infinite_errors_are_drawn_at_the_edges() -> None:
    """Neither raises or is lost, though a logarithm has no place for them."""
    nothing = sample.check("a.nothing", measurements=(sample.measurement(error=0.0),))
    infinite = sample.failed_check(measurements=(sample.failed_measurement(error=float("inf"), required=None),))
    unknown = sample.failed_check(
        case="b", measurements=(sample.failed_measurement(error=float("nan"), required=None),)
    )
    picture = margins_picture(sample.record(checks=(nothing, infinite, unknown)))
    assert (marks(picture, "bar"), marks(picture, "bad")) == (1, 2)


@pytest.mark.parametrize("number", [5e-324, 1e308, -1e308, 0.0, float("inf"), float("nan")])
def test_no_number_is_too_small_or_too_large(number: float) -> None:
    """What an axis cannot hold is left out or drawn at its edge; nothing is raised."""
    wrong = sample.failed_measurement(name="hidden_states[0]", error=number, bound=abs(number), required=None)
    check = sample.check("reference_values.text_tower", outcome="failed", measurements=(wrong,))
    task = sample.task(score=number, interval_low=number, reference=number, details={"chance": number})
    timing = sample.timing(ratio=number, details={"pairs": [number], "margin": number, "share_of_products": number})
    render_html(sample.record(checks=(check,), tasks=(task,), throughput=(timing,)))


def test_the_nearest_margins_are_named_once() -> None:
    """Of cases of a check, and of the same number in several checks, one stands for all; failures do not count."""
    near, nearer = sample.measurement(error=9e-6), sample.measurement(error=1e-5)
    checks = (
        sample.check("a.one", case="1", measurements=(near,)),
        sample.check("a.one", case="2", measurements=(nearer,)),
        sample.check("b.same", measurements=(nearer,)),
        sample.check("c.other"),
        sample.failed_check(),
    )
    record = sample.record(checks=checks)
    assert [one.check.name for one in closest(record)] == ["a.one[2]", "c.other"]
    assert len(margins_of(checks)) == 5


def test_the_module_that_diverges_is_named_and_marked() -> None:
    """The layer is shaded, its state a cross, and the caption says the module's name."""
    good, bad = (sample.record(checks=tower_checks(broken=broken)) for broken in (False, True))
    assert [tower.module for tower in towers_of(bad)] == [None, BROKEN]
    picture = layers_picture(bad)
    assert picture is not None
    assert BROKEN in picture.caption
    assert BROKEN in texts(picture)
    assert (marks(layers_picture(good), "bad"), marks(picture, "bad")) == (0, 1)
    assert marks(layers_picture(good), "bar") == 12


def test_a_score_has_its_interval_and_its_baseline() -> None:
    """The row names score and baseline; a rank, which is no share, has an axis of its own."""
    rank = sample.task(name="median_rank", score=3.0, interval_low=2.0, interval_high=4.0, reference=None)
    picture = scores_picture(score_rows([sample.task(), rank, sample.task(name="lost", score=None)]))
    words = texts(picture)
    assert "zero_shot_top1" in words
    assert "0.9812 (0.9833)" in words
    assert "median_rank" in words
    assert "lost" not in words
    assert marks(picture, "bar") == 2


def test_every_pair_of_a_timing_is_a_dot() -> None:
    """The pairs, the allowed band and the time of the products are there where the record has them."""
    timing = sample.timing(
        details={"pairs": [1.0, 1.1, 0.9], "margin": 0.02, "share_of_products": 0.5}, outcome="failed"
    )
    picture = speeds_picture(dataclasses.replace(sample.passing_record(), throughput=(timing, sample.timing(name="b"))))
    assert (marks(picture, "soft"), marks(picture, "bad"), marks(picture, "bar")) == (3, 1, 1)
    assert picture is not None
    assert "the dotted line the time of the matrix products alone" in picture.caption


def test_nothing_to_see_is_no_picture() -> None:
    """A record without measurements, tasks or timings has no frame without a content."""
    record = sample.record(checks=(sample.check(measurements=()),), tasks=(), throughput=())
    assert margins_picture(record) is layers_picture(record) is speeds_picture(record) is None
    assert scores_picture(()) is confusions_picture({}) is calibration_picture({}) is None
    assert "<figure" not in render_html(record)
    assert "<svg" not in render_html(record)


@pytest.mark.parametrize("name", HOSTILE, ids=["markup", "right-to-left", "long", "mathematics", "comment"])
def test_hostile_names_stay_text(name: str) -> None:
    """A name of a chapter, module, task or timing is shown as it is, cut where it is long, and is never markup."""
    towers = (dataclasses.replace(one, diverges_at=f"vision_model.{name}") for one in tower_checks(broken=True))
    checks = (sample.failed_check(chapter=name), *towers)
    made = sample.record(
        checks=checks,
        tasks=(sample.task(name=name),),
        throughput=(sample.timing(name=name, details={"pairs": [name, None, True, float("nan")]}),),
    )
    drawn = [margins_picture(made), layers_picture(made), scores_picture(score_rows(made.tasks)), speeds_picture(made)]
    for picture in drawn:
        assert picture is not None
        assert "<script" not in picture.svg
        assert name[1:8] in texts(picture)
        assert len(picture.svg) < 10_000


def test_pictures_are_small_and_the_same_again() -> None:
    """The same record gives the same bytes, without metadata; a thousand marks take less than 60 kB."""
    checks = tuple(sample.check("masks.hold", case=str(case)) for case in range(1_000))
    record = sample.record(checks=(*checks, *tower_checks()))
    drawings: list[Callable[[RunRecord], Picture | None]] = [margins_picture, layers_picture]
    for draw in drawings:
        first, again = draw(record), draw(record)
        assert first == again
        assert first is not None
        assert len(first.svg) < 60_000
        assert not re.search(r"metadata|<style|<!--|url\(|xmlns|matplotlib", first.svg)


def test_colours_are_the_style_sheets() -> None:
    """Each colour of a picture is a variable, so that it follows the page into the dark and onto paper."""
    record = dataclasses.replace(sample.failing_record(), checks=(*tower_checks(broken=True), sample.failed_check()))
    for picture in (
        margins_picture(record),
        layers_picture(record),
        scores_picture(score_rows(record.tasks)),
        speeds_picture(record),
    ):
        assert picture is not None
        assert not re.search(r"(fill|stroke): #", picture.svg)


def test_two_pictures_share_a_page() -> None:
    """Their ids differ, and what a picture refers to is in it."""
    with canvas(100) as figure:
        figure.add_subplot().plot([1, 2], [3, 4], "o-", color=Colour.BAR)
        one, other = svg(figure, "One"), svg(figure, "Other", "said <b>")
    ids = [set(re.findall(r' id="([^"]*)"', drawn)) for drawn in (one, other)]
    assert not ids[0] & ids[1]
    assert set(re.findall(r'href="#([^"]*)"', one)) <= ids[0]
    assert "said &lt;b&gt;" in other


def test_a_users_matplotlibrc_changes_nothing() -> None:
    """The page's style holds whatever a user has set, and is gone afterwards."""
    import matplotlib

    rows = [Row(name="a", outcome="passed", value=0.5)]
    expected = intervals_svg(rows, "Scores")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert intervals_svg(rows, "Scores") == expected
        assert matplotlib.rcParams["font.size"] == 30


def test_no_window_is_asked_for(tmp_path: Path) -> None:
    """A backend that is none, a home that nobody may write to and a wrong matplotlibrc end no run and say nothing."""
    (tmp_path / "matplotlibrc").write_text("font.size: large one\n", encoding="utf-8")
    code = "from clip_eval.report.pictures import *\nwith canvas(50) as figure: print(svg(figure, 'one')[:4])"
    environment = {**os.environ, "MPLBACKEND": "nonsense", "HOME": "/proc/0", "XDG_CACHE_HOME": "/proc/0"}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "<svg\n", "")


CONFUSIONS = [{"class": "cat", "taken_for": "dog", "images": 4}, {"class": "cow", "taken_for": "ox", "images": 1}]
BINS = [{"confidence": 0.5, "hits": 0.25, "images": 4}, {"confidence": 0.9, "hits": 1.0, "images": 9}]


def test_confusions_that_moved_come_first() -> None:
    """Alone the most frequent come first; beside another checkpoint those whose number differs, and no others."""
    now = {"confusions": CONFUSIONS}
    other = {
        "confusions": [{"class": "cat", "taken_for": "dog", "images": 4}, {"class": "a", "taken_for": "b", "images": 2}]
    }
    alone, moved = confusions_picture(now), confusions_picture(now, other)
    assert texts(alone).index("cat → dog") < texts(alone).index("cow → ox")
    assert "a → b" in texts(moved)
    assert "cat → dog" not in texts(moved)
    assert texts(moved).index("a → b") < texts(moved).index("cow → ox")
    assert confusions_picture(now, now) is None


def test_calibration_has_a_dot_for_each_bin() -> None:
    """Those of another checkpoint are grey."""
    picture = calibration_picture({"calibration": BINS}, {"calibration": BINS[:1]})
    assert (marks(picture, "bar"), marks(picture, "soft")) == (2, 1)


@pytest.mark.parametrize(
    "wrong", ["text", [1, None], [{"images": "many"}], [{"confidence": "nan", "hits": 2, "images": 0}]]
)
def test_details_in_another_form_are_left_out(wrong: object) -> None:
    """A record may be anybody's: what is not in the form of a picture has none, and nothing is raised."""
    task = sample.task(details={"confusions": wrong, "calibration": wrong, "samples": wrong})
    assert calibration_picture(task.details) is None
    assert len(samples_of(sample.record(tasks=(task,)), task)) <= 1
    render_html(sample.record(tasks=(task,)))


PICTURE = "data:image/jpeg;base64,AAAA"


@pytest.mark.parametrize("name", HOSTILE, ids=["markup", "right-to-left", "long", "mathematics", "comment"])
def test_samples_are_shown_as_they_are(name: str) -> None:
    """Each has its picture, its texts and its values, in a fold that is open where the task failed, and an anchor."""
    shown = [{"sample": name, "texts": [f"label: {name}"], "values": [["top1", "0, 1"]]}]
    sections = [{"title": "worse than the baseline", "total": 12, "shown": shown}]
    tasks = (sample.task(outcome="failed", details={"samples": sections}),)
    made = dataclasses.replace(sample.record(tasks=tasks), images={f"sample/{name}": PICTURE})
    text = render_html(made)
    assert text.count(f'src="{PICTURE}"') == 1
    assert '<details class="fold" open>' in text
    assert '<li id="sample-' in text
    assert "<script>alert" not in text
    assert "1 of 12" in text
    assert "0, 1" in text


def test_similarities_are_beside_their_differences() -> None:
    """A row for each text, a picture for each image, each logit with its difference from the reference."""
    found = {
        "images": ["probe/1", "probe/2"],
        "texts": ["one", "two", "three"],
        "observed": [[1.0, 2.0, "nan"], [4.0, 5.0, 6.0]],
        "expected": [[1.5, 2.0, 3.0], [4.0, 5.0, 6.0]],
    }
    made = dataclasses.replace(sample.passing_record(), similarity=found, images={"probe/1": PICTURE})
    similarity = similarity_of(made)
    assert similarity is not None
    assert [text for text, _ in similarity.rows] == ["one", "two", "three"]
    assert [cell.difference for cell in similarity.rows[0][1]] == ["-0.5", "0"]
    assert similarity.rows[2][1][0].observed == "nan"
    text = render_html(made)
    assert f'<img src="{PICTURE}" alt="probe/1">' in text
    assert "probe/2" in text
    assert similarity_of(dataclasses.replace(made, similarity={**found, "observed": [[1.0]]})) is None
