"""Expected outputs of a subject: the oracle's values with the rounding bound of each element.

One oracle run over the largest batch serves every row count, since rows do not depend on each other. Results are kept
for the session.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from clip_eval.checkpoint.dtypes import round_values
from clip_eval.families.config import ClipConfig, TextConfig, VisionConfig
from clip_eval.families.family import Family
from clip_eval.families.holding import HOLDINGS, Holding
from clip_eval.families.roles import CLASSIFIER, WHOLE
from clip_eval.oracle import Arithmetic, Contrast, Observer, TowerStates
from clip_eval.oracle.expected.classifier import expected_classes, joined
from clip_eval.oracle.expected.fields import ExpectedContrast, ExpectedTower
from clip_eval.oracle.expected.modules import ExpectedModules, expect_modules
from clip_eval.oracle.precision import Precision
from clip_eval.oracle.rounding import RoundingArithmetic, error_variance, pooled_deviation, standard_deviation, tile
from clip_eval.probes.batches import SEED, Batch, resized_batch
from clip_eval.verdict.budgets import COPIES, FORCED_SIGMAS, SIGMAS, SMALLEST_NORMAL
from clip_eval.verdict.compare import Expected

__all__ = ["Oracle"]

Array = NDArray[np.float64]

_LARGE_BYTES = 2**26
"""Expected values of a tower's modules are cached up to this size; of larger ones only the latest is kept."""

_MOST_BYTES = 2**29
"""Size of the values of a tower's modules up to which all rows are computed; of more only those that are asked for."""


@dataclass(frozen=True, slots=True)
class _Tower:
    """A tower's expected outputs, and its projections in every perturbed run, (copies, rows, projection), for the
    head; None without projection.
    """

    expected: ExpectedTower
    projected: Array | None


@dataclass(frozen=True, slots=True)
class _RowErrors:
    """Error variances of one row, in the order of `_arrays`, and its projections, (copies, projection)."""

    variances: list[Array]
    projected: Array | None


