"""open_clip's checkpoints, from which most CLIPs beside OpenAI's were converted: names of tensors, and the config.

Source: `CLIP`, `CustomTextCLIP`, `CLIPTextCfg` and `CLIPVisionCfg` of https://github.com/mlfoundations/open_clip
(src/open_clip/model.py, transformer.py), and `image_transform` (transform.py). The names are OpenAI's, too.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn, TypeGuard

from clip_eval.errors import CheckpointError
from clip_eval.families.config import LEGACY_EOS_TOKEN_ID, TextConfig, shown
from clip_eval.families.family import Origin, SourceFormat, SourceSettings, Stated

__all__ = ["OPEN_CLIP"]

_CONFIG = "open_clip_config.json"
_OWN_CONFIG = f"Use the {_CONFIG} that belongs to the original"
_WRAPPER = "module."  # of DistributedDataParallel; open_clip takes it off when it loads
_TEXT_TOWER = "text."  # before the names of the text tower in CustomTextCLIP
_LAYER = re.compile(r"(text|vision)_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", re.ASCII)

_MODULES: Mapping[str, str] = {
    "text_model.embeddings.token_embedding": "token_embedding",
    "text_model.final_layer_norm": "ln_final",
    "vision_model.embeddings.patch_embedding": "visual.conv1",
    "vision_model.pre_layrnorm": "visual.ln_pre",
    "vision_model.post_layernorm": "visual.ln_post",
}
_PARAMETERS: Mapping[str, str] = {
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "logit_scale": "logit_scale",
}
_PROJECTIONS: Mapping[str, str] = {
    "text_projection.weight": "text_projection",
    "visual_projection.weight": "visual.proj",
}
"""Parameters of shape (width, projection): x @ proj. transformers has a linear layer, (projection, width)."""

_IN_LAYER: Mapping[str, str] = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_FUSED = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
"""The parts of in_proj, in their order."""


def _origins(stored: Collection[str], canonical: Iterable[str]) -> dict[str, Origin]:
    """Where each canonical name lies, in the layout that the stored names have."""
    wrapper = _WRAPPER if any(name.startswith(_WRAPPER) for name in stored) else ""
    text = _TEXT_TOWER if any(name.startswith(wrapper + _TEXT_TOWER) for name in stored) else ""
    return {name: _origin(name, stored, wrapper, text) for name in canonical}


def _origin(name: str, stored: Collection[str], wrapper: str, text: str) -> Origin:
    prefix = wrapper + (text if name.startswith("text_") else "")
    if match := _LAYER.fullmatch(name):
        tower, number, module, kind = match.groups()
        layer = f"{prefix}{'visual.' if tower == 'vision' else ''}transformer.resblocks.{number}"
        if module in _FUSED:
            return Origin(f"{layer}.attn.in_proj_{kind}", part=_FUSED.index(module), parts=len(_FUSED))
        return Origin(f"{layer}.{_IN_LAYER.get(module, module)}.{kind}")
    if name in _PROJECTIONS:
        linear = f"{prefix}{_PROJECTIONS[name]}.weight"  # of `proj_bias`, a linear layer as in transformers
        return Origin(linear) if linear in stored else Origin(prefix + _PROJECTIONS[name], transposed=True)
    module, _, kind = name.rpartition(".")
    return Origin(prefix + (_PARAMETERS.get(name) or f"{_MODULES.get(module, module)}.{kind}"))


_BUFFERS = ("input_resolution", "context_length", "vocab_size", "attn_mask")
"""The first three are numbers in OpenAI's archives; the mask is the causal one."""


def _belongs(name: str, canonical: Collection[str]) -> bool:
    """Whether a tensor is of what the canonical names are: a whole model, or one tower, projected or not."""
    last = name.rpartition(".")[2]
    if last in _BUFFERS:
        return False
    if "logit_scale" in canonical:
        return True
    tower, projection = ("vision", "visual") if "visual." in name else ("text", "text")
    if last in ("text_projection", "proj"):
        return f"{projection}_projection.weight" in canonical
    return last != "logit_scale" and any(own.startswith(f"{tower}_model.") for own in canonical)


_COMMON_ONLY: Mapping[str, object] = {
    "ls_init_value": None, "qk_norm": False, "scaled_cosine_attn": False, "scale_heads": False,
    "scale_attn_inner": False, "scale_attn": False, "scale_fc": False,
}  # fmt: skip
_ONLY: Mapping[str, Mapping[str, object]] = {
    "model_cfg": {"init_logit_bias": None, "multimodal_cfg": None},
    "model_cfg.text_cfg": {
        **_COMMON_ONLY, "hf_model_name": None, "embed_cls": False, "no_causal_mask": False, "proj_bias": False,
        "proj_type": "linear",
    },
    "model_cfg.vision_cfg": {
        **_COMMON_ONLY, "timm_model_name": None, "attentional_pool": False, "no_ln_pre": False, "pool_type": "tok",
    },
}  # fmt: skip
"""The only value with which `CLIPModel` computes the same, which is open_clip's default."""

