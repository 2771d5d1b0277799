"""Faults of the contrastive head: projections, normalisation, scale, logits, loss."""

from __future__ import annotations

from typing import Any

from pytest import MonkeyPatch  # noqa: PT013 - the type, in signatures

from faults.fault import in_module, in_transformers
from faults.patching import change_output, modeling, replace

LOGITS = "reference_values.embeddings_and_logits"
FEATURES = "features.features_are_projected_and_not_normalised"
SYMMETRIC = "contrastive_head.logits_are_symmetric"
UNIT = "contrastive_head.embeddings_have_unit_norm"
FOLLOW = "contrastive_head.logits_follow_from_embeddings"
LOSS = "contrastive_head.loss_is_the_mean_of_both_cross_entropies"
LOSS_VALUE = "reference_values.loss"
SHAPES = "output_shapes.full_model_shapes"


@in_module("text_projection", LOGITS, FEATURES, "towers.projected_towers_give_the_features")
def text_projection_is_reshaped(projection: Any) -> None:
    """The text projection's matrix is reshaped where it should be transposed."""
    replace(projection, lambda original, x: x @ projection.weight.reshape(projection.weight.T.shape))


@in_module("visual_projection", LOGITS, FEATURES)
def image_projection_in_bfloat16(projection: Any) -> None:
    """The image projection of a float32 model multiplies in bfloat16."""
    import torch

    replace(projection, lambda original, x: (x.bfloat16() @ projection.weight.T.to(torch.bfloat16)).float())


@in_module("visual_projection", LOGITS, FEATURES)
def image_projection_gains_a_bias(projection: Any) -> None:
    """The image projection adds a small bias, which CLIP's has not."""
    replace(projection, lambda original, x: original(x) + 0.001)


@in_transformers(UNIT, LOGITS, diverges_at=("text_embeds", "image_embeds"))
def embeddings_are_not_normalised(patch: MonkeyPatch) -> None:
    """Embeddings are returned, and multiplied, at their own length."""
    _change_norm(patch, lambda norm, x: norm**0)


@in_transformers(UNIT, LOGITS, diverges_at=("text_embeds", "image_embeds"))
def embeddings_are_normalised_over_the_batch(patch: MonkeyPatch) -> None:
    """Embeddings are divided by the norm of each channel over the batch."""
    _change_norm(patch, lambda norm, x: x.norm(dim=0, keepdim=True))


@in_transformers(UNIT, LOGITS, diverges_at=("text_embeds", "image_embeds"))
def norms_have_an_epsilon(patch: MonkeyPatch) -> None:
    """A hundred-thousandth is added to each norm before the division."""
    _change_norm(patch, lambda norm, x: norm + 1e-5 * norm.mean())


@in_transformers(UNIT, LOGITS, diverges_at=("text_embeds", "image_embeds"))
def norms_are_those_of_the_first_row(patch: MonkeyPatch) -> None:
    """All embeddings are divided by the norm of the first one of the batch."""
    _change_norm(patch, lambda norm, x: norm[:1])


@in_transformers(FOLLOW, LOGITS, diverges_at=("logit_scale",))
def scale_is_not_exponentiated(patch: MonkeyPatch) -> None:
    """Logits are multiplied by logit_scale itself, not by its exponential."""
    _change_logits(patch, lambda logits, model: logits * (model.logit_scale / model.logit_scale.exp()))


@in_transformers(FOLLOW, LOGITS, diverges_at=("logit_scale",))
def scale_is_the_initial_one(patch: MonkeyPatch) -> None:
    """Logits are multiplied by the exponential of logit_scale_init_value, not of the trained weight."""
    _change_logits(
        patch, lambda logits, model: logits * (model.config.logit_scale_init_value - model.logit_scale).exp()
    )


@in_transformers(FOLLOW, SYMMETRIC, LOGITS, diverges_at=("logit_scale",))
def scale_goes_one_way_only(patch: MonkeyPatch) -> None:
    """Logits per image are bare cosines; logits per text are scaled."""

    def spoil(output: Any, model: Any, **_: Any) -> None:
        output.logits_per_image = output.logits_per_image / model.logit_scale.exp()

    change_output(patch, "CLIPModel", spoil)


@in_transformers(SYMMETRIC)
def directions_differ_in_the_last_bit(patch: MonkeyPatch) -> None:
    """Logits per image come from a second product, which rounds otherwise than the first."""
    import torch

    def spoil(output: Any, **_: Any) -> None:
        output.logits_per_image = torch.nextafter(output.logits_per_image, torch.zeros(()))

    change_output(patch, "CLIPModel", spoil)


