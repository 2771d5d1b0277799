"""Text-to-image retrieval (Radford et al. 2021, section 3.1.5): the rank of a caption's own image among all images.

Each text is asked once. A hit is any image that has it as a caption, and the one that lies nearest has the rank. Ties
count against it. Its value stands with the first image that has it. An image without a finite embedding is in nobody's
way; the values that stand with it are missing.
"""

from __future__ import annotations

from clip_eval.embedding.embedded import Embedded
from clip_eval.tasks._retrieval import lacks_captions, ranked, retrieval_scores
from clip_eval.tasks.task import Scores, Task

__all__ = ["TASK"]


def _score(embedded: Embedded) -> Scores:
    found = ranked(embedded)
    known = found.captions
    return Scores(
        samples=tuple(known.samples[images[0]].id for images in known.images_of),
        scores=retrieval_scores(found.of_texts, known.images_of, items=len(known.samples)),
        details=known.details,
    )


TASK = Task(
    name="text_to_image",
    primary="recall_at_1",
    claim="The image that lies nearest to a caption is one that has it",
    lacks=lacks_captions,
    score=_score,
)
