"""Which failed check tells the cause of others, on made-up results."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import sample_records as sample

from clip_eval.verdict.causes import attributed, directness, twin
from clip_eval.verdict.run_record import CheckResult

REFERENCE = "10 sigma of float32 rounding, amplified by this model"
ATTENTION = "text_model.encoder.layers.2.self_attn"


def failed(
    identity: str, what: str, *, at: str | None = None, case: str | None = None, **changes: object
) -> CheckResult:
    """A failed check that measured `what` against the reference."""
    measurement = sample.failed_measurement(name=what, **{"budget": REFERENCE, **changes})
    return sample.check(identity, outcome="failed", case=case, diverges_at=at, measurements=(measurement,))


MODULE = failed("modules.text_tower", "input of out_proj", at=ATTENTION, case="CLIPModel-default")
THREADS = failed("threads.threads_do_not_mix", "last_hidden_state, CLIPModel, 2 texts in a thread", case="CLIPModel")
VALUES = failed("reference_values.text_tower", "hidden_states[3]", at=ATTENTION, case="padding-default")


def because(checks: Iterable[CheckResult]) -> dict[str, str | None]:
    """What each check may follow from, by name."""
    return {check.name: check.because for check in attributed(tuple(checks))}


def test_checks_of_one_module_follow_from_the_most_direct() -> None:
    """Whatever the order of results, the check that judges the module by itself tells the cause."""
    assert because([VALUES, MODULE]) == {VALUES.name: MODULE.name, MODULE.name: None}


def test_a_wrong_number_in_threads_follows_from_the_tower() -> None:
    """Where the plain numbers of the text tower are wrong, texts in a thread are no sign that threads mix."""
    assert because([MODULE, THREADS])[THREADS.name] == MODULE.name


@pytest.mark.parametrize(
    ("identity", "what", "changes"),
    [
        ("threads.threads_do_not_mix", "last_hidden_state, CLIPModel, 2 images in a thread", {}),
        ("batches.neighbours_do_not_matter", "text_embeds[0] beside other rows", {"budget": "exactly equal"}),
        ("contrastive_head.embeddings_have_unit_norm", "norm of text_embeds", {"budget": "norm: 6 sigma"}),
        ("option_values.options_at_load", "something else", {}),
    ],
    ids=["another tower", "the model against itself", "an identity", "unknown"],
)
def test_what_does_not_need_the_numbers_fails_for_itself(identity: str, what: str, changes: dict[str, object]) -> None:
    """Checks of the other tower, of the model against itself, and of what nobody knows keep their own reason."""
    other = failed(identity, what, **changes)
    assert because([MODULE, other])[other.name] is None


def test_without_a_wrong_plain_number_nothing_follows() -> None:
    """A module that only an odd question leads to says nothing of plain numbers: threads may mix besides."""
    odd = failed("masks.given_positions_are_used", "CLIPModel at given positions", at=ATTENTION)
    assert because([odd, THREADS])[THREADS.name] is None


@pytest.mark.parametrize(
    ("at", "what", "follows"),
    [
        ("logit_scale", "logits_per_text with strided tensors", True),
        ("logit_scale", "text_embeds with strided tensors", False),
        ("text_projection", "slope of the logits", True),
        ("text_projection", "text features", True),
        ("text_projection", "image_embeds", False),
        ("text_embeds", "image_embeds with gradients", True),
        ("vision_model.post_layernorm", "image_embeds", True),
        ("vision_model.post_layernorm", "text_embeds", False),
    ],
)
def test_only_what_comes_after_a_module_follows(at: str, what: str, follows: bool) -> None:
    """A number follows from the parts that it is computed by."""
    lead, other = failed("modules.head", "a value", at=at), failed("gradients.recording_them_changes_no_value", what)
    assert (because([lead, other])[other.name] == lead.name) is follows


def test_the_same_module_of_both_towers_is_one_cause() -> None:
    """The towers share their code: an activation that is wrong in both is told once."""
    image = failed("modules.vision_tower", "output", at=ATTENTION.replace("text_model", "vision_model"))
    assert because([image, MODULE]) == {image.name: None, MODULE.name: image.name}
    assert twin("vision_model.encoder.layers.0.mlp.fc1") == "text_model.encoder.layers.0.mlp.fc1"
    assert twin("vision_model") is None
    assert twin("logit_scale") is None


def ids(identity: str, route: str, observed: str = "[1, 9]", *, what: str = "ids by") -> CheckResult:
    """A failed check of token ids."""
    return failed(
        identity, f"{what} {route} for 'a'", case=route, budget="exactly equal", observed=observed, expected="[1, 2]"
    )


def test_a_text_read_wrong_by_every_class_is_one_cause() -> None:
    """All classes read the same text as the same wrong ids, and every other check of ids may follow from that."""
    read = [ids("tokenizer.token_ids_follow_the_rules", route) for route in ("AutoProcessor", "CLIPTokenizer")]
    padded = ids("token_batches.padding_follows_the_rules", "CLIPTokenizer", what="input_ids by")
    assert because([padded, *read]) == {
        read[0].name: None,
        read[1].name: read[0].name,
        padded.name: read[0].name,
    }


def test_another_class_that_reads_wrong_is_another_cause() -> None:
    """Classes that differ in what they read wrong are told apart, and a class that reads right explains nothing."""
    one = ids("tokenizer.token_ids_follow_the_rules", "AutoTokenizer")
    two = ids("tokenizer.token_ids_follow_the_rules", "CLIPTokenizer", "[3, 2]")
    padded = ids("token_batches.padding_follows_the_rules", "CLIPTokenizerFast", what="input_ids by")
    assert set(because([one, two, padded]).values()) == {None}


def test_what_raises_the_same_follows_from_the_finding() -> None:
    """A check that a library's message ends, and the finding that quotes it, are one; another message is another."""
    lead = sample.check(
        "processor.every_class_builds_one",
        outcome="failed",
        case="AutoTokenizer",
        measurements=(),
        reason="AutoTokenizer builds nothing: ValueError: the merges cannot be read: clip.",
    )
    same, other = (
        sample.check(
            "tokenizer.part_of_the_files_is_enough", case=case, outcome="failed", measurements=(), detail=detail
        )
        for case, detail in (("a", "x = 1\nE   ValueError: the merges cannot be read"), ("b", "E   KeyError: 'merges'"))
    )
    assert because([same, other, lead]) == {same.name: lead.name, other.name: None, lead.name: None}


