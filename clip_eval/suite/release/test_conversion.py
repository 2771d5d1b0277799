"""A conversion against the checkpoint of another library that it was made from: weights, config, image processor.

A conversion that went wrong is a sound CLIP, and another one: every other check compares it with its own files.
"""

from __future__ import annotations

import pytest

from clip_eval.checkpoint.checkpoint import Checkpoint
from clip_eval.checkpoint.conversion import ConfigDifference, config_differences, holds, tensor_differences
from clip_eval.checkpoint.original import Original, original_beside
from clip_eval.errors import CheckpointError
from clip_eval.families.config import LEGACY_EOS_TOKEN_ID
from clip_eval.families.family import SourceSettings, Stated
from clip_eval.oracle.preprocessing.pixel_settings import settings_of
from clip_eval.oracle.preprocessing.tokenizer_files import read_tokenizer_files
from clip_eval.run.evidence import Evidence
from clip_eval.run.session import Session
from clip_eval.suite._conversion import (
    ACTIVATIONS,
    END,
    config_finding,
    network_of,
    network_to_write,
    pixel_differences,
    pixel_file,
    pixels_to_write,
    to_write,
    weights_finding,
)
from clip_eval.verdict.compare import Compare


@pytest.fixture
def checkpoint(clip_session: Session) -> Checkpoint:
    """The conversion on disk."""
    return clip_session.candidate.checkpoint


@pytest.fixture
def original(clip_session: Session, evidence: Evidence) -> Original:
    """What it was converted from."""
    if clip_session.original is None:
        evidence.not_applicable("no --converted-from was given")
    return clip_session.original


@pytest.fixture
def settings(original: Original, evidence: Evidence) -> SourceSettings:
    """What the original's config says."""
    if original.settings is None:
        evidence.not_run(f"there is no {original.library}_config.json beside {original.file}")
    return original.settings


def test_every_weight_is_the_original(
    clip_session: Session, checkpoint: Checkpoint, evidence: Evidence, compare: Compare
) -> None:
    """Every tensor is the original's, bit for bit after rounding to the dtype that it is stored in, and none is missing
    or left over.

    A projection that was not transposed, or queries and keys that changed places, have the right shapes: the model
    loads, and computes something else.
    """
    original = clip_session.original
    if original is None:
        if beside := original_beside(checkpoint):
            what = f"{beside.name} lies beside the weights: --converted-from {beside.parent} compares them with it."
            evidence.note(what)
        evidence.not_applicable("no --converted-from was given")
    network = network_of(checkpoint, original.settings)
    found = tuple(tensor_differences(checkpoint, original))
    if unexplained := [difference for difference in found if not network.explains(difference)]:
        raise weights_finding(unexplained, checkpoint, original)
    if found:
        raise network.refer(f"{len(found)} tensors are not of the original's shape, as the config says")
    compare.equal(len(found), 0, name=f"tensors of {len(checkpoint.tensors)} that are not the original's")


def test_network_is_the_original(
    checkpoint: Checkpoint, original: Original, settings: SourceSettings, compare: Compare
) -> None:
    """Widths, depths, heads, context length, vocabulary, patches, resolution, layer norms and projection are those of
    the original's config.

    No tensor shows the heads or the epsilon. A network that CLIPModel cannot compute, such as one that averages its
    patches, cannot be converted.
    """
    network = network_of(checkpoint, settings)
    if network.differences or network.foreign:
        file, fix = str(checkpoint.path / "config.json"), network_to_write(network, checkpoint)
        raise config_finding(network.differences, original, file, fix, network.foreign)
    compare.equal(len(network.differences), 0, name="sizes that are not the original's")


def test_activation_is_the_original(
    checkpoint: Checkpoint, original: Original, settings: SourceSettings, compare: Compare
) -> None:
    """Both towers use the activation that the original was trained with, GELU or its sigmoid approximation, quick_gelu.

    A wrong one leaves every weight in place and costs some points of accuracy, in silence.
    """
    stated = {field: settings.config[field] for field in ACTIVATIONS if field in settings.config}
    wrong = config_differences(checkpoint, stated)
    if wrong:
        fix = f"Write {to_write(wrong, checkpoint)}"
        raise config_finding(wrong, original, str(checkpoint.path / "config.json"), fix)
    compare.equal(len(wrong), 0, name="activations that are not the original's")


def test_texts_are_pooled_as_in_the_original(
    checkpoint: Checkpoint, original: Original, settings: SourceSettings, evidence: Evidence, compare: Compare
) -> None:
    """A text's state is taken at the token where the original takes it.

    open_clip takes the largest id of a text, which is the end's in CLIP's vocabulary, or the first place of `eos_id`.
    transformers takes the first place of `eos_token_id`, and the largest id where that is 2.
    """
    if not holds(checkpoint, "text_config"):
        evidence.not_applicable("the checkpoint holds no text tower")
    if END not in settings.config:
        raise network_of(checkpoint, settings).refer("the original pools texts by another rule")
    stated, last = settings.config[END], _largest_id(checkpoint)
    rule = None if stated.value == last else stated.value
    towers = (("", checkpoint.config), ("the classes of one tower", checkpoint.standalone_config))
    ends = {readers: config.text.eos_token_id for readers, config in towers}
    wrong = [
        ConfigDifference(END, end, readers, Stated(last if rule is None else rule, stated.says))
        for readers, end in ends.items()
        if rule != (None if end in (LEGACY_EOS_TOKEN_ID, last) else end)
    ][:1]
    if wrong:
        fix = f"Write {to_write(wrong, checkpoint)}"
        raise config_finding(wrong, original, str(checkpoint.path / "config.json"), fix)
    compare.equal(len(wrong), 0, name="classes that pool texts elsewhere than the original")


def test_images_are_preprocessed_as_in_the_original(
    checkpoint: Checkpoint, original: Original, settings: SourceSettings, evidence: Evidence, compare: Compare
) -> None:
    """Mean, spread, filter, resizing and cropping of the image processor are those of the original's config."""
    if not holds(checkpoint, "vision_config"):
        evidence.not_applicable("the checkpoint holds no vision tower")
    if absence := checkpoint.image_processor_absence:
        evidence.absent(absence)
    network = network_of(checkpoint, settings)
    resized = any(found.field == "vision_config.image_size" for found in network.differences)
    wrong = pixel_differences(settings_of(checkpoint), settings.pixels)
    unexplained = [found for found in wrong if not (resized and found.field in ("size", "crop_size"))]
    if unexplained:
        raise config_finding(unexplained, original, pixel_file(checkpoint), pixels_to_write(unexplained))
    if wrong:
        raise network.refer("images are prepared for another resolution, as the config says")
    compare.equal(len(wrong), 0, name="settings that are not the original's")


def _largest_id(checkpoint: Checkpoint) -> int:
    """The largest id that a text can have."""
    try:
        files = read_tokenizer_files(checkpoint.processor_path)
    except CheckpointError:  # none, or damaged, which other checks say
        return checkpoint.config.text.vocab_size - 1
    return max((*files.vocabulary.values(), *(token.id for token in files.added)))
