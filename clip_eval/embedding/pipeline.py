"""From the entries of a dataset to features: decode, preprocess, forward, keep, overlapped and bounded in memory.

Images are read in one thread, decoded and preprocessed in several, and computed in the caller's. Entries form blocks of
1,024 in the order of the dataset, and batches lie within a block: which images make a batch, and so every bit of an
embedding, follows from the dataset and from what was kept before, not from the number of threads. How a matrix product
rounds depends on its number of rows, so an image that is added later, and computed in another batch, may differ from a
run that began with it, within the float budget. A run that was killed goes on where a batch ended, and ends bit-equal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from clip_eval.dataset import Entry, Sample
from clip_eval.dataset.decode import decode
from clip_eval.dataset.key_index import KEY_BYTES
from clip_eval.embedding.ahead import ahead
from clip_eval.embedding.pixels import Pixels
from clip_eval.embedding.rows import Rows, digest_of, text_key
from clip_eval.embedding.texts import TOKENS_AT_ONCE, text_features, tokenised, too_long
from clip_eval.embedding.threads import computing
from clip_eval.families.registry import entry_point
from clip_eval.families.roles import WHOLE
from clip_eval.processes import usable_cores
from clip_eval.subject.launch import Pending, launched
from clip_eval.subject.runtime import Runtime

__all__ = ["BATCH", "BLOCK", "Pipeline", "Seen", "blocks"]

BATCH = 64
"""Images in a batch unless the user says otherwise."""

BLOCK = 1024
"""Entries in a block."""

_MOST_WORKERS, _MOST_AT_ONCE = 16, 8


@dataclass(frozen=True, slots=True)
class Seen:
    """An entry of the dataset that has passed.

    Attributes:
        where: its place in the dataset.
        sample: None if it cannot be read.
        key: of its image; None if and only if there is a problem.
        problem: why it has no embedding, a clause.
        digest: sha256 of its image's bytes; None if there are none.
    """

    where: str
    sample: Sample | None
    key: bytes | None
    problem: str | None
    digest: bytes | None


@dataclass(frozen=True, slots=True)
class _Prepared:
    """An entry, and its pixels, (channels, height, width), unless they are not needed or there are none."""

    seen: Seen
    pixels: NDArray[np.float32] | None


@dataclass(slots=True)
class Pipeline:
    """Computes what is not kept yet. The libraries and the model are loaded for the first image or text that is new.

    Args:
        runtime: what runs the checkpoint.
        images: features of images by the bytes of their files.
        texts: features of texts.
        workers: threads that decode; by default one a core, at most 16.
        batch_size: images in a batch; a batch of texts has as many tokens as 64 times that.
    """

    runtime: Runtime
    images: Rows
    texts: Rows
    workers: int | None = None
    batch_size: int = BATCH
    new_images: int = 0
    new_texts: int = 0
    _pixels: Pixels = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._pixels = Pixels(self.runtime)

    def embed_images(self, entries: Iterable[Entry]) -> Iterator[Seen]:
        """Embed the images that are new, and yield every entry in order, possibly before its batch is computed.

        Args:
            entries: with the bytes of their images; the first one begins a block.
        """
        workers = self.workers or min(usable_cores(), _MOST_WORKERS)
        limit = 2 * max(self.batch_size, workers)
        at_once = max(1, min(_MOST_AT_ONCE, limit // (4 * workers)))
        with closing(ahead(entries, self._prepare, workers=workers, limit=limit, at_once=at_once)) as prepared:
            while (first := next(prepared, None)) is not None:
                yield from self._block(chain((first,), islice(prepared, BLOCK - 1)))

    def embed_texts(self, texts: Iterable[str]) -> list[str]:
        """Embed the texts that are new, all of them in batches by length, and return those that are too long.

        Args:
            texts: any number; a killed run goes on after all of them or with all of them.
        """
        new = {key: text for text in texts if (key := text_key(text)) not in self.texts}
        keys, wanted = list(new), list(new.values())
        if not wanted:
            return []
        tokens = tokenised(self.runtime, wanted)
        long = set(too_long(self.runtime, tokens))
        fitting = [place for place in range(len(wanted)) if place not in long]
        budget = TOKENS_AT_ONCE * self.batch_size // BATCH
        with computing(self.runtime, "texts"):
            for places, features in text_features(self.runtime, tokens, fitting, tokens_at_once=budget):
                names = {"text": [wanted[place] for place in places]}
                self.texts.add([keys[place] for place in places], names, features)
        self.texts.settle()
        self.new_texts += len(fitting)
        return [wanted[place] for place in sorted(long)]

    def _prepare(self, entry: Entry) -> _Prepared:
        """Decode and preprocess an image that is new; called in threads."""
        if entry.image is None:
            return _Prepared(Seen(entry.where, entry.sample, None, entry.problem, None), None)
        digest = digest_of(entry.image)
        key = digest[:KEY_BYTES]
        seen = Seen(entry.where, entry.sample, key, None, digest)
        if key in self.images:
            return _Prepared(seen, None)
        self._pixels.load()
        found = decode(entry)
        if found.image is None:
            return _Prepared(replace(seen, key=None, problem=found.problem), None)
        try:
            return _Prepared(seen, self._pixels(found.image))
        except (TypeError, ValueError, OSError, MemoryError) as problem:
            return _Prepared(replace(seen, key=None, problem=f"it cannot be processed ({problem})"), None)

    def _block(self, block: Iterable[_Prepared]) -> Iterator[Seen]:
        batch: dict[bytes, _Prepared] = {}
        waiting: deque[tuple[dict[bytes, Sample], Pending]] = deque()
        for one in block:
            key = one.seen.key
            if key is not None and one.pixels is not None and key not in batch and not self._is_taken(key, waiting):
                batch[key] = one
            if len(batch) == self.batch_size:
                self._launch(batch, waiting)
                batch = {}
            yield one.seen
        self._launch(batch, waiting)
        self._fetch(waiting, leave=0)

    def _is_taken(self, key: bytes, waiting: Iterable[tuple[dict[bytes, Sample], Pending]]) -> bool:
        return key in self.images or any(key in samples for samples, _ in waiting)

    def _launch(self, batch: dict[bytes, _Prepared], waiting: deque[tuple[dict[bytes, Sample], Pending]]) -> None:
        if batch:
            pixels = np.stack([one.pixels for one in batch.values() if one.pixels is not None])
            with computing(self.runtime, "images"):
                started = launched(self.runtime, entry_point(WHOLE, "get_image_features"), {"pixel_values": pixels})
            samples = {key: one.seen.sample for key, one in batch.items() if one.seen.sample is not None}
            waiting.append((samples, started))
            self._fetch(waiting, leave=1)

    def _fetch(self, waiting: deque[tuple[dict[bytes, Sample], Pending]], *, leave: int) -> None:
        """Keep the features of the batches that were launched first; a GPU has a batch to compute meanwhile."""
        while len(waiting) > leave:
            samples, pending = waiting.popleft()
            names = {"id": [one.id for one in samples.values()], "path": [one.path for one in samples.values()]}
            self.images.add(list(samples), names, pending())
            self.images.settle()
            self.new_images += len(samples)


def blocks(items: Iterable[Seen]) -> Iterator[Sequence[Seen]]:
    """Yield entries block by block."""
    iterator = iter(items)
    while block := list(islice(iterator, BLOCK)):
        yield block
