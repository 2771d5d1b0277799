"""Observations: what a subject returned for a probe, computed once a session and shared by all checks."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip_eval.checkpoint.checkpoint import Checkpoint
from clip_eval.families import roles
from clip_eval.families.config import ClipConfig
from clip_eval.families.family import EntryPoint, Family
from clip_eval.families.holding import Holding
from clip_eval.families.registry import entry_point
from clip_eval.probes.batches import Batch, batch_of
from clip_eval.subject import Call, Subject, projected_features, transformers_release
from clip_eval.subject.output_tree import tensors_of
from clip_eval.subject.processors import Processors
from clip_eval.subject.runtime import Capability, Fields, Runtime
from clip_eval.subject.runtimes.transformers import subject_of

__all__ = ["Clip", "Part", "Question", "answer_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """One call of the subject.

    Attributes:
        model_class: the class that was called.
        method: "forward" or the name of a method.
        inputs: the arrays by keyword.
        options: the other keywords; "attention" among them is an implementation other than the subject's.
    """

    model_class: str
    method: str
    inputs: Mapping[str, NDArray[Any]]
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A tensor of an answer.

    Attributes:
        question: what was asked.
        path: where in the answer, a dotted name such as "text_model_output.hidden_states.3"; "" for all of it.
        tensor: as it was returned.
    """

    question: Question
    path: str
    tensor: Any


