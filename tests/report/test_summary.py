"""A report says first why, what was compared with what, and what to do next."""

from __future__ import annotations

import dataclasses

import pytest
from support import sample_records as sample

from clip_eval.report import render_html
from clip_eval.report.anchors import Part, anchor, linked
from clip_eval.report.summary import compared, name_of, next_steps, short_digest, why
from clip_eval.report.trials import Fact, outcome_words, speed_facts, worst_classes

FINDING = "transformers 5.23.0 cannot load CLIPTextModelWithProjection: text_config.projection_dim is 512. Write 40."


def test_why_names_the_module() -> None:
    """Wrong numbers are told by where they begin, then changes, tasks and speed, each in a sentence."""
    text = why(sample.failing_record())
    assert text.startswith("What the model computes is wrong from vision_model.encoder.layers.2.mlp.activation_fn on")
    assert "1 difference is not accepted: in 1 types or fields differ." in text
    assert "It answers worse than the approved release: zero_shot_top1." in text
    assert text.endswith("It is slower than allowed: text_tower.")


def test_why_says_what_a_finding_found() -> None:
    """The first clause of a finding says enough; a short exception does not, and the promise stands in for it."""
    found = sample.failed_check(reason=FINDING, measurements=(), diverges_at=None)
    assert why(sample.record(checks=(found,))) == "transformers 5.23.0 cannot load CLIPTextModelWithProjection."
    raised = dataclasses.replace(found, reason="KeyError: 'x'")
    assert why(sample.record(checks=(raised,))).startswith("This does not hold: Every hidden state equals the oracle's")


def test_changes_alone_leave_the_numbers_right() -> None:
    """An upgrade that changes only the interface is told as that; the check that counts changes is no other failure."""
    seen = sample.check(sample.change().check, scope="baseline", outcome="failed", reason="1 change", measurements=())
    record = sample.record(checks=(*sample.healthy_checks(), seen), surface_changes=(sample.change(),))
    assert why(record).startswith("The numbers are those of the reference, but 1 difference is not accepted")
    (step,) = next_steps(record)
    assert step.command == "clip-eval gate checkpoints/candidate-2025-06 --baseline baselines/vit-b-32 --accepted FILE"


def test_a_pass_says_what_was_not_asked() -> None:
    """What nobody asked for is named, and what was measured without a judgement apart from it."""
    timed = sample.timing(outcome="not_asked")
    record = sample.record(throughput=(timed,))
    assert "throughput measured, not judged" in record.headline
    assert "no throughput" not in record.headline
    assert why(record).endswith("contract, baseline. Not asked: tasks. Measured, not judged: throughput.")
    assert outcome_words(timed) == "not judged"
    assert outcome_words(sample.timing(outcome="not_asked", ratio=None)) == "not asked"
    assert "not judged" in render_html(record)


def test_an_inconclusive_run_says_what_is_missing() -> None:
    """The scopes that could not be judged are in the sentence, and -k is left out next."""
    record = sample.record(
        checks=(*sample.healthy_checks(), sample.check("a.b", outcome="not_run", reason="deselected"))
    )
    assert "contract: 1 check not run" in why(record)
    assert next_steps(record)[0].text == "Gate again without -k, so that every check runs."


def test_next_steps_are_one_for_each_module() -> None:
    """Two checks that diverge at one module are one thing to look at, with the first one's command."""
    steps = next_steps(sample.failing_record())
    assert [step.text.partition(",")[0] for step in steps[:2]] == [
        "Look at vision_model.encoder.layers.2.mlp.activation_fn",
        "Look at text_model.encoder.layers.0.self_attn.out_proj",
    ]
    assert steps[0].command == sample.RERUN
    assert next_steps(sample.passing_record())[0].command is None
    assert str(next_steps(sample.record(baseline=False))[0].command).startswith("clip-eval record ")


def test_cases_of_one_check_are_one_step() -> None:
    """A check that fails in three cases is mended, and told, once."""
    cases = [sample.failed_check(case=case, diverges_at=None) for case in ("AutoTokenizer", "fast", "slow")]
    record = sample.record(checks=(*cases, sample.failed_check(case=None, diverges_at=None)))
    assert [step.text for step in next_steps(record)] == [f"Mend what {cases[0].name} found."]
    assert "other check" not in why(record)


def test_both_sides_are_named() -> None:
    """Candidate, release, loading and the pack's approved environment are in one sentence."""
    record = sample.passing_record()
    assert record.baseline is not None
    pack = dataclasses.replace(record.baseline, surface="transformers 4.57.6 with sdpa attention")
    text = compared(dataclasses.replace(record, baseline=pack))
    assert "checkpoints/candidate-2025-06 under transformers 5.23.0 (float32, cpu, sdpa)" in text
    assert text.endswith("baselines/vit-b-32, transformers 4.57.6 with sdpa attention.")
    assert name_of(sample.subject(source="/models/clip-b32")) == "clip-b32"
    assert name_of(sample.subject(source="openai/clip-vit-base-patch32")) == "openai/clip-vit-base-patch32"
    assert short_digest("sha256 8b53e4dfe196d057") == short_digest("8b53e4dfe196d057") == "8b53e4dfe196"


@pytest.mark.parametrize("name", ["a b", "a" * 200, "\N{HIRAGANA LETTER A}", '"><img src=x>', "a#b", ""])
def test_an_anchor_is_plain_and_its_own(name: str) -> None:
    """An anchor has no character that HTML or an address reads, and two names have two anchors."""
    place = anchor("check", name)
    assert place.isascii()
    assert not set(place) & set(" \t\n#%\"'<>&")
    assert len(place) < 120
    assert place != anchor("check", f"{name} ")
    assert anchor("check", "a.b[c]") == "check-a.b[c]"


def test_names_in_a_sentence_are_links() -> None:
    """The longest name counts, and the text stays whole."""
    parts = linked("a.b[c] failed before a.b.", {"a.b": "one", "a.b[c]": "two", "x": "three"})
    assert list(parts) == [Part("a.b[c]", "two"), Part(" failed before ", None), Part("a.b", "one"), Part(".", None)]


def test_what_was_measured_is_told() -> None:
    """Speeds, latencies, efficiency, memory and worst classes come from the details; what is missing is left out."""
    details = {"images_per_s": 1603.4, "latency_ms": {"p50": 9.98, "p90": 12.46, "p99": 12.8}, "efficiency": 0.825}
    facts = speed_facts(sample.timing(details={**details, "peak_mb": None, "batch": 16}))
    assert list(facts) == [
        Fact("speed", "1,603 images/s"),
        Fact("latency p50 / p90 / p99", "9.98 / 12.5 / 12.8 ms"),
        Fact("efficiency", "0.825"),
        Fact("batch", "16"),
    ]
    worst = [{"class": "star", "hits": 8, "images": 11, "taken_for": None}]
    (one,) = worst_classes(sample.task(details={"worst_classes": worst}))
    assert (one.name, one.hits, one.images, one.taken_for) == ("star", "8", "11", "none")
    assert worst_classes(sample.task()) == []
