"""Probes: deterministic inputs that can tell a wrong model from a right one."""

from __future__ import annotations

import numpy as np
import pytest

from clip_eval.families.config import LEGACY_EOS_TOKEN_ID, ClipConfig, TextConfig, VisionConfig
from clip_eval.probes.batches import MOST_ROWS, Batch, end_token_id, make_batch
from clip_eval.probes.images import make_pictures
from clip_eval.probes.texts import TEXTS

SMALL = TextConfig(
    hidden_size=8, num_attention_heads=2, max_position_embeddings=16, vocab_size=50, bos_token_id=40, eos_token_id=41
)
CONFIGS = {
    "small": SMALL,
    "default": TextConfig(),
    "legacy": TextConfig(eos_token_id=LEGACY_EOS_TOKEN_ID, bos_token_id=0),
    "end token last": TextConfig(vocab_size=42, max_position_embeddings=12, bos_token_id=40, eos_token_id=41),
    "short": TextConfig(vocab_size=50, max_position_embeddings=4, bos_token_id=40, eos_token_id=41),
    "two tokens": TextConfig(vocab_size=50, max_position_embeddings=2, bos_token_id=40, eos_token_id=41),
    "one token": TextConfig(vocab_size=50, max_position_embeddings=1, bos_token_id=40, eos_token_id=41),
    "no begin": TextConfig(vocab_size=50, max_position_embeddings=9, bos_token_id=None, eos_token_id=41),
    "tiny vocabulary": TextConfig(vocab_size=4, max_position_embeddings=9, bos_token_id=1, eos_token_id=3),
    "end token first": TextConfig(vocab_size=9, max_position_embeddings=9, bos_token_id=1, eos_token_id=0),
}
every_config = pytest.mark.parametrize("text", CONFIGS.values(), ids=CONFIGS)


def batch_of(text: TextConfig) -> Batch:
    """The batch of a config with a small vision tower."""
    return make_batch(ClipConfig(text, VisionConfig(image_size=32, patch_size=8)))


@every_config
def test_ids_lie_within_the_vocabulary(text: TextConfig) -> None:
    """Whatever the config, ids are int64 within the embedding table and every text has the model's length."""
    batch = batch_of(text)
    assert batch.input_ids.dtype == np.int64
    assert batch.input_ids.shape == (MOST_ROWS, text.max_position_embeddings)
    assert batch.input_ids.min() >= 0
    assert batch.input_ids.max() < text.vocab_size


@every_config
def test_masks_cover_a_prefix(text: TextConfig) -> None:
    """The attention mask is 1 on the text and 0 on the padding, and the text's last token is the end token."""
    batch = batch_of(text)
    for ids, mask in zip(batch.input_ids, batch.attention_mask, strict=True):
        length = int(mask.sum())
        assert np.array_equal(mask, np.arange(len(mask)) < length)
        assert ids[length - 1] == end_token_id(text)
        assert np.all(ids[length:] == end_token_id(text)), "padded as CLIP's tokenizer pads"


@every_config
def test_hidden_tokens_lie_inside(text: TextConfig) -> None:
    """The interior mask hides tokens of the text and never the first: a query keeps a key to attend to."""
    batch = batch_of(text)
    assert np.all(batch.interior_mask <= batch.attention_mask)
    assert np.all(batch.interior_mask[:, 0] == 1)
    assert batch.interior_mask is not batch.attention_mask
    if text.max_position_embeddings > 2:
        assert np.all(batch.interior_mask.sum(axis=1) < batch.attention_mask.sum(axis=1))


