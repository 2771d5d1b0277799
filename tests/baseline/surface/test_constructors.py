"""The surface of objects made by hand: what odd arguments lead to, the same whatever the checkpoint holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.packs import session_on

from clip_eval.baseline.surface.classifier import observe_classifier
from clip_eval.baseline.surface.constructors import observe_constructed
from clip_eval.subject import quiet
from clip_eval.verdict.plain_values import Json


@pytest.fixture(scope="module")
def made(model: Path) -> dict[str, Json]:
    """What constructors make of odd arguments."""
    with quiet():
        return observe_constructed(session_on(model).candidate.clip)


def test_square_sizes_are_told(made: dict[str, Json]) -> None:
    """use_square_size=True makes a square of the shortest edge."""
    told = made["CLIPImageProcessor(arguments)[*]"]
    assert isinstance(told, dict)
    assert told["use_square_size=True"] == "size.height 224; size.shortest_edge gone; size.width 224"
    assert told["size=20"] == "size.shortest_edge 20"


def test_special_tokens_and_requests_are_told(made: dict[str, Json]) -> None:
    """Ids of texts with special tokens given as objects, and keys that come on request."""
    for name in ("CLIPTokenizer", "CLIPTokenizerFast"):
        tokens, requests = made[f"{name}(special tokens)[*]"], made[f"CLIPProcessor of {name}(request)[*]"]
        assert isinstance(tokens, dict)
        assert isinstance(requests, dict)
        assert str(tokens["AddedToken"]).startswith("54 26 54 27 55 28")
        assert requests["return_attention_mask"] == "nothing more"
        assert requests["return_token_type_ids"] == "token_type_ids"


def test_the_classifier_says_what_it_is(model: Path) -> None:
    """Class attributes, and what the class adds to its tower."""
    with quiet():
        found = observe_classifier(session_on(model).candidate.clip)
    facts = found["CLIPForImageClassification.*"]
    assert isinstance(facts, dict)
    assert facts["main_input_name"] == "'pixel_values'"
    assert facts["training"] == "False"
    assert found["CLIPForImageClassification.parameters()"] == ["classifier.weight", "classifier.bias"]
