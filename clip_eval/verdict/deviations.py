"""Known differences of transformers releases from the CLIP contract: when each holds, and what is asserted instead.

A deviation never skips a check. While it holds, the check asserts *instead*; if transformers keeps the contract after
all, that assertion fails and the entry is stale.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from packaging.version import Version

__all__ = ["DEVIATIONS", "Deviation", "Deviations", "declared_deviation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """One declared difference.

    Attributes:
        id: stable name.
        contract: what the documentation promises.
        instead: what these releases do, which the check asserts.
        releases: transformers releases it holds for.
        upstream: address of an issue or pull request about it; empty if none is known.
        attention: attention implementations it holds for; empty for all.
        backends: image backends it holds for, "pillow" or "torchvision"; empty for both, and if images do not matter.
    """

    id: str
    contract: str
    instead: str
    releases: SpecifierSet
    upstream: str = ""
    attention: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()

    def holds(self, release: Version, attention: str, backend: str = "") -> bool:
        """Whether the deviation is declared for this environment."""
        return (
            self.releases.contains(release, prereleases=True)
            and (not self.attention or attention in self.attention)
            and (not self.backends or backend in self.backends)
        )


_ONE_MAP_A_LAYER = "output_attentions=True returns one attention map a layer"

DEVIATIONS: tuple[Deviation, ...] = (
    Deviation(
        id="nested-pooler-is-projected",
        contract="the pooler_output of CLIPModel's nested outputs is the tower's own pooled state",
        instead="it is the projected embedding before normalisation",
        releases=SpecifierSet(">=5.6.0"),
    ),
    Deviation(
        id="nested-states-missing",
        contract="CLIPModel(output_hidden_states=True, output_attentions=True) fills both in the nested outputs",
        instead="both are None in the nested outputs; the towers alone fill them",
        releases=SpecifierSet(">=5.0.0,<5.2.0"),
        upstream="https://github.com/huggingface/transformers/issues/43618",
    ),
    Deviation(
        id="states-mixed-between-threads",
        contract="a call with output_hidden_states=True returns its own states, whatever other threads ask",
        instead="calls at the same time record into each other: each gets states of the others besides its own",
        releases=SpecifierSet(">=5.0.0,<5.2.0"),
        upstream="https://github.com/huggingface/transformers/issues/42673",
    ),
    Deviation(
        id="projection-is-saved-inside-its-tower",
        contract="the towers with projection save it under its name in a CLIP's file, text_projection.weight and "
        "visual_projection.weight",
        instead="save_pretrained writes text_model.text_projection.weight and vision_model.visual_projection.weight, "
        "which other releases do not find; these read both",
        releases=SpecifierSet(">=5.6.0,<5.10.2"),
    ),
    Deviation(
        id="tower-state-dict-with-prefix-loads-nothing",
        contract="a tower's state dict with the names of CLIP's file loads with strict=False",
        instead="none of it loads: the towers are flattened in memory, and load_state_dict translates no names",
        releases=SpecifierSet(">=5.6.0"),
        upstream="https://github.com/huggingface/transformers/pull/44431",
    ),
    Deviation(
        id="sdpa-attentions-are-none-entries",
        contract=_ONE_MAP_A_LAYER,
        instead="a tuple of None, one a layer",
        releases=SpecifierSet(">=4.57,<5"),
        upstream="https://github.com/huggingface/transformers/issues/38750",
        attention=("sdpa",),
    ),
    Deviation(
        id="sdpa-attentions-are-none",
        contract=_ONE_MAP_A_LAYER,
        instead="None",
        releases=SpecifierSet(">=5.0.0,<5.2.0"),
        upstream="https://github.com/huggingface/transformers/issues/38750",
        attention=("sdpa",),
    ),
    Deviation(
        id="sdpa-attentions-are-empty",
        contract=_ONE_MAP_A_LAYER,
        instead="an empty tuple",
        releases=SpecifierSet(">=5.2.0"),
        upstream="https://github.com/huggingface/transformers/issues/38750",
        attention=("sdpa",),
    ),
    Deviation(
        id="transparent-images-on-white",
        contract="an image with transparency becomes RGB as in Pillow and the released CLIP code: alpha is dropped",
        instead="it is laid on a white ground first",
        releases=SpecifierSet(">=5.21.0"),
    ),
    Deviation(
        id="flat-pictures-are-misread",
        contract="a picture of any height gives its own pixels",
        instead="a height of 3 pixels is taken for the channels, and a height of 1 raises ValueError; where such a "
        "picture is the first of a batch, the others are read that way too",
        releases=SpecifierSet("<5.4.0"),
        upstream="https://github.com/huggingface/transformers/issues/21638",
        backends=("pillow",),
    ),
    Deviation(
        id="auto-image-processor-needs-torchvision",
        contract="AutoImageProcessor loads the checkpoint's image processor",
        instead="it raises ImportError where torchvision is not installed",
        releases=SpecifierSet(">=5.4.0,<5.16.0"),
        upstream="https://github.com/huggingface/transformers/issues/45042",
        backends=("pillow",),
    ),
    Deviation(
        id="data-format-is-ignored",
        contract='data_format="channels_last" gives pixels as (images, height, width, channels)',
        instead="they stay (images, channels, height, width)",
        releases=SpecifierSet(">=5.4.0"),
    ),
    Deviation(
        id="torchvision-filters-rows-first",
        contract="pictures are resized as by the installed Pillow",
        instead="rows are filtered before columns, as Pillow did before 13.0; levels are clipped in between",
        releases=SpecifierSet(">=4.57"),
        backends=("torchvision",),
    ),
    Deviation(
        id="torchvision-pads-after",
        contract="a picture smaller than its crop by an odd number of pixels has the odd zero before it",
        instead="the odd zero is after it",
        releases=SpecifierSet(">=4.57"),
        backends=("torchvision",),
    ),
    Deviation(
        id="torchvision-resizes-real-numbers",
        contract="an array of whole numbers from 0 to 255, or of fractions of 255, gives the pixels of the picture of "
        "those levels, whatever the array's type",
        instead="what is not uint8 is resized as real numbers, so that overshoots of the filter leave 0..255",
        releases=SpecifierSet(">=4.57"),
        backends=("torchvision",),
    ),
    Deviation(
        id="torchvision-refuses-negative-strides",
        contract="an array may be a mirrored view of another",
        instead="a ValueError is raised",
        releases=SpecifierSet(">=4.57"),
        backends=("torchvision",),
    ),
    Deviation(
        id="options-are-keyword-only",
        contract="output_attentions, output_hidden_states and interpolate_pos_encoding follow the inputs by position",
        instead="interpolate_pos_encoding follows them where there are images, so that it takes what was meant as "
        "output_attentions; anything more raises TypeError",
        releases=SpecifierSet(">=5.0.0"),
    ),
    Deviation(
        id="full-config-is-not-asked",
        contract="output_hidden_states and output_attentions in CLIPModel's config are what a call does by default",
        instead="each tower goes by its own config, text_config and vision_config",
        releases=SpecifierSet(">=5.2.0"),
    ),
    Deviation(
        id="none-overrules-the-config",
        contract="an option that is None is what the config says",
        instead="it is off",
        releases=SpecifierSet(">=5.0.0"),
    ),
    Deviation(
        id="zero-return-dict-is-ignored",
        contract="return_dict=0 gives CLIPTextModel's and CLIPVisionModel's outputs as tuples, as False does",
        instead="they are output objects; only False itself counts",
        releases=SpecifierSet(">=5.0.0"),
    ),
    Deviation(
        id="zero-return-dict-is-ignored-with-projection",
        contract="return_dict=0 gives the outputs of the towers with projection as tuples, as False does",
        instead="they are output objects; only False itself counts",
        releases=SpecifierSet(">=5.0.0,<5.2.0"),
    ),
    Deviation(
        id="return-dict-in-the-config-breaks",
        contract="return_dict=False in CLIPModel's config gives tuples, unless the call says otherwise",
        instead="every call raises AttributeError",
        releases=SpecifierSet(">=5.6.0"),
    ),
    Deviation(
        id="return-dict-in-the-config-breaks-projections",
        contract="return_dict=False in the config of a tower with projection gives tuples unless a call says otherwise",
        instead="every call raises AttributeError",
        releases=SpecifierSet(">=5.2.0"),
    ),
    Deviation(
        id="return-dict-in-a-nested-config-breaks",
        contract="return_dict=False in text_config or vision_config means nothing to CLIPModel",
        instead="every call raises AttributeError",
        releases=SpecifierSet(">=5.2.0,<5.6.0"),
    ),
    Deviation(
        id="listed-layers",
        contract="output_hidden_states=[0] is true, and gives every hidden state",
        instead="there is one entry a layer, what it gives, and None for those not listed",
        releases=SpecifierSet(">=5.17.0,<5.23.0"),
        upstream="https://github.com/huggingface/transformers/pull/48081",
    ),
    Deviation(
        id="listed-hidden-states",
        contract="output_hidden_states=1 and output_hidden_states=[0] are true, and give every hidden state",
        instead="they give the hidden states of these numbers, and None for the others",
        releases=SpecifierSet(">=5.23.0"),
    ),
    Deviation(
        id="unknown-keywords-are-ignored",
        contract="an unknown keyword raises TypeError",
        instead="it is ignored without a word",
        releases=SpecifierSet(">=5.0.0"),
    ),
    Deviation(
        id="is-causal-reaches-the-kernel",
        contract="is_causal=True leaves the vision tower as it is, or is refused",
        instead="the tower becomes causal: the class token sees itself alone, and all images get the same embedding",
        releases=SpecifierSet(">=5.0.0"),
        attention=("sdpa",),
    ),
    Deviation(
        id="sections-must-be-dicts",
        contract="CLIPConfig takes its sections as configs, too",
        instead="it takes dicts and raises TypeError; from_text_vision_configs takes configs",
        releases=SpecifierSet("<5"),
    ),
    Deviation(
        id="features-ignore-unknown-keywords",
        contract="an unknown keyword of get_text_features or get_image_features raises TypeError",
        instead="it is ignored with a warning",
        releases=SpecifierSet("<5"),
    ),
    Deviation(
        id="missing-pixels-are-looked-into",
        contract="a call without pixel_values raises ValueError, and says so",
        instead="it raises AttributeError",
        releases=SpecifierSet(">=5.6.0"),
    ),
    Deviation(
        id="masks-of-more-texts",
        contract="a mask of more rows than there are texts is refused",
        instead="its first rows count",
        releases=SpecifierSet(">=5.0.0"),
    ),
    Deviation(
        id="python-tokenizer-cleans-texts",
        contract="CLIPTokenizer gives the ids of the checkpoint's byte-level BPE",
        instead="texts are first repaired with ftfy where it is installed; else control and format characters are "
        "deleted, ideographs set apart with spaces and a capital sigma at a word's end made final; begin and end "
        "token are recognised in any letter case",
        releases=SpecifierSet("<5"),
    ),
    Deviation(
        id="special-tokens-in-any-case",
        contract="a special token that no file describes is recognised in a text as it is written",
        instead="begin and end token are recognised in any letter case",
        releases=SpecifierSet("<5"),
    ),
    Deviation(
        id="copies-decode-with-word-ends",
        contract="a pickled or copied tokenizer decodes as the original does",
        instead="words end in </w> with no space between: the copy loses what the original does after decoding",
        releases=SpecifierSet(">=4.57"),
    ),
    Deviation(
        id="spaces-are-not-tidied",
        contract="decode(clean_up_tokenization_spaces=True) takes out the space before punctuation",
        instead="it stays, and a warning is given once",
        releases=SpecifierSet(">=5.7.0"),
        upstream="https://github.com/huggingface/transformers/pull/44915",
    ),
)

_BY_ID = {deviation.id: deviation for deviation in DEVIATIONS}


@dataclass(frozen=True, slots=True)
class Deviations:
    """The deviations of one environment, for one check; `record` is called for each that is asserted."""

    release: Version
    record: Callable[[str], None]

    def hold(self, identity: str, *, attention: str = "", backend: str = "") -> bool:
        """Whether deviation `identity` is declared here; if so the caller must assert *instead*.

        Raises:
            KeyError: there is no deviation of that id.
        """
        holds = _BY_ID[identity].holds(self.release, attention, backend)
        if holds:
            self.record(identity)
        return holds


def declared_deviation(identity: str) -> Deviation | None:
    """Return the deviation of an id; None if there is none, as in a record of another version."""
    return _BY_ID.get(identity)
