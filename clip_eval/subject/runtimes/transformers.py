"""Load a checkpoint with transformers and run it: the runtime that has every capability."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from numpy.typing import NDArray

from clip_eval.checkpoint.checkpoint import Checkpoint
from clip_eval.errors import CheckpointError, ClipEvalError, NotAskable
from clip_eval.families.family import EntryPoint, Family
from clip_eval.families.roles import MODEL_CLASSES
from clip_eval.oracle.precision import Precision
from clip_eval.subject.calls import Call, kept
from clip_eval.subject.findings import classes_refused_alike, loading_finding
from clip_eval.subject.loading import LoadingReport, complete, one_line, report_of, unlike_shapes
from clip_eval.subject.output_tree import tensors_of
from clip_eval.subject.processors import Processors
from clip_eval.subject.releases import load_class, quiet, transformers_release
from clip_eval.subject.runtime import Capability, Runtime
from clip_eval.subject.runtimes._config import attending, configured
from clip_eval.subject.tensors import array_of, precision_of

__all__ = ["Subject", "subject_of"]


@dataclass(slots=True)
class Subject:
    """A checkpoint loaded one way by transformers.

    Args:
        checkpoint: what lies on disk.
        dtype: "float32", "bfloat16" or "float16"; always passed on explicitly.
        device: a torch device, "cpu" or "cuda:0".
        attention: "eager", "sdpa" or another implementation, None for transformers' default.
        like: the candidate, if this is a tiny model of its kind: a class that loads neither is reported once, as the
            candidate's finding.
        calls: collects each call with its answer; None to keep none.
    """

    checkpoint: Checkpoint
    dtype: str
    device: str = "cpu"
    attention: str | None = None
    like: Subject | None = field(default=None, repr=False)
    calls: deque[Call] | None = field(default=None, repr=False)
    _models: dict[str, Any] = field(default_factory=dict, repr=False)
    _reports: dict[str, LoadingReport] = field(default_factory=dict, repr=False)
    _processors: Processors | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The runtime and its release."""
        return f"transformers {transformers_release()}"

    @property
    def family(self) -> Family:
        """The family of the checkpoint."""
        return self.checkpoint.family

    @property
    def capabilities(self) -> frozenset[Capability]:
        """All of them."""
        return frozenset(Capability)

    @property
    def attention_used(self) -> str | None:
        """The attention implementation that the model really uses; None before it is loaded."""
        return str(self._models[self._main].config._attn_implementation) if self.is_loaded else None

    @property
    def precision(self) -> Precision:
        """How this subject computes."""
        return precision_of(self.dtype, self.device)

    @property
    def processors(self) -> Processors:
        """The processors, image processors and tokenizers of the checkpoint."""
        if self._processors is None:
            self._processors = Processors(self.checkpoint)
        return self._processors

    @property
    def is_loaded(self) -> bool:
        """True once the model was loaded with all its weights: the full one, or the plain tower if it is alone."""
        report = self._reports.get(self._main)
        return report is not None and report.complete

    @property
    def _main(self) -> str:
        return self.checkpoint.holds.plain_class

    def model(self, model_class: str) -> Any:
        """Return the model, loaded on first use and kept.

        Args:
            model_class: one of `MODEL_CLASSES`.

        Raises:
            NotApplicable: the checkpoint holds a part of a model that is not this class's.
            NotAskable: the class does not load every weight; check weights.every_weight_is_loaded says why.
            CheckpointError: the same for a tiny model whose candidate loads completely, and for a class whose loading
                no check judges.
        """
        finding = self.loading_finding(model_class)
        if finding is not None:
            self._refuse(model_class, finding)
        return self._models[model_class]

    def loading_finding(self, model_class: str) -> ClipEvalError | None:
        """Return what keeps a class from loading every weight of the checkpoint; None where nothing does.

        It is a Finding, or NotAskable where an earlier one of `MODEL_CLASSES` raises the same.
        """
        checkpoint = self.checkpoint
        classes = [name for name in MODEL_CLASSES if checkpoint.holds.has(name)]
        alike = classes_refused_alike(model_class, self.loading_report, classes)
        finding = loading_finding(alike, self.loading_report, config=checkpoint.raw_config, directory=checkpoint.path)
        return finding if finding is None or alike[0] == model_class else _not_askable(alike[0], finding)

    def loading_report(self, model_class: str) -> LoadingReport:
        """Load the model if that has not happened yet and return what transformers reported.

        Raises:
            NotApplicable: the checkpoint holds a part of a model that is not this class's.
        """
        self.checkpoint.holds.require(model_class)
        if model_class not in self._reports:
            self._reports[model_class] = self._first_load(model_class)
        return self._reports[model_class]

    def _refuse(self, model_class: str, finding: ClipEvalError) -> NoReturn:
        has_own_check = self.like is None or not self.like.loading_report(model_class).complete
        if model_class not in MODEL_CLASSES or not has_own_check:
            raise CheckpointError(finding.what, where=finding.where, fix=finding.fix)
        raise finding if isinstance(finding, NotAskable) else _not_askable(model_class, finding)

    def _first_load(self, model_class: str) -> LoadingReport:
        try:
            self._models[model_class], info = self._load(model_class)
        except Exception as error:  # whatever from_pretrained raises keeps users from the class
            if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
                raise
            shapes = unlike_shapes(self.checkpoint, model_class)
            return LoadingReport((), (), tuple(shapes), refusal=one_line(error), shapes=shapes)
        return report_of(info, self.family, model_class)

    def run(self, entry: EntryPoint, arrays: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Run an entry point with its default options and return every tensor of the answer by dotted name.

        A bare tensor, which `get_text_features` and `get_image_features` return in transformers 4, is called
        "pooler_output", as it is in 5.
        """
        answer = self.answer(entry.model_class, arrays, method=entry.method)
        return {
            path.removeprefix(".") or "pooler_output": array_of(tensor)
            for path, tensor in tensors_of(answer, "").items()
        }

    def answer(
        self,
        model_class: str,
        inputs: Mapping[str, NDArray[Any]],
        *,
        method: str = "forward",
        attention: str | None = None,
        **options: Any,
    ) -> Any:
        """Call a model, or one of its methods, without gradients and return its result.

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
        """Call a model, or one of its methods, with exactly these arguments and return its result.

        Args:
            model_class: one of `MODEL_CLASSES`.
            arguments: by position; nothing is copied, so changes in place are visible.
            method: "forward" calls the model itself; otherwise the name of a method.
            attention: an attention implementation other than the subject's.
            gradients: whether autograd records the call.
            keywords: by name.
        """
        import torch

        model = self.model(model_class)
        as_given: dict[str, Any] = {}
        if self.calls is not None:
            as_given = {name: kept(value) for name, value in keywords.items()}
        with attending(model, attention), torch.set_grad_enabled(gradients):
            answer = (model if method == "forward" else getattr(model, method))(*arguments, **keywords)
        if self.calls is not None:
            self.calls.append(Call(model_class, method, arguments, as_given, attention, gradients, answer))
        return answer

    def gradients(self, model_class: str, scalar: Any) -> Iterator[tuple[str, Any]]:
        """Yield (canonical name, gradient) for every parameter: a tensor, or None where none reaches it.

        No `.grad` is set; each gradient is freed once it was yielded.

        Args:
            model_class: one of `MODEL_CLASSES`.
            scalar: computed from a call of that model with gradients=True, a tensor of shape ().
        """
        import torch

        parameters = dict(self.model(model_class).named_parameters())
        trained = [parameter for parameter in parameters.values() if parameter.requires_grad]
        gradients = list(torch.autograd.grad(scalar, trained, allow_unused=True))
        for name in reversed(parameters):
            gradient = gradients.pop() if parameters[name].requires_grad else None
            yield self.family.canonical_name(name, model_class), gradient

    def load_again(self, model_class: str, directory: Path | None = None, **options: object) -> Any:
        """Load another model as this subject loads its own; it is not kept.

        Args:
            model_class: one of `MODEL_CLASSES`.
            directory: where it is; the checkpoint by default.
            options: passed on to from_pretrained, such as output_hidden_states.

        Raises:
            NotAskable: the class does not load every weight of the checkpoint without these options either.
            CheckpointError: weights are missing, unexpected or of the wrong shape; the tensors are named.
        """
        if directory is None:
            self.model(model_class)
        model, info = self._load(model_class, directory, **options)
        return complete(model, report_of(info, self.family, model_class), directory or self.checkpoint.path)

    @contextlib.contextmanager
    def configured(
        self, model_class: str, values: Mapping[str, object], *, attention: str | None = None
    ) -> Iterator[None]:
        """Set fields of the loaded model's config in the block.

        Args:
            model_class: one of `MODEL_CLASSES`.
            values: by dotted name below the model's config, such as "text_config.output_hidden_states".
            attention: an attention implementation for the block other than the subject's.
        """
        model = self.model(model_class)
        with attending(model, attention), configured(model.config, values):
            yield

    def compiled(self, model_class: str) -> Callable[..., Any]:
        """Return a call of a model under torch.compile, without gradients; the model itself stays as it is.

        Args:
            model_class: one of `MODEL_CLASSES`.
        """
        import torch

        model: Any = torch.compile(self.model(model_class))

        def without_gradients(**keywords: object) -> Any:
            with torch.no_grad(), quiet():
                return model(**keywords)

        return without_gradients

    def save(self, model_class: str, directory: Path) -> None:
        """Save the model with its config to a directory."""
        with quiet():
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
        """Return a call of a model, or of one of its methods, without gradients: nothing else, for timing.

        Args:
            model_class: one of `MODEL_CLASSES`.
            tensors: by keyword, on the subject's device; see `tensors`.
            method: "forward" calls the model itself; otherwise the name of a method.
            through: wraps the model or its method before it is called, such as torch.compile.
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
    def paused_at_layer(self, model_class: str, wait: Callable[[], None]) -> Iterator[None]:
        """Call `wait` before and after the model's second encoder layer, or its only one, in the block."""
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
        return {self.family.canonical_name(name, model_class): tensor for name, tensor in state.items()}

    def state(self, model_class: str) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield (canonical name, values) for every tensor of the state_dict; float32 holds narrower ones exactly."""
        for name, tensor in self.model(model_class).state_dict().items():
            yield self.family.canonical_name(name, model_class), array_of(tensor)

    def modules(self, model_class: str) -> dict[str, Any]:
        """Return the loaded model's own modules by canonical name, with the tower itself if the model is one."""
        modules = dict(self.model(model_class).named_modules())
        named = self.family.canonical_name
        by_name = {named(f"{name}.", model_class)[:-1]: module for name, module in modules.items() if name}
        tower = self.family.classes[model_class].tower
        return by_name if tower in by_name else {tower: modules[""], **by_name}

    def placement(self, model_class: str) -> Iterator[tuple[str, str, str]]:
        """Yield (canonical name, dtype, device type) of every floating-point parameter and buffer."""
        model = self.model(model_class)
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.is_floating_point():
                canonical = self.family.canonical_name(name, model_class)
                yield canonical, str(tensor.dtype).removeprefix("torch."), tensor.device.type

    def _load(self, model_class: str, directory: Path | None = None, **options: object) -> tuple[Any, dict[str, Any]]:
        import torch

        with quiet():
            model, info = load_class(self.family, model_class).from_pretrained(
                str(directory or self.checkpoint.path),
                dtype=getattr(torch, self.dtype),
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                variant=None if directory else self.checkpoint.variant,
                **{"attn_implementation": self.attention, **options},
            )
        return model.to(self.device), info

    def _tensor(self, value: NDArray[Any]) -> Any:
        import torch

        return torch.tensor(value, device=self.device)  # a copy, so that the probe cannot be changed in place


def subject_of(runtime: Runtime) -> Subject:
    """Return a runtime as `Subject`, for what only transformers can do.

    Raises:
        TypeError: it is another runtime: the check lacks a `needs` mark.
    """
    if not isinstance(runtime, Subject):
        raise TypeError(f'{runtime.name} is not transformers: mark the check with @pytest.mark.needs("...")')
    return runtime


def _not_askable(model_class: str, finding: ClipEvalError) -> NotAskable:
    name = f"weights.every_weight_is_loaded[{model_class}]"
    return NotAskable(finding.what, finding=name, where=finding.where, fix=finding.fix)
