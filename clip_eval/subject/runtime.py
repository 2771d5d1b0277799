"""What runs a checkpoint, as checks see it: an entry point and arrays in, arrays by field out.

Everything that only transformers can do is a `Capability`, which another runtime may lack. A check says what it needs
with `@pytest.mark.needs("gradients")`, and does not apply where the runtime lacks that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from clip_eval.checkpoint.checkpoint import Checkpoint
from clip_eval.errors import ClipEvalError, NotApplicable
from clip_eval.families.family import EntryPoint
from clip_eval.oracle.precision import Precision
from clip_eval.subject.loading import LoadingReport

if TYPE_CHECKING:
    from clip_eval.subject.processors import Processors

__all__ = ["Capability", "Fields", "Runtime"]


class Capability(Enum):
    """What a runtime may be able to do beyond `Runtime.run`; the value is the word for it in `needs`."""

    ATTENTION = "attention"
    COMPILE = "compile"
    GRADIENTS = "gradients"
    LOADING = "loading"
    MODULES = "modules"
    OBJECTS = "objects"
    OPTIONS = "options"
    SURFACE = "surface"
    TIMING = "timing"
    WEIGHTS = "weights"

    @property
    def in_words(self) -> str:
        """For reports, such as "gradients"."""
        return _IN_WORDS[self]


_IN_WORDS = {
    Capability.ATTENTION: "another attention implementation for a call",
    Capability.COMPILE: "torch.compile",
    Capability.GRADIENTS: "gradients",
    Capability.LOADING: "loading and saving other models of the kind",
    Capability.MODULES: "the modules of the model",
    Capability.OBJECTS: "output objects of transformers",
    Capability.OPTIONS: "options of a call (output_hidden_states and the like)",
    Capability.SURFACE: "the API of transformers",
    Capability.TIMING: "calls of a torch model that can be timed",
    Capability.WEIGHTS: "the weights in memory",
}


class Runtime(Protocol):
    """A checkpoint loaded one way by something that can run it."""

    @property
    def name(self) -> str:
        """The runtime and its version, such as "transformers 5.23.0"."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can do beyond `run`. With any of these it is transformers' `Subject`, which has the methods."""

    @property
    def checkpoint(self) -> Checkpoint:
        """What lies on disk."""

    @property
    def dtype(self) -> str:
        """The dtype it computes in: "float32", "bfloat16" or "float16"."""

    @property
    def device(self) -> str:
        """Where it computes, as torch writes it: "cpu" or "cuda:0"."""

    @property
    def precision(self) -> Precision:
        """How it computes, which decides the budgets."""

    @property
    def attention_used(self) -> str | None:
        """The attention implementation it really uses; None where it has no choice, or has loaded nothing yet."""

    @property
    def processors(self) -> Processors:
        """What is built from the checkpoint's tokenizer and image processor files."""

    def loading_report(self, model_class: str) -> LoadingReport:
        """Load a model if that has not happened yet and return what went wrong with its weights."""

    def loading_finding(self, model_class: str) -> ClipEvalError | None:
        """Return what keeps a model from holding every weight of the checkpoint; None where nothing does."""

    def run(self, entry: EntryPoint, arrays: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Run an entry point with its default options.

        Args:
            entry: what to run.
            arrays: `input_ids`, `attention_mask` and `position_ids` (texts, tokens), `pixel_values` (images, channels,
                height, width), those that the entry point takes; mask and positions may be left out.

        Returns:
            Every field that the runtime has for this entry point, by dotted name as transformers 5 calls it:
            "text_embeds", "text_model_output.last_hidden_state"; of `get_text_features` and `get_image_features`
            the projected feature as "pooler_output". bfloat16 comes as float32.

        Raises:
            NotApplicable: the runtime has no such entry point, or does not take one of the arrays.
            NotAskable: the model could not be loaded; check weights.every_weight_is_loaded says why.
        """


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Fields:
    """An answer of `Runtime.run`, read as an output object is: `out.text_embeds`, `out["text_embeds"]`,
    `out.text_model_output.last_hidden_state`.

    Attributes:
        runtime: its name.
        entry: what ran.
        arrays: by dotted name.
        within: the dotted prefix of this part, with a dot at the end; "" for all.
    """

    runtime: str
    entry: EntryPoint
    arrays: Mapping[str, NDArray[Any]]
    within: str = ""

    def __getitem__(self, name: str) -> Any:
        """Return a field. Raises NotApplicable if the runtime has none of this name."""
        path = f"{self.within}{name}"
        if path in self.arrays:
            return self.arrays[path]
        if any(key.startswith(f"{path}.") for key in self.arrays):
            return Fields(self.runtime, self.entry, self.arrays, f"{path}.")
        raise NotApplicable(f"{self.runtime} gives no {path} of {self.entry}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)  # looked up by Python and NumPy, such as __array__
        return self[name]
