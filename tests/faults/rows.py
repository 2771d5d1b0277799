"""Faults of rows, masks and places: rows that see each other, masks that hide the wrong tokens, other pooling."""

from __future__ import annotations

from typing import Any

from pytest import MonkeyPatch  # noqa: PT013 - the type, in signatures

from faults.attention import change_mask, drop_causality
from faults.fault import in_module, in_transformers
from faults.patching import change_input, change_output, change_tower, text_tower, vision_tower, wrap

FAINT = 1e-9
"""Of a state's size: far below what rounding explains, and no less wrong."""

NEIGHBOURS = "batches.neighbours_do_not_matter"
ALONE = "batches.a_row_alone_is_the_same"
COUNT = "batches.order_and_count_do_not_matter"
ORDER = "batches.logits_follow_the_order_of_rows"
LATER = "masks.later_tokens_change_nothing_before_them"
AFTER_END = "masks.nothing_after_the_end_changes_a_text"
UNDER_MASK = "masks.ids_under_the_mask_do_not_matter"
ONES = "masks.a_mask_of_ones_is_no_mask"
DTYPES = "masks.masks_of_every_dtype_mean_the_same"
LEFT = "masks.left_padding_moves_the_text_and_not_the_pooling"
COUNTED = "masks.positions_count_from_zero_by_default"
GIVEN = "masks.given_positions_are_used"
POOLED = "pooling.a_text_is_pooled_at_its_first_end"
RULES = "pooling.both_rules_hold"


@in_module("vision_model.encoder.layers.1", NEIGHBOURS, diverges_at=())
def mean_of_the_batch_is_subtracted(layer: Any) -> None:
    """A vision layer subtracts a trace of the mean over the batch, as a normalisation with a small factor would."""
    change_input(layer, lambda x: x - FAINT * 1e3 * x.mean(0, keepdim=True))


@in_module("text_model.encoder.layers.1", NEIGHBOURS, diverges_at=())
def texts_attend_to_their_neighbours(layer: Any) -> None:
    """A text layer mixes a trace of the text before it in the batch into each text."""
    change_input(layer, lambda x: x + FAINT * 1e3 * x.roll(1, dims=0))


@in_transformers(ALONE)
def a_single_text_is_pooled_at_its_last_token(patch: MonkeyPatch) -> None:
    """A batch of one text takes a shortcut that pools at the last position."""

    def shortcut(output: Any, **_: Any) -> None:
        if len(output.last_hidden_state) == 1:
            output.pooler_output = output.last_hidden_state[:, -1]

    change_tower(patch, text_tower(), shortcut)


@in_transformers(ALONE)
def a_single_image_is_flipped(patch: MonkeyPatch) -> None:
    """A batch of one image loses an axis on its way, and gets it back in the wrong place: the image is transposed."""

    def forward(original: Any, self: Any, pixel_values: Any = None, **kwargs: Any) -> Any:
        return original(self, pixel_values.transpose(2, 3) if len(pixel_values) == 1 else pixel_values, **kwargs)

    wrap(patch, vision_tower(), "forward", forward)


@in_transformers(COUNT)
def a_second_chunk_gets_the_answers_of_the_first(patch: MonkeyPatch) -> None:
    """Batches of more than eight images run in chunks, and the second chunk returns what the first did."""
    _in_chunks(patch, vision_tower(), 8)


@in_transformers(COUNT)
def texts_beyond_ten_get_the_answers_of_the_first(patch: MonkeyPatch) -> None:
    """The text tower keeps room for ten texts, and starts again from its beginning for those beyond."""
    _in_chunks(patch, text_tower(), 10)


@in_transformers(ORDER)
def classifier_is_kept_by_shape(patch: MonkeyPatch) -> None:
    """CLIPModel keeps the text embeddings of a zero-shot classifier by their number, and uses them for other texts."""
    kept: dict[Any, Any] = {}

    def reuse(output: Any, model: Any, **_: Any) -> None:
        shape = (id(model), tuple(output.text_embeds.shape))
        output.text_embeds = kept.setdefault(shape, output.text_embeds.detach().clone())
        scale = model.logit_scale.exp()
        output.logits_per_text = output.text_embeds @ output.image_embeds.T * scale
        output.logits_per_image = output.logits_per_text.T

    change_output(patch, "CLIPModel", reuse)


@in_module("text_model.encoder.layers.2", LATER, diverges_at=())
def the_future_leaks_faintly(layer: Any) -> None:
    """A text layer adds a trace of the last token's state to every token."""
    change_input(layer, lambda x: x + FAINT * 1e3 * x[:, -1:])


@in_transformers(AFTER_END, diverges_at=())
def pooling_mixes_in_the_last_token(patch: MonkeyPatch) -> None:
    """The pooled state of a text holds a trace of the state of its last position."""

    def mix(output: Any, **_: Any) -> None:
        output.pooler_output = output.pooler_output + FAINT * 1e3 * output.last_hidden_state[:, -1]

    change_tower(patch, text_tower(), mix)


@in_transformers(UNDER_MASK, diverges_at=())
def masked_tokens_count_a_little(patch: MonkeyPatch) -> None:
    """Masked tokens keep a trace of weight: their ids reach the states of real tokens."""

    def reach(output: Any, input_ids: Any = None, attention_mask: Any = None, **_: Any) -> None:
        if attention_mask is not None:
            hidden = (input_ids * (attention_mask == 0)).sum(-1)[:, None, None]
            output.last_hidden_state = output.last_hidden_state * (1 + FAINT * hidden)

    change_tower(patch, text_tower(), reach)


