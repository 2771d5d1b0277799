"""No floating-point operation of the model passes by the arithmetic: a subclass sees them all."""

from __future__ import annotations

import numpy as np
import pytest

from clip_eval.families.clip.classifier import class_logits
from clip_eval.families.config import TextConfig, VisionConfig
from clip_eval.oracle import EXACT, Arithmetic, contrast, text_tower, vision_tower

TEXT = TextConfig(
    hidden_size=6, intermediate_size=10, num_hidden_layers=2, num_attention_heads=3, vocab_size=10, eos_token_id=7
)
VISION = VisionConfig(
    hidden_size=6, intermediate_size=10, num_hidden_layers=1, num_attention_heads=2, image_size=8, patch_size=4
)
IDS = np.array([[1, 9, 7], [3, 7, 0]])  # (texts, tokens)
MASK = np.array([[1, 0, 1], [1, 1, 0]])  # (texts, tokens)
PIXELS = np.random.default_rng(0).standard_normal((2, 3, 8, 8))  # (images, channels, height, width)
WIDE = np.random.default_rng(0).standard_normal((2, 3, 4, 12))  # (images, channels, height, width)
LEAVES = [name for name, member in vars(Arithmetic).items() if callable(member) and not name.startswith("_")]


class _Sealed(np.ndarray):
    """An array that may be moved, cut and joined, but not computed with."""

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        raise AssertionError(f"{ufunc.__name__} outside the arithmetic")


def _leaf(name):
    def compute(self, *operands):
        self.calls.append(name)
        self.operands.extend(operands)
        plain = [operand.view(np.ndarray) if isinstance(operand, np.ndarray) else operand for operand in operands]
        return getattr(EXACT, name)(*plain).view(_Sealed)

    return compute


class _Sealing(Arithmetic):
    """Unseals the operands of each leaf, seals its result, and keeps what it saw."""

    def __init__(self):
        self.calls = []
        self.operands = []


for _name in LEAVES:
    setattr(_Sealing, _name, _leaf(_name))


def _run(weights, arithmetic):
    texts = text_tower(weights, TEXT, IDS, MASK, arithmetic=arithmetic)
    images = vision_tower(weights, VISION, PIXELS, arithmetic=arithmetic)
    vision_tower(weights, VISION, WIDE, arithmetic=arithmetic, interpolate=True)
    class_logits({}, images.last_hidden_state, arithmetic=arithmetic)
    return texts, images, contrast(texts.projected, images.projected, 1.0, arithmetic=arithmetic)


@pytest.fixture
def sealed(random_weights):
    """Sealed weights of both towers."""
    weights = random_weights(TEXT) | random_weights(VISION)
    return {name: array.view(_Sealed) for name, array in weights.items()}


def test_sealed_arrays_refuse_operations():
    """The test's own instrument works: an operation outside a leaf is an error."""
    with pytest.raises(AssertionError, match="add outside the arithmetic"):
        _ = np.ones(2).view(_Sealed) + 1.0


def test_every_operation_goes_through_the_arithmetic(sealed):
    """Weights and intermediate arrays are computed with inside the leaves only, and every leaf is in use."""
    arithmetic = _Sealing()
    _, _, observed = _run(sealed, arithmetic)
    expected = _run(sealed, _Sealing())[2].loss
    assert float(observed.loss) == float(expected)
    assert set(arithmetic.calls) == set(LEAVES)


def test_leaves_get_the_callers_own_weights(sealed):
    """Weights reach the leaves uncopied, so that a subclass can tell by identity which module it computes."""
    arithmetic = _Sealing()
    _run(sealed, arithmetic)
    seen = {id(operand) for operand in arithmetic.operands}
    unseen = [name for name, array in sealed.items() if id(array) not in seen]
    assert unseen == ["vision_model.embeddings.class_embedding"]  # joined to the patches, not computed with


def test_leaves_of_an_encoder_layer_come_in_the_order_of_the_paper(sealed):
    """One vision layer: embedding, pre-norm, attention, residual, block, residual, pooling, projection."""
    arithmetic = _Sealing()
    vision_tower(sealed, VISION, PIXELS, arithmetic=arithmetic)
    attention = ["layer_norm", "linear", "scale", "linear", "matmul", "softmax", "linear", "matmul", "linear", "add"]
    block = ["layer_norm", "linear", "activation", "linear", "add"]
    expected = ["patches", "add", "layer_norm", *attention, *block, "layer_norm", "linear"]
    assert arithmetic.calls == expected


def test_a_subclass_changes_the_result(random_weights):
    """Replacing one leaf is enough to perturb the whole model."""

    class Coarse(Arithmetic):
        def linear(self, x, weight, bias):
            return super().linear(x, weight, bias) * (1.0 + 1e-3)

    weights = random_weights(TEXT) | random_weights(VISION)
    exact, coarse = (_run(weights, arithmetic)[2].logits_per_text for arithmetic in (EXACT, Coarse()))
    error = np.linalg.norm(coarse - exact) / np.linalg.norm(exact)  # ()
    assert 1e-5 < error < 1e-1
