"""The model under torch.compile, judged on request: the first call takes tens of seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from clip_eval.oracle.expected.outputs import Oracle
from clip_eval.run.evidence import Evidence
from clip_eval.run.session import Session
from clip_eval.subject import compiler_problem
from clip_eval.subject.observations import Clip
from clip_eval.verdict.compare import Compare

pytestmark = pytest.mark.needs("compile")


@pytest.fixture
def compiled(clip_session: Session, clip: Clip, evidence: Evidence) -> Callable[..., Any]:
    """CLIPModel under torch.compile."""
    if not clip_session.settings.compile:
        evidence.not_applicable("add --compile to have it judged")
    if problem := compiler_problem(clip_session.settings.device):
        evidence.not_run(problem)
    return clip.subject.compiled("CLIPModel")


def test_outputs_are_those_of_the_reference(
    clip: Clip, oracle: Oracle, compare: Compare, compiled: Callable[..., Any]
) -> None:
    """Under torch.compile every state, embedding and logit of CLIPModel is what the weights and inputs determine.

    Called twice, since the first call compiles the code that the second one runs. Fused kernels round less often than
    the bounds allow.
    """
    images, texts, mask = 3, 4, "interior"
    for call in ("first", "second"):
        out = compiled(**clip.subject.tensors({**clip.images(images), **clip.texts(texts, mask)}))
        name = f"of the {call} call, compiled"
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
