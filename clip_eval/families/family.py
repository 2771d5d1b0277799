"""A model family: one object with everything that differs between families."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from clip_eval.errors import CheckpointError
from clip_eval.families.config import ClipConfig, TextConfig, VisionConfig
from clip_eval.families.reference.arithmetic import EXACT, Arithmetic, Array, Ids
from clip_eval.families.reference.contrastive_head import Contrast
from clip_eval.families.reference.encoder import Observer, TowerStates

__all__ = [
    "ConfigReader",
    "Dimension",
    "EntryPoint",
    "Family",
    "ModelClass",
    "Network",
    "Origin",
    "PlainForward",
    "SourceFormat",
    "SourceSettings",
    "Stated",
    "Tower",
]


@dataclass(frozen=True, slots=True)
class Dimension:
    """One axis of a tensor: its length, and the config fields that it follows from, dotted name to value."""

    size: int
    fields: Mapping[str, int]


_Read = TypeVar("_Read", covariant=True)
_Config = TypeVar("_Config", TextConfig, VisionConfig)

# No tensor's shape shows them, so two classes can load the same tensors and differ in these.
_COMPUTED_WITH = ("num_attention_heads", "hidden_act", "layer_norm_eps", "eos_token_id")


class _Reader(Protocol[_Read]):
    def __call__(self, raw: Mapping[str, object], *, where: str) -> _Read: ...


class _TowerReader(Protocol):
    def __call__(self, raw: Mapping[str, object], *, texts: bool, where: str) -> ClipConfig: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigReader:
    """How config.json is read. Each takes the parsed file; `where` is its name for messages. All raise CheckpointError.

    Attributes:
        parse: the config that the whole model runs with.
        text_alone: the text tower's config as the classes of one tower read it.
        vision_alone: the same of the vision tower.
        parse_tower: the same of one tower, where the checkpoint holds no more; the other is a stand-in.
        labels: how many labels an image classifier has.
        absent: the fields that the file leaves to their defaults, as dotted names.
        notes: sentences for reports on values in effect that differ from what the file seems to say.
    """

    parse: _Reader[ClipConfig]
    text_alone: _Reader[TextConfig]
    vision_alone: _Reader[VisionConfig]
    parse_tower: _TowerReader
    labels: _Reader[int]
    absent: Callable[[Mapping[str, object]], frozenset[str]]
    notes: _Reader[tuple[str, ...]]

    def standalone(self, raw: Mapping[str, object], *, where: str) -> ClipConfig:
        """The whole model's config, with the values that the classes of one tower use if they differ.

        A tower that does not load in them, unreadable or of another width, keeps the whole model's values.

        Args:
            raw: a mapping that `parse` accepts.
            where: the file's name, for error messages.
        """
        config = self.parse(raw, where=where)
        with contextlib.suppress(CheckpointError):
            config = replace(config, text=_computed_alone(config.text, self.text_alone(raw, where=where)))
        with contextlib.suppress(CheckpointError):
            config = replace(config, vision=_computed_alone(config.vision, self.vision_alone(raw, where=where)))
        return config


def _computed_alone(nested: _Config, alone: _Config) -> _Config:
    if alone.hidden_size != nested.hidden_size:
        return nested
    return replace(nested, **{name: getattr(alone, name) for name in _COMPUTED_WITH if hasattr(alone, name)})


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelClass:
    """A class that loads a checkpoint of the family, or a part of it.

    Attributes:
        name: of the class.
        module: that it is imported from.
        parts: the prefixes of its tensors' canonical names, those of its (first) tower first.
    """

    name: str
    module: str = "transformers"
    parts: tuple[str, ...]

    @property
    def tower(self) -> str:
        """The canonical name of its first tower."""
        return self.parts[0].rstrip(".")


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPoint:
    """A public entry point of a model: a class and the method that is called.

    Attributes:
        model_class: the role of the class; see `clip_eval.families.roles`.
        method: "forward" for a call of the model itself, or the name of a method.
        texts: whether it takes texts, and so uses the text tower.
        images: the same of images and the vision tower.
        parameters: documented, in the order in which they may be given by position.
        inputs: how many of them precede the options for what else is returned.
        fields: those that its output always has; empty if it is a tensor in some releases.
    """

    model_class: str
    method: str
    texts: bool
    images: bool
    parameters: tuple[str, ...]
    inputs: int
    fields: tuple[str, ...]

    def __str__(self) -> str:
        """The name in reports: the class for its forward, else the method of the whole model."""
        return self.model_class if self.method == "forward" else self.method


@dataclass(frozen=True, slots=True, kw_only=True)
class Tower:
    """The modules of a tower that checks name, by canonical name.

    Attributes:
        module: the tower itself.
        section: its section in config.json.
        entering: the last module before the first layer.
        last: the module that computes last_hidden_state.
        pooled: the module that computes pooler_output.
        projection: from the pooled state to the embedding.
        embeds: the field that holds the embedding.
    """

    module: str
    section: str
    entering: str
    last: str
    pooled: str
    projection: str
    embeds: str

    @property
    def parts(self) -> tuple[str, str]:
        """The prefixes of its tensors' canonical names."""
        return f"{self.module}.", f"{self.projection}."


class _TextTower(Protocol):
    def __call__(
        self,
        weights: Mapping[str, Array],
        config: TextConfig,
        input_ids: Ids,
        attention_mask: Ids | None = None,
        *,
        arithmetic: Arithmetic = EXACT,
        observer: Observer | None = None,
    ) -> TowerStates: ...


class _VisionTower(Protocol):
    def __call__(
        self,
        weights: Mapping[str, Array],
        config: VisionConfig,
        pixel_values: Array,
        *,
        arithmetic: Arithmetic = EXACT,
        observer: Observer | None = None,
        interpolate: bool = False,
    ) -> TowerStates: ...


