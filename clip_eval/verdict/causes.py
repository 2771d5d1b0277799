"""Which failed check is the cause, and which failures may follow from it.

Many checks see one defect: a wrong constant in attention fails every comparison of a later number with the reference,
in threads, with gradients, in another order. One by one they read like many defects. All that is used here is what a
failed measurement depends on:

- Checks with the same first diverging module have one cause: teacher forcing judges each module by itself.
- If the plain numbers of a tower or of the head are wrong, other comparisons of them with the reference fail too.
- If a class gives wrong ids for plain texts, its other ids cannot be judged; the same for pixels.

Whether such a failure has a cause of its own shows only when the first is fixed. It stays failed, and is listed with
the check it may follow from. A check that compares a model with itself (a row beside other rows, a call and the same
call again) follows from nothing.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from clip_eval.verdict.measurement import Measurement, worst
from clip_eval.verdict.run_record import CheckResult

__all__ = ["attributed", "directness", "twin"]

_DIRECT = (
    "weights.every_weight_is_loaded",
    "processor.every_class_builds_one",
    "weights",
    "modules",
    "reference_values",
    "contrastive_head",
    "towers",
    "features",
    "output_objects",
    "output_shapes",
    "hidden_states",
    "pooling",
    "masks",
    "tokenizer.token_ids_follow_the_rules",
    "tokenizer",
    "pixels.pixels_match_the_oracle",
    "pixels",
    "token_batches",
    "pixel_inputs",
    "pixel_options",
)
"""Checks and chapters that judge a thing directly, the most direct first. The others go through something else:
threads, gradients, another order, a pack.
"""

_PLAIN = ("weights.values_are_those_of_the_file", "modules", "reference_values", "contrastive_head")
"""Chapters that fail if the plain numbers of a model are wrong."""

_TEXT, _VISION, _NORMS, _LOGITS = "text tower", "vision tower", "norms", "logits"
_TEXT_HEAD, _VISION_HEAD = "text projection", "visual projection"
_PARTS = (_TEXT, _VISION, _TEXT_HEAD, _VISION_HEAD, _NORMS, _LOGITS)
"""Of a CLIP, in the order of computation. Embeddings of texts and of images are divided by their norms alike."""

_OUTPUTS: Sequence[tuple[str, tuple[str, ...]]] = (
    (r"logit|\bloss\b|slope", _PARTS),
    (r"text_embeds", (_TEXT, _TEXT_HEAD, _NORMS)),
    (r"image_embeds", (_VISION, _VISION_HEAD, _NORMS)),
    (r"text.features", (_TEXT, _TEXT_HEAD)),
    (r"image.features", (_VISION, _VISION_HEAD)),
    (r"text", (_TEXT,)),
    (r"vision|image", (_VISION,)),
)
"""The parts that compute a measured output, by words in its name or in the check's case; the first match counts."""

_READS = re.compile(r"\bids\b|input_ids|offsets|special tokens|attention_mask|words|tokens")
_CLASSES = re.compile(r"\b(?:Auto|CLIP)(?:Processor|Tokenizer(?:Fast)?|ImageProcessor(?:Fast|Pil)?)\b")
_TELLING = 16  # a message of so many characters is not the same by chance
_COUNT = re.compile(r"^number of .*?(hidden.states|attentions)")


def attributed(checks: Sequence[CheckResult]) -> tuple[CheckResult, ...]:
    """Return the same results, with `because` on each failed one that may follow from another.

    Outcomes stay as they are, and a `because` that is set already is kept.

    Args:
        checks: all results of a run.
    """
    failed = sorted((check for check in checks if check.outcome == "failed" and not check.because), key=directness)
    because: dict[str, str] = {}
    for rule in (_same_words, _same_module, _compared_with_the_reference, _same_reading, _same_pixels, _same_count):
        for lead, follower in rule(failed, frozenset(because)):
            if lead != follower:
                because.setdefault(follower, lead)
    roots = {name: _root(name, because) for name in because}
    return tuple(
        dataclasses.replace(check, because=roots[check.name]) if check.name in roots and not check.because else check
        for check in checks
    )


def twin(module: str) -> str | None:
    """Return the same module of the other tower; None for a whole tower, and for a module that only one has."""
    tower, _, path = module.partition(".")
    other = {"text_model": "vision_model", "vision_model": "text_model"}.get(tower)
    return f"{other}.{path}" if other and path.startswith("encoder.") else None


def directness(check: CheckResult) -> int:
    """Return how directly a check judges: 0 for the most direct, for sorting."""
    places = (place for place, name in enumerate(_DIRECT) if name in (check.id, check.chapter))
    return min(places, default=len(_DIRECT))


_Pairs = Iterator[tuple[str, str]]


def _root(name: str, because: Mapping[str, str]) -> str:
    while because[name] in because:
        name = because[name]
    return because[name]


