"""The contrastive head: unit embeddings, scaled cosines, symmetric logits, the loss (Radford et al. 2021, figure 3)."""

from __future__ import annotations

import numpy as np
import pytest

from clip_eval.oracle.expected.identities import logits_from_embeddings, loss_from_logits, unit_norms
from clip_eval.subject.observations import Clip
from clip_eval.verdict.compare import Compare, to_array

SQUARE = 4


@pytest.mark.parametrize("mask", ["padding", "interior", "none"])
def test_logits_are_symmetric(clip: Clip, compare: Compare, mask: str) -> None:
    """Logits per image are the exact transpose of logits per text.

    Both are views of one product; a second product, a second scale or a missing transpose breaks retrieval in one
    direction only.
    """
    out = clip.forward(images=3, texts=5, mask=mask)  # rectangular, so a missing transpose has the wrong shape
    compare.equal(out.logits_per_image, out.logits_per_text.T, name="logits_per_image against logits_per_text.T")


def test_embeddings_have_unit_norm(clip: Clip, compare: Compare) -> None:
    """Text and image embeddings of CLIPModel have L2 norm 1."""
    out = clip.forward(images=3, texts=5)
    for name in ("text_embeds", "image_embeds"):
        embeddings = to_array(out[name])  # (rows, projection)
        norms = np.linalg.norm(embeddings, axis=-1)  # (rows,)
        compare.close(norms, unit_norms(embeddings, clip.runtime.precision), name=f"norm of {name}", module=name)


@pytest.mark.parametrize(("images", "texts"), [(3, 5), (4, 2)], ids=str)
def test_logits_follow_from_embeddings(clip: Clip, compare: Compare, images: int, texts: int) -> None:
    """Logits per text are exp(logit_scale) times the cosines of the returned embeddings, with more texts or more
    images.
    """
    out = clip.forward(images=images, texts=texts)
    weights = clip.checkpoint.weights(clip.dtype)
    scale, bias = float(weights["logit_scale"]), clip.family.network.logit_bias(weights)
    embeddings = (to_array(out.text_embeds), to_array(out.image_embeds))
    expected = logits_from_embeddings(*embeddings, scale, clip.runtime.precision, bias=bias)  # (texts, images)
    compare.close(out.logits_per_text, expected, name="logits_per_text", module="logit_scale")
    compare.close(out.logits_per_image, expected.transposed, name="logits_per_image", module="logit_scale")


@pytest.mark.needs("options")
def test_loss_is_the_mean_of_both_cross_entropies(clip: Clip, compare: Compare) -> None:
    """With return_loss the loss is the mean of the cross entropies over the diagonal, in both directions.

    Documented with shape (1,), a scalar in every release; a scalar is asserted.
    """
    out = clip.forward(images=SQUARE, texts=SQUARE, return_loss=True)
    expected = loss_from_logits(to_array(out.logits_per_text), clip.runtime.precision)
    compare.close(out.loss, expected, name="loss")


@pytest.mark.needs("options")
def test_loss_changes_nothing_else(clip: Clip, compare: Compare) -> None:
    """Requesting the loss leaves every other output unchanged."""
    plain = clip.forward(images=SQUARE, texts=SQUARE)
    out = clip.forward(images=SQUARE, texts=SQUARE, return_loss=True)
    compare.equal(list(out.keys()), ["loss", *plain.keys()], name="fields with return_loss")
    for name in ("logits_per_image", "logits_per_text", "text_embeds", "image_embeds"):
        compare.equal(out[name], plain[name], name=f"{name} with return_loss")