class _Head(Protocol):
    def __call__(
        self,
        weights: Mapping[str, Array],
        text_projected: Array,
        image_projected: Array,
        *,
        arithmetic: Arithmetic = EXACT,
    ) -> Contrast: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The reference of a family: float64 NumPy, from the papers, by the methods of one `Arithmetic`.

    Attributes:
        text_tower: computes the text tower's outputs.
        vision_tower: computes the vision tower's outputs.
        head: computes embeddings, logits and loss from the projections of both towers.
        logit_bias: what is added to scaled cosines, from the weights; nothing where it is left out.
        last_read: (texts, tokens) ids to the last position that a text's pooled state depends on, (texts,).
        pools_one_token: whether a text's pooled state is the state of that position, and of no other.
    """

    text_tower: _TextTower
    vision_tower: _VisionTower
    head: _Head
    logit_bias: Callable[[Mapping[str, Array]], float] = lambda weights: 0.0
    last_read: Callable[[Ids, TextConfig], Ids]
    pools_one_token: bool


class PlainForward(Protocol):
    """The same network in plain torch operations, without gradients: the reference for speed."""

    def image_features(self, pixel_values: Any) -> Any:
        """Return the projected embeddings of images, not normalised, (images, projection); without a projection the
        pooled states, (images, width).
        """

    def text_features(self, input_ids: Any, attention_mask: Any = None) -> Any:
        """Return the projected embeddings of texts, not normalised, (texts, projection); without a projection the
        pooled states, (texts, width).
        """

    def logits(self, input_ids: Any, pixel_values: Any, attention_mask: Any = None) -> Any:
        """Return the logits per image, (images, texts)."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a tensor lies in a checkpoint of another format.

    Attributes:
        name: of the tensor there.
        part: the index of the part that it is, of `parts` equal ones along the first axis.
        parts: 1 if it is the whole tensor.
        transposed: whether its two axes are exchanged there.
    """

    name: str
    part: int = 0
    parts: int = 1
    transposed: bool = False


@dataclass(frozen=True, slots=True)
class Stated:
    """A value that the config of another format states.

    Attributes:
        value: in the family's terms.
        says: the field there and what it says, a clause.
    """

    value: Any
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """What the config of another format says, in the family's terms.

    Attributes:
        config: dotted field of config.json to its value; `eos_token_id` is the id at whose first place a text is
            pooled, None for the place of its largest id.
        pixels: field of the image processor to its value; `size` is an integer for the shortest edge, (height, width),
            or None for what the processor cannot do; `crop_size` is the (height, width) of the centre, None for all.
        foreign: clauses on what the family's network does not have.
    """

    config: Mapping[str, Stated]
    pixels: Mapping[str, Stated]
    foreign: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFormat:
    """A format of another library, whose checkpoints are converted into the family's.

    Attributes:
        library: its name.
        weights: file names of its weights, the preferred one first.
        config: file name of its config.
        origins: where each canonical name lies, from the names in the file and the canonical names.
        belongs: whether a tensor there, by its name, is of what the canonical names are: of a tower alone only that
            tower is asked for; buffers never are.
        settings: reads its config, of which `where` is the name for messages; raises CheckpointError.
    """

    library: str
    weights: tuple[str, ...]
    config: str
    origins: Callable[[Collection[str], Iterable[str]], dict[str, Origin]]
    belongs: Callable[[str, Collection[str]], bool]
    settings: _Reader[SourceSettings]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A family of models with a text tower, a vision tower and a contrastive head.

    Attributes:
        model_type: its name in config.json.
        tower_types: the names in config.json of the text tower and of the vision tower alone.
        config: reads that file.
        expected_tensors: the axes of every tensor of a whole model, by canonical name; raises CheckpointError.
        ignored_tensors: tensors in files that no release reads.
        classes: those that load it, by role.
        entry_points: all public ones.
        classifier: the entry point of an image classifier on its vision tower.
        text: the modules of the text tower.
        vision: the modules of the vision tower.
        head: the fields of the head to the module that makes each, in the order of computation.
        network: the reference.
        plain_forward: tensors by canonical name, in one dtype and on one device, and a config, to the plain forward;
            imports torch when it is called.
        sources: the formats of other libraries that are converted into it.
    """

    model_type: str
    tower_types: tuple[str, ...]
    config: ConfigReader
    expected_tensors: Callable[[ClipConfig], dict[str, tuple[Dimension, ...]]]
    ignored_tensors: tuple[str, ...]
    classes: Mapping[str, ModelClass]
    entry_points: tuple[EntryPoint, ...]
    classifier: EntryPoint
    text: Tower
    vision: Tower
    head: Mapping[str, str]
    network: Network
    plain_forward: Callable[[Mapping[str, Any], ClipConfig], PlainForward]
    sources: tuple[SourceFormat, ...] = ()

    def entry_point(self, name: str) -> EntryPoint:
        """Return the entry point of a name in reports."""
        return next(entry for entry in self.entry_points if str(entry) == name)

    def canonical_name(self, name: str, role: str) -> str:
        """Return the name that tensor `name` of a class in memory has in a checkpoint of the whole model on disk.

        From transformers 5.6 on towers are flattened in memory (`encoder...`); before, they carry the file's prefix.
        """
        known = tuple(part for kind in self.classes.values() for part in kind.parts)
        return name if name.startswith(known) else self.classes[role].parts[0] + name

    def belongs_to(self, name: str, role: str) -> bool:
        """Return whether the tensor of canonical name `name` is part of a class."""
        return name.startswith(self.classes[role].parts)
