"""The model under torch.compile, judged on request: the first call takes tens of seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from clip_eval.families.registry import entry_point
from clip_eval.oracle.expected.fields import ExpectedTower
from clip_eval.oracle.expected.outputs import Oracle
from clip_eval.run.evidence import Evidence
from clip_eval.run.session import Session
from clip_eval.subject import compiler_problem
from clip_eval.subject.observations import Clip
from clip_eval.verdict.compare import Compare

pytestmark = pytest.mark.needs("compile")


@pytest.fixture
def compiled(clip_session: Session, clip: Clip, evidence: Evidence) -> Callable[..., Any]:
    """CLIPModel, or the tower that is there, under torch.compile."""
    if not clip_session.settings.compile:
        evidence.not_applicable("add --compile to have it judged")
    if problem := compiler_problem(clip_session.settings.device):
        evidence.not_run(problem)
    return clip.subject.compiled(clip.holds.main_class)


def test_outputs_are_those_of_the_reference(
    clip: Clip, oracle: Oracle, compare: Compare, compiled: Callable[..., Any]
) -> None:
    """Under torch.compile every state, embedding and logit of CLIPModel is what the weights and inputs determine.

    Of a tower alone, its states and its embedding or pooled state. Called twice, since the first call compiles the code
    that the second one runs. Fused kernels round less often than the bounds allow.
    """
    images, texts, mask = 3, 4, "interior"
    entry = entry_point(clip.holds.main_class)
    for call in ("first", "second"):
        out = compiled(**clip.subject.tensors(clip.inputs(entry, images=images, texts=texts, mask=mask)))
        name = f"of the {call} call, compiled"
        if not clip.holds.whole:
            expected = oracle.text(texts=texts, mask=mask) if entry.texts else oracle.vision(images=images)
            _judge_tower(clip, compare, out, expected, where=clip.real(texts, mask) if entry.texts else None, name=name)
            continue
        text, vision = oracle.text(texts=texts, mask=mask), oracle.vision(images=images)
        compare.close(
            out.text_model_output.last_hidden_state,
            text.last_hidden_state,
            name=f"text states {name}",
            where=clip.real(texts, mask)[:, :, None],
            module="text_model",
        )
        observed = out.vision_model_output.last_hidden_state
        compare.close(observed, vision.last_hidden_state, name=f"image states {name}", module="vision_model")
        head = oracle.forward(images=images, texts=texts, mask=mask)
        for field in ("text_embeds", "image_embeds", "logits_per_text", "logits_per_image"):
            compare.close(out[field], getattr(head, field), name=f"{field} {name}")


def _judge_tower(clip: Clip, compare: Compare, out: Any, expected: ExpectedTower, *, where: Any, name: str) -> None:
    """Compare the states of a tower alone, and its embedding or, without projection, its pooled state."""
    real = None if where is None else where[:, :, None]  # (texts, tokens, 1)
    compare.close(out.last_hidden_state, expected.last_hidden_state, name=f"states {name}", where=real)
    for field in entry_point(clip.holds.main_class).fields:
        if field != "last_hidden_state":
            value = expected.pooler_output if field == "pooler_output" else expected.projected
            compare.close(out[field], value, name=f"{field} {name}")
