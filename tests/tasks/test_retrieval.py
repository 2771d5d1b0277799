"""Both directions of retrieval on embeddings made by hand, against counting one by one."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.datasets import samples, write_dataset
from support.embedded import embedded, sample

from clip_eval.dataset import Sample, open_dataset
from clip_eval.embedding.embedded import Embedded
from clip_eval.errors import DatasetError
from clip_eval.run.declared_checks import find_checks
from clip_eval.tasks import image_to_text, text_to_image
from clip_eval.tasks._retrieval import recall_by_chance
from clip_eval.tasks.judgement import judge
from clip_eval.tasks.task import Scores, Task, all_tasks, score_task

TO_TEXT, TO_IMAGE = image_to_text.TASK, text_to_image.TASK
NAMES = ["recall_at_1", "recall_at_5", "recall_at_10", "median_rank"]
TEXTS = "abcdefghijkl"


@st.composite
def cases(draw: st.DrawFn) -> Embedded:
    """Images with none to three captions, some shared; embeddings of small whole numbers, so that ties are exact."""
    row = st.lists(st.integers(-2, 2), min_size=3, max_size=3)
    broken = st.one_of(row, row, row, st.just([np.nan] * 3))
    captions = draw(st.lists(st.lists(st.sampled_from(TEXTS), max_size=3), min_size=1, max_size=12))
    captions[draw(st.integers(0, len(captions) - 1))] = draw(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3))
    known = [sample(str(place), captions=own) for place, own in enumerate(captions)]
    images = np.array(draw(st.lists(broken, min_size=len(known), max_size=len(known))), dtype=np.float64)
    return embedded(known, images, {text: draw(broken if draw(st.integers(0, 9)) == 0 else row) for text in TEXTS})


def expected(case: Embedded, *, to_text: bool) -> dict[str, list[float]]:
    """Return the sample and the rank of each query, as lists: brute force, over all pairs."""
    known = [(item, row.tolist()) for item, row in zip(case.samples, case.images, strict=True) if item.captions]
    texts = list(dict.fromkeys(text for item, _ in known for text in item.captions))
    rows = dict(zip(texts, case.texts(texts).tolist(), strict=True))
    found: list[tuple[str, float]] = []
    if to_text:
        for item, image in known:
            right = [dot(image, rows[text]) for text in texts if text in item.captions]
            wrong = [dot(image, rows[text]) for text in texts if text not in item.captions]
            found.append((item.id, rank(right, wrong)))
    else:
        for text in texts:
            right = [dot(rows[text], image) for item, image in known if text in item.captions]
            wrong = [dot(rows[text], image) for item, image in known if text not in item.captions]
            found.append((next(item.id for item, _ in known if text in item.captions), rank(right, wrong)))
    return {"samples": [name for name, _ in found], "ranks": [place for _, place in found]}


def dot(first: list[float], second: list[float]) -> float:
    """Return the product of two rows."""
    return sum(a * b for a, b in zip(first, second, strict=True))


def rank(right: list[float], wrong: list[float]) -> float:
    """Return 1 plus how many wrong ones are as near as the nearest right one; NaN without a finite right one."""
    finite = [score for score in right if not math.isnan(score)]
    return 1.0 + sum(score >= max(finite) for score in wrong) if finite else math.nan


def require_expected(case: Embedded, found: Scores, *, to_text: bool) -> None:
    """Compare samples, ranks and hits."""
    wanted = expected(case, to_text=to_text)
    ranks = np.array(wanted["ranks"])  # (queries,)
    assert [score.name for score in found.scores] == NAMES
    assert list(found.samples) == wanted["samples"]
    np.testing.assert_array_equal(found.scores[3].values, ranks)
    for score, first in zip(found.scores[:3], (1, 5, 10), strict=True):
        np.testing.assert_array_equal(score.values, np.where(np.isnan(ranks), np.nan, ranks <= first))


@settings(derandomize=True, deadline=None, max_examples=200)
@given(case=cases())
def test_texts_of_images_are_ranked_as_by_counting(case: Embedded) -> None:
    """The rank is that of the best of the image's own captions, each text once."""
    require_expected(case, TO_TEXT.score(case), to_text=True)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(case=cases())
def test_images_of_texts_are_ranked_as_by_counting(case: Embedded) -> None:
    """Each text is asked once, and every image that has it is right."""
    require_expected(case, TO_IMAGE.score(case), to_text=False)


def three() -> Embedded:
    """Return three images with captions, of which two share one, and an image without."""
    known = [
        sample("a", captions=("x", "y", "x")),
        sample("b"),
        sample("c", captions=("y",)),
        sample("d", captions="z"),
    ]
    images = np.array([[0.0, 1.0], [1, 0], [0.0, 2.0], [0.6, 0.8]])  # (4, 2)
    return embedded(known, images, {"x": [0.5, 0], "y": [0, 1], "z": [1, 0]})


