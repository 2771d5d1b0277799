"""Load a checkpoint one way and run it. The one module that knows transformers 4 from 5; nothing else imports torch or
transformers.

torch and transformers are imported when a model is first loaded, never at import: the plugin is part of every pytest
run.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from packaging.version import Version

from clip_eval.checkpoint import Checkpoint
from clip_eval.errors import CheckpointError
from clip_eval.rounding import Precision

__all__ = [
    "MODEL_CLASSES",
    "LoadingReport",
    "Subject",
    "attention_problem",
    "belongs_to",
    "canonical_name",
    "compiler_problem",
    "device_problem",
    "dtype_on_load",
    "features_are_tensors",
    "has_torchvision",
    "library",
    "precision_of",
    "projected_features",
    "provides",
    "quiet",
    "resizes_with_torchvision",
    "tensor_of",
    "transformers_release",
]

MODEL_CLASSES = (
    "CLIPModel",
    "CLIPTextModel",
    "CLIPVisionModel",
    "CLIPTextModelWithProjection",
    "CLIPVisionModelWithProjection",
)

_PARTS = {
    "CLIPModel": ("text_model.", "vision_model.", "text_projection.", "visual_projection.", "logit_scale"),
    "CLIPTextModel": ("text_model.",),
    "CLIPVisionModel": ("vision_model.",),
    "CLIPTextModelWithProjection": ("text_model.", "text_projection."),
    "CLIPVisionModelWithProjection": ("vision_model.", "visual_projection."),
}
_WHOLE = _PARTS["CLIPModel"]


def transformers_release() -> Version:
    """Return the installed transformers release without importing it."""
    return Version(version("transformers"))


def features_are_tensors(release: Version) -> bool:
    """Say whether get_text_features and get_image_features return a bare tensor, as documented up to 4.x.

    From 5.0 they are documented to return `BaseModelOutputWithPooling` with the projected feature in `pooler_output`.
    """
    return release < Version("5.0.0.dev0")


def provides(class_name: str) -> bool:
    """Say whether the installed transformers has a class of that name that can be used here, with all that it needs."""
    import transformers

    found = getattr(transformers, class_name, None)
    return found is not None and not any(base.__name__ == "DummyObject" for base in type(found).__mro__)


def library(module: str = "") -> Any:
    """Return transformers itself, or a module of it by its dotted name below it, to describe what it offers.

    Raises:
        ImportError: there is no such module.
    """
    with _quiet():
        return importlib.import_module(f"transformers.{module}".rstrip("."))


def has_torchvision() -> bool:
    """Say whether torchvision is installed; transformers then resizes pictures with it by default, from 5.0 on."""
    return importlib.util.find_spec("torchvision") is not None


def tensor_of(array: NDArray[Any]) -> Any:
    """Return a torch tensor on the CPU that shares the memory of `array`, strides included."""
    import torch

    return torch.from_numpy(array)


def resizes_with_torchvision(image_processor: Any) -> bool:
    """Say whether an image processor resizes with torchvision, which may differ from Pillow by one uint8 level."""
    return any(
        "Torchvision" in base.__name__ or base.__name__.endswith("Fast") for base in type(image_processor).__mro__
    )


def projected_features(features: Any, release: Version) -> Any:
    """Return the projected, not normalised feature tensor (rows, projection) of a get_*_features result."""
    return features if features_are_tensors(release) else features.pooler_output


def canonical_name(name: str, model_class: str) -> str:
    """Return the name that tensor `name` of a `model_class` in memory has in a CLIPModel checkpoint on disk.

    From 5.6 the towers are flattened in memory (`encoder...`), before they carry the prefix of the file.
    """
    return name if name.startswith(_WHOLE) else _PARTS[model_class][0] + name


def belongs_to(name: str, model_class: str) -> bool:
    """Say whether the tensor of canonical name `name` is a part of a `model_class`."""
    return name.startswith(_PARTS[model_class])


def precision_of(dtype: str, device: str) -> Precision:
    """Return how a subject of `dtype` computes on `device` under the process's current torch settings."""
    if not device.startswith("cuda") or dtype != "float32":
        return Precision(dtype)
    import torch

    return Precision(dtype, torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)