def _same_words(failed: Sequence[CheckResult], taken: frozenset[str]) -> _Pairs:
    """An exception that a check saw follows from the finding that quotes it."""
    findings = [(check.name, check.reason) for check in failed if check.id in _DIRECT and check.reason]
    for check in failed:
        lines = (check.detail or "").splitlines()
        raised = next((line[1:].strip() for line in lines if line.startswith("E ")), "")
        if len(raised) >= _TELLING and _failing(check) is None:
            yield from ((lead, check.name) for lead, reason in findings if raised in reason)


def _same_module(failed: Sequence[CheckResult], taken: frozenset[str]) -> _Pairs:
    """All checks with the same first diverging module, or the same one of the other tower (their code is shared),
    follow from the most direct one.
    """
    leads: dict[str, str] = {}
    for check in failed:
        if check.diverges_at:
            path = min(check.diverges_at, twin(check.diverges_at) or check.diverges_at)
            yield leads.setdefault(path, check.name), check.name


def _compared_with_the_reference(failed: Sequence[CheckResult], taken: frozenset[str]) -> _Pairs:
    """A comparison with the reference follows from the first part before it whose plain numbers are wrong."""
    wrong: dict[str, str] = {}
    for check in failed:
        if check.diverges_at and any(name in (check.id, check.chapter) for name in _PLAIN):
            wrong.setdefault(_part_of(check.diverges_at), check.name)
    for check in failed:
        measurement = _failing(check)
        if check.diverges_at or measurement is None or not _needs_the_reference(measurement):
            continue
        needed = _needed(f"{measurement.name} {check.case or ''}")
        lead = next((wrong[part] for part in needed if part in wrong), None)
        if lead is not None:
            yield lead, check.name


def _same_reading(failed: Sequence[CheckResult], taken: frozenset[str]) -> _Pairs:
    """Ids given by a class follow from its reading of plain texts."""
    return _by_class(
        failed,
        lead="tokenizer.token_ids_follow_the_rules",
        chapters=("tokenizer", "token_batches", "processor"),
        follows=lambda check, one: one is not None and bool(_READS.search(one.name)),
    )


def _same_pixels(failed: Sequence[CheckResult], taken: frozenset[str]) -> _Pairs:
    """Pixels given by a class follow from its pixels of plain pictures."""
    return _by_class(
        failed,
        lead="pixels.pixels_match_the_oracle",
        chapters=("pixels", "pixel_inputs", "pixel_options", "processor"),
        follows=lambda check, one: (
            one is not None and (one.budget.startswith("pixels") or one.name.startswith("settings"))
        ),
    )


def _by_class(
    failed: Sequence[CheckResult],
    *,
    lead: str,
    chapters: Iterable[str],
    follows: Callable[[CheckResult, Measurement | None], bool],
) -> _Pairs:
    """Failures of a class follow from the failure of `lead` for it. If `lead` has the same wrong value for several
    classes, they follow from the first. A check without a class uses AutoProcessor.
    """
    leads = {check.case or "": check for check in failed if check.id == lead}
    first: dict[tuple[str, str], str] = {}
    for check in leads.values():
        one = _failing(check)
        if one is not None:
            yield first.setdefault((one.observed, one.expected), check.name), check.name
    for check in failed:
        if check.id != lead and check.chapter in set(chapters) and follows(check, _failing(check)):
            name = _class_of(check)
            if name in leads:
                yield leads[name].name, check.name


def _class_of(check: CheckResult) -> str:
    one = _failing(check)
    match = _CLASSES.search(f"{check.case or ''} {one.name if one else ''}")
    return match.group() if match else "AutoProcessor"


def _same_count(failed: Sequence[CheckResult], taken: frozenset[str]) -> _Pairs:
    """Checks with the same wrong number of states or maps follow from the first."""
    leads: dict[tuple[str, str, str], str] = {}
    for check in failed:
        one = _failing(check)
        counted = None if one is None else _COUNT.match(one.name)
        if one is not None and counted is not None and check.name not in taken:
            key = (counted.group(1).replace(" ", "_"), one.observed, one.expected)
            yield leads.setdefault(key, check.name), check.name


def _failing(check: CheckResult) -> Measurement | None:
    return worst(one for one in check.measurements if not one.passed)


def _needs_the_reference(measurement: Measurement) -> bool:
    """Whether the bound is that of the float64 reference, not of an identity of the model's own numbers."""
    return "amplified by this model" in measurement.budget or measurement.budget.startswith("slope")


def _needed(name: str) -> tuple[str, ...]:
    return next((parts for words, parts in _OUTPUTS if re.search(words, name, re.IGNORECASE)), ())


def _part_of(module: str) -> str:
    """The part of a CLIP that holds a module, or has its name."""
    heads = {"text_projection": _TEXT_HEAD, "visual_projection": _VISION_HEAD, "logit_scale": _LOGITS}
    heads |= {"text_embeds": _NORMS, "image_embeds": _NORMS}
    tower = _TEXT if module.startswith("text") else _VISION
    return heads.get(module.partition(".")[0], tower)
