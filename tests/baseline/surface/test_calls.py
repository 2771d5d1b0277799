"""The surface of calls: signatures and outcomes, the same in every dtype."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from support.packs import session_on

from clip_eval.baseline.surface.calls import observe_calls
from clip_eval.subject.observations import Clip
from clip_eval.verdict.plain_values import Json

# transformers 4.57 says which keywords its feature methods do not know.
pytestmark = pytest.mark.filterwarnings("ignore:The following named arguments:UserWarning")


@pytest.fixture(scope="module")
def clip(model: Path) -> Clip:
    """A small checkpoint's observations in float32."""
    return _clip(model, "float32")


@pytest.fixture(scope="module")
def calls(clip: Clip) -> dict[str, Json]:
    """Its surface of calls."""
    return observe_calls(clip)


def _clip(model: Path, dtype: str) -> Clip:
    return session_on(model, dtype=dtype).candidate.clip


def test_every_way_in_has_a_signature(calls: dict[str, Json]) -> None:
    """The signature of each forward and feature method is told, with names and defaults."""
    signatures = {name: text for name, text in calls.items() if name.startswith("signature of ")}
    assert len(signatures) == 8
    assert all(re.match(r"\((input_ids|pixel_values)", str(text)) for text in signatures.values())


def test_outcomes_are_short_texts(calls: dict[str, Json]) -> None:
    """Each outcome is an exception's class, a plain call, or what is unlike it; the checkpoint's sizes show nowhere."""
    outcomes = dict(_flat({name: text for name, text in calls.items() if not name.startswith("signature of ")}))
    known = re.compile(r"raises \w+$|as |\S.* is ")
    assert [name for name, text in outcomes.items() if not known.match(text)] == []
    assert outcomes["CLIPTextModel(input_ids=too long)"] == "raises ValueError"
    assert outcomes["CLIPVisionModel(return_dict=False)"] == "as by default, as a tuple"
    assert outcomes["CLIPTextModel with config.output_hidden_states=True"] == "as with output_hidden_states=True"


def test_foreign_keywords_are_told_for_every_way_in(calls: dict[str, Json]) -> None:
    """Each way in has an outcome for each keyword that is not its own; the classifier is one of the ways."""
    told = {name: dict(_flat({name: text})) for name, text in calls.items() if name.endswith("(keyword)[*]")}
    assert len(told) == 8
    assert "CLIPForImageClassification(keyword)[*]" in told
    for name, outcomes in told.items():
        assert {"is_causal=True", "use_cache=True", "inputs_embeds"} <= set(outcomes)
        assert ("position_ids" in outcomes) == ("Vision" in name or "image" in name or "Image" in name)


def _flat(calls: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    """Outcomes by name; those of a mapping by the names in it."""
    for name, value in calls.items():
        yield from ((key, str(text)) for key, text in (value if isinstance(value, dict) else {name: value}).items())


def test_outcomes_do_not_depend_on_the_dtype(clip: Clip, calls: dict[str, Json]) -> None:
    """A pack recorded in float32 serves a candidate in bfloat16."""
    assert observe_calls(_clip(clip.subject.checkpoint.path, "bfloat16")) == calls
