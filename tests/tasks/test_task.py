"""What every task gets: discovery, checks of its own, missing values, intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from support.embedded import embedded, sample, scored

from clip_eval.embedding.embedded import Embedded
from clip_eval.run.declared_checks import declared_checks, find_case, find_checks, task_check_id
from clip_eval.suite.release import test_tasks as chapter
from clip_eval.tasks.statistics import bootstrap_interval, wilson_interval
from clip_eval.tasks.task import Score, Scores, Task, all_tasks, score_task

NAMES = [name for name in vars(chapter) if name.startswith("test_")]


def test_every_task_has_the_checks_of_the_chapter() -> None:
    """The list of checks, read from source, and pytest's cases, made from the tasks themselves, are the same."""
    expected = {task_check_id(name, task.name, task.primary) for task in all_tasks() for name in NAMES}
    declared = {check.id: check for check in declared_checks() if check.scope == "tasks"}
    assert set(declared) == expected
    for task in all_tasks():
        promise = declared[f"{task.name}.{task.primary}_is_above_chance"].promise
        assert promise == f"{task.claim} more often than guessing explains."


def test_zero_shot_is_a_task() -> None:
    """Its checks have the ids that they always had, also by the names that pytest prints."""
    for name in ("every_record_is_readable", "top1_is_above_chance", "top1_is_no_worse_than_approved"):
        (check,) = find_checks(f"zero_shot.{name}")
        function = f"test_{name.replace('top1', 'score')}"
        case = find_case(f"test_tasks.py::{function}[{check.id}]")
        assert case is not None
        assert (case.check, case.case) == (check, None)
        assert find_checks(f"clip_eval/suite/release/test_tasks.py::{function}[{check.id}]") == (check,)
    assert find_case("test_tasks.py::test_score_is_above_chance[zero_shot.else]") is None


def three(images: np.ndarray | None = None) -> Embedded:
    """Return three images with two captions each, in two dimensions."""
    samples = [sample(name, captions=(f"{name} 1", f"{name} 2")) for name in "abc"]
    rows = {caption: [1.0, float(place)] for place, item in enumerate(samples) for caption in item.captions}
    return embedded(samples, np.ones((3, 2)) if images is None else images, rows | {"broken": [np.nan, 1.0]})


def task(samples: Sequence[str], *scores: Score, text: str = "a 1", primary: str = "recall") -> Task:
    """Return a task that asks for one text and gives these scores."""

    def score(found: Embedded) -> Scores:
        found.texts([text])
        return Scores(samples=tuple(samples), scores=scores)

    return Task(name="made", primary=primary, claim="It holds", lacks=lambda _: None, score=score)


def recall(count: int) -> Score:
    """Return so many hits."""
    return Score(name="recall", values=np.ones(count))


BROKEN = np.array([[1.0, 0.0], [np.inf, 0.0], [0.0, 1.0]])  # (3, 2)


def test_values_without_a_finite_embedding_are_missing() -> None:
    """Whatever a task made of a broken image, its values count as the worst; a broken text costs all."""
    of_captions = task("aabbcc", recall(6))
    assert score_task(of_captions, three()).not_finite == 0
    found = score_task(of_captions, three(BROKEN))
    assert np.isnan(found.primary.values).tolist() == [False, False, True, True, False, False]
    assert (found.not_finite, found.primary.value) == (2, pytest.approx(4 / 6))
    assert score_task(task("aabbcc", recall(6), text="broken"), three()).not_finite == 6


def test_a_broken_image_costs_the_values_of_every_class() -> None:
    """Values of classes are made of all images, so that one that is broken breaks them all."""
    of_classes = task(["red", "green"], recall(2))
    assert score_task(of_classes, three()).not_finite == 0
    assert score_task(of_classes, three(BROKEN)).not_finite == 2


def test_a_broken_text_of_one_task_is_not_another_s() -> None:
    """Texts are shared, and what one task asked for breaks no value of the next."""
    found = three()
    assert score_task(task("abc", recall(3), text="broken"), found).not_finite == 3
    assert score_task(task("abc", recall(3)), found).not_finite == 0


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (task("abc", recall(3), primary="top1"), "top1 is its primary score, and recall stands first"),
        (task("abc", recall(2)), "not one value for each of the 3 samples"),
        (task("aba", recall(3)), "do not stand in a row"),
        (task("", recall(0)), "there are no values"),
    ],
)
def test_a_task_that_breaks_its_contract_is_an_error(made: Task, expected: str) -> None:
    """What a task gives is what it declares, or its author hears of it."""
    with pytest.raises(ValueError, match=expected):
        score_task(made, three())


def test_a_worst_value_that_is_the_best_is_an_error() -> None:
    """Missing values of a rank must not count as rank 0."""
    with pytest.raises(ValueError, match="the worst value, 0, is better than the best, 1"):
        Score(name="rank", values=np.ones(3), higher_is_better=False)


