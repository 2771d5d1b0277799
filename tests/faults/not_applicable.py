"""The checks that do not apply to a part of a CLIP, with the reasons: what a part could answer is not left out.

A case that names a class, a method or an input that the part has not needs no entry here, see `names_what_it_lacks`;
nor does what was not asked for, and what this release or environment has not (`OTHER_REASONS`).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from clip_eval.families.holding import HOLDINGS, Holding
from clip_eval.families.roles import CLASSIFIER, MODEL_CLASSES, TEXT, TEXT_PROJECTED, VISION, VISION_PROJECTED, WHOLE
from clip_eval.verdict.run_record import CheckResult, RunRecord

__all__ = ["LEFT_OUT", "LeftOut", "answered", "expected_of", "left_out"]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Checks that do not apply to some parts for one reason, as ids, or as chapters of which all do not."""

    reason: str
    parts: tuple[str, ...]
    checks: str

    def names(self) -> set[str]:
        """Ids and chapters."""
        return set(self.checks.split())


TEXTS, IMAGES = (TEXT, TEXT_PROJECTED), (VISION, VISION_PROJECTED, CLASSIFIER)

LEFT_OUT = (
    LeftOut(
        "they are about logits, loss, features, nested outputs or the config of the whole model",
        (*TEXTS, *IMAGES),
        """
        batches.logits_follow_the_order_of_rows contrastive_head features modules.head
        option_values.options_in_a_nested_config option_values.return_dict_in_a_nested_config
        output_objects.loss_comes_first output_shapes.feature_shapes output_shapes.full_model_shapes
        output_shapes.nested_output_shapes reference_values.embeddings_and_logits reference_values.loss
        reference_values.nested_towers refusals.losses_of_unequal_counts towers.nested_pooled_states_are_the_towers_own
        towers.text_model_is_the_nested_one towers.vision_model_is_the_nested_one
        """,
    ),
    LeftOut(
        "they are about a processor of texts and images",
        (*TEXTS, *IMAGES),
        "processor.texts_and_images_do_not_mix tokenizer.processors_cut_no_text_unasked",
    ),
    LeftOut(
        "they are about embeddings, and there is no projection",
        (TEXT, VISION, CLASSIFIER),
        """
        output_shapes.tower_with_projection_shapes towers.projected_towers_agree_with_the_plain_ones
        towers.projected_towers_give_the_features
        """,
    ),
    LeftOut(
        "they are about images",
        TEXTS,
        """
        calling_conventions.whole_numbers_are_pixels interpolation.other_sizes_are_embedded_right pixel_inputs
        pixel_options pixels reference_values.vision_tower
        """,
    ),
    LeftOut(
        "they are about texts",
        IMAGES,
        """
        masks pooling reference_values.short_texts reference_values.text_tower token_batches tokenizer
        """,
    ),
    LeftOut(
        "they are about CLIPForImageClassification, which is loaded from a whole model or from its own files",
        (TEXT, TEXT_PROJECTED, VISION, VISION_PROJECTED),
        "image_classification",
    ),
)

WITHOUT_IMAGE_PROCESSOR = LeftOut(
    "an image encoder needs no image processor, and there is none to judge",
    IMAGES,
    "pixel_inputs pixel_options pixels processor.every_class_builds_one processor.keys_are_the_documented_ones",
)

OTHER_REASONS = re.compile(
    r"no --(baseline|dataset|converted-from) was given|--no-throughput was given|add --compile|judged in float32"
    r"|this release has no |the fast image processor needs torchvision|the config has attention_dropout"
    r"|there is no \w+ here: it is of other releases|no \w+ can be used here|the tokenizer written in Python needs"
    r"|transformers [\d.]+ has no \w+ that can be used here|AutoTokenizer knows no tokenizer by the model_type"
    r"|transformers [\d.]+ does not document this"
    r"|the checkpoint has no (vocab|tokenizer|special_tokens_map|added_tokens)\.json|the checkpoint has no merges\.txt"
)
"""Reasons that are of the run, the release that wrote the files or the environment, and not of the part."""

_CLASSES = (*MODEL_CLASSES, CLASSIFIER, "get_text_features", "get_image_features")
_PIXELS = ("images", "AutoImageProcessor", "CLIPImageProcessor", "CLIPImageProcessorPil", "CLIPImageProcessorFast")
_TOKENS = ("texts", "AutoTokenizer", "CLIPTokenizer", "CLIPTokenizerFast")


def names_what_it_lacks(case: str | None, holding: Holding) -> bool:
    """Whether a case names a class, a method or an input that a part of a model has not."""
    lacking = {*_CLASSES, "AutoProcessor", "CLIPProcessor"} - {name for name in _CLASSES if name in holding.classes}
    lacking |= set(_PIXELS if holding.texts else _TOKENS)
    return bool(lacking & set(re.split(r"[-.(]", case or "")))


def left_out(record: RunRecord, role: str) -> set[str]:
    """The ids of checks that did not apply to a part, in a case that neither its name nor `OTHER_REASONS` explains."""
    holding = HOLDINGS[role]
    return {check.id for check in record.checks if _is_left_out(check, holding)}


def _is_left_out(check: CheckResult, holding: Holding) -> bool:
    if check.outcome != "not_applicable" or names_what_it_lacks(check.case, holding):
        return False
    return not OTHER_REASONS.match(check.reason or "")


def answered(record: RunRecord, names: Collection[str]) -> set[str]:
    """The ids among some of which a case was judged after all."""
    return {check.id for check in record.checks if check.id in names and check.outcome != "not_applicable"}


def expected_of(role: str, known: Collection[str], *, image_processor: bool = True) -> set[str]:
    """The ids that `LEFT_OUT` names for a part.

    Args:
        role: of the part.
        known: the ids of all checks.
        image_processor: whether an image encoder has one.

    Raises:
        AssertionError: an entry names no check or chapter.
    """
    assert role != WHOLE
    entries = [entry for entry in LEFT_OUT if role in entry.parts]
    if role in IMAGES and not image_processor:
        entries.append(WITHOUT_IMAGE_PROCESSOR)
    found = set()
    for name in {name for entry in entries for name in entry.names()}:
        named = {one for one in known if name in (one, one.partition(".")[0])}
        assert named, f"{name} is no check"
        found |= named
    return found