@dataclass(slots=True)
class Oracle:
    """Expected values for one checkpoint, precision and batch.

    Args:
        family: of the checkpoint.
        weights: canonical name -> float64 array, already rounded to the subject's dtype.
        config: the checkpoint's config.
        precision: how the subject computes.
        batch: the inputs. Pixels are rounded to the subject's dtype here, as the model does on entry.
        interpolate: images may have another size than the model's; its position embeddings are interpolated.
        standalone: the config that the classes of one tower compute with; by default they have the same.
        holds: which part of a model the weights are. Asking for another raises NotApplicable.
    """

    family: Family
    weights: Mapping[str, Array]
    config: ClipConfig
    precision: Precision
    batch: Batch
    interpolate: bool = False
    standalone: ClipConfig | None = None
    holds: Holding = HOLDINGS[WHOLE]
    _alone: list[Oracle] = field(default_factory=list, init=False, repr=False)
    _towers: dict[str, _Tower] = field(default_factory=dict, init=False, repr=False)
    _heads: dict[tuple[int, int, str], ExpectedContrast] = field(default_factory=dict, init=False, repr=False)
    _modules: dict[str, ExpectedModules] = field(default_factory=dict, init=False, repr=False)
    _projections: dict[str, ExpectedModules] = field(default_factory=dict, init=False, repr=False)
    _resized: dict[tuple[int, int, int, int | None], Oracle] = field(default_factory=dict, init=False, repr=False)

    def on(self, batch: Batch) -> Oracle:
        """Return the expected values of the same weights, config and precision on another batch."""
        return replace(self, batch=batch)

    def of(self, model_class: str) -> Oracle:
        """Return the expected values of a class; those of one tower may read another config than the whole model."""
        if model_class in (WHOLE, CLASSIFIER) or self.standalone is None or self._same_values(self.standalone):
            return self
        if not self._alone:
            self._alone.append(replace(self, config=self.standalone, standalone=None))
        return self._alone[0]

    def _same_values(self, other: ClipConfig) -> bool:
        """Whether another config gives the same values; another end of text may pool these texts at the same places."""
        texts = (self.config.text, other.text)
        here, there = (self.family.network.last_read(self.batch.input_ids, text) for text in texts)  # (texts,)
        same_end = replace(other.text, eos_token_id=self.config.text.eos_token_id)
        return replace(other, text=same_end) == self.config and np.array_equal(here, there)

    def resized(self, *, images: int, height: int, width: int, layers: int | None = None) -> Oracle:
        """Return the expected values for the first `images` images at another size, with interpolate_pos_encoding.

        The inputs are those of its `batch`.

        Args:
            images: at most as many as the batch holds.
            height: of the images, in pixels.
            width: of the images, in pixels.
            layers: of the vision tower, its first ones; all by default. Without any, only embeddings are computed.
        """
        key = (images, height, width, layers)
        if key not in self._resized:
            batch = resized_batch(self.batch, images=images, height=height, width=width)
            depth = self.config.vision.num_hidden_layers if layers is None else layers
            config = replace(self.config, vision=replace(self.config.vision, num_hidden_layers=depth))
            standalone = self.standalone and replace(
                self.standalone, vision=replace(self.standalone.vision, num_hidden_layers=depth)
            )
            self._resized[key] = replace(self, config=config, batch=batch, interpolate=True, standalone=standalone)
        return self._resized[key]

    @property
    def rule(self) -> str:
        """The name of the budget of every bound here."""
        return f"{SIGMAS:g} sigma of {self._kind} rounding, amplified by this model"

    @property
    def _kind(self) -> str:
        tf32 = ", TF32" if self.precision.tf32_products or self.precision.tf32_convolution else ""
        return f"{self.precision.dtype}{tf32}"

    def vision(self, *, images: int) -> ExpectedTower:
        """Return the expected outputs of the vision tower for the first `images` images."""
        return self._tower("vision").expected.rows(images)

    def text(self, *, texts: int, mask: str = "padding") -> ExpectedTower:
        """Return the expected outputs of the text tower for the first `texts` texts; only positions whose mask is 1
        count.
        """
        return self._tower(mask).expected.rows(texts)

    def forward(self, *, images: int, texts: int, mask: str = "padding") -> ExpectedContrast:
        """Return the expected outputs of the contrastive head for the first `images` and `texts`."""
        key = (images, texts, mask)
        if key not in self._heads:
            self._heads[key] = self._head(images, texts, mask)
        return self._heads[key]

    def classes(self, *, images: int) -> Expected:
        """Return the logits of an image classifier for the first `images`, (images, labels).

        Each is computed alone: copies of a whole batch of large images would not fit into memory.
        """
        network, vision = self.family.network, self.config.vision
        rows = [self.batch.pixel_values[row : row + 1] for row in range(images)]  # of (1, channels, height, width)
        return joined([expected_classes(network, self.weights, vision, row, self.precision) for row in rows])

    def modules(self, which: str, rows: int = 0) -> ExpectedModules:
        """Return expected inputs and outputs of each module of a tower when all inputs are exact.

        Args:
            which: "vision", or for texts the mask, "padding" or "interior".
            rows: at least as many of the first ones; 0 for all.
        """
        every = len(self.batch.pixel_values if which == "vision" else self.batch.input_ids)
        rows = rows if rows and self.rows_that_fit(which) < every else every
        if which not in self._modules or self._modules[which].row_count < rows:
            self._modules.pop(which, None)
            self._drop_large()
            computed = expect_modules(
                lambda arithmetic, chosen, copies, observer: self._run(which, arithmetic, chosen, copies, observer),
                rows=rows,
                precision=self.precision,
                rule=f"{FORCED_SIGMAS:g} sigma of {self._kind} rounding in one module",
            )
            self._modules[which] = computed
            self._projections[which] = computed.of(self._module(which))
        return self._modules[which]

    def rows_that_fit(self, which: str) -> int:
        """Return for how many rows `modules` may be asked of a large tower, one at least."""
        tower: TextConfig | VisionConfig = self.config.vision if which == "vision" else self.config.text
        values = tower.num_hidden_layers * (10 * tower.hidden_size + 2 * tower.intermediate_size)  # of one token
        tokens = self.batch.input_ids.shape[1]
        if which == "vision":
            height, width = self.batch.pixel_values.shape[2:]
            tokens = (height // self.config.vision.patch_size) * (width // self.config.vision.patch_size) + 1
        return max(1, _MOST_BYTES // int(8 * values * tokens))

    def projection(self, which: str, rows: int = 0) -> ExpectedModules:
        """Return expected input and output of a tower's projection, from `modules`; for arguments see there."""
        if which not in self._projections or self._projections[which].row_count < rows:
            self.modules(which, rows)
        return self._projections[which]

    def head(self, *, images: int, texts: int, mask: str) -> ExpectedContrast:
        """Return the expected outputs of the contrastive head for exact projections, rounded to the subject's dtype."""
        self.holds.require(WHOLE)
        projected = (
            self._projected(mask, texts),
            self._projected("vision", images),
        )
        head = self.family.network.head
        copies = [head(self.weights, *projected, arithmetic=self._arithmetic(seed)) for seed in range(COPIES)]
        return self._expected_head(head(self.weights, *projected), copies)

    def _module(self, which: str) -> str:
        return (self.family.vision if which == "vision" else self.family.text).projection

    def _projected(self, which: str, rows: int) -> Array:
        return (
            self.projection(which, rows).output_of(self._module(which))[:rows].astype(np.float64)
        )  # (rows, projection)

    def _drop_large(self) -> None:
        self._modules = {
            name: computed for name, computed in self._modules.items() if computed.size_bytes < _LARGE_BYTES
        }

    def _tower(self, which: str) -> _Tower:
        if which not in self._towers:
            self._towers[which] = self._judged_tower(which)
        return self._towers[which]

    def _judged_tower(self, which: str) -> _Tower:
        exact = self._run(which, Arithmetic(), slice(None), 1)
        scales = self._scales(exact)
        rows = self._errors_of_rows(which, exact, scales)
        variances = [np.concatenate(parts) for parts in zip(*(row.variances for row in rows), strict=True)]
        expected = [
            self._bounded(value, variance, scale)
            for value, variance, scale in zip(_arrays(exact), variances, scales, strict=True)
        ]
        projections = [row.projected for row in rows if row.projected is not None]
        projected = np.stack(projections, axis=1) if projections else None  # (copies, rows, projection)
        return _Tower(_tower_of(expected, len(exact.hidden_states), projected is not None), projected)

    def _errors_of_rows(self, which: str, exact: TowerStates, scales: list[Array | None]) -> list[_RowErrors]:
        """The errors of every row, two rows at once where memory allows: half of the time is spent on one core."""
        rows = range(len(exact.pooler_output))
        large = sum(values[:1].nbytes for values in _arrays(exact)) * COPIES > _MOST_BYTES
        settings = np.geterr()  # of this thread

        def errors(row: int) -> _RowErrors:
            with np.errstate(**settings):
                return self._row_errors(which, exact, scales, row)

        with ThreadPoolExecutor(1 if large else 2) as threads:
            return list(threads.map(errors, rows))

    def _row_errors(self, which: str, exact: TowerStates, scales: list[Array | None], row: int) -> _RowErrors:
        """Perturbed runs of one row; copies of a whole batch of large images would not fit into memory.

        A text is cut after its last token that counts: in a causal tower no token depends on later ones.
        """
        arithmetic = RoundingArithmetic(self.precision, COPIES, np.random.Generator(np.random.PCG64([SEED, row])))
        end = None if which == "vision" else self._end(which, row)
        noisy = self._run(which, arithmetic, slice(row, row + 1), COPIES, tokens=end)
        variances = []
        for value, perturbed, scale in zip(_arrays(exact), _arrays(noisy), scales, strict=True):
            mine = value[row : row + 1]  # (1, ...)
            unit = None if scale is None else _first_tokens(scale[row : row + 1], end)  # (1, ...)
            variance = error_variance(_first_tokens(mine, end), perturbed, COPIES, scale=unit)  # (1, ...)
            variances.append(_all_tokens(variance, mine.shape))
        return _RowErrors(variances, noisy.projected)

    def _end(self, which: str, row: int) -> int:
        """Number of tokens of a text up to the last one that counts or is pooled."""
        counting = int(np.flatnonzero(self.batch.mask(which)[row])[-1])
        pooled = int(self.family.network.last_read(self.batch.input_ids[row : row + 1], self.config.text)[0])
        return max(counting, pooled) + 1

    def _run(
        self,
        which: str,
        arithmetic: Arithmetic,
        rows: slice,
        copies: int,
        observer: Observer | None = None,
        tokens: int | None = None,
    ) -> TowerStates:
        self.holds.require_tower("vision" if which == "vision" else "text")
        if which == "vision":
            rounded = round_values(
                self.batch.pixel_values[rows], self.precision.dtype
            )  # (images, channels, height, width)
            pixel_values = tile(rounded.astype(np.float64), copies)  # (copies * images, channels, height, width)
            return self.family.network.vision_tower(
                self.weights,
                self.config.vision,
                pixel_values,
                arithmetic=arithmetic,
                observer=observer,
                interpolate=self.interpolate,
            )
        input_ids = tile(self.batch.input_ids[rows, :tokens], copies)  # (copies * texts, tokens)
        attention_mask = tile(self.batch.mask(which)[rows, :tokens], copies)  # (copies * texts, tokens)
        return self.family.network.text_tower(
            self.weights, self.config.text, input_ids, attention_mask, arithmetic=arithmetic, observer=observer
        )

    def _scales(self, exact: TowerStates) -> list[Array | None]:
        """What errors are proportional to: attention weights to themselves, all else to 1."""
        smallest = SMALLEST_NORMAL[self.precision.dtype]
        maps: list[Array | None] = [weights + smallest for weights in exact.attentions]  # (rows, heads, query, key)
        return [*(None for _ in exact.hidden_states), *maps, *(None for _ in _pooled(exact))]

    def _bounded(self, value: Array, variance: Array, scale: Array | None) -> Expected:
        deviation = pooled_deviation(variance)  # the shape of value
        if scale is not None:
            deviation = np.where(
                value > 0, deviation * scale, 0.0
            )  # (rows, heads, query, key), masked weights are exactly 0
        return Expected(value, SIGMAS * deviation, self.rule)

    def _expected(self, exact: Array, noisy: Array) -> Expected:
        return Expected(exact, SIGMAS * standard_deviation(exact, noisy, COPIES), self.rule)

    def _head(self, images: int, texts: int, mask: str) -> ExpectedContrast:
        self.holds.require(WHOLE)
        text, vision = self._tower(mask), self._tower("vision")
        assert text.projected is not None, "a full CLIP has both projections"
        assert vision.projected is not None, "a full CLIP has both projections"
        head, weights = self.family.network.head, self.weights
        exact = head(weights, text.expected.projected.value[:texts], vision.expected.projected.value[:images])
        copies = [
            head(weights, t[:texts], v[:images], arithmetic=self._arithmetic(seed))
            for seed, (t, v) in enumerate(zip(text.projected, vision.projected, strict=True))
        ]
        return self._expected_head(exact, copies)

    def _arithmetic(self, seed: int) -> RoundingArithmetic:
        return RoundingArithmetic(self.precision, 1, np.random.Generator(np.random.PCG64(seed)))

    def _expected_head(self, exact: Contrast, copies: list[Contrast]) -> ExpectedContrast:
        logits = self._expected(exact.logits_per_text, np.concatenate([copy.logits_per_text for copy in copies]))
        loss = None
        if exact.loss is not None:
            noisy = np.array([copy.loss for copy in copies], dtype=np.float64)  # (copies,)
            loss = self._expected(np.asarray(exact.loss), noisy)
        return ExpectedContrast(
            self._expected(exact.text_embeds, np.concatenate([copy.text_embeds for copy in copies])),
            self._expected(exact.image_embeds, np.concatenate([copy.image_embeds for copy in copies])),
            logits,
            logits.transposed,
            loss,
        )


def _first_tokens(value: Array, count: int | None) -> Array:
    """The first tokens of states (texts, tokens, width) and of attention maps (texts, heads, query, key)."""
    if value.ndim == 4:
        return value[:, :, :count, :count]
    return value[:, :count] if value.ndim == 3 else value


def _all_tokens(variance: Array, shape: tuple[int, ...]) -> Array:
    """Fill up to all tokens: those that do not count have the errors of the last one that does, and hide each other."""
    if variance.shape == shape:
        return variance
    missing = [(0, whole - part) for whole, part in zip(shape, variance.shape, strict=True)]
    if variance.ndim != 4:
        return np.pad(variance, missing, mode="edge")  # (1, tokens, width)
    queries = np.pad(variance, [*missing[:3], (0, 0)], mode="edge")  # (1, heads, query, key that counts)
    return np.pad(queries, [(0, 0)] * 3 + missing[3:])  # (1, heads, query, key)


def _pooled(states: TowerStates) -> list[Array]:
    projected = [] if states.projected is None else [states.projected]
    return [states.last_hidden_state, states.pooler_output, *projected]


def _arrays(states: TowerStates) -> list[Array]:
    return [*states.hidden_states, *states.attentions, *_pooled(states)]


def _tower_of(expected: list[Expected], hidden_states: int, has_projection: bool) -> ExpectedTower:
    """The inverse of `_arrays`."""
    projected = expected.pop() if has_projection else None
    *states, last, pooled = expected
    return ExpectedTower(tuple(states[:hidden_states]), tuple(states[hidden_states:]), last, pooled, projected)