def dtype_on_load(directory: str) -> str:
    """Return the dtype that CLIPModel has when `directory` is loaded and no dtype is asked for."""
    import transformers

    with _quiet():
        model = transformers.CLIPModel.from_pretrained(directory, local_files_only=True, use_safetensors=True)
    return str(model.dtype).removeprefix("torch.")


def device_problem(device: str) -> str | None:
    """Say why `device` cannot be used here, or None if it can."""
    import torch

    kind = device.partition(":")[0]
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return f"device {device!r} is not available ({kind}): {reason}"
    return None


def compiler_problem(device: str) -> str | None:
    """Say why torch.compile cannot work on `device` here, or None if it can.

    Its default backend writes C++ for a CPU, which a compiler has to turn into code, and Triton for a GPU.
    """
    if device.startswith("cuda"):
        return None if importlib.util.find_spec("triton") else "torch.compile needs triton, which is not installed"
    compiler = os.environ.get("CXX") or ("cl" if os.name == "nt" else "g++")
    if any(shutil.which(name) for name in (compiler, "clang++")):
        return None
    return f"torch.compile needs a C++ compiler, and there is no {compiler}"


def attention_problem(attention: str) -> str | None:
    """Say why the installed transformers cannot use an attention implementation here, or None if it can."""
    import transformers

    config = transformers.CLIPTextConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=8
    )
    try:
        with _quiet():
            transformers.AutoModel.from_config(config, attn_implementation=attention)
    except (ImportError, ValueError) as error:
        return f"attention {attention!r} is not available: {str(error).strip().partition('. ')[0]}"
    return None


