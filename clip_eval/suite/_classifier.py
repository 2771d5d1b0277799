"""Shared by the checks of CLIPForImageClassification: a tiny classifier, or the candidate if it is one; its inputs and
labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from clip_eval.checkpoint.dtypes import round_values
from clip_eval.families.roles import CLASSIFIER
from clip_eval.oracle.expected.classifier import expected_classes
from clip_eval.oracle.expected.outputs import Oracle
from clip_eval.probes.batches import Batch, make_batch
from clip_eval.subject import Subject
from clip_eval.subject.observations import Clip
from clip_eval.subject.tiny_clip import classifier_of, classifier_weights, small_subject
from clip_eval.verdict.compare import Expected

__all__ = ["CLASSES", "Classifier", "classifier"]

CLASSES = 3
"""Number of labels of the default classifier; differs from the number of images."""

_SIZES = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 2, "image_size": 24, "patch_size": 8}
"""Nine patches, since a mean over one tests nothing; two layers and heads, so that they can be mixed up."""


@dataclass(frozen=True, slots=True)
class Classifier:
    """A CLIPForImageClassification: a tiny one of the candidate's kind, or the candidate itself.

    Attributes:
        small: the tiny CLIP that it is loaded from; the candidate, if that is a classifier.
        subject: loads the classifier.
        labels: how many it has.
        batch: its images.
    """

    small: Subject
    subject: Subject
    labels: int
    batch: Batch

    def call(self, *arguments: object, problem: str | None = None, images: int | None = None, **options: Any) -> Any:
        """Call it on its first images, by default on all.

        Args:
            arguments: by position after the pixels.
            problem: problem_type of the config; restored after the call, which may change it.
            images: how many.
            options: by keyword; `attention` is an implementation for this call.
        """
        pixels = self.subject.tensors({"pixel_values": self.batch.pixel_values[:images]})
        given = (pixels.pop("pixel_values"),) if arguments else ()
        with self.subject.configured(CLASSIFIER, {"problem_type": problem}):
            return self.subject.call(CLASSIFIER, *given, *arguments, **pixels, **options)

    @property
    def is_candidate(self) -> bool:
        """Whether its weights are the candidate's own."""
        return self.small is self.subject

    def labels_of(self, kind: str) -> tuple[Any, NDArray[Any]]:
        """Return labels as a tensor and as an array: "numbers", "choices" or "flags", all exact in any dtype."""
        images = len(self.batch.pixel_values)
        grid = np.arange(images * self.labels).reshape(images, self.labels)  # (images, labels)
        values = {
            "numbers": grid % 5 / 4 - 0.5,
            "flags": (grid % 7 % 2).astype(np.float64),
            "choices": np.arange(images) % max(self.labels, 1),
        }[kind]
        tensor = self.subject.tensors({"labels": values})["labels"]
        return (tensor if kind == "choices" else tensor.to(self.subject.model(CLASSIFIER).dtype)), values

    def oracle(self) -> Oracle:
        """Return the expected outputs of its vision tower."""
        precision, checkpoint = self.subject.precision, self.small.checkpoint
        return Oracle(checkpoint.family, checkpoint.weights(precision.dtype), checkpoint.config, precision, self.batch)

    def expected_logits(self) -> Expected:
        """Return its expected logits, (images, labels)."""
        precision, checkpoint = self.subject.precision, self.small.checkpoint
        weights, network, config = checkpoint.weights(precision.dtype), checkpoint.family.network, checkpoint.config
        if self.is_candidate:
            return self.oracle().classes(images=len(self.batch.pixel_values))
        head = classifier_weights(self.labels, config.vision.hidden_size)
        rounded = {name: round_values(values, precision.dtype).astype(np.float64) for name, values in head.items()}
        return expected_classes(network, {**weights, **rounded}, config.vision, self.batch.pixel_values, precision)


def classifier(clip: Clip, directories: pytest.TempPathFactory, labels: int = CLASSES) -> Classifier:
    """Return the classifier with this many labels, made once a session.

    A candidate that is a classifier stands for the one with the default number, or with one label if it has one.
    """
    own = clip.checkpoint.labels
    if own is not None and labels == (1 if own == 1 else CLASSES):
        return Classifier(clip.subject, clip.subject, own, clip.batch)

    def make() -> Classifier:
        directory = directories.mktemp("classifier")
        small = small_subject(directory / "clip", clip.subject, vision=_SIZES)
        made = classifier_of(directory / "classifier", small, labels=labels)
        return Classifier(small, made, labels, make_batch(small.checkpoint.config))

    found: Classifier = clip.once(("the classifier", labels), make)
    return found
