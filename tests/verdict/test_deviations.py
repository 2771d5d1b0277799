"""Declared deviations: complete, distinct, and in force exactly where they say."""

from __future__ import annotations

import ast
from itertools import combinations

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from clip_eval.run.declared_checks import SUITE
from clip_eval.verdict.deviations import DEVIATIONS, Deviation, Deviations

RELEASES = [
    Version(text) for text in ("4.57.0", "4.57.6", "5.0.0", "5.1.0", "5.2.0", "5.5.4", "5.6.0", "5.21.0", "5.23.0")
]


def test_ids_are_unique_and_texts_complete() -> None:
    """Every deviation has an id of its own, a contract and what is asserted instead."""
    assert len({deviation.id for deviation in DEVIATIONS}) == len(DEVIATIONS)
    for deviation in DEVIATIONS:
        assert deviation.id == deviation.id.lower().replace(" ", "-")
        assert deviation.contract
        assert deviation.instead
        assert not deviation.upstream or deviation.upstream.startswith("https://github.com/")


@pytest.mark.parametrize("deviation", DEVIATIONS, ids=lambda deviation: deviation.id)
def test_a_deviation_has_a_release_that_keeps_the_contract(deviation: Deviation) -> None:
    """A deviation is of some releases, or of one backend: one of all would be the contract."""
    assert str(deviation.releases)
    assert any(deviation.releases.contains(release) for release in RELEASES)


@pytest.mark.parametrize("release", RELEASES, ids=str)
def test_one_attention_deviation_holds_at_a_time(release: Version) -> None:
    """What is asserted instead of one contract is one thing in each environment."""
    for first, second in combinations(DEVIATIONS, 2):
        if first.contract == second.contract:
            assert not (first.holds(release, "sdpa") and second.holds(release, "sdpa")), (first.id, second.id)


def test_ranges_include_prereleases() -> None:
    """A release candidate behaves as the release it leads to."""
    deviation = Deviation(id="x", contract="a", instead="b", releases=SpecifierSet(">=5.0,<5.2"))
    assert deviation.holds(Version("5.1.0.dev0"), "")
    assert not deviation.holds(Version("5.2.0"), "")


def test_attention_limits_a_deviation() -> None:
    """A deviation of one attention implementation does not hold for another, nor where none is named."""
    deviation = Deviation(id="x", contract="a", instead="b", releases=SpecifierSet(">=4"), attention=("sdpa",))
    assert deviation.holds(Version("5.0"), "sdpa")
    assert not deviation.holds(Version("5.0"), "eager")
    assert not deviation.holds(Version("5.0"), "")


def test_a_backend_limits_a_deviation() -> None:
    """A deviation of one way to resize pictures does not hold for another, nor where none is named."""
    deviation = Deviation(id="x", contract="a", instead="b", releases=SpecifierSet(">=4"), backends=("torchvision",))
    assert deviation.holds(Version("5.0"), "", "torchvision")
    assert not deviation.holds(Version("5.0"), "", "pillow")
    assert not deviation.holds(Version("5.0"), "sdpa")


def test_only_what_is_asserted_is_recorded() -> None:
    """Asking records the deviation where it holds, and nothing where it does not."""
    recorded: list[str] = []
    assert Deviations(Version("5.6.0"), recorded.append).hold("nested-pooler-is-projected")
    assert not Deviations(Version("5.5.0"), recorded.append).hold("nested-pooler-is-projected")
    assert recorded == ["nested-pooler-is-projected"]


def test_an_unknown_deviation_is_an_error() -> None:
    """A check that asks for a deviation that nobody declared fails loudly."""
    with pytest.raises(KeyError):
        Deviations(Version("5.0"), lambda _: None).hold("no-such-deviation")


def test_every_deviation_is_asked_for_by_a_check() -> None:
    """The suite asks for each declared deviation by its id, and for no other."""
    asked = set()
    for path in SUITE.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "hold":
                asked.add(ast.literal_eval(node.args[0]))
    assert asked == {deviation.id for deviation in DEVIATIONS}