@dataclass(frozen=True, slots=True)
class LoadingReport:
    """What transformers said about the weights when it loaded a model; all three are empty for a healthy load.

    Names are canonical. Tensors that belong to parts which the class does not have (the other tower) are not
    unexpected.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """True where every weight of the model came from the file."""
        return not (self.missing or self.unexpected or self.mismatched)


@dataclass(slots=True)
class Subject:
    """A checkpoint loaded one way.

    Args:
        checkpoint: what lies on disk.
        dtype: "float32", "bfloat16" or "float16"; always passed on explicitly.
        device: a torch device, "cpu" or "cuda:0".
        attention: "eager", "sdpa" or another implementation, None for the library's default.
    """

    checkpoint: Checkpoint
    dtype: str
    device: str = "cpu"
    attention: str | None = None
    _models: dict[str, Any] = field(default_factory=dict, repr=False)
    _processors: dict[Any, Any] = field(default_factory=dict, repr=False)
    _reports: dict[str, LoadingReport] = field(default_factory=dict, repr=False)

    @property
    def precision(self) -> Precision:
        """How this subject computes."""
        return precision_of(self.dtype, self.device)

    @property
    def is_loaded(self) -> bool:
        """True once the full model was loaded with all its weights."""
        report = self._reports.get("CLIPModel")
        return report is not None and report.complete

    def model(self, model_class: str) -> Any:
        """Return the model, loaded on first use and kept.

        Args:
            model_class: one of `MODEL_CLASSES`.

        Raises:
            CheckpointError: weights are missing, unexpected or of the wrong shape; the tensors are named.
        """
        report = self.loading_report(model_class)
        return _complete(self._models[model_class], report, self.checkpoint.path)

    def loading_report(self, model_class: str) -> LoadingReport:
        """Load the model if that has not happened yet and return what the library reported."""
        if model_class not in self._models:
            self._models[model_class], info = self._load(model_class)
            self._reports[model_class] = _report(info, model_class)
        return self._reports[model_class]

    def run(
        self,
        model_class: str,
        inputs: Mapping[str, NDArray[Any]],
        *,
        method: str = "forward",
        attention: str | None = None,
        **options: Any,
    ) -> Any:
        """Call a model, or one of its methods, without gradients and return whatever it returned.

        Args:
            model_class: one of `MODEL_CLASSES`.
            inputs: NumPy arrays by keyword; they become tensors on the subject's device with their own dtype.
            method: "forward" calls the model itself; otherwise the name of a method.
            attention: an attention implementation other than the subject's.
            options: passed on as they are.
        """
        return self.call(model_class, method=method, attention=attention, **self.tensors(inputs), **options)

    def call(
        self,
        model_class: str,
        *arguments: object,
        method: str = "forward",
        attention: str | None = None,
        gradients: bool = False,
        **keywords: object,
    ) -> Any:
        """Call a model, or one of its methods, with exactly these arguments and return whatever it returned.

        Args:
            model_class: one of `MODEL_CLASSES`.
            arguments: by position, tensors too; nothing is copied, so a change in place can be seen.
            method: "forward" calls the model itself; otherwise the name of a method.
            attention: an attention implementation other than the subject's.
            gradients: whether the call is recorded for differentiation.
            keywords: by name.
        """
        import torch

        model = self.model(model_class)
        with _attending(model, attention), torch.set_grad_enabled(gradients):
            return (model if method == "forward" else getattr(model, method))(*arguments, **keywords)

    def gradients(self, model_class: str, scalar: Any) -> Iterator[tuple[str, Any]]:
        """Yield (canonical name, gradient) for every parameter: a tensor, or None where none reaches it.

        Nothing is left in the model; gradients are freed as they are passed by.

        Args:
            model_class: one of `MODEL_CLASSES`.
            scalar: what a call of that model with gradients=True led to, a tensor of shape ().
        """
        import torch

        parameters = dict(self.model(model_class).named_parameters())
        trained = [parameter for parameter in parameters.values() if parameter.requires_grad]
        found = list(torch.autograd.grad(scalar, trained, allow_unused=True))
        for name in reversed(parameters):
            yield canonical_name(name, model_class), found.pop() if parameters[name].requires_grad else None

    def another(self, model_class: str, directory: Path | None = None, **options: object) -> Any:
        """Load one more model as this subject loads its own; it is not kept.

        Args:
            model_class: one of `MODEL_CLASSES`.
            directory: where it is; the checkpoint by default.
            options: passed on to from_pretrained, such as output_hidden_states.

        Raises:
            CheckpointError: weights are missing, unexpected or of the wrong shape; the tensors are named.
        """
        model, info = self._load(model_class, directory, **options)
        return _complete(model, _report(info, model_class), directory or self.checkpoint.path)

    @contextlib.contextmanager
    def configured(
        self, model_class: str, values: Mapping[str, object], *, attention: str | None = None
    ) -> Iterator[None]:
        """In the block, fields of the loaded model's config have other values; what it held is put back.

        Args:
            model_class: one of `MODEL_CLASSES`.
            values: by dotted name below the model's config, such as "text_config.output_hidden_states".
            attention: an attention implementation for the block other than the subject's.
        """
        model = self.model(model_class)
        with _attending(model, attention), contextlib.ExitStack() as stack:
            for name, value in values.items():
                path, _, field_name = name.rpartition(".")
                config = getattr(model.config, path) if path else model.config
                stack.callback(_put_back, config, dict(vars(config)))
                setattr(config, field_name, value)
            yield

    def compiled(self, model_class: str) -> Callable[..., Any]:
        """Return a call of a model under torch.compile, without gradients; the model itself stays as it is.

        Args:
            model_class: one of `MODEL_CLASSES`.
        """
        import torch

        model: Any = torch.compile(self.model(model_class))

        def without_gradients(**keywords: object) -> Any:
            with torch.no_grad(), _quiet():
                return model(**keywords)

        return without_gradients

    def save(self, model_class: str, directory: Path) -> None:
        """Let the model write itself and its config into a directory."""
        with _quiet():
            self.model(model_class).save_pretrained(directory)

    def prepared(
        self,
        model_class: str,
        tensors: Mapping[str, Any],
        *,
        method: str = "forward",
        through: Callable[[Any], Any] | None = None,
        **options: object,
    ) -> Callable[[], Any]:
        """Return a call of a model, or of one of its methods, without gradients: that and nothing else, fit for timing.

        Args:
            model_class: one of `MODEL_CLASSES`.
            tensors: by keyword, on the subject's device; see `tensors`.
            method: "forward" calls the model itself; otherwise the name of a method.
            through: what becomes of the model or its method before it is called, such as torch.compile.
            options: passed on as they are.
        """
        import torch

        model = self.model(model_class)
        plain = model if method == "forward" else getattr(model, method)
        call = plain if through is None else through(plain)

        def without_gradients() -> Any:
            with torch.no_grad():
                return call(**tensors, **options)

        return without_gradients

    def tensors(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
        """Return NumPy arrays by keyword as tensors on the subject's device, each with its own dtype."""
        return {name: self._tensor(value) for name, value in inputs.items()}

    @contextlib.contextmanager
    def waiting(self, model_class: str, wait: Callable[[], None]) -> Iterator[None]:
        """In the block, each call of a model runs `wait` before and after its second encoder layer, or its only one."""
        layers = [
            module for module in self.model(model_class).modules() if type(module).__name__.endswith("EncoderLayer")
        ]
        layer = layers[:2][-1]
        hooks = (
            layer.register_forward_pre_hook(lambda *_: wait()),
            layer.register_forward_hook(lambda *_: wait()),
        )
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def weights(self, model_class: str) -> dict[str, Any]:
        """Return the loaded model's own tensors, not copies, by canonical name."""
        state = self.model(model_class).state_dict()
        return {canonical_name(name, model_class): tensor for name, tensor in state.items()}

    def state(self, model_class: str) -> Iterator[tuple[str, NDArray[np.float64]]]:
        """Yield (canonical name, values as float64) for every tensor of the loaded model's state_dict."""
        for name, tensor in self.model(model_class).state_dict().items():
            yield canonical_name(name, model_class), tensor.detach().to("cpu").double().numpy()

    def modules(self, model_class: str) -> dict[str, Any]:
        """Return the loaded model's own modules by canonical name, the tower itself too where the model is one."""
        named = dict(self.model(model_class).named_modules())
        found = {canonical_name(f"{name}.", model_class)[:-1]: module for name, module in named.items() if name}
        tower = _PARTS[model_class][0][:-1]
        return found if tower in found else {tower: named[""], **found}

    def placement(self, model_class: str) -> Iterator[tuple[str, str, str]]:
        """Yield (canonical name, dtype, device type) of every floating-point parameter and buffer."""
        model = self.model(model_class)
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.is_floating_point():
                yield canonical_name(name, model_class), str(tensor.dtype).removeprefix("torch."), tensor.device.type

    def processor(self, route: str = "AutoProcessor", *, source: Path | None = None, **options: Any) -> Any:
        """Load a processor, image processor or tokenizer through the transformers class named `route`; it is kept.

        Args:
            route: the name of a class with from_pretrained.
            source: a directory other than the checkpoint's.
            options: passed on to from_pretrained, such as use_fast.
        """
        key = (route, source, tuple(sorted(options.items())))
        if key not in self._processors:
            import transformers

            with _quiet():
                loader = getattr(transformers, route)
                path = str(source or self.checkpoint.path)
                self._processors[key] = loader.from_pretrained(path, local_files_only=True, **options)
        return self._processors[key]

    def made(self, class_name: str, *arguments: object, method: str | None = None, **settings: Any) -> Any:
        """Construct an object of a transformers class, such as an image processor from its defaults; nothing is kept.

        Args:
            class_name: the class.
            arguments: by position.
            method: a class method that makes the object, such as "from_pretrained"; the class itself by default.
            settings: by name.
        """
        import transformers

        owner = getattr(transformers, class_name)
        with _quiet():
            return (owner if method is None else getattr(owner, method))(*arguments, **settings)

    def process(self, processor: Any, *args: object, **options: object) -> Any:
        """Call a processor and return its result, silencing the library's hints about backends and padding."""
        with _quiet():
            return processor(*args, **options)

    def process_at_once(self, processor: Any, batches: Sequence[Any], **options: Any) -> list[Any]:
        """Call a processor on each of `batches`, all at the same time, a thread each; results in order."""
        with _quiet(), ThreadPoolExecutor(len(batches)) as threads:
            return list(threads.map(lambda images: processor(images=images, **options), batches))

    def _load(self, model_class: str, directory: Path | None = None, **options: object) -> tuple[Any, dict[str, Any]]:
        import torch
        import transformers

        with _quiet():
            model, info = getattr(transformers, model_class).from_pretrained(
                str(directory or self.checkpoint.path),
                dtype=getattr(torch, self.dtype),
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                **{"attn_implementation": self.attention, **options},
            )
        return model.to(self.device), info

    def _tensor(self, value: NDArray[Any]) -> Any:
        import torch

        return torch.tensor(value, device=self.device)  # a copy: the probe itself can never be changed in place