def test_intervals_of_shares_and_of_other_values() -> None:
    """Independent hits have Wilson's interval; other values and clustered hits that of resampled samples."""
    hits = Score(name="recall", values=np.array([1.0, 1.0, 0.0, 1.0]))
    assert scored(hits).interval(hits) == wilson_interval(3, 4)
    all_right = replace(hits, values=np.ones(4))
    assert scored(all_right, samples="aabb").interval(all_right) == wilson_interval(2, 2)
    values = np.random.default_rng(3).normal(size=400)  # (400,)
    other = Score(name="margin", values=values)
    found, error = scored(other).interval(other), 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - error, abs=0.02)
    assert found.high == pytest.approx(values.mean() + error, abs=0.02)
    assert scored(other).interval(other) == found, "it is the same in every run"
    pairs = replace(other, values=np.repeat(values, 2))
    clustered = scored(pairs, samples=[str(index // 2) for index in range(800)])
    assert clustered.interval(pairs).low == pytest.approx(found.low)


def test_samples_of_a_group_are_resampled_together() -> None:
    """A group is a cluster wherever its samples stand, hits of it are not independent, and a sample may be named so."""
    values = np.random.default_rng(5).normal(size=60)  # (60,)
    names = [str(place) for place in range(60)]
    score = Score(name="margin", values=values)
    grouped = replace(scored(score, samples=names), groups={name: str(int(name) % 6) for name in names})
    apart = scored(Score(name="margin", values=values), samples=names)
    assert len(set(grouped.clusters)) == 6
    assert grouped.interval(score) == bootstrap_interval(values, [place % 6 for place in range(60)])
    assert grouped.interval(score) != apart.interval(score)
    hits = Score(name="recall", values=np.ones(60))
    assert replace(grouped, scores=(hits,)).interval(hits) == wilson_interval(6, 6)
    part = replace(apart, groups={"7": "8", "9": "8"})
    assert len(set(part.clusters)) == 59, "sample 8 is not of group 8"


def test_groups_come_from_the_dataset() -> None:
    """What a sample's record says is its group; the empty text is none."""
    found = three()
    grouped = replace(found, samples=tuple(replace(item, group="g") for item in found.samples[:2]) + found.samples[2:])
    assert score_task(task("aabbcc", recall(6)), grouped).groups == {"a": "g", "b": "g"}
    assert score_task(task("aabbcc", recall(6)), found).groups == {}


@pytest.mark.parametrize("count", [2, 10, 400])
def test_a_perfect_score_is_not_certain(count: int) -> None:
    """Where every value is the best nothing can be resampled, and yet a worse one may be next: any kind of score."""

    def squared(values: np.ndarray, rows: np.ndarray) -> float:
        return float((values[rows] ** 2).mean())

    for score in (
        Score(name="recall", values=np.ones(count)),
        Score(name="map", values=np.ones(count), aggregate=squared),
    ):
        found = scored(score).interval(score)
        assert found.high == 1.0
        assert found.low == pytest.approx(wilson_interval(count, count).low, abs=1 / count)
        assert found.low < 1.0
    same = Score(name="share", values=np.full(count, 0.25))
    found = scored(same).interval(same)
    assert found.low < 0.25 < found.high


def test_values_for_a_pack_have_six_digits() -> None:
    """Whole numbers are kept, whatever their size, and the worst stands for what is missing."""
    score = Score(name="rank", values=np.array([1 / 3, 1234567.0, np.nan]), higher_is_better=False, best=0, worst=9e9)
    assert scored(score).values == {"rank": (0.333333, 1234567.0, 9e9)}


def test_values_of_classes_are_resampled_by_class() -> None:
    """Names that are no sample's have no group, and each stands for itself."""
    found = score_task(task(["red", "green", "blue"], recall(3)), three())
    assert found.clusters == ("red", "green", "blue")
    assert found.is_independent


def test_answers_stand_beside_values() -> None:
    """One a value, or none at all; anything else is the author's mistake."""

    def made(answers: tuple[str, ...]) -> Task:
        scores = Scores(samples=("a", "b", "c"), scores=(recall(3),), answers=answers)
        return Task(name="made", primary="recall", claim="It holds", lacks=lambda _: None, score=lambda _: scores)

    assert score_task(made(("x", "y", "z")), three()).answers == ("x", "y", "z")
    with pytest.raises(ValueError, match="not one answer for each of the 3"):
        score_task(made(("x",)), three())


def test_samples_may_have_other_numbers_of_values() -> None:
    """All values of a sample come and go together: with one sample of many hits, either end is far away."""
    samples = ["a"] * 50 + ["b", "c", "d"]
    score = Score(name="recall", values=np.array([1.0] * 50 + [0.0] * 3))
    found = scored(score, samples=samples).interval(score)
    assert (found.low, found.high) == (0, pytest.approx(1.0, abs=0.02))
