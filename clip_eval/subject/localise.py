"""The module that a wrong number comes from: the first one at which a subject diverges from the oracle.

A wrong embedding or logit may come from any module before it. Under teacher forcing each module is judged by itself, so
the first wrong one, in the order of computation, is the cause.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clip_eval.families.family import Family
from clip_eval.families.registry import entry_point
from clip_eval.families.roles import LOGITS_PER_TEXT
from clip_eval.oracle.expected.outputs import Oracle
from clip_eval.probes.batches import MOST_ROWS
from clip_eval.subject.forced_pass import ForcedPass, ProbeSlice, forced_pass
from clip_eval.subject.observations import Clip, Question
from clip_eval.subject.runtime import Capability

__all__ = ["Localiser"]

_MOST_VALUES = 2_000_000_000
"""Limit of values compared in one session, about a minute: more than any small model needs, some twenty passes of a
model of 151 million parameters. After that no further pass is made.
"""

_EAGER = {"attention": "eager"}


@dataclass(slots=True)
class Localiser:
    """Finds the module that a mismatch comes from. Each question is repeated once.

    Args:
        clip: the subject's observations.
        oracle: the expected values on the same probe.
    """

    clip: Clip
    oracle: Oracle
    _by_question: dict[tuple[Any, ...], Mapping[str, tuple[str, ...]]] = field(default_factory=dict, repr=False)
    _values_compared: int = 0
    _default_questions: tuple[Question, ...] | None = field(default=None, repr=False)

    def first_divergence(self, module: str | None, observed: Any = None) -> str | None:
        """Return the first module, in the order of computation, that diverges before or at `module`.

        Args:
            module: where a difference was seen, in the checkpoint's names; None if unknown. It is returned unchanged if
                every module is right by itself, if it lies inside a layer and `observed` is not part of an answer, and
                if the runtime has no modules.
            observed: what was compared. If it is part of an answer, that question is repeated; else some usual
                ones are.
        """
        if Capability.MODULES not in self.clip.runtime.capabilities:
            return module
        part = self.clip.part(observed)
        if part is None and (module is None or ".layers." in module or module.count(".") > 1):
            return module
        questions = (*(() if part is None else (part.question,)), *(self._questions() if module else ()))
        for question in questions:
            wrong = self._wrong_modules(question)
            for group in _groups(self.clip.family, module):
                for module_name in wrong.get(group, ()):
                    if group != "head" or _is_before(self.clip.family, module_name, module):
                        return module_name
        return module

    def _wrong_modules(self, question: Question) -> Mapping[str, tuple[str, ...]]:
        """The wrong modules that a question shows, by part: the first one of a tower, all of the head."""
        probe = ProbeSlice.of(question, self.clip.batch)
        options = tuple(sorted((name, repr(value)) for name, value in question.options.items()))
        key = (question.model_class, question.method, probe, "attention_mask" in question.inputs, options)
        if key not in self._by_question:
            if self._values_compared > _MOST_VALUES:
                return self._found_by_others()
            forced = forced_pass(self.clip, self.oracle, question)
            self._by_question[key] = {} if forced is None else dict(self._wrong(forced))
        return self._by_question[key]

    def _wrong(self, forced: ForcedPass) -> Iterator[tuple[str, tuple[str, ...]]]:
        for part, comparisons in forced.comparisons.items():
            wrong = []
            for comparison in comparisons:
                self._values_compared += comparison.expected.value.size
                if not comparison.is_right:
                    wrong.append(comparison.module)
                    if part != "head":
                        break
            yield part, tuple(wrong)

    def _found_by_others(self) -> Mapping[str, tuple[str, ...]]:
        """Of each part, the wrong modules of the first question that showed any."""
        parts = ("vision", "text", "head")
        return {
            part: next((found[part] for found in self._by_question.values() if found.get(part)), ()) for part in parts
        }

    def _questions(self) -> tuple[Question, ...]:
        """The usual questions: the whole model, or the tower that is there, under each mask and attention."""
        if self._default_questions is None:
            entry = entry_point(self.clip.checkpoint.holds.main_class)
            masks = ("padding", "none", "interior") if entry.texts else ("none",)
            texts, images = (min(MOST_ROWS, self.oracle.rows_that_fit(one)) for one in ("padding", "vision"))
            inputs = [self.clip.inputs(entry, images=images, texts=texts, mask=mask) for mask in masks]
            if entry.texts:
                plain = self.clip.inputs(entry, images=images, texts=texts, mask="none")
                inputs.append({**plain, "attention_mask": np.ones_like(plain["input_ids"])})
            attentions: tuple[dict[str, Any], ...] = ({},) if self.clip.attention == "eager" else ({}, _EAGER)
            self._default_questions = tuple(
                Question(entry.model_class, "forward", one, options) for one in inputs for options in attentions
            )
        return self._default_questions


def _groups(family: Family, module: str | None) -> tuple[str, ...]:
    """The parts of a model that come before a module or hold it."""
    if module is None or module == family.head[LOGITS_PER_TEXT]:
        return ("vision", "text", "head")
    text = f"{module}.".startswith((*family.text.parts, f"{family.text.embeds}."))
    return ("text", "head") if text else ("vision", "head")


def _is_before(family: Family, found: str, module: str | None) -> bool:
    """Whether a wrong part of the head lies before or at a module: an embedding after its projection, all before the
    logits.
    """
    if module is None or module == family.head[LOGITS_PER_TEXT]:
        return True
    return any(found == tower.embeds and module in (tower.projection, found) for tower in (family.text, family.vision))
