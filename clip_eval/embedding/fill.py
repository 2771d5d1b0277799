"""Entries of a dataset into a store, in constant memory: nothing of them is kept but what has been counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from clip_eval.dataset import Dataset, Entry
from clip_eval.embedding.pipeline import BATCH, Pipeline, Seen, blocks
from clip_eval.embedding.store import open_store
from clip_eval.subject.candidate import Candidate

__all__ = ["EmbedOptions", "Tally", "candidate_of", "embed_entries", "embed_prompts", "open_pipeline", "prompts_of"]

_NAMED_AT_MOST = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedOptions:
    """What to embed, where, and how.

    Attributes:
        model: a directory, or a hub id with or without @revision.
        dataset: a dataset directory.
        out: the store's directory.
        engine: "local", or "ray" for Ray Data.
        address: of a Ray cluster; None for this machine.
        device: a torch device; "cuda" with Ray, which gives each worker a GPU.
        dtype: None for the stored dtype.
        attention: None for transformers' choice.
        variant: of the weights' file, such as "fp16"; None for model.safetensors.
        processor: a directory with the processor's files, if they are elsewhere.
        workers: threads that decode; with Ray, processes that embed.
        batch_size: images in a batch.
    """

    model: str
    dataset: Path
    out: Path
    engine: str = "local"
    address: str | None = None
    device: str = "cpu"
    dtype: str | None = None
    attention: str | None = None
    variant: str | None = None
    processor: str | None = None
    workers: int | None = None
    batch_size: int = BATCH


@dataclass(slots=True)
class Tally:
    """What a run has done.

    Attributes:
        images: entries whose image is in the store.
        texts: prompts and captions that are in it, each as often as it occurs.
        new_images: images that were computed now.
        new_texts: texts that were computed now.
        left_out: images and texts that have no embedding.
        places: where the first of these are, and why.
    """

    images: int = 0
    texts: int = 0
    new_images: int = 0
    new_texts: int = 0
    left_out: int = 0
    places: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add what another part of the same run has done."""
        for name in ("images", "texts", "new_images", "new_texts", "left_out"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.places = [*self.places, *other.places][:_NAMED_AT_MOST]

    def leave_out(self, place: str) -> None:
        """Count one that has no embedding."""
        self.left_out += 1
        if len(self.places) < _NAMED_AT_MOST:
            self.places.append(place)

    @property
    def lines(self) -> list[str]:
        """What a person wants to know."""
        found = [
            f"{self.images:,} images, {self.new_images:,} of them computed now; "
            f"{self.texts:,} texts, {self.new_texts:,} of them computed now"
        ]
        if self.left_out:
            more = self.left_out - len(self.places)
            found.append(f"{self.left_out:,} left out:")
            found += [f"- {place}" for place in self.places] + ([f"- and {more:,} more"] if more else [])
        return found


def candidate_of(options: EmbedOptions, device: str) -> Candidate:
    """Return the checkpoint that the options name, on a device."""
    return Candidate(
        options.model, options.dtype, device, options.attention, variant=options.variant, processor=options.processor
    )


def open_pipeline(options: EmbedOptions, candidate: Candidate, *, workers: int | None) -> Pipeline:
    """Return a pipeline into the options' store; reads every weight once.

    Args:
        options: what to embed.
        candidate: the subject.
        workers: threads that decode.
    """
    images, texts = open_store(options.out, candidate.runtime)
    return Pipeline(candidate.runtime, images, texts, workers, options.batch_size)


def embed_prompts(pipeline: Pipeline, dataset: Dataset) -> Tally:
    """Embed the prompts of the dataset's classes, all of them in batches by length."""
    tally = Tally()
    _embed_texts(pipeline, prompts_of(dataset), tally)
    pipeline.texts.flush()
    return tally


def prompts_of(dataset: Dataset) -> list[str]:
    """Return the prompts of the dataset's classes; none without a zero-shot task."""
    return [] if dataset.zero_shot is None else dataset.zero_shot.texts()


def embed_entries(
    pipeline: Pipeline, entries: Iterable[Entry], show: Callable[[int], None], *, prompts: Iterable[str] = ()
) -> Tally:
    """Embed entries with their captions, block by block, and write what is left to the store.

    Args:
        pipeline: into a store.
        entries: with the bytes of their images; the first one begins a block.
        show: called with the number of entries that are done.
        prompts: texts that `embed_prompts` embeds, whether or not it has run: no batch of captions holds them.
    """
    elsewhere = set(prompts)
    tally, images_before = Tally(), pipeline.new_images
    for block in blocks(_told(pipeline.embed_images(entries), show)):
        captions: list[str] = []
        for seen in block:
            if seen.key is None or seen.sample is None:
                tally.leave_out(f"{seen.where}: {seen.problem}")
            else:
                tally.images += 1
                captions += seen.sample.captions
        own = [text for text in captions if text not in elsewhere]
        _embed_texts(pipeline, own, tally)
        tally.texts += len(captions) - len(own)
    pipeline.images.flush()
    pipeline.texts.flush()
    tally.new_images = pipeline.new_images - images_before
    return tally


def _told(seen: Iterable[Seen], show: Callable[[int], None]) -> Iterator[Seen]:
    for done, one in enumerate(seen, start=1):
        show(done)
        yield one


def _embed_texts(pipeline: Pipeline, texts: list[str], tally: Tally) -> None:
    before = pipeline.new_texts
    long = set(pipeline.embed_texts(texts))
    tally.new_texts += pipeline.new_texts - before
    for text in texts:
        if text in long:
            tally.leave_out(f"the text {text[:60]!r} has more tokens than the model takes")
        else:
            tally.texts += 1
