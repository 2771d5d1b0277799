"""What a checkpoint holds: a whole model, one tower with or without its projection, or an image classifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from clip_eval.errors import NotApplicable
from clip_eval.families import roles
from clip_eval.families.family import EntryPoint

__all__ = ["HOLDINGS", "Holding"]


_CLASSES = {"text": (roles.TEXT, roles.TEXT_PROJECTED), "vision": (roles.VISION, roles.VISION_PROJECTED)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """The part of a model that a checkpoint holds.

    Attributes:
        role: of the class that has a place for every tensor.
        classes: the roles of the classes that find all their tensors in it, in the order of `roles.MODEL_CLASSES`.
        texts: whether the text tower is there.
        images: the same of the vision tower.
        in_words: for sentences, such as "a text tower".
    """

    role: str
    classes: tuple[str, ...]
    texts: bool
    images: bool
    in_words: str

    @property
    def whole(self) -> bool:
        """Whether it is a whole model: both towers, projected, and the head."""
        return self.role == roles.WHOLE

    @property
    def plain_class(self) -> str:
        """The class whose output has the most: the whole model, or the tower without projection or classifier."""
        return self.classes[0]

    @property
    def main_class(self) -> str:
        """The class of `roles.MODEL_CLASSES` that has most of it: the whole model, or the tower with its projection."""
        return self.role if self.role in roles.MODEL_CLASSES else self.plain_class

    def tower_class(self, tower: str) -> str:
        """The class of one tower, "text" or "vision", with its projection if that is there.

        Raises:
            NotApplicable: the tower is not there.
        """
        self.require_tower(tower)
        plain, projected = _CLASSES[tower]
        return projected if self.has(projected) else plain

    @property
    def towers(self) -> tuple[str, ...]:
        """Those of "text" and "vision" that are there."""
        return (*(("text",) if self.texts else ()), *(("vision",) if self.images else ()))

    def has(self, model_class: str) -> bool:
        """Whether a class finds all its tensors; of a whole model every class, with a new layer if need be."""
        return self.whole or model_class in self.classes

    def entries(self, entry_points: tuple[EntryPoint, ...]) -> tuple[EntryPoint, ...]:
        """Those of some entry points whose class finds all its tensors."""
        return tuple(entry for entry in entry_points if self.has(entry.model_class))

    def require(self, model_class: str) -> None:
        """Raise NotApplicable unless a class finds all its tensors."""
        if not self.has(model_class):
            raise self.lacking

    def require_tower(self, tower: str) -> None:
        """Raise NotApplicable unless a tower, "text" or "vision", is there."""
        if tower not in self.towers:
            raise self.lacking

    def lacks_part(self, part: str) -> bool:
        """Whether a part of a processor, "tokenizer" or "image processor", is for a tower that is not there."""
        return not (self.texts if part == "tokenizer" else self.images)

    @property
    def lacking(self) -> NotApplicable:
        """Why something does not apply to a part of a model."""
        return NotApplicable(f"the checkpoint holds {self.in_words} only")


def _tower(role: str, *others: str, texts: bool, in_words: str) -> Holding:
    return Holding(role=role, classes=(*others, role), texts=texts, images=not texts, in_words=in_words)


HOLDINGS: Mapping[str, Holding] = MappingProxyType(
    {
        found.role: found
        for found in (
            Holding(role=roles.WHOLE, classes=roles.MODEL_CLASSES, texts=True, images=True, in_words="a whole model"),
            _tower(roles.TEXT, texts=True, in_words="a text tower"),
            _tower(roles.TEXT_PROJECTED, roles.TEXT, texts=True, in_words="a text tower and its projection"),
            _tower(roles.VISION, texts=False, in_words="a vision tower"),
            _tower(roles.VISION_PROJECTED, roles.VISION, texts=False, in_words="a vision tower and its projection"),
            _tower(roles.CLASSIFIER, roles.VISION, texts=False, in_words="a vision tower and a classifier"),
        )
    }
)
"""By the role of the class that has a place for every tensor."""
