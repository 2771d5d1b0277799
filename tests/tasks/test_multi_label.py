"""Mean average precision on embeddings made by hand, against scikit-learn and counting."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score
from support.embedded import embedded, sample

from clip_eval.dataset import MultiLabel
from clip_eval.embedding.embedded import Embedded
from clip_eval.errors import DatasetError
from clip_eval.tasks.judgement import judge
from clip_eval.tasks.multi_label import TASK, precision_by_chance
from clip_eval.tasks.task import score_task

TAGS = ("red", "round", "large", "old")
TEXTS = {"red": [1, 0, 0], "round": [0, 1, 0], "large": [0, 0, 1], "old": [0, 0, -1]}  # of length 1, without rounding


@st.composite
def cases(draw: st.DrawFn) -> Embedded:
    """One image or more with tags, of which some may be nobody's; whole numbers, so that ties are exact; some NaN."""
    row = st.lists(st.integers(-2, 2), min_size=3, max_size=3)
    shown = draw(st.lists(st.lists(st.sampled_from(TAGS), unique=True), min_size=1, max_size=12))
    shown[draw(st.integers(0, len(shown) - 1))] = [draw(st.sampled_from(TAGS))]
    images = [draw(st.one_of(row, row, row, st.just([np.nan] * 3))) for _ in shown]
    known = [sample(str(place), tags=own) for place, own in enumerate(shown)]
    return embedded(known, np.array(images, dtype=np.float64), TEXTS, multi_label=MultiLabel(TAGS, ("{}",)))


def by_scikit_learn(case: Embedded, rows: list[int]) -> float:
    """Return the mean over the tags that these images show; a broken image lies behind all others."""
    images = case.images[rows]  # (rows, projection)
    cosines = np.nan_to_num(images @ case.texts(TAGS).T, nan=-1e9)  # (rows, tags)
    shows = np.array([[tag in case.samples[row].tags for tag in TAGS] for row in rows])  # (rows, tags)
    kept = shows.any(axis=0)
    if not kept.any():
        return 0.0
    return float(np.mean([average_precision_score(shows[:, tag], cosines[:, tag]) for tag in np.flatnonzero(kept)]))


@settings(derandomize=True, deadline=None, max_examples=200)
@given(case=cases(), data=st.data())
def test_scores_are_those_of_scikit_learn(case: Embedded, data: st.DataObject) -> None:
    """Of all images, and of images that are drawn with repetition, with all values of each."""
    count = len(case.samples)
    score = score_task(TASK, case).primary
    assert score.value == pytest.approx(by_scikit_learn(case, list(range(count))))
    drawn = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=count))
    rows = (np.array(drawn)[:, None] * len(TAGS) + np.arange(len(TAGS))).ravel()  # (drawn * tags,)
    assert score.aggregate(score.filled, rows) == pytest.approx(by_scikit_learn(case, drawn))


def three(images: list[list[float]], *tags: list[str]) -> Embedded:
    """Return images of these tags."""
    known = [sample(str(place), tags=own) for place, own in enumerate(tags)]
    return embedded(known, np.array(images, dtype=np.float64), TEXTS, multi_label=MultiLabel(TAGS, ("{}",)))


def test_tags_without_images_are_named() -> None:
    """They have no average precision and are left out of the mean; the worst tags are told."""
    found = TASK.score(three([[2, 1, 0], [1, 2, 0], [2, 2, 1]], ["red"], ["round", "red"], []))
    assert (found.details["tags_without_images"], found.details["without_images"]) == (2, ("large", "old"))
    # red: the images lie at 2, 1, 2, and the first two show it; round: at 1, 2, 2, and the second shows it
    assert found.details["worst_tags"] == (
        {"tag": "round", "average_precision": 0.5, "images": 1},
        {"tag": "red", "average_precision": pytest.approx(0.5 * 0.5 + 0.5 * 2 / 3), "images": 2},
    )
    assert len(found.samples) == 12


def test_a_model_that_maps_all_onto_one_point_fails() -> None:
    """Every image ties with every other, and a tag's precision is its share of images."""
    shown = [["red"] if place % 4 == 0 else [] for place in range(80)]
    found = score_task(TASK, three([[0.1, 0.7, 0.3]] * 80, *shown))
    assert found.primary.value == 0.25
    assert judge(found)[0].outcome == "failed"


def test_a_broken_image_costs_its_own_values() -> None:
    """It comes last for every tag, and is counted; a broken text costs all values."""
    case = three([[2, 0, 0], [np.nan, 0, 0], [-1, 0, 0]], ["red"], ["red"], [])
    found = score_task(TASK, case)
    assert (found.not_finite, found.primary.value) == (4, pytest.approx(0.5 * 1 + 0.5 * 2 / 3))
    broken = {**TEXTS, "old": [np.nan, 0, 0]}
    lost = score_task(
        TASK, replace(case, texts=lambda wanted: np.array([broken[text] for text in wanted], dtype=float))
    )
    assert lost.not_finite == 12


def test_nothing_to_score_is_said() -> None:
    """No table, no tag, and no readable image with one."""
    whole = three([[1, 0, 0]], ["red"])
    assert TASK.lacks(whole.dataset) is None
    assert TASK.lacks(three([[1, 0, 0]], []).dataset) == "no sample of the dataset has one of the tags"
    assert TASK.lacks(embedded([sample("a")], np.ones((1, 3)), {}).dataset) == "the dataset sets no multi-label task"
    with pytest.raises(DatasetError, match="not one image that can be read has a tag"):
        score_task(TASK, replace(whole, samples=(sample("b"),)))


@pytest.mark.parametrize(("images", "showing"), [(1, 1), (2, 1), (5, 2), (6, 6), (6, 1)])
def test_chance_is_the_mean_over_all_orders(images: int, showing: int) -> None:
    """The formula is what counting every order gives."""
    shows = np.arange(images) < showing
    found = [average_precision_score(shows, order) for order in permutations(range(images))]
    assert precision_by_chance(images, showing) == pytest.approx(np.mean(found))
