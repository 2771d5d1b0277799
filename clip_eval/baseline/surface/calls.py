"""Outcomes of calls that the contract leaves open, or that only some releases accept: the signature of every entry
point, options by position and in unusual values, in the config and at load; inputs of other types and shapes.

Each outcome is an exception's class, or the name of the plain call with bit-equal results. All calls use a tiny model
of the candidate's kind, so that outcomes depend on neither its weights nor its sizes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from clip_eval.baseline.surface.formatting import signature
from clip_eval.baseline.surface.keywords import foreign_keywords
from clip_eval.checkpoint.checkpoint import open_checkpoint
from clip_eval.errors import NotAskable
from clip_eval.families.family import EntryPoint
from clip_eval.families.roles import MODEL_CLASSES, WHOLE
from clip_eval.files.read_write import write_bytes
from clip_eval.probes.malformed import ALONE, FIRST_ROW, IDS, MASK, odd_ids, odd_masks, odd_pixels, out_of_range
from clip_eval.subject import Subject
from clip_eval.subject.observations import Clip
from clip_eval.subject.output_tree import as_tuple, parts, same
from clip_eval.subject.tiny_clip import classifier_of, write_stand_in
from clip_eval.verdict.plain_values import Json

__all__ = ["observe_calls"]

_VALUES: dict[str, dict[str, object]] = {
    "output_hidden_states": {"1": 1, "-1": -1, "[0]": [0], "numpy.True_": np.bool_(True), "'yes'": "yes", "0": 0},
    "output_attentions": {"1": 1, "numpy.True_": np.bool_(True), "'yes'": "yes", "0": 0},
    "return_loss": {"1": 1, "'yes'": "yes", "0": 0},
    "interpolate_pos_encoding": {"1": 1, "None": None, "0": 0},
    "return_dict": {"False": False, "0": 0, "None": None, "1": 1},
}

_RECORDED_MALFORMED = MODEL_CLASSES[:3]
"""Malformed inputs are recorded for these classes only; the other entry points delegate to them."""

_OPTIONS = ("output", "return_loss", "interpolate")

Call = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class _EntryCalls:
    """One entry point of the tiny model, with its plain inputs."""

    subject: Subject
    entry: EntryPoint
    inputs: Mapping[str, Any]

    def enter(self, *arguments: object, **keywords: Any) -> Any:
        return self.subject.call(self.entry.model_class, *arguments, method=self.entry.method, **keywords)

    def changed(self, **inputs: Any) -> Any:
        """Call with some inputs changed; arrays become tensors."""
        arrays = {name: value for name, value in inputs.items() if isinstance(value, np.ndarray)}
        return self.enter(**{**self.inputs, **inputs, **self.subject.tensors(arrays)})

    def configured(self, values: Mapping[str, object]) -> Any:
        with self.subject.configured(self.entry.model_class, values):
            return self.enter(**self.inputs)

    def loaded(self, **options: Any) -> Any:
        attention = self.subject.model(self.entry.model_class).config._attn_implementation
        # By name, so that the record does not depend on the attention option of the run.
        return self.subject.load_again(self.entry.model_class, attn_implementation=attention, **options)(**self.inputs)

    @property
    def plain(self) -> dict[str, Call]:
        """The results that outcomes are compared with, in this order."""
        plain: dict[str, Call] = {
            "as by default": lambda: self.enter(**self.inputs),
            "as by default, as a tuple": lambda: as_tuple(self.enter(**self.inputs)),
        }
        for name in dict.fromkeys((*self.entry.parameters, "output_hidden_states", "output_attentions")):
            if name.startswith(_OPTIONS):
                plain[f"as with {name}=True"] = partial(self.enter, **self.inputs, **{name: True})
        return plain


def observe_calls(clip: Clip) -> dict[str, Json]:
    """Return the signature of every entry point of a CLIP, and the outcomes of unusual calls."""
    with TemporaryDirectory(prefix="clip-eval-") as directory:
        subject = _tiny(Path(directory), clip.subject)
        entries = clip.holds.entries(subject.family.entry_points)
        ways = [_EntryCalls(subject, entry, _inputs(subject, entry)) for entry in entries]
        classes = subject.family.classifier
        if clip.holds.has(classes.model_class):
            labelled = classifier_of(Path(directory) / "labelled", subject, labels=3)
            ways.append(_EntryCalls(labelled, classes, _inputs(labelled, classes)))
        return {identity: text for way in ways for identity, text in _way(way)}


def _way(way: _EntryCalls) -> Iterator[tuple[str, Json]]:
    owner = way.subject.model(way.entry.model_class)
    called = f"{way.entry.model_class}.{way.entry.method}"
    yield f"signature of {called}", signature(getattr(type(owner), way.entry.method))
    plain = way.plain
    for kinds, answers in (
        ((_by_position, _by_value, _by_config, _of_images, _of_keywords), plain),
        ((_of_texts,), _as_batches(way)),
        ((_of_masks,), _as_masked(way)),
    ):
        results = _results(answers)
        if answers is plain:
            keywords = foreign_keywords(way.entry, way.subject)
            yield (
                f"{way.entry}(keyword)[*]",
                {
                    shown: _outcome(partial(way.enter, **{**way.inputs, **keyword}), results)
                    for shown, keyword in keywords.items()
                },
            )
        for part in kinds:
            yield from ((f"{way.entry}{what}", _outcome(call, results)) for what, call in part(way))


def _by_position(way: _EntryCalls) -> Iterator[tuple[str, Call]]:
    names = way.entry.parameters[: way.entry.inputs]
    inputs = [way.inputs.get(name) for name in names]
    for more in range(1, 5):
        values = [*(None for _ in range(more - 1)), True]
        yield f"(inputs, {', '.join(map(str, values))}) by position", partial(way.enter, *inputs, *values)
    yield "(a dict of inputs) by position", lambda: way.enter(dict(way.inputs))


def _by_value(way: _EntryCalls) -> Iterator[tuple[str, Call]]:
    for option, values in _VALUES.items():
        for shown, value in values.items():
            known = option in way.entry.parameters or option == "return_dict" or way.entry.method != "forward"
            if known and not (option == "return_loss" and option not in way.entry.parameters):
                yield (
                    f"({option}={shown})",
                    partial(way.enter, **{**way.inputs, option: value}),
                )


def _by_config(way: _EntryCalls) -> Iterator[tuple[str, Call]]:
    if way.entry.method != "forward":
        yield " with config.return_dict=False", lambda: way.configured({"return_dict": False})
        return
    nested = ("text_config.", "vision_config.") if way.entry.model_class == WHOLE else ()
    for option, value in (("output_hidden_states", True), ("output_attentions", True), ("return_dict", False)):
        for prefix in ("", *nested):
            name = f"{prefix}{option}"
            yield f" with config.{name}={value}", partial(way.configured, {name: value})
        yield f".from_pretrained({option}={value})", partial(way.loaded, **{option: value})
    yield " with config.output_hidden_states=1", lambda: way.configured({"output_hidden_states": 1})
    yield " with config.use_return_dict=False", lambda: way.configured({"use_return_dict": False})


def _as_batches(way: _EntryCalls) -> dict[str, Call]:
    if not _has_odd_texts(way):
        return {}
    return {
        "as by default": _without_mask(way).changed,
        "as a batch of one": lambda: _without_mask(way).changed(input_ids=IDS[:1]),
    }


def _has_odd_texts(way: _EntryCalls) -> bool:
    return str(way.entry) in _RECORDED_MALFORMED and way.entry.texts


def _of_texts(way: _EntryCalls) -> Iterator[tuple[str, Call]]:
    if not _has_odd_texts(way):
        return
    for what, ids in {**odd_ids(), **(out_of_range() if _on_cpu(way) else {})}.items():
        yield f"(input_ids={what})", partial(_without_mask(way).changed, input_ids=ids)


def _on_cpu(way: _EntryCalls) -> bool:
    """Whether the model is on the CPU; an accelerator does not survive an index out of range."""
    return way.subject.device.startswith("cpu")


def _without_mask(way: _EntryCalls) -> _EntryCalls:
    inputs = {name: value for name, value in way.inputs.items() if name != "attention_mask"}
    return _EntryCalls(way.subject, way.entry, inputs)


def _of_images(way: _EntryCalls) -> Iterator[tuple[str, Call]]:
    if str(way.entry) not in _RECORDED_MALFORMED or not way.entry.images:
        return
    pixels = way.inputs["pixel_values"]  # (images, channels, side, side)
    for what, images in odd_pixels(pixels).items():
        yield f"(pixel_values={what})", partial(way.changed, pixel_values=images)
    yield (
        "(pixel_values=less than a patch, interpolate_pos_encoding=True)",
        lambda: way.changed(pixel_values=pixels[:, :, :-1, :-1], interpolate_pos_encoding=True),
    )


def _of_keywords(way: _EntryCalls) -> Iterator[tuple[str, Call]]:
    more: dict[str, object] = {
        "no_such_keyword": True,
        "inputs_embeds": None,
        "labels": None,
        "token_type_ids": None,
        "use_cache": False,
        "pixel_values" if not way.entry.images else "input_ids": None,
    }
    for name, value in more.items():
        if name not in way.inputs:
            yield f"({name}={value})", partial(way.enter, **way.inputs, **{name: value})
    yield "() without inputs", way.enter
    if way.entry.texts and way.entry.images and _on_cpu(way):
        yield (
            "(return_loss=True) of unequal counts",
            lambda: way.changed(input_ids=IDS[:2], attention_mask=MASK[:2], return_loss=True),
        )


def _as_masked(way: _EntryCalls) -> dict[str, Call]:
    if not _has_odd_texts(way):
        return {}
    return {
        "as with the mask itself": way.changed,
        "as without a mask": lambda: way.changed(attention_mask=None),
        "as with its first row for all texts": lambda: way.changed(attention_mask=FIRST_ROW),
        "as with the first token alone": lambda: way.changed(attention_mask=ALONE),
    }


def _of_masks(way: _EntryCalls) -> Iterator[tuple[str, Call]]:
    if _has_odd_texts(way) and _on_cpu(way):
        for what, mask in odd_masks().items():
            yield f"(attention_mask={what})", partial(way.changed, attention_mask=mask)


def _outcome(call: Call, answers: Mapping[str, Any]) -> str:
    try:
        observed = call()
    except NotAskable:
        raise
    except Exception as error:  # whatever transformers raises is what a user sees
        return f"raises {type(error).__name__}"
    fitting = (name for name, expected in answers.items() if same(observed, expected))
    return next(fitting, None) or _unlike(observed, next(iter(answers.values()), None))


def _unlike(observed: Any, plain: Any) -> str:
    """Fields that a result has and the plain one lacks, or has with another form; values of tensors do not matter."""
    plain_fields = parts(plain)
    differences = [
        f"{path or 'the answer'} is {part}"
        for path, part in parts(observed).items()
        if not (hasattr(part, "detach") or plain_fields.get(path) == part)
    ]
    return "; ".join(differences) or "as by default in form, with other values"


def _results(answers: Mapping[str, Call]) -> dict[str, Any]:
    """The results of plain calls, without those that a release refuses."""
    results: dict[str, Any] = {}
    for name, call in answers.items():
        with contextlib.suppress(TypeError, ValueError, AttributeError):
            results[name] = call()
    return results


def _inputs(subject: Subject, entry: EntryPoint) -> dict[str, Any]:
    vision = subject.checkpoint.config.vision
    shape = (len(IDS), vision.num_channels, vision.image_size, vision.image_size)
    pixels = np.sin(np.arange(np.prod(shape), dtype=np.float32)).reshape(shape)  # (images, channels, side, side)
    texts = {"input_ids": IDS, "attention_mask": MASK} if entry.texts else {}
    return subject.tensors({**texts, **({"pixel_values": pixels} if entry.images else {})})


def _tiny(directory: Path, like: Subject) -> Subject:
    """The tiny model, with weights that make its outputs differ, every class loaded."""
    write_stand_in(directory, like.checkpoint, "float32")
    path, generator = directory / "model.safetensors", np.random.Generator(np.random.PCG64(0))
    zeros = load_file(path)
    weights = {name: generator.normal(0.0, 0.5, zero.shape).astype(np.float32) for name, zero in zeros.items()}
    write_bytes(path, save(weights, metadata={"format": "pt"}))
    subject = Subject(open_checkpoint(directory), like.dtype, like.device, like.attention, like)
    for model_class in filter(like.checkpoint.holds.has, MODEL_CLASSES):
        subject.model(model_class)
    return subject