@in_transformers(SYMMETRIC, LOGITS, diverges_at=("logit_scale",))
def logits_per_image_are_reshaped(patch: MonkeyPatch) -> None:
    """Logits per image have the right shape, by a reshape where a transpose belongs."""

    def spoil(output: Any, **_: Any) -> None:
        output.logits_per_image = output.logits_per_text.reshape(output.logits_per_image.shape)

    change_output(patch, "CLIPModel", spoil)


@in_transformers(SHAPES, SYMMETRIC, LOGITS, diverges_at=("logit_scale",))
def logits_per_image_are_not_transposed(patch: MonkeyPatch) -> None:
    """Logits per image are logits per text: the transpose is missing."""

    def spoil(output: Any, **_: Any) -> None:
        output.logits_per_image = output.logits_per_text

    change_output(patch, "CLIPModel", spoil)


@in_transformers(FOLLOW, diverges_at=("logit_scale",))
def logits_differ_where_images_outnumber_texts(patch: MonkeyPatch) -> None:
    """With more images than texts, and only then, the rows of the logits per text are in reverse."""

    def spoil(output: Any, **_: Any) -> None:
        if len(output.logits_per_image) > len(output.logits_per_text):
            output.logits_per_text = output.logits_per_text.flip(0)
            output.logits_per_image = output.logits_per_text.T

    change_output(patch, "CLIPModel", spoil)


@in_transformers(SHAPES, LOGITS)
def logits_change_places(patch: MonkeyPatch) -> None:
    """Logits per image and per text are exchanged."""

    def spoil(output: Any, **_: Any) -> None:
        output.logits_per_image, output.logits_per_text = output.logits_per_text, output.logits_per_image

    change_output(patch, "CLIPModel", spoil)


@in_transformers(SHAPES, LOGITS)
def embeddings_change_places(patch: MonkeyPatch) -> None:
    """text_embeds holds the image embeddings and image_embeds the text embeddings."""

    def spoil(output: Any, **_: Any) -> None:
        output.text_embeds, output.image_embeds = output.image_embeds, output.text_embeds

    change_output(patch, "CLIPModel", spoil)


@in_transformers(FOLLOW, LOGITS, diverges_at=("logit_scale",))
def logits_in_bfloat16(patch: MonkeyPatch) -> None:
    """Logits of a float32 model are rounded to bfloat16."""
    _change_logits(patch, lambda logits, model: logits.bfloat16().float())


@in_transformers(LOSS, LOSS_VALUE)
def loss_goes_one_way_only(patch: MonkeyPatch) -> None:
    """The loss is the cross entropy of texts over images alone."""
    _change_loss(patch, lambda per_text, per_image: per_text)


@in_transformers(LOSS, LOSS_VALUE)
def loss_is_the_sum(patch: MonkeyPatch) -> None:
    """The loss is the sum of both cross entropies, not their mean."""
    _change_loss(patch, lambda per_text, per_image: per_text + per_image)


@in_transformers(LOSS, LOSS_VALUE)
def loss_counts_one_row_less(patch: MonkeyPatch) -> None:
    """The loss is divided by one row less than there are."""
    _change_loss(patch, lambda per_text, per_image: (per_text + per_image) / 2 * 4 / 3)


@in_transformers("contrastive_head.loss_changes_nothing_else", LOSS)
def loss_scales_the_logits_again(patch: MonkeyPatch) -> None:
    """With return_loss the logits of the output are multiplied by a temperature of 0.5."""

    def spoil(output: Any, return_loss: Any = None, **_: Any) -> None:
        if return_loss:
            output.logits_per_text = output.logits_per_text * 0.5
            output.logits_per_image = output.logits_per_text.T

    change_output(patch, "CLIPModel", spoil)


def _change_norm(patch: MonkeyPatch, change: Any) -> None:
    original = modeling()._get_vector_norm
    patch.setattr(modeling(), "_get_vector_norm", lambda tensor: change(original(tensor), tensor))


def _change_logits(patch: MonkeyPatch, change: Any) -> None:
    def spoil(output: Any, model: Any, **_: Any) -> None:
        output.logits_per_text = change(output.logits_per_text, model)
        output.logits_per_image = output.logits_per_text.T

    change_output(patch, "CLIPModel", spoil)


def _change_loss(patch: MonkeyPatch, change: Any) -> None:
    """Make the loss of the cross entropies per text and per image."""
    module = modeling()
    name = "clip_loss" if hasattr(module, "clip_loss") else "image_text_contrastive_loss"
    one = module.contrastive_loss
    patch.setattr(module, name, lambda similarity: change(one(similarity), one(similarity.T)))
