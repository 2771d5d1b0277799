"""Image-to-text retrieval (Radford et al. 2021, section 3.1.5): the rank of an image's own caption among all texts.

A hit is any of the image's own captions, and the one that lies nearest has the rank. Ties count against it. See
`_retrieval.py` for captions that several images share.
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
        samples=tuple(sample.id for sample in known.samples),
        scores=retrieval_scores(found.of_images, known.texts_of, items=len(known.texts)),
        details=known.details,
    )


TASK = Task(
    name="image_to_text",
    primary="recall_at_1",
    claim="The caption that lies nearest to an image is one of its own",
    lacks=lacks_captions,
    score=_score,
)
