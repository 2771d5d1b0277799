"""CLIPForImageClassification: attributes of the class, and what it adds to its tower."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from clip_eval.baseline.surface.formatting import attempt, spelled
from clip_eval.baseline.surface.models import attributes_of, facts_of
from clip_eval.checkpoint.checkpoint import open_checkpoint
from clip_eval.families.roles import CLASSIFIER
from clip_eval.subject import Subject
from clip_eval.subject.observations import Clip
from clip_eval.subject.tiny_clip import classifier_of, write_stand_in
from clip_eval.verdict.plain_values import Json

__all__ = ["observe_classifier"]


def observe_classifier(clip: Clip) -> dict[str, Json]:
    """Return the class's attributes and its parts beside the tower, on a tiny model; nothing of a tower alone."""
    if not clip.holds.has(CLASSIFIER):
        return {}
    with TemporaryDirectory(prefix="clip-eval-") as directory:
        place, like = Path(directory), clip.subject
        write_stand_in(place, like.checkpoint, "float32")
        small = Subject(open_checkpoint(place), like.dtype, like.device, like.attention)
        model = classifier_of(place / "three", small, labels=3).model(CLASSIFIER)
        tower = f"{clip.family.vision.module}."  # recorded with the tower's own classes
        attributes = attributes_of({CLASSIFIER: model}) | facts_of(clip, {CLASSIFIER: model})
        return {
            f"{CLASSIFIER}.*": {name: attributes[name] for name in sorted(attributes)},
            f"{CLASSIFIER}.parameters()": [name for name, _ in model.named_parameters() if not name.startswith(tower)],
            f"{CLASSIFIER}.named_modules()[*]": {
                path or "itself": type(module).__name__
                for path, module in model.named_modules()
                if not path.startswith(tower)
            },
            f"{CLASSIFIER}(labels).classifier[*]": {
                str(labels): attempt(_head, small, place / f"labels-{labels}", labels) for labels in (0, 1)
            },
        }


def _head(small: Subject, place: Path, labels: int) -> str:
    path = classifier_of(place, small, labels=labels).checkpoint.path
    # The class itself, so that a release's own error is recorded.
    model: Any = small.processors.construct(CLASSIFIER, str(path), method="from_pretrained", local_files_only=True)
    return f"{type(model.classifier).__name__}, num_labels {spelled(model.num_labels)}"