def test_shared_captions_belong_to_each_of_their_images() -> None:
    """By hand: `y` is right for `a` and `c` and asked once; `b`, which has no caption, takes no part."""
    to_text, to_image = TO_TEXT.score(three()), TO_IMAGE.score(three())
    assert (to_text.samples, to_image.samples) == (("a", "c", "d"), ("a", "a", "d"))
    assert to_text.scores[3].values.tolist() == [1, 1, 2]
    assert to_image.scores[3].values.tolist() == [3, 1, 1]
    assert to_text.scores[0].chance == pytest.approx((2 / 3 + 1 / 3 + 1 / 3) / 3)
    assert to_image.scores[0].chance == pytest.approx((1 / 3 + 2 / 3 + 1 / 3) / 3)
    assert to_text.details == to_image.details == {"images": 3, "texts": 3, "images_without_caption": 1}


def test_the_median_rank_is_better_when_lower() -> None:
    """A rank that is missing counts as the last."""
    median = TO_TEXT.score(three()).scores[3]
    assert (median.value, median.higher_is_better, median.worst, median.chance) == (1, False, 3, None)
    assert replace(median, values=np.full(3, np.nan)).value == 3


@pytest.mark.parametrize("task", [TO_TEXT, TO_IMAGE], ids=lambda task: task.name)
def test_a_model_that_maps_all_onto_one_point_retrieves_nothing(task: Task) -> None:
    """Every pair is as near as any other, and such a model fails, in whatever order the dataset stands."""
    known = [sample(str(place), captions=(f"caption {place}",)) for place in range(60)]
    case = embedded(known, np.ones((60, 2)), {item.captions[0]: [1, 1] for item in known})
    found = score_task(task, case)
    assert [score.value for score in found.scores] == [0, 0, 0, 60]
    assert judge(found)[0].outcome == "failed"


@pytest.mark.parametrize("task", [TO_TEXT, TO_IMAGE], ids=lambda task: task.name)
def test_one_image_decides_nothing(task: Task) -> None:
    """Its only caption is found by any model: recall is 1, so is chance, and the outcome is inconclusive."""
    found = score_task(task, embedded([sample("a", captions=("x",))], np.ones((1, 2)), {"x": [1, 0]}))
    assert [score.value for score in found.scores] == [1, 1, 1, 1]
    assert [score.chance for score in found.scores] == [1, 1, 1, None]
    assert judge(found)[0].outcome == "inconclusive"


def test_broken_embeddings_cost_what_they_touch() -> None:
    """A broken image costs its own values and hinders no other; a broken text costs all values."""
    broken = replace(three(), images=np.array([[0.0, 1.0], [1, 0], [np.nan, 0], [0.6, 0.8]]))
    to_text, to_image = score_task(TO_TEXT, broken), score_task(TO_IMAGE, broken)
    assert (to_text.not_finite, to_image.not_finite) == (1, 0)
    assert to_text.values["median_rank"] == (1, 3, 2)
    assert to_image.values["median_rank"] == (2, 1, 1)
    whole = three()
    texts = dict(zip("xyz", whole.texts("xyz").tolist(), strict=True)) | {"z": [np.nan, 0]}
    assert score_task(TO_IMAGE, embedded(whole.samples, whole.images, texts)).not_finite == 3


def test_chance_is_that_of_every_random_order() -> None:
    """Against all ways to pick the first items; with k items or fewer recall@k is certain."""
    for items in range(1, 7):
        for first in (1, 2, 5, 10):
            own = [range(right) for right in range(1, items + 1)]
            picks = list(combinations(range(items), min(first, items)))
            hit = [Fraction(sum(min(pick) < len(right) for pick in picks), len(picks)) for right in own]
            exact = float(sum(hit) / len(hit))
            assert recall_by_chance(own, first=first, items=items) == pytest.approx(exact, rel=1e-15, abs=0)
    assert recall_by_chance([[0], [1]], first=10, items=9) == 1
    assert recall_by_chance([[0]], first=5, items=25_000) == pytest.approx(5 / 25_000, rel=1e-14)


@pytest.mark.parametrize("task", [TO_TEXT, TO_IMAGE], ids=lambda task: task.name)
def test_a_dataset_without_captions_lacks_them(tmp_path: Path, task: Task) -> None:
    """Nothing to retrieve is not a score of 0; an entry that cannot be read is for other checks to tell."""
    plain = write_dataset(tmp_path / "plain", [{**entry, "caption": ""} for entry in samples(2)])
    assert task.lacks(open_dataset(plain)) == "no sample of the dataset has a caption"
    captions = write_dataset(tmp_path / "captions", samples(2))
    manifest = captions / "manifest.jsonl"
    manifest.write_text("no sample\n" + manifest.read_text(encoding="utf-8"), encoding="utf-8")
    assert task.lacks(open_dataset(captions)) is None


def test_captions_whose_images_cannot_be_read_are_an_error() -> None:
    """The dataset has captions, and none of them is left to ask."""
    only: list[Sample] = [sample("b")]
    with pytest.raises(DatasetError, match="not one image that can be read has a caption"):
        TO_TEXT.score(embedded(only, np.ones((1, 2)), {}))


def test_both_directions_have_their_checks() -> None:
    """By their ids, as `clip-eval checks` lists them."""
    assert {"image_to_text", "text_to_image"} <= {task.name for task in all_tasks()}
    for task in (TO_TEXT, TO_IMAGE):
        names = ("every_record_is_readable", "recall_at_1_is_above_chance", "recall_at_1_is_no_worse_than_approved")
        assert [check.id for check in find_checks(task.name)] == [f"{task.name}.{name}" for name in names]