_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_EPSILON = TextConfig().layer_norm_eps  # the default of torch.nn.LayerNorm, too
_FILTERS: Mapping[str, int] = {"bicubic": 3, "bilinear": 2, "random": 3}
"""Pillow's number of each filter. "random" is for training; what is evaluated is bicubic."""

_ACTIVATIONS: Mapping[str, str] = {"none": "gelu", "tanh": "gelu_pytorch_tanh"}
"""By `approximate` of torch.nn.GELU."""


def _settings(raw: Mapping[str, object], *, where: str) -> SourceSettings:
    """What open_clip_config.json says, with open_clip's defaults for what it leaves out."""
    top = _Section("", raw, where)
    model = top.section("model_cfg") if "model_cfg" in raw else _Section("model_cfg", raw, where)
    text, vision = model.section("text_cfg"), model.section("vision_cfg")
    pixels = top.section("preprocess_cfg", needed=False)
    foreign = [clause for section in (model, text, vision) for clause in section.foreign(_ONLY[section.name])]
    config = {
        "projection_dim": model.size("embed_dim"),
        **_tower(text, "text_config", model, width=512, foreign=foreign),
        "text_config.num_attention_heads": text.size("heads", 8),
        "text_config.max_position_embeddings": text.size("context_length", 77),
        "text_config.vocab_size": text.size("vocab_size", 49408),
        **_pooling(text, foreign),
        **_tower(vision, "vision_config", model, width=768, foreign=foreign),
        "vision_config.num_attention_heads": _heads(vision),
        "vision_config.patch_size": vision.side("patch_size", 16, foreign),
        "vision_config.image_size": vision.side("image_size", 224, foreign),
    }
    stated = {name: value for name, value in config.items() if value is not None}
    return SourceSettings(
        config=stated,
        pixels=_pixels(pixels, stated.get("vision_config.image_size")),
        foreign=tuple(foreign),
    )


def _tower(
    section: _Section, name: str, model: _Section, *, width: int, foreign: list[str]
) -> dict[str, Stated | None]:
    sizes, ratio = section.size("width", width), section.number("mlp_ratio", 4.0)
    inner = Stated(int(sizes.value * ratio.value), f"{sizes.says} and {ratio.says}")
    layers = section.raw.get("layers")
    if isinstance(layers, list):
        foreign.append(f"{section.name}.layers is {shown(layers)}, the stages of a ResNet")
    return {
        f"{name}.hidden_size": sizes,
        f"{name}.intermediate_size": inner,
        f"{name}.num_hidden_layers": None if isinstance(layers, list) else section.size("layers", 12),
        f"{name}.hidden_act": _activation(section, model, foreign),
        f"{name}.layer_norm_eps": _epsilon(section, foreign),
    }


def _activation(section: _Section, model: _Section, foreign: list[str]) -> Stated | None:
    quick, options = model.flag("quick_gelu"), section.options("act_kwargs")
    if quick.value:
        return Stated("quick_gelu", quick.says)
    form = options.get("approximate", "none")
    if set(options) - {"approximate"} or not isinstance(form, str) or form not in _ACTIVATIONS:
        foreign.append(f"{section.name}.act_kwargs is {shown(dict(options))}")
        return None
    says = f" and {section.name}.act_kwargs is {shown(dict(options))}" if options else ""
    return Stated(_ACTIVATIONS[form], quick.says + says)


def _epsilon(section: _Section, foreign: list[str]) -> Stated | None:
    options = section.options("norm_kwargs")
    if set(options) - {"eps"}:
        foreign.append(f"{section.name}.norm_kwargs is {shown(dict(options))}")
        return None
    return _Section(f"{section.name}.norm_kwargs", options, section.where).number("eps", _EPSILON)


def _pooling(text: _Section, foreign: list[str]) -> dict[str, Stated]:
    rule = text.raw.get("pool_type", "argmax")
    says = f"{text.name}.pool_type is {'absent, so argmax' if 'pool_type' not in text.raw else shown(rule)}"
    if rule == "eos":
        end = text.size("eos_id", 2)
        says = f"{says} and {end.says}"
        if end.value == LEGACY_EOS_TOKEN_ID:  # which transformers reads as the largest id of a text
            foreign.append(says)
            return {}
        return {"text_config.eos_token_id": Stated(end.value, says)}
    if rule == "argmax":
        return {"text_config.eos_token_id": Stated(None, says)}
    foreign.append(says)
    return {}


