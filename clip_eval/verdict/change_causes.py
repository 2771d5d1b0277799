"""Declared causes of surface changes: what many changes between two transformers releases follow from.

A cause names the release that brought it. It takes a change if the candidate has such a release and the pack has none,
so that an upgrade between two later releases is not explained by it. Nothing here excuses a change; see acceptances.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from clip_eval.verdict.run_record import SurfaceChange

__all__ = ["CHANGE_CAUSES", "ChangeCause", "Consequence", "declared_cause", "with_causes"]

Consequence = Literal["values", "calls", "types", "loading", "internals"]

_PULL = "https://github.com/huggingface/transformers/pull/"
_ISSUE = "https://github.com/huggingface/transformers/issues/"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeCause:
    """What several surface changes follow from.

    Attributes:
        id: stable name, which an acceptance may give.
        consequence: what it means for users.
        sentence: the consequence in words, and what to do where something can be done.
        releases: transformers releases that have it.
        changes: pattern that is found in the ids of its changes.
        after: pattern that is found in the new values of its changes; empty for any. It keeps other changes of the
            same things apart.
        upstream: address of an issue or pull request about it; empty if none is known.
    """

    id: str
    consequence: Consequence
    sentence: str
    releases: SpecifierSet
    changes: str
    after: str = ""
    upstream: str = ""

    def takes(self, change: SurfaceChange, *, before: Version, after: Version) -> bool:
        """Whether a change from release `before` to release `after` follows from this."""
        return (
            self.releases.contains(after, prereleases=True)
            and not self.releases.contains(before, prereleases=True)
            and re.search(self.changes, change.id) is not None
            and re.search(self.after, change.after) is not None
        )


# The first that takes a change has it: those about single options come before those about whole families of calls.
CHANGE_CAUSES: tuple[ChangeCause, ...] = (
    ChangeCause(
        id="transparent-images-on-white",
        consequence="values",
        sentence="Images with transparency are laid on white, where alpha was dropped: their embeddings move, and an "
        "index made before should not be mixed with new queries. Convert to RGB yourself to keep the old pixels.",
        releases=SpecifierSet(">=5.21.0"),
        changes=r"^image_processor\((array|picture)\)(\.levels$|\[.*(mode |, 4\)))",
        after=r"on white|: \d",
    ),
    ChangeCause(
        id="models-load-in-their-stored-dtype",
        consequence="values",
        sentence="from_pretrained loads weights in the dtype that they are stored in, no longer in float32. Pass "
        "dtype=torch.float32 where you relied on that.",
        releases=SpecifierSet(">=5.0.0"),
        changes=r"from_pretrained\(\)\.dtype\[",
        after=r"16$",
    ),
    ChangeCause(
        id="nested-pooler-is-projected",
        consequence="values",
        sentence="text_model_output.pooler_output and vision_model_output.pooler_output of CLIPModel hold the "
        "projected vector, not the tower's own pooled state. Run the tower alone for that.",
        releases=SpecifierSet(">=5.6.0"),
        changes=r"^CLIPModel\(.*_model_output\.pooler_output$",
        after=r"projection",
    ),
    ChangeCause(
        id="python-tokenizer-is-gone",
        consequence="values",
        sentence="CLIPTokenizer is the tokenizer of the tokenizers library, as AutoTokenizer was: ids of texts with "
        "unusual characters, of added and of capitalised special tokens differ from the old CLIPTokenizer's.",
        releases=SpecifierSet(">=5.0.0"),
        changes=r"^CLIPTokenizer\(text\)|^tokenizer made of|\(special tokens\)|^tokenizer\(case\)\[(?!(a tuple|lists "
        r"of words unannounced|None among texts|return_tensors tf)\])|^tokenizer that was",
    ),
    ChangeCause(
        id="masks-are-read-otherwise",
        consequence="values",
        sentence="Attention masks of another shape, or of other values than 0 and 1, are taken or refused otherwise. "
        "Masks of 0 and 1 with one row for each text mean what they did.",
        releases=SpecifierSet(">=5.0.0"),
        changes=r"\(attention_mask=|\(keyword\)\[attention_mask\]",
    ),
    ChangeCause(
        id="is-causal-reaches-the-towers",
        consequence="values",
        sentence="A call with is_causal=True or False was refused and now changes the attention of a tower. Do not "
        "pass it.",
        releases=SpecifierSet(">=5.0.0"),
        changes=r"\(keyword\)\[is_causal=",
        after=r"other values",
    ),
    ChangeCause(
        id="features-are-objects",
        consequence="types",
        sentence="get_text_features and get_image_features return an output object instead of a tensor. Take "
        "pooler_output: the projected feature, not normalised.",
        releases=SpecifierSet(">=5.0.0"),
        changes=r"^CLIPModel\.get_(text|image)_features\(\)|^get_\w+_features\S*( with config|\(return_dict|"
        r"\((keyword\)\[)?output_attentions|\((keyword\)\[)?output_hidden_states=True)",
        after=r"BaseModelOutputWithPooling|^Tensor|as a tuple|as with output_",
    ),
    ChangeCause(
        id="hidden-states-by-number",
        consequence="types",
        sentence="output_hidden_states is a choice of layers: 1 gives one hidden state, -1 the last, a list those "
        "listed; numpy.True_ and strings raise. Write True or False.",
        releases=SpecifierSet(">=5.23.0"),
        changes=r"output_hidden_states(=|\b.*=)(-1|1\b|\[0\]|'yes')",
    ),
    ChangeCause(
        id="towers-go-by-their-own-config",
        consequence="types",
        sentence="output_hidden_states and output_attentions in CLIPModel's config mean nothing; those in text_config "
        "and vision_config do. Pass them in the call.",
        releases=SpecifierSet(">=5.2.0"),
        changes=r"with config\.(text_config\.|vision_config\.)?output_|from_pretrained\(output_hidden_states=True\)",
    ),
    ChangeCause(
        id="sdpa-attentions-are-empty",
        consequence="types",
        sentence="With output_attentions=True under sdpa, attentions are an empty tuple. Load with "
        'attn_implementation="eager" to get them.',
        releases=SpecifierSet(">=5.2.0"),
        changes=r"\(output_attentions=True\)(\.\w+)*\.attentions$",
        after=r"tuple of 0",
        upstream=f"{_ISSUE}38750",
    ),
    ChangeCause(
        id="options-are-keyword-only",
        consequence="calls",
        sentence="output_attentions and output_hidden_states can no longer be given by position, and return_dict=0 is "
        "not False. Name the options.",
        releases=SpecifierSet(">=5.0.0"),
        changes=r" by position$|\(return_dict=0\)",
    ),
    ChangeCause(
        id="tokenizer-methods-are-gone",
        consequence="calls",
        sentence="encode_plus, batch_encode_plus, prepare_for_model and build_inputs_with_special_tokens are gone, and "
        "decode no longer tidies spaces. Call the tokenizer itself.",
        releases=SpecifierSet(">=5.0.0"),
        changes=r"^tokenizer\.(method\[|\*$|decode$|clean_up_tokenization$)",
        upstream=f"{_PULL}44915",
    ),
    ChangeCause(
        id="old-names-are-gone",
        consequence="calls",
        sentence="CLIPFeatureExtractor and CLIPOnnxConfig cannot be imported. CLIPImageProcessor takes the place of "
        "the first.",
        releases=SpecifierSet(">=5.0.0"),
        changes=r"FeatureExtractor|feature_extraction_clip|^transformers\.\*$",
    ),
    ChangeCause(
        id="return-dict-in-a-config-breaks",
        consequence="calls",
        sentence="With return_dict=False in a config, calls raise AttributeError. Pass return_dict in the call.",
        releases=SpecifierSet(">=5.2.0"),
        changes=r"return_dict=False",
        after=r"raises AttributeError",
    ),
    ChangeCause(
        id="features-refuse-other-keywords",
        consequence="calls",
        sentence="get_text_features and get_image_features pass keywords on: some that had no effect raise TypeError.",
        releases=SpecifierSet(">=5.0.0"),
        changes=r"^get_\w+_features\S*\(",
        after=r"^raises",
    ),
    ChangeCause(
        id="configs-are-checked",
        consequence="calls",
        sentence="A config checks its values when it is made: a width as text or as a float, or one that the heads do "
        "not divide, raises. Correct the file or the call.",
        releases=SpecifierSet(">=5.4.0"),
        changes=r"^CLIP(Text|Vision)?Config\(arguments\)|from_pretrained\(output_attentions=True\)",
    ),
    ChangeCause(
        id="image-options-are-checked",
        consequence="calls",
        sentence="The image processor is rewritten and checks its options: None and strings for sizes and means raise, "
        "do_resize=None is False, any string is a bilinear filter, data_format is ignored.",
        releases=SpecifierSet(">=5.4.0"),
        changes=r"^image_processor\(picture, options\)|^CLIPImageProcessor(Pil)?\(arguments\)",
    ),
    ChangeCause(
        id="processors-take-texts-otherwise",
        consequence="calls",
        sentence="Processors refuse a tuple of texts and lists of words without is_split_into_words, and give other "
        "extra fields on request. Pass a list of texts.",
        releases=SpecifierSet(">=5.0.0"),
        changes=r"^tokenizer\(case\)|^CLIPProcessor of |^processor",
    ),
    ChangeCause(
        id="images-are-read-otherwise",
        consequence="types",
        sentence="Arrays of one or four channels, tuples and flat pictures are read instead of refused or misread; a "
        "tensor that needs a gradient is refused; size, crop size, mean and deviation have other types.",
        releases=SpecifierSet(">=5.4.0"),
        changes=r"^image_processor(\((array|other|picture)\)|\.(size|crop_size|image_mean|image_std|to_dict\(\))$)",
        upstream=f"{_ISSUE}21638",
    ),
    ChangeCause(
        id="exceptions-are-others",
        consequence="types",
        sentence="What was refused is refused with another exception, and the loading report holds sets. Look at "
        "except clauses.",
        releases=SpecifierSet(">=5.0.0"),
        changes=r"without inputs$|\(pixel_values=None\)|\(keyword\)\[softcap|from_pretrained\(case\)",
        after=r"^raises|mismatched_keys set",
    ),
    ChangeCause(
        id="unknown-keywords-are-ignored",
        consequence="internals",
        sentence="An unknown keyword of a call is ignored without a word, where it raised TypeError: misspelt options "
        "are not seen any more.",
        releases=SpecifierSet(">=5.0.0"),
        changes=r"^CLIP\S*Model\S*\((keyword\)\[|\w+=)|^CLIPForImageClassification\((keyword\)\[|\w+=)",
    ),
    ChangeCause(
        id="towers-are-flat",
        consequence="loading",
        sentence="CLIPTextModel and CLIPVisionModel hold no module text_model or vision_model: paths to submodules and "
        "names in state_dict change, and an old state_dict with strict=False loads nothing. from_pretrained is right.",
        releases=SpecifierSet(">=5.6.0"),
        changes=r"named_modules\(\)|\.state_dict\(\)|load_state_dict\(|^model\.base_model|_no_split_modules",
        upstream=f"{_PULL}44431",
    ),
    ChangeCause(
        id="one-class-of-tokenizer-and-image-processor",
        consequence="loading",
        sentence="AutoTokenizer loads CLIPTokenizer, which CLIPTokenizerFast is another name of; without torchvision "
        "image processors load as CLIPImageProcessorPil. isinstance and names in saved files see it.",
        releases=SpecifierSet(">=5.4.0"),
        changes=r"(Processor|Tokenizer|TokenizerFast|ProcessorPil|ProcessorFast)(\.from_pretrained\(|$)",
    ),
    ChangeCause(
        id="saved-processors-are-other-files",
        consequence="loading",
        sentence="A saved processor is processor_config.json with tokenizer files, without preprocessor_config.json: "
        "tools that read that file do not find it.",
        releases=SpecifierSet(">=5.0.0"),
        changes=r"^Auto\w+\.save_pretrained\(\)",
    ),
    ChangeCause(
        id="internals-of-the-library",
        consequence="internals",
        sentence="Signatures, base classes, names and attributes inside of transformers, which few callers see; a "
        "CLIPForImageClassification without labels can be made.",
        releases=SpecifierSet(">=5.0.0"),
        changes=r"^(signature of|transformers\.|PreTrainedModel|PretrainedConfig|ProcessorMixin|PushToHubMixin|bases\.|"
        r"vars\(|model\.|tokenizer\.|image_processor\.|CLIPConfig\(\)|Auto\w+\.register)|"
        r"^CLIPForImageClassification(\.(\*|\w+)$|\(labels\))",
    ),
)

_BY_ID = {cause.id: cause for cause in CHANGE_CAUSES}


def declared_cause(identity: str | None) -> ChangeCause | None:
    """Return the cause of an id; None if there is none, as in a record of another version."""
    return None if identity is None else _BY_ID.get(identity)


def with_causes(changes: Sequence[SurfaceChange], *, before: str, after: str) -> tuple[SurfaceChange, ...]:
    """The changes, each with the id of the declared cause that takes it.

    Args:
        changes: what differs from the pack.
        before: the transformers release whose surface the pack gave.
        after: that of the candidate.
    """
    try:
        old, new = Version(before), Version(after)
    except InvalidVersion:
        return tuple(changes)
    return tuple(replace(change, cause=_cause(change, old, new)) for change in changes)


def _cause(change: SurfaceChange, before: Version, after: Version) -> str | None:
    found = (cause.id for cause in CHANGE_CAUSES if cause.takes(change, before=before, after=after))
    return next(found, None)