@dataclass(slots=True)
class Clip:
    """The subject under test, asked by row counts and options. Each question is asked once; the answer is kept.

    Every method takes `attention` (another attention implementation than the subject's) and passes further keywords
    on to the model. `mask` is "padding", "interior" (two tokens inside each text are hidden, too) or "none" (no
    attention_mask given).
    """

    runtime: Runtime
    batch: Batch
    _answers: dict[tuple[Any, ...], Any] = field(default_factory=dict, repr=False)
    _questions: dict[tuple[Any, ...], Question] = field(default_factory=dict, repr=False)

    @property
    def subject(self) -> Subject:
        """The subject as transformers loads it. Raises TypeError if another runtime runs it."""
        return subject_of(self.runtime)

    def on(self, batch: Batch) -> Clip:
        """Return the same subject asked about another batch, such as one from `process`."""
        return Clip(self.runtime, batch)

    def process(self, *, texts: Sequence[str], images: Sequence[Image.Image]) -> Batch:
        """Return the batch that the checkpoint's own processor makes of texts and pictures.

        Raises:
            NotApplicable: the checkpoint holds a part of a model, which takes no such batch.
            ValueError: no text or no image is given.
        """
        self.checkpoint.holds.require(roles.WHOLE)
        if not (texts and images):
            raise ValueError("a batch needs at least one text and one image")
        processed = self.processors.process(
            self.processors.load(), text=list(texts), images=list(images), padding=True, return_tensors="np"
        )
        return batch_of(processed["pixel_values"], processed["input_ids"], processed["attention_mask"])

    @property
    def checkpoint(self) -> Checkpoint:
        """What lies on disk."""
        return self.runtime.checkpoint

    @property
    def family(self) -> Family:
        """The family of the checkpoint."""
        return self.checkpoint.family

    @property
    def holds(self) -> Holding:
        """Which part of a model the checkpoint holds."""
        return self.checkpoint.holds

    @property
    def config(self) -> ClipConfig:
        """The checkpoint's config."""
        return self.checkpoint.config

    @property
    def processors(self) -> Processors:
        """What is built from the checkpoint's tokenizer and image processor files."""
        return self.runtime.processors

    @property
    def release(self) -> Any:
        """The installed transformers release."""
        return transformers_release()

    @property
    def with_states(self) -> Mapping[str, Any]:
        """The option that returns hidden states; empty if the runtime takes no options and gives last states only."""
        return {"output_hidden_states": True} if Capability.OPTIONS in self.runtime.capabilities else {}

    @property
    def dtype(self) -> str:
        """The subject's dtype by name."""
        return self.runtime.dtype

    @property
    def attention(self) -> str:
        """The attention implementation that the model really uses, of a tower alone the tower."""
        return str(self.subject.model(self.checkpoint.holds.plain_class).config._attn_implementation)

    def forward(self, *, images: int, texts: int, mask: str = "padding", **options: Any) -> Any:
        """Return CLIPModel's output for the first `images` and `texts` of the probe."""
        return self._ask(
            roles.WHOLE, "forward", {**self.images(images), **self.texts(texts, mask)}, (images, texts, mask), options
        )

    def text_model(self, *, texts: int, mask: str = "padding", tokens: int | None = None, **options: Any) -> Any:
        """Return CLIPTextModel's output; with `tokens`, for batches cut after that many."""
        inputs = {name: values[:, :tokens] for name, values in self.texts(texts, mask).items()}  # (texts, tokens)
        return self._ask(roles.TEXT, "forward", inputs, (texts, mask, tokens), options)

    def vision_model(self, *, images: int, **options: Any) -> Any:
        """Return CLIPVisionModel's output."""
        return self._ask(roles.VISION, "forward", self.images(images), (images,), options)

    def text_model_with_projection(self, *, texts: int, mask: str = "padding", **options: Any) -> Any:
        """Return CLIPTextModelWithProjection's output."""
        return self._ask(roles.TEXT_PROJECTED, "forward", self.texts(texts, mask), (texts, mask), options)

    def vision_model_with_projection(self, *, images: int, **options: Any) -> Any:
        """Return CLIPVisionModelWithProjection's output."""
        return self._ask(roles.VISION_PROJECTED, "forward", self.images(images), (images,), options)

    def classifier(self, *, images: int, **options: Any) -> Any:
        """Return CLIPForImageClassification's output."""
        return self._ask(roles.CLASSIFIER, "forward", self.images(images), (images,), options)

    def text_features(self, *, texts: int, mask: str = "padding", **options: Any) -> Any:
        """Return what CLIPModel.get_text_features gives in this release."""
        return self._ask(roles.WHOLE, "get_text_features", self.texts(texts, mask), (texts, mask), options)

    def image_features(self, *, images: int, **options: Any) -> Any:
        """Return what CLIPModel.get_image_features gives in this release."""
        return self._ask(roles.WHOLE, "get_image_features", self.images(images), (images,), options)

    def once(self, question: Hashable, ask: Callable[[], Any]) -> Any:
        """Return what `ask` returns, called on first use and kept under `question`."""
        if (question,) not in self._answers:
            self._answers[question,] = ask()
        return self._answers[question,]

    def part(self, observed: Any) -> Part | None:
        """Return the part of an answer that a tensor is or views; None for anything else."""
        if not hasattr(observed, "untyped_storage"):
            return None
        parts = (
            Part(self._questions[key], path.removeprefix("."), tensor)
            for key, answer in self._answers.items()
            if key in self._questions
            for path, tensor in tensors_of(answer, "").items()
            if _shares_memory(tensor, observed)
        )
        return max(parts, key=lambda part: (part.tensor is observed, part.tensor.shape == observed.shape), default=None)

    def call_of(self, observed: Any) -> tuple[Call, str, Any] | None:
        """Return the last kept call whose answer holds a tensor or the base of this view, the dotted name of that
        tensor in the answer, and the tensor; None if there is none.
        """
        if not hasattr(observed, "untyped_storage"):
            return None
        matches = (
            (call, path.removeprefix("."), tensor)
            for call in reversed(self.subject.calls or ())
            for path, tensor in tensors_of(call.answer, "").items()
            if _shares_memory(tensor, observed)
        )
        return next(matches, None)

    def images(self, count: int) -> Mapping[str, NDArray[Any]]:
        """Return the keywords of the first `count` images. Raises NotApplicable if there is no vision tower."""
        self.holds.require_tower("vision")
        return {"pixel_values": self.batch.pixel_values[:count]}

    def texts(self, count: int, mask: str = "padding") -> Mapping[str, NDArray[Any]]:
        """Return the keywords of the first `count` texts. Raises NotApplicable if there is no text tower."""
        self.holds.require_tower("text")
        ids = {"input_ids": self.batch.input_ids[:count]}
        return ids if mask == "none" else {**ids, "attention_mask": self.batch.mask(mask)[:count]}

    def inputs(self, entry: EntryPoint, *, images: int, texts: int, mask: str = "padding") -> dict[str, NDArray[Any]]:
        """Return the keywords that an entry point takes: the first `images` and `texts` of the probe."""
        return {**(self.texts(texts, mask) if entry.texts else {}), **(self.images(images) if entry.images else {})}

    def answer(self, entry: EntryPoint, inputs: Mapping[str, NDArray[Any]], **options: Any) -> Any:
        """Return an entry point's answer to arrays, not kept; see `answer_of`."""
        return answer_of(self.runtime, entry, inputs, **options)

    def features(self, answer: Any) -> Any:
        """Return the projected, not normalised features (rows, projection) of a get_*_features answer."""
        return answer.pooler_output if isinstance(answer, Fields) else projected_features(answer, self.release)

    def enter(self, entry: EntryPoint, tensors: Mapping[str, Any], **options: Any) -> Any:
        """Call an entry point with tensors; nothing is kept. Options go to `Subject.call`."""
        return self.subject.call(entry.model_class, method=entry.method, **tensors, **options)

    def real(self, count: int, mask: str = "padding") -> NDArray[np.bool_]:
        """Return which tokens count, (texts, tokens): those whose mask is 1."""
        return np.asarray(self.batch.mask("padding" if mask == "none" else mask)[:count] == 1)

    def _ask(
        self,
        model_class: str,
        method: str,
        inputs: Mapping[str, NDArray[Any]],
        rows: tuple[Any, ...],
        options: dict[str, Any],
    ) -> Any:
        if options.get("attention", "") is None:  # the subject's own, as without the option
            del options["attention"]
        key = (model_class, method, rows, tuple(sorted(options.items())))
        if key not in self._answers:
            self._questions[key] = Question(model_class, method, inputs, options)
            is_classifier = model_class == roles.CLASSIFIER
            entry = self.family.classifier if is_classifier else entry_point(model_class, method)
            self._answers[key] = answer_of(self.runtime, entry, inputs, **options)
        return self._answers[key]


def answer_of(runtime: Runtime, entry: EntryPoint, inputs: Mapping[str, NDArray[Any]], **options: Any) -> Any:
    """Return a runtime's answer: transformers' own output object, by which failures are traced, or `Fields`.

    Args:
        runtime: what is called.
        entry: the entry point.
        inputs: arrays by keyword.
        options: the other keywords; only transformers takes any.

    Raises:
        NotApplicable: the checkpoint holds a part of a model that has no such entry point.
    """
    runtime.checkpoint.holds.require(entry.model_class)
    if isinstance(runtime, Subject):
        return runtime.answer(entry.model_class, inputs, method=entry.method, **options)
    if any(value is not None for value in options.values()):
        raise TypeError(f'{runtime.name} takes no {", ".join(options)}: mark the check with @pytest.mark.needs("...")')
    return Fields(runtime.name, entry, runtime.run(entry, inputs))


def _shares_memory(one: Any, other: Any) -> bool:
    return bool(one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr())
