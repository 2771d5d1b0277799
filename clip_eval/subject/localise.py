"""Where a subject first leaves the oracle: the module that a wrong number comes from.

A check that looks at an embedding or a logit sees a defect of anything before it. Under teacher forcing each module is
judged by itself, so the first one that is off, in the order of computation, is the cause.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clip_eval.families.family import Family
from clip_eval.families.roles import LOGITS_PER_TEXT, WHOLE
from clip_eval.oracle.expected.outputs import Oracle
from clip_eval.probes.batches import MOST_ROWS
from clip_eval.subject.forced_pass import Pass, Probe, forced_pass
from clip_eval.subject.observations import Clip, Question

__all__ = ["Localiser"]

_MOST_VALUES = 2_000_000_000
"""Values that are looked at in one session, about a minute's worth: more than enough for any small model, some twenty
passes of a model of 151 million parameters. From then on, what was found has to do.
"""

_EAGER = {"attention": "eager"}


@dataclass(slots=True)
class Localiser:
    """Names the module that a mismatch comes from. Each question is put again once.

    Args:
        clip: the subject's observations.
        oracle: the expected values on the same probe.
    """

    clip: Clip
    oracle: Oracle
    _found: dict[tuple[Any, ...], Mapping[str, tuple[str, ...]]] = field(default_factory=dict, repr=False)
    _looked_at: int = 0
    _usual: tuple[Question, ...] | None = field(default=None, repr=False)

    def first_divergence(self, module: str | None, observed: Any = None) -> str | None:
        """Return the first module, in the order of computation, that diverges before or at `module`.

        Args:
            module: where a difference was seen, in the checkpoint's names; None where nobody said. It is returned as
                it is where every module is right by itself, and where it lies inside of a layer and nobody was asked.
            observed: what was compared. If it is part of an answer, its question is put again; else some usual
                questions are.
        """
        part = self.clip.part(observed)
        if part is None and (module is None or ".layers." in module or module.count(".") > 1):
            return module
        questions = (*(() if part is None else (part.question,)), *(self._questions() if module else ()))
        for question in questions:
            places = self._places(question)
            for group in _groups(self.clip.family, module):
                for place in places.get(group, ()):
                    if group != "head" or _belongs(self.clip.family, place, module):
                        return place
        return module

    def _places(self, question: Question) -> Mapping[str, tuple[str, ...]]:
        """The places of a question that are wrong, by part: the first one of a tower, all of the head."""
        probe = Probe.of(question, self.clip.batch)
        options = tuple(sorted((name, repr(value)) for name, value in question.options.items()))
        key = (question.model_class, question.method, probe, "attention_mask" in question.inputs, options)
        if key not in self._found:
            if self._looked_at > _MOST_VALUES:
                return self._found_elsewhere()
            found = forced_pass(self.clip, self.oracle, question)
            self._found[key] = {} if found is None else dict(self._wrong(found))
        return self._found[key]

    def _wrong(self, found: Pass) -> Iterator[tuple[str, tuple[str, ...]]]:
        for part, looks in found.looks.items():
            places = []
            for look in looks:
                self._looked_at += look.expected.value.size
                if not look.is_right:
                    places.append(look.place)
                    if part != "head":
                        break
            yield part, tuple(places)

    def _found_elsewhere(self) -> Mapping[str, tuple[str, ...]]:
        """Of each part, what the first question that showed something showed."""
        parts = ("vision", "text", "head")
        return {part: next((found[part] for found in self._found.values() if found.get(part)), ()) for part in parts}

    def _questions(self) -> tuple[Question, ...]:
        """What is asked where nothing else is known: the whole model under each mask and attention."""
        if self._usual is None:
            images, texts = self.clip.images(MOST_ROWS), self.clip.texts(MOST_ROWS, "none")
            given = [{**images, **self.clip.texts(MOST_ROWS, mask)} for mask in ("padding", "none", "interior")]
            given.append({**images, **texts, "attention_mask": np.ones_like(texts["input_ids"])})
            attentions: tuple[dict[str, Any], ...] = ({},) if self.clip.attention == "eager" else ({}, _EAGER)
            self._usual = tuple(Question(WHOLE, "forward", one, how) for one in given for how in attentions)
        return self._usual


def _groups(family: Family, module: str | None) -> tuple[str, ...]:
    """The parts of a model that come before a module or hold it."""
    if module is None or module == family.head[LOGITS_PER_TEXT]:
        return ("vision", "text", "head")
    text = f"{module}.".startswith((*family.text.parts, f"{family.text.embeds}."))
    return ("text", "head") if text else ("vision", "head")


def _belongs(family: Family, place: str, module: str | None) -> bool:
    """Whether a place of the head comes before or at a module: an embedding after its projection, all before logits."""
    if module is None or module == family.head[LOGITS_PER_TEXT]:
        return True
    return any(place == tower.embeds and module in (tower.projection, place) for tower in (family.text, family.vision))