def test_texts_tell_pooling_rules_apart() -> None:
    """Pooling at the first end token, the last one, the largest id, and the last position all differ on some text."""
    batch, end = batch_of(SMALL), SMALL.eos_token_id
    is_end = batch.input_ids == end  # (texts, tokens)
    first = is_end.argmax(axis=1)  # (texts,)
    last_real = batch.attention_mask.sum(axis=1) - 1  # (texts,)
    largest = batch.input_ids.argmax(axis=1)  # (texts,)
    assert np.any(first != last_real)
    assert np.any(first != largest)
    assert np.any(first != batch.input_ids.shape[1] - 1)
    assert np.any(batch.input_ids.max(axis=1) > end), "an added token's id exceeds the end token's"


def test_lengths_differ() -> None:
    """Texts fill the model's length, the shortest is begin, one token, end."""
    lengths = batch_of(SMALL).attention_mask.sum(axis=1)
    assert lengths.max() == SMALL.max_position_embeddings
    assert lengths.min() == 3
    assert len(set(lengths.tolist())) >= 4


def test_a_batch_is_the_same_every_time() -> None:
    """Two batches of one config agree in every element: nothing depends on a clock or a global random state."""
    first, second = batch_of(SMALL), batch_of(SMALL)
    np.random.default_rng().random()
    for name in ("pixel_values", "input_ids", "attention_mask", "interior_mask"):
        assert np.array_equal(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_as_after_normalisation(channels: int) -> None:
    """Pixels are float32 of about unit variance, every image and patch differs, and the shape is the config's."""
    vision = VisionConfig(image_size=40, patch_size=8, num_channels=channels)
    pixels = make_batch(ClipConfig(SMALL, vision)).pixel_values
    assert pixels.shape == (MOST_ROWS, channels, 40, 40)
    assert pixels.dtype == np.float32
    assert 0.3 < pixels.std() < 2.0
    patches = pixels.reshape(MOST_ROWS, channels, 5, 8, 5, 8).transpose(0, 2, 4, 1, 3, 5).reshape(MOST_ROWS * 25, -1)
    distances = np.linalg.norm(patches[:, None] - patches[None], axis=-1)  # (patches, patches)
    assert distances[~np.eye(len(patches), dtype=bool)].min() > 0.5


def test_masks_are_chosen_by_name() -> None:
    """A mask is chosen by its kind, and there are no others."""
    batch = batch_of(SMALL)
    assert batch.mask("padding") is batch.attention_mask
    assert batch.mask("interior") is batch.interior_mask
    with pytest.raises(KeyError):
        batch.mask("none")


def test_the_legacy_end_token_is_the_largest_id() -> None:
    """Configs of before the end token was corrected say 2 and mean the vocabulary's largest id."""
    assert end_token_id(CONFIGS["legacy"]) == TextConfig().vocab_size - 1
    assert end_token_id(SMALL) == 41


def test_pictures_differ_in_what_processors_get_wrong() -> None:
    """Pictures have both orientations, sizes above and below a crop, odd sides, and the modes that files come in."""
    pictures = make_pictures()
    assert {picture.mode for picture in pictures.values()} == {"RGB", "L", "P", "RGBA", "CMYK"}
    widths, heights = zip(*(picture.size for picture in pictures.values()), strict=True)
    assert min(widths) < 32
    assert max(widths) > 336
    assert any(width > height for width, height in zip(widths, heights, strict=True))
    assert any(width < height for width, height in zip(widths, heights, strict=True))
    alpha = np.asarray(pictures["translucent"])[..., 3]  # (height, width)
    assert len(np.unique(alpha)) > 10
    again = make_pictures()
    assert all(picture.tobytes() == again[name].tobytes() for name, picture in pictures.items())


def test_texts_cover_what_tokenizers_get_wrong() -> None:
    """Texts are distinct and hold case, accents composed and not, other scripts, emoji, special tokens and nothing."""
    joined = "".join(TEXTS)
    assert len(set(TEXTS)) == len(TEXTS)
    assert "" in TEXTS
    for part in ("<|endoftext|>", "\u0301", "\u00e9", "日", "\U0001f600", "\t", "A", "'ve", "\u200b"):
        assert part in joined
