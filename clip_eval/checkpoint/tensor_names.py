"""Recognise weights with other names than a CLIP's: a wrapped model, an adapter, another library's.

This runs before the config is compared, as its messages say more than a list of missing tensors.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from clip_eval.errors import CheckpointError
from clip_eval.families.family import Family

__all__ = ["listed", "refuse_foreign_names", "shown_name"]

_NAMED_AT_MOST = 5
_LONGEST_NAME = 100

_WRAPPERS: Mapping[str, str] = {
    "_orig_mod": "torch.compile",
    "module": "DataParallel or DistributedDataParallel",
    "model": "a LightningModule or another class around the model",
    "base_model.model": "PEFT",
    "_fsdp_wrapped_module": "FullyShardedDataParallel",
    "_checkpoint_wrapped_module": "activation checkpointing",
    "_forward_module": "Lightning Fabric",
}
_INNER = re.compile(r"\._orig_mod\.|\._fsdp_wrapped_module\.|\._checkpoint_wrapped_module\.")

_FORMS: tuple[tuple[str, str, str], ...] = (
    (
        r"\.lora_|\.base_layer\.|\.modules_to_save\.|\.hada_w\d|\.lokr_w\d|\.ia3_l\.|\.oft_|\.boft_|\.vera_lambda",
        "the layers of an adapter of PEFT that was not merged",
        "Merge it first: model = model.merge_and_unload(), then model.save_pretrained(DIR)",
    ),
    (
        r"\.absmax$|\.quant_map$|\.quant_state\.|\.SCB$|\.weight_format$|\.qweight$|\.qzeros$|\.weight_scale(_inv)?$"
        r"|\.weight_packed$|\.weight_zero_point$|\.weight\._(data|scale)$|\.(input|output)_scale$",
        "quantised weights",
        "Use the checkpoint from before quantisation",
    ),
    (
        r"\.theta$",
        "a geometric parametrisation that was not converted back",
        "Convert it back, weight = r * theta / norm(theta) with the norm over each row, or use the converted file",
    ),
    (
        r"\.weight_[gv]$|\.parametrizations\.\w+\.original\d*$|\.weight_orig$",
        "weights in a parametrisation of torch that was not removed",
        "Remove it before saving, with torch.nn.utils.parametrize.remove_parametrizations(module, 'weight'), "
        "torch.nn.utils.remove_weight_norm(module) or torch.nn.utils.prune.remove(module, 'weight')",
    ),
    (
        r"^(module\.|model\.)?((visual|text|transformer|text_model|clip)\.)*(transformer\.)?resblocks\.|^visual\.|^positional_embedding$",
        "the names of open_clip or of OpenAI's own code",
        "Convert it to the names of transformers, or name the converted repository: most have one",
    ),
)
"""Pattern of a name, its origin, what to do. The first pattern that matches any name is reported."""


def refuse_foreign_names(files: Mapping[str, Path], *, family: Family, where: Path) -> None:
    """Refuse weights whose names are not those of a CLIP or a part of one, and say what they belong to.

    `inventory` checks missing and unexpected names.

    Args:
        files: the tensors' names, each with its file.
        family: whose names they should be.
        where: the checkpoint, for the message.

    Raises:
        CheckpointError: the message says what the names belong to, shows some, and says what to do.
    """
    for pattern, what, fix in _FORMS:
        matching = [name for name in files if re.search(pattern, name)]
        if matching:
            raise CheckpointError(f"the checkpoint holds {what}: {listed(matching)}", where=where, fix=fix)
    _refuse_wrapped(files, family, where)


def listed(names: Sequence[str]) -> str:
    """Names for a message, at most five and then a count: `2 tensors (a, b)`."""
    shown = ", ".join(map(shown_name, names[:_NAMED_AT_MOST]))
    more = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
    return f"{len(names)} {'tensor' if len(names) == 1 else 'tensors'} ({shown}{more})"


def shown_name(name: str) -> str:
    """A name from a file for a message: escaped if not printable, in at most 100 characters."""
    text = name if name.isprintable() else ascii(name)
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 3]}..."


def _refuse_wrapped(files: Mapping[str, Path], family: Family, where: Path) -> None:
    """One prefix before all of CLIP's names, or parts of wrappers within them."""
    matches = [match for match in map(_root(family).fullmatch, files) if match]
    if not matches:
        only = f", only {listed(list(files))}" if files else ""
        fix = "Save the full CLIPModel by save_pretrained, and check that this config.json belongs to it"
        raise CheckpointError(f"the checkpoint holds no tensor of a CLIP{only}", where=where, fix=fix)
    prefixes = sorted({match[1] or "" for match in matches})
    inner = next((found[0][1:] for found in map(_INNER.search, files) if found), None)
    if prefixes not in ([], [""]):
        if len(prefixes) > 1:
            names = ", ".join(f"{shown_name(prefix)}." if prefix else "none" for prefix in prefixes[:_NAMED_AT_MOST])
            what = f"the names of the tensors begin with different prefixes ({names}), as if several models were in it"
            raise CheckpointError(what, where=where, fix="Save the right one by save_pretrained")
        _refuse_prefix(f"{prefixes[0]}.", files, where)
    elif inner:
        maker = _WRAPPERS[inner.rstrip(".")]
        what = f"names of tensors contain {inner}, which {maker} put in"
        raise CheckpointError(what, where=where, fix=_renamed(f'n.replace({json.dumps(inner)}, "")', inner, files))


def _refuse_prefix(prefix: str, files: Mapping[str, Path], where: Path) -> None:
    with_it = sum(name.startswith(prefix) for name in files)
    who = "every name" if with_it == len(files) else f"{with_it} of {len(files)} names"
    makers = [maker for part, maker in _WRAPPERS.items() if f".{part}." in f".{prefix}"]
    if len(makers) > 1 and "base_model.model." in prefix:
        makers.remove(_WRAPPERS["model"])
    made = f", put there by {' and '.join(makers)}" if makers else ""
    raise CheckpointError(
        f"{who} of a tensor begins with {shown_name(prefix)} before CLIP's own{made}",
        where=where,
        fix=_renamed(f"n.removeprefix({json.dumps(prefix)})", prefix, files),
    )


def _renamed(renamed: str, part: str, files: Mapping[str, Path]) -> str:
    """How to remove a part of the names: a command if the weights are one safetensors file."""
    places = set(files.values())
    if len(places) > 1 or any(file.suffix != ".safetensors" for file in places) or not part.isprintable():
        return f"Save the model inside the wrapper by save_pretrained, or take {shown_name(part)} off every name"
    file = places.pop()
    code = (
        f'import os; from safetensors.torch import load_file, save_file; f = "{file.name}"; save_file({{{renamed}: t '
        f'for n, t in load_file(f).items()}}, f + ".new", {{"format": "pt"}}); os.replace(f + ".new", f)'
    )
    return f"Take it off: python -c {shlex.quote(code)} in its directory does"


def _root(family: Family) -> re.Pattern[str]:
    """A pattern of a prefix, in a group, and a name of the family."""
    towers = "|".join(re.escape(tower.module) for tower in (family.text, family.vision))
    projections = "|".join(re.escape(tower.projection) for tower in (family.text, family.vision))
    return re.compile(rf"(?:^|(.*?)\.)(?:(?:{towers})\..+|(?:{projections})\.weight|logit_scale)", re.DOTALL)