@in_transformers(ONES, diverges_at=("text_model",))
def a_mask_of_ones_drops_causality(patch: MonkeyPatch) -> None:
    """A mask of ones is taken for no mask at all: the causal mask goes with it."""
    drop_causality(patch, lambda mask: mask is not None and bool((mask == 1).all()))


@in_transformers(DTYPES)
def boolean_masks_are_inverted(patch: MonkeyPatch) -> None:
    """A boolean mask is read as in torch's attention modules, where True hides a token."""
    change_mask(patch, lambda mask: ~mask if str(mask.dtype) == "torch.bool" else mask)


@in_transformers(DTYPES)
def masks_of_bytes_are_ignored(patch: MonkeyPatch) -> None:
    """A mask of uint8 underflows where it is inverted, and hides nothing."""
    change_mask(patch, lambda mask: mask.new_ones(mask.shape) if str(mask.dtype) == "torch.uint8" else mask)


@in_transformers(DTYPES)
def masks_of_floats_hide_nothing(patch: MonkeyPatch) -> None:
    """A mask of floating-point numbers is added to the scores as it is, as if it were additive."""
    change_mask(patch, lambda mask: mask.new_ones(mask.shape) if mask.is_floating_point() else mask)


@in_transformers(LEFT, diverges_at=("text_model",))
def positions_follow_the_mask(patch: MonkeyPatch) -> None:
    """Positions count real tokens only, as in decoders: masks inside a text and on its left move what follows."""

    def forward(original: Any, self: Any, *args: Any, position_ids: Any = None, **kwargs: Any) -> Any:
        mask = kwargs.get("attention_mask")
        if position_ids is None and mask is not None:
            position_ids = (mask.long().cumsum(-1) - 1).clamp(min=0)
        return original(self, *args, position_ids=position_ids, **kwargs)

    wrap(patch, text_tower(), "forward", forward)


@in_transformers(LEFT)
def pooling_skips_masked_ends(patch: MonkeyPatch) -> None:
    """The text tower pools at the first end token that is not masked: a repair that changes left-padded embeddings."""

    def pool(output: Any, model: Any, input_ids: Any, attention_mask: Any = None, **_: Any) -> None:
        if attention_mask is not None and model.eos_token_id != 2:
            ends = (input_ids == model.eos_token_id) & (attention_mask != 0)
            output.pooler_output = output.last_hidden_state[range(len(input_ids)), ends.int().argmax(-1)]

    change_tower(patch, text_tower(), pool)


@in_transformers(COUNTED, GIVEN)
def given_positions_count_from_one(patch: MonkeyPatch) -> None:
    """Position ids that are given are taken to count from one, as in RoBERTa."""
    _change_positions(patch, lambda ids: (ids - 1).clamp(min=0))


@in_transformers(GIVEN)
def given_positions_are_ignored(patch: MonkeyPatch) -> None:
    """Position ids that are given are dropped in favour of the default."""
    _change_positions(patch, lambda ids: None)


@in_transformers(POOLED, RULES)
def a_text_without_end_is_pooled_at_its_last_token(patch: MonkeyPatch) -> None:
    """A text without an end token is pooled at its last position instead of its first."""

    def pool(output: Any, model: Any, input_ids: Any, **_: Any) -> None:
        if model.eos_token_id != 2:
            ends = (input_ids == model.eos_token_id).int()
            where = ends.argmax(-1).where(ends.any(-1), ends.new_full((), ends.shape[-1] - 1))
            output.pooler_output = output.last_hidden_state[range(len(input_ids)), where]

    change_tower(patch, text_tower(), pool)


@in_transformers(RULES)
def legacy_rule_is_dropped(patch: MonkeyPatch) -> None:
    """A checkpoint with the legacy eos_token_id 2 is pooled at token 2; this one is not affected."""
    _pool_legacy(patch, lambda ids: (ids == 2).int().argmax(-1))


@in_transformers(RULES)
def legacy_rule_takes_the_last_of_the_largest(patch: MonkeyPatch) -> None:
    """A checkpoint with the legacy eos_token_id 2 is pooled at the last of the largest ids, not the first."""
    _pool_legacy(patch, lambda ids: ids.shape[-1] - 1 - ids.flip(-1).argmax(-1))


def _in_chunks(patch: MonkeyPatch, tower: Any, size: int) -> None:
    """Rows beyond `size` get the answers of the first ones."""

    def repeat(output: Any, **_: Any) -> None:
        for name in ("last_hidden_state", "pooler_output"):
            rows = getattr(output, name)
            if len(rows) > size:
                where = [row % size for row in range(len(rows))]
                setattr(output, name, rows[where])

    change_tower(patch, tower, repeat)


def _change_positions(patch: MonkeyPatch, change: Any) -> None:
    def forward(original: Any, self: Any, *args: Any, position_ids: Any = None, **kwargs: Any) -> Any:
        return original(self, *args, position_ids=None if position_ids is None else change(position_ids), **kwargs)

    wrap(patch, text_tower(), "forward", forward)


def _pool_legacy(patch: MonkeyPatch, position: Any) -> None:
    def pool(output: Any, model: Any, input_ids: Any, **_: Any) -> None:
        if model.eos_token_id == 2:
            output.pooler_output = output.last_hidden_state[range(len(input_ids)), position(input_ids)]

    change_tower(patch, text_tower(), pool)
