"""Expected outputs field by field, each with the rounding bound of every element."""

from __future__ import annotations

from dataclasses import dataclass

from clip_eval.errors import NotApplicable
from clip_eval.verdict.compare import Expected

__all__ = ["ExpectedContrast", "ExpectedTower"]


@dataclass(frozen=True, slots=True)
class ExpectedTower:
    """Expected outputs of a tower; see `clip_eval.oracle.TowerStates` for shapes."""

    hidden_states: tuple[Expected, ...]
    attentions: tuple[Expected, ...]
    last_hidden_state: Expected
    pooler_output: Expected
    embedding: Expected | None

    @property
    def projected(self) -> Expected:
        """The projected pooled state, (rows, projection). Raises NotApplicable if the checkpoint has no projection."""
        if self.embedding is None:
            raise NotApplicable("the checkpoint holds a tower without its projection only")
        return self.embedding

    def rows(self, count: int) -> ExpectedTower:
        """Return the first `count` rows."""
        return ExpectedTower(
            tuple(state[:count] for state in self.hidden_states),
            tuple(weights[:count] for weights in self.attentions),
            self.last_hidden_state[:count],
            self.pooler_output[:count],
            None if self.embedding is None else self.embedding[:count],
        )


@dataclass(frozen=True, slots=True)
class ExpectedContrast:
    """Expected outputs of the contrastive head; `loss` is None unless there are as many images as texts."""

    text_embeds: Expected
    image_embeds: Expected
    logits_per_text: Expected
    logits_per_image: Expected
    loss: Expected | None
