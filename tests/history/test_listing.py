"""A history as people see it: on a terminal, and as a page."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support.commands import Run as Command
from support.commands import assert_refused
from support.history_runs import RUN

from clip_eval.history.database import add
from clip_eval.history.listing import moved
from clip_eval.history.page import render_history
from clip_eval.history.runs import Measured
from clip_eval.history.trends import by_subject, trends_of
from clip_eval.report.trends import picture

HOSTILE = "<script>alert(1)</script>\x1b[31m[bold]x"
LATER = replace(
    RUN,
    verdict="fail",
    headline="fail: contract",
    measured={("score", "zero_shot_top1"): Measured(0.8), ("margin", "a.b[c]"): Measured(0.75)},
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A history of two models, one with a hostile name."""
    for run in (RUN, replace(RUN, model=HOSTILE, headline=HOSTILE), LATER):
        add(tmp_path / "runs.sqlite", run)
    return tmp_path / "runs.sqlite"


def test_runs_are_listed(run: Command, file: Path) -> None:
    """One row a run in 80 columns, the latest last, without what a terminal would act on."""
    ended = run("history", file)
    assert (ended.code, ended.err) == (0, "")
    rows = ended.out.splitlines()
    assert rows[0].split() == ["run", "started", "model", "verdict", "transformers", "margin", "time"]
    assert [row.split()[0] for row in rows if re.match(r" +\d", row)] == ["1", "2", "3"]
    assert all(len(row) <= 80 for row in rows)
    assert "\x1b" not in ended.out
    assert "0.75" in rows[-2] + rows[-1]
    last = run("history", file, "--last", "1", "--model", RUN.model)
    assert "1 earlier runs are left out" in last.out


def test_two_runs_are_compared(run: Command, file: Path) -> None:
    """Both headlines, then scores, ratios and margins that moved; what is missing in one is none."""
    ended = run("history", file, "--compare", "1", "3")
    assert (ended.code, ended.err) == (0, "")
    assert "run 3: 2026-11-28 18:13 fail: contract" in ended.out
    rows = [row.split() for row in ended.out.splitlines()[2:]]
    assert rows[1:] == [
        ["score", "zero_shot_top1", "0.9", "0.8"],
        ["ratio", "image_tower", "1.01", "none"],
        ["margin", "broken", "inf", "none"],
        ["margin", "a.b[c]", "0.5", "0.75"],
    ]
    assert run("history", file, "--compare", "1", "1").out.endswith("No number moved.\n")


def test_what_is_refused(run: Command, file: Path, tmp_path: Path) -> None:
    """A run, a model or a file that is not there is one paragraph with the nearest."""
    assert_refused(run("history", file, "--compare", "1", "9"), "no run 9", "runs 1 to 3")
    assert_refused(run("history", file, "--model", "shape-clip"), "no run of shape-clip", "nearest is shapes-clip")
    assert_refused(run("history", tmp_path / "run.sqlite"), "no such history", "runs.sqlite")
    (tmp_path / "empty").touch()
    assert run("history", tmp_path / "empty").out == "The history has no runs.\n"
    file.write_bytes(file.read_bytes()[:-5000])
    assert "is damaged" in run("history", file).err


def test_a_page(run: Command, file: Path, tmp_path: Path) -> None:
    """Each model has its trends and runs; names are text, nothing is fetched, and ids are unique."""
    page = tmp_path / "trends.html"
    assert run("history", file, "--html", page).out == f"wrote {page}\n"
    text = page.read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert not re.search(r'\b(src|href)="(?!#)', text)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert "0.8 after 0.9, from 0.8 to 0.9 in 2 runs" in text
    assert "No run is in it" in render_history([], called="none")


def test_models_are_apart() -> None:
    """Runs are grouped by model, dtype and kind of device, the group of the latest run first."""
    runs = [replace(RUN, number=1), replace(RUN, number=2, dtype="float16"), replace(LATER, number=3)]
    groups = by_subject(runs)
    assert [[run.number for run in members] for members in groups.values()] == [[1, 3], [2]]


def test_trends_are_of_the_latest_numbers() -> None:
    """Of margins one case of a check, the nearest to its bound; what is not finite, and older runs, are left out."""
    nearest = {("margin", f"a.b[{case}]"): Measured(value) for case, value in (("x", 0.2), ("y", 0.9), ("z", 0.5))}
    many = {("margin", f"c.d{number}"): Measured(number / 100) for number in range(10)}
    runs = [replace(RUN, number=1), replace(RUN, number=2, measured={**nearest, **many})]
    names = [(trend.kind, trend.name) for trend in trends_of(runs)]
    assert names[:2] == [("score", "zero_shot_top1"), ("margin", "a.b[y]")]
    assert ("margin", "a.b[x]") not in names
    assert ("ratio", "image_tower") in names
    assert len([name for kind, name in names if kind == "margin"]) == 5
    assert [trend.name for trend in trends_of([RUN]) if trend.kind == "margin"] == ["a.b[c]"], "infinity is not drawn"
    assert {point.run for trend in trends_of(runs, last=1) for point in trend.points} == {2}
    assert trends_of([]) == ()


def test_a_picture_says_what_it_shows() -> None:
    """The drawing has a name and its numbers as text for a screen reader."""
    runs = [replace(RUN, number=1), replace(LATER, number=2)]
    scores = [trend for trend in trends_of(runs) if trend.kind == "score"]
    drawn = ElementTree.fromstring(str(picture(scores)))
    assert drawn.get("role") == "img"
    texts = " ".join(node.text or "" for node in drawn.iter() if node.tag in ("title", "desc"))
    assert "Scores over the last runs zero_shot_top1: 0.8 after 0.9" in texts


def test_margins_that_moved_most_come_first() -> None:
    """Of two runs ten margins are told, and a number that one of them has not is no quotient."""
    before = replace(RUN, number=1, measured={("margin", f"c.d{number}"): Measured(0.1) for number in range(20)})
    after = replace(
        RUN, number=2, measured={("margin", f"c.d{number}"): Measured(0.1 * number) for number in range(1, 20)}
    )
    found = moved(before, after)
    assert len(found) == 10
    assert (found[0].name, found[0].factor) == ("c.d0", math.inf)
    assert found[1].name == "c.d19"