def _report(info: Mapping[str, Any], model_class: str) -> LoadingReport:
    """Read output_loading_info of 4.x (lists) and 5.x (sets; mismatched entries are tuples of name and shapes)."""

    def names(key: str) -> tuple[str, ...]:
        entries = [entry if isinstance(entry, str) else entry[0] for entry in info.get(key) or ()]
        return tuple(sorted(canonical_name(entry, model_class) for entry in entries))

    own = _PARTS[model_class]
    unexpected = tuple(
        name for name in names("unexpected_keys") if name.startswith(own) and not name.endswith(".position_ids")
    )
    return LoadingReport(names("missing_keys"), unexpected, names("mismatched_keys"))


def _complete(model: Any, report: LoadingReport, where: Path) -> Any:
    """Return the model if all its weights came from the file, else raise CheckpointError."""
    if not report.complete:
        raise CheckpointError(
            f"transformers {version('transformers')} did not load {type(model).__name__} completely: {_named(report)}",
            where=where,
            fix="Nothing computed from these weights means anything; see check weights.every_weight_is_loaded",
        )
    return model


def _put_back(owner: object, attributes: Mapping[str, object]) -> None:
    """Restore an object's attributes, past every setter, and remove those that came."""
    vars(owner).clear()
    vars(owner).update(attributes)


def _named(report: LoadingReport) -> str:
    parts = []
    for label, tensors in (
        ("missing", report.missing),
        ("unexpected", report.unexpected),
        ("mismatched", report.mismatched),
    ):
        if tensors:
            more = f" and {len(tensors) - 5} more" if len(tensors) > 5 else ""
            parts.append(f"{label} {', '.join(tensors[:5])}{more}")
    return "; ".join(parts)


@contextlib.contextmanager
def _attending(model: Any, implementation: str | None) -> Iterator[None]:
    """Give a loaded model another attention implementation for a while; a second copy would double the memory."""
    own = model.config._attn_implementation
    if implementation in (None, own):
        yield
        return
    model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        model.set_attn_implementation(own)


def quiet() -> contextlib.AbstractContextManager[None]:
    """Return a context in which the library prints neither hints nor progress, and nothing warns."""
    return _quiet()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the library's loading chatter: what matters of it is asserted by checks. Settings are put back."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
