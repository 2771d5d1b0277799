"""The linear probe: its parts, its answers against scikit-learn called by hand, and what is too small for it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from support.embedded import embedded, sample

from clip_eval.dataset import Sample
from clip_eval.embedding.embedded import Embedded
from clip_eval.errors import DatasetError
from clip_eval.tasks.judgement import judge
from clip_eval.tasks.linear_probe import LEAST_TESTED, TASK, parts_of
from clip_eval.tasks.task import score_task

groups = st.one_of(st.none(), st.sampled_from("uvwxyz"))
labels = st.one_of(st.none(), st.sampled_from("abc"), st.sampled_from("abc"))


@settings(derandomize=True, deadline=None, max_examples=200)
@given(drawn=st.lists(st.tuples(labels, groups), max_size=60))
def test_no_group_stands_on_both_sides(drawn: list[tuple[str | None, str | None]]) -> None:
    """Every labelled sample has one place, groups stay whole, and no class without groups loses more than its share."""
    samples = [sample(str(place), label=label, group=group) for place, (label, group) in enumerate(drawn)]
    parts = parts_of(samples)
    assert sorted(parts.train + parts.test) == [row for row, item in enumerate(samples) if item.label is not None]
    assert set(parts.fit) | set(parts.validation) == set(parts.train)
    for one, other in ((parts.train, parts.test), (parts.fit, parts.validation)):
        assert not set(one) & set(other)
        shared = {samples[row].group for row in one} & {samples[row].group for row in other}
        assert shared <= {None}
    if all(group is None for _, group in drawn):
        for label, count in Counter(item.label for item in samples if item.label).items():
            held_out = sum(samples[row].label == label for row in parts.test)
            assert abs(held_out - count / 4) <= 0.5


def test_the_parts_do_not_depend_on_the_order_of_the_dataset() -> None:
    """The same samples are tested in whatever order they stand, and nearly the same after some are added."""
    samples = [sample(str(place), label="ab"[place % 2]) for place in range(200)]
    tested = {samples[row].id for row in parts_of(samples).test}
    turned = samples[::-1]
    assert {turned[row].id for row in parts_of(turned).test} == tested
    more = [*samples, *(sample(f"new {place}", label="a") for place in range(8))]
    assert len(tested - {more[row].id for row in parts_of(more).test}) <= 2


def test_the_dataset_s_own_parts_count() -> None:
    """Where samples of train and of test exist, others take no part; one of them alone is no split."""
    splits = ["train"] * 40 + ["test"] * 30 + ["extra", None]
    samples = [sample(str(place), label="ab"[place % 2], split=split) for place, split in enumerate(splits)]
    parts = parts_of(samples)
    assert (parts.train, parts.test, parts.given) == (tuple(range(40)), tuple(range(40, 70)), True)
    assert not parts_of(samples[40:]).given


def probe(count: int, *, noise: float, classes: str = "abc") -> Embedded:
    """Return images around a direction for each class, at length 1."""
    rng = np.random.default_rng(4)
    centres = rng.normal(size=(len(classes), 5))  # (classes, 5)
    rows = np.array([centres[place % len(classes)] + noise * rng.normal(size=5) for place in range(count)])
    known = [sample(str(place), label=classes[place % len(classes)]) for place in range(count)]
    return embedded(known, rows / np.linalg.norm(rows, axis=1, keepdims=True), {})


def test_answers_are_those_of_scikit_learn() -> None:
    """Accuracy and mean per class recall of the test part are scikit-learn's, at the strength that does best."""
    case = probe(160, noise=1.2)
    found = score_task(TASK, case)
    parts = parts_of(case.samples)
    names = np.array([item.label for item in case.samples])

    def fitted(rows: tuple[int, ...], strength: float) -> LogisticRegression:
        return LogisticRegression(C=strength, max_iter=1000).fit(case.images[list(rows)], names[list(rows)])

    validation = list(parts.validation)
    right = [
        (fitted(parts.fit, 10.0**power).predict(case.images[validation]) == names[validation]).sum()
        for power in range(-1, 6)
    ]
    best = 10.0 ** (int(np.argmax(right)) - 1)
    answers = fitted(parts.train, best).predict(case.images[list(parts.test)])
    assert found.details["C"] == best
    assert found.samples == tuple(case.samples[row].id for row in parts.test)
    assert found.primary.value == pytest.approx(accuracy_score(names[list(parts.test)], answers))
    assert found.scores[1].value == pytest.approx(balanced_accuracy_score(names[list(parts.test)], answers))
    assert 0.5 < found.primary.value < 1, "the case says something"