def test_what_is_not_an_id_fails_for_itself() -> None:
    """Keys and dtypes do not follow from ids."""
    read = ids("tokenizer.token_ids_follow_the_rules", "AutoProcessor")
    keys = failed("processor.keys_are_the_documented_ones", "keys for images", budget="exactly equal")
    assert because([read, keys])[keys.name] is None


def test_pixels_follow_from_plain_pixels() -> None:
    """Wrong pixels of plain pictures come before wrong pixels of arrays, options and modes; types of them do not."""
    plain = failed("pixels.pixels_match_the_oracle", "pixels", case="AutoProcessor", budget="pixels: 6 u(float32)")
    array = failed("pixel_inputs.an_array_is_read_like_a_picture", "37 x 29", budget="pixels: 6 u(float32)")
    kind = failed("pixel_options.a_type", "type of pixel_values", budget="exactly equal")
    assert because([array, kind, plain]) == {plain.name: None, array.name: plain.name, kind.name: None}


def test_a_wrong_number_of_states_is_told_once() -> None:
    """The same count of hidden states, seen by two checks, is one cause; another count is another."""
    counts = {"budget": "exactly equal", "observed": "4", "expected": "5", "error": None, "bound": None}
    plain = failed("hidden_states.states", "number of CLIPModel.text hidden_states with attentions", **counts)
    again = failed("threads.threads_do_not_mix", "number of hidden_states, CLIPModel", **counts)
    other = failed("threads.others", "number of hidden_states", **{**counts, "observed": "6"})
    assert because([again, other, plain]) == {plain.name: None, again.name: plain.name, other.name: None}


def test_a_class_that_does_not_load_is_the_most_direct() -> None:
    """It is told before what a module or a chapter says; what nobody listed comes last."""
    order = [
        "weights.every_weight_is_loaded",
        "processor.every_class_builds_one",
        "weights.values_are_finite",
        "modules.head",
        "threads.threads_do_not_mix",
    ]
    ranks = [directness(sample.check(identity)) for identity in order]
    assert ranks == sorted(set(ranks))


_IDS = st.sampled_from(["modules.text_tower", "threads.threads_do_not_mix", "reference_values.loss", "gradients.a"])
_RESULTS = st.builds(
    lambda identity, what, at, number: failed(identity, what, at=at, case=str(number)),
    _IDS,
    st.sampled_from(["logits", "text_embeds", "2 images in a thread", "number of hidden_states", "else"]),
    st.sampled_from([None, ATTENTION, "vision_model", "logit_scale"]),
    st.integers(0, 99),
)


@given(st.lists(_RESULTS, max_size=12, unique_by=lambda check: check.name))
def test_every_chain_ends_at_a_check_that_failed_for_itself(checks: list[CheckResult]) -> None:
    """Nothing but `because` changes, no outcome does, each cause is a failed check without a cause, and it stays so."""
    told = attributed(checks)
    roots = {check.name for check in told if check.because is None}
    assert [check.outcome for check in told] == ["failed"] * len(checks)
    assert all(check.because is None or check.because in roots for check in told)
    assert not checks or roots
    assert attributed(told) == told
