"""The right caption among wrong ones, on embeddings made by hand, against counting one by one."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.embedded import embedded, sample

from clip_eval.embedding.embedded import Embedded
from clip_eval.errors import DatasetError
from clip_eval.tasks.caption_choice import TASK
from clip_eval.tasks.judgement import judge
from clip_eval.tasks.task import score_task

TEXTS = "abcdefgh"


@st.composite
def cases(draw: st.DrawFn) -> Embedded:
    """Images with captions and wrong ones, or without; embeddings of small whole numbers; some images NaN."""
    row = st.lists(st.integers(-2, 2), min_size=3, max_size=3)
    some = st.lists(st.sampled_from(TEXTS[:4]), max_size=2), st.lists(st.sampled_from(TEXTS[4:]), max_size=3)
    both = draw(st.lists(st.tuples(*some), min_size=1, max_size=12))
    both[draw(st.integers(0, len(both) - 1))] = (["a"], [draw(st.sampled_from(TEXTS[4:]))])
    known = [sample(str(place), captions=own, negatives=wrong) for place, (own, wrong) in enumerate(both)]
    images = [draw(st.one_of(row, row, row, st.just([np.nan] * 3))) for _ in known]
    return embedded(known, np.array(images, dtype=np.float64), {text: draw(row) for text in TEXTS})


@settings(derandomize=True, deadline=None, max_examples=200)
@given(case=cases())
def test_hits_are_those_of_counting(case: Embedded) -> None:
    """An image hits where one of its captions is nearer than every wrong one, and guessing hits by their number."""
    found = TASK.score(case)
    expected: dict[str, float] = {}
    chances = []
    for item, image in zip(case.samples, case.images, strict=True):
        if item.captions and item.negatives:
            own, wrong = (
                [float(image @ case.texts([text])[0]) for text in side] for side in (item.captions, item.negatives)
            )
            expected[item.id] = math.nan if math.isnan(own[0]) else float(max(own) > max(wrong))
            chances.append(len(set(item.captions)) / len({*item.captions, *item.negatives}))
    assert found.samples == tuple(expected)
    np.testing.assert_array_equal(found.scores[0].values, list(expected.values()))
    assert found.scores[0].chance == pytest.approx(np.mean(chances))
    assert found.details["images_not_asked"] == len(case.samples) - len(expected)


def images(count: int, texts: dict[str, list[float]]) -> Embedded:
    """Return images of one caption and two wrong ones each."""
    known = [sample(str(place), captions=["right"], negatives=["wrong", "false"]) for place in range(count)]
    return embedded(known, np.tile([0.6, 0.8], (count, 1)), texts)


def test_ties_are_lost() -> None:
    """A model that gives all captions one embedding tells nothing apart, and fails."""
    found = score_task(TASK, images(60, {"right": [0.1, 0.7], "wrong": [0.1, 0.7], "false": [0, 0]}))
    assert (found.primary.value, found.primary.chance) == (0, pytest.approx(1 / 3))
    assert judge(found)[0].outcome == "failed"


def test_what_is_too_long_is_not_asked() -> None:
    """A caption that would be cut could lose the word that is wrong: its image takes no part, and it is named."""
    whole = images(3, {"right": [1, 0], "wrong": [0, -1], "false": [-1, 0]})
    other = sample("long", captions=["right"], negatives=["far too long"])
    case = replace(whole, samples=(*whole.samples[:2], other))
    found = score_task(TASK, case)
    assert (found.samples, found.primary.value) == (("0", "1"), 1)
    assert found.details["long_captions"] == ("far too long",)
    assert (found.details["captions_too_long"], found.details["images_not_asked"]) == (1, 1)
    with pytest.raises(DatasetError, match="not one image that can be read has a right and a wrong caption"):
        score_task(TASK, replace(case, samples=(other,), images=whole.images[:1]))


def test_broken_embeddings_cost_what_they_touch() -> None:
    """A broken image costs its own value, a broken text all."""
    case = images(2, {"right": [1, 0], "wrong": [0, -1], "false": [-1, 0]})
    assert score_task(TASK, replace(case, images=np.array([[np.nan, 1], [1, 1]]))).not_finite == 1
    assert score_task(TASK, images(2, {"right": [np.nan, 0], "wrong": [0, 1], "false": [0, 1]})).not_finite == 2


def test_a_dataset_without_wrong_captions_lacks_them() -> None:
    """Captions alone leave nothing to choose."""
    case = embedded([sample("a", captions=["x"])], np.ones((1, 2)), {"x": [1, 0]})
    assert TASK.lacks(case.dataset) == "no sample of the dataset has wrong captions beside a right one"
    assert TASK.lacks(images(1, {}).dataset) is None