def test_what_embeddings_do_not_hold_is_not_found() -> None:
    """Labels that have nothing to do with the images are answered as by guessing, and the task fails."""
    case = probe(400, noise=0.3)
    moved = np.random.default_rng(1).permutation(400)
    found = score_task(TASK, replace(case, images=case.images[moved]))
    assert judge(found)[0].outcome == "failed"
    assert judge(score_task(TASK, case))[0].outcome == "passed"


def test_guessing_is_to_answer_the_commonest_class() -> None:
    """With nine of ten samples in one class, nine of ten right answers say nothing."""
    case = probe(200, noise=0.3, classes="aaaaaaaaab")
    assert score_task(TASK, case).primary.chance == pytest.approx(0.9, abs=0.02)


def test_broken_embeddings_cost_what_they_touch() -> None:
    """A test image that is broken costs its own answer; every answer is made of all training images."""
    case = probe(160, noise=0.3)
    parts = parts_of(case.samples)
    for row, lost in ((parts.test[0], 1), (parts.train[0], len(parts.test))):
        images = case.images.copy()
        images[row, 0] = np.nan
        found = score_task(TASK, replace(case, images=images))
        assert found.not_finite == lost
        assert found.details.get("training_images_not_finite", 0) == (lost > 1)


def test_classes_that_are_not_trained_are_missed_and_named() -> None:
    """Their test images count, as the label is wrong."""
    case = probe(160, noise=0.1)
    known = [
        replace(item, split="test" if place > 100 or item.label == "c" else "train")
        for place, item in enumerate(case.samples)
    ]
    found = score_task(TASK, replace(case, samples=tuple(known)))
    assert (found.details["classes_without_training_images"], found.details["without_training_images"]) == (1, ("c",))
    hits = dict(zip(found.samples, found.primary.values.tolist(), strict=True))
    assert not any(hits[item.id] for item in known if item.label == "c" and item.id in hits)


def few(count: int, label: str | None = None, split: str | None = None) -> list[Sample]:
    """Return samples of this label, or of two in turn."""
    return [sample(f"{split} {place}", label=label or "ab"[place % 2], split=split) for place in range(count)]


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ([], "no sample of the dataset has a label"),
        ([sample("a")], "no sample of the dataset has a label"),
        (few(40), f"its 10 labelled test images of 40 are too few: a probe is tested on {LEAST_TESTED}"),
        (few(90, split="train") + few(3, split="test"), "its 3 labelled test images are too few"),
        (few(300, label="a"), "too few to fit two classes"),
        (few(2, split="train") + few(30, split="test"), "too few to fit two classes and to choose the regularisation"),
        (few(120), None),
    ],
)
def test_a_dataset_that_is_too_small_says_why(samples: list[Sample], said: str | None) -> None:
    """It lacks what a probe needs, and nothing is judged."""
    case = embedded(samples, np.ones((len(samples), 2)), {})
    reason = TASK.lacks(case.dataset)
    assert reason is None if said is None else said in str(reason)


def test_too_few_readable_images_are_an_error() -> None:
    """The manifest has enough of them, and the files have not."""
    case = probe(160, noise=0.3)
    with pytest.raises(
        DatasetError, match="of the images that can be read: its 5 labelled test images of 20 are too few"
    ):
        score_task(TASK, replace(case, samples=case.samples[:20], images=case.images[:20]))
