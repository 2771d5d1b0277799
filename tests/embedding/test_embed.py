"""Embeddings of images and texts, against the model's own."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from support.small_clip import write_small_clip

from clip_eval.checkpoint.checkpoint import open_checkpoint
from clip_eval.embedding.embed import embed_images, embed_texts, unit
from clip_eval.errors import DatasetError
from clip_eval.subject import Subject


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A small random checkpoint with its processor."""
    return Subject(open_checkpoint(write_small_clip(tmp_path_factory.mktemp("small"))), "float32")


def test_embeddings_are_those_of_the_model(subject: Subject) -> None:
    """Unit rows, equal to CLIPModel's own normalised embeddings of what the processor makes."""
    images = [Image.effect_noise((40, 50), 60), Image.new("RGBA", (33, 90), (9, 90, 200, 255))]
    texts = ["a red dog", "a cat"]
    processors = subject.processors
    batch = processors.process(processors.load(), text=texts, images=images, padding=True, return_tensors="pt")
    out = subject.model("CLIPModel")(**batch)
    for observed, expected in (
        (embed_images(subject, images), out.image_embeds),
        (embed_texts(subject, texts), out.text_embeds),
    ):
        assert observed.dtype == np.float64
        np.testing.assert_allclose(observed, expected.detach().numpy(), atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(observed, axis=1), 1, atol=1e-12)


def test_texts_may_fill_several_batches(subject: Subject) -> None:
    """A text's embedding does not depend on the batch it is in, whose padding differs."""
    texts = ["a red dog " * (index % 3) + "cat" for index in range(70)]
    together = embed_texts(subject, texts)
    assert together.shape == (70, 24)
    np.testing.assert_allclose(together[69], embed_texts(subject, texts[69:])[0], atol=1e-5)


def test_unit_of_what_has_no_direction_is_nan() -> None:
    """Zero, infinite and NaN vectors have no direction, and no number stands in for one."""
    found = unit(np.array([[3.0, 4.0], [0.0, 0.0], [np.inf, 1.0], [np.nan, 1.0]]))
    np.testing.assert_allclose(found[0], [0.6, 0.8])
    assert np.isnan(found[1:]).any(axis=1).all()


def test_long_texts_are_refused(subject: Subject) -> None:
    """A prompt with more tokens than the model has positions is an error: cut off, it is another prompt."""
    with pytest.raises(DatasetError, match="has 102 tokens, and the model takes 16"):
        embed_texts(subject, ["cat", "cat " * 100])