def _heads(vision: _Section) -> Stated:
    width, head = vision.size("width", 768), vision.size("head_width", 64)
    if width.value < head.value:
        raise CheckpointError(f"{width.says}, and {head.says}: no head fits", where=vision.where, fix=_OWN_CONFIG)
    return Stated(width.value // head.value, f"{width.says} and {head.says}")


def _pixels(section: _Section, side: Stated | None) -> dict[str, Stated]:
    """The image is as large as the model takes it: open_clip overrules `size` of preprocess_cfg."""
    found = {
        "image_mean": section.channels("mean", _MEAN),
        "image_std": section.channels("std", _STD),
        "resample": section.choice("interpolation", "bicubic", _FILTERS),
    }
    mode = section.raw.get("resize_mode") or "shortest"
    text = mode if section.raw.get("resize_mode") else f"absent, so {mode}"
    if side is None:
        return found
    # "longest" fills the rest of the image with a colour
    size = {"shortest": side.value, "squash": (side.value, side.value)}.get(str(mode))
    says = f"{side.says} and {section.name}.resize_mode is {text if isinstance(mode, str) else shown(mode)}"
    crop = (size, size) if isinstance(size, int) else None
    return {**found, "size": Stated(size, says), "crop_size": Stated(crop, says)}


@dataclass(frozen=True, slots=True)
class _Section:
    """An object of the file, whose values are checked where they are read."""

    name: str
    raw: Mapping[str, object]
    where: str

    def section(self, key: str, *, needed: bool = True) -> _Section:
        value = self.raw.get(key, None if needed else {})
        name = f"{self.name}.{key}" if self.name else key
        if not isinstance(value, Mapping):
            self._refuse(name, value, "an object of fields, as open_clip writes it")
        return _Section(name, value, self.where)

    def options(self, key: str) -> Mapping[str, object]:
        value = self.raw.get(key)
        if value is not None and not isinstance(value, Mapping):
            self._refuse(f"{self.name}.{key}", value, "an object of options")
        return value or {}

    def foreign(self, only: Mapping[str, object]) -> list[str]:
        """What the section says otherwise than the only value of a field that a CLIP has."""
        return [
            f"{self.name}.{key} is {shown(self.raw[key])}"
            for key, value in only.items()
            if key in self.raw and self.raw[key] != value and self.raw[key] is not None
        ]

    def size(self, key: str, default: int | None = None) -> Stated:
        value = self.raw.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 2**40:
            self._refuse(f"{self.name}.{key}", value, "a positive integer")
        return Stated(value, self._says(key, value))

    def side(self, key: str, default: int, foreign: list[str]) -> Stated | None:
        """A length in pixels, of a square."""
        value = self.raw.get(key, default)
        pair = value if isinstance(value, list) and len(value) == 2 else [value, value]
        if pair[0] != pair[1]:
            foreign.append(f"{self.name}.{key} is {shown(value)}, not a square")
            return None
        return _Section(self.name, {key: pair[0]} if key in self.raw else {}, self.where).size(key, default)

    def flag(self, key: str) -> Stated:
        value = self.raw.get(key) or False
        if not isinstance(value, bool):
            self._refuse(f"{self.name}.{key}", value, "true or false")
        return Stated(value, self._says(key, value))

    def number(self, key: str, default: float) -> Stated:
        value = self.raw.get(key, default)
        if not _is_number(value) or not 0 < value <= 2**40:
            self._refuse(f"{self.name}.{key}", value, "a positive number")
        return Stated(float(value), self._says(key, value))

    def channels(self, key: str, default: tuple[float, ...]) -> Stated:
        """A number for each of three channels; one number is for all, and null for the default."""
        stated = self.raw.get(key)
        value = list(default) if stated is None else stated if isinstance(stated, list) else [stated] * 3
        numbers = [float(number) for number in value if _is_number(number)]
        if len(value) != 3 or len(numbers) != 3:
            self._refuse(f"{self.name}.{key}", stated, "three numbers")
        return Stated(tuple(numbers), self._says(key, value, absent=stated is None))

    def choice(self, key: str, default: str, known: Mapping[str, int]) -> Stated:
        value = self.raw.get(key) or default
        if not isinstance(value, str) or value not in known:
            self._refuse(f"{self.name}.{key}", value, f"one of {', '.join(known)}")
        return Stated(known[value], self._says(key, value, absent=not self.raw.get(key)))

    def _says(self, key: str, value: object, *, absent: bool | None = None) -> str:
        text = json.dumps(value) if not isinstance(value, str) else value
        is_absent = key not in self.raw if absent is None else absent
        return f"{self.name}.{key} is {f'absent, so {text}' if is_absent else text}"

    def _refuse(self, name: str, value: object, expected: str) -> NoReturn:
        what = f"{name} is missing" if value is None else f"{name} is {shown(value)}, not {expected}"
        raise CheckpointError(what, where=self.where, fix=_OWN_CONFIG)


def _is_number(value: object) -> TypeGuard[int | float]:
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**64 and math.isfinite(value)
    )


OPEN_CLIP = SourceFormat(
    library="open_clip",
    weights=("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors"),
    config=_CONFIG,
    origins=_origins,
    belongs=_belongs,
    settings=_settings,
)
