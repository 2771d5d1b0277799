"""Faults of calls: state that is kept, inputs that are changed, modes, threads and gradients that matter, overflows."""

from __future__ import annotations

import threading
from typing import Any

from pytest import MonkeyPatch  # noqa: PT013 - the type, in signatures

from faults.attention import change_mask
from faults.fault import in_loaded_model, in_module, in_transformers
from faults.patching import change_input, change_tower, every, modeling, replace, text_tower, vision_tower, wrap

AGAIN = "calls.the_same_call_gives_the_same"
TRACE = "calls.other_calls_leave_no_trace"
CALLERS = "calls.outputs_belong_to_the_caller"
INPUTS = "calls.inputs_are_left_alone"
BACK = "calls.training_mode_and_back"
TRAINING = "calls.training_mode_without_dropout_changes_nothing"
DROPOUT = "calls.dropout_acts_in_training_alone"
SHARED = "calls.models_share_nothing"
THREADS = "threads.threads_do_not_mix"
READY = "gradients.weights_are_ready_to_be_trained"
REACH = "gradients.they_reach_every_weight"
RECORDING = "gradients.recording_them_changes_no_value"
SLOPE = "gradients.they_are_the_slope_of_the_logits"
FINITE = "extremes.outputs_are_finite"


@in_loaded_model(AGAIN)
def results_drift_from_call_to_call(model: Any) -> None:
    """The first layer of each tower multiplies by one ten-millionth more at each call."""
    for encoder in every(model, "CLIPEncoder"):
        calls = [0]

        def drift(x: Any, calls: list[int] = calls) -> Any:
            calls[0] += 1
            return x * (1 + 1e-7 * calls[0])

        change_input(encoder.layers[0], drift)


@in_transformers(TRACE)
def answers_are_written_into_one_buffer(patch: MonkeyPatch) -> None:
    """The text tower writes its pooled states into a buffer that the next call of that shape writes to again."""
    buffers: dict[Any, Any] = {}

    def store(output: Any, model: Any, **_: Any) -> None:
        pooled = output.pooler_output
        if not pooled.requires_grad:
            buffer = buffers.setdefault((id(model), tuple(pooled.shape)), pooled.clone())
            output.pooler_output = buffer.copy_(pooled)

    change_tower(patch, text_tower(), store)


@in_transformers(CALLERS)
def the_latest_answer_is_given_out_again(patch: MonkeyPatch) -> None:
    """Where the same pixels come again, the vision tower returns the very tensors of the call before."""
    latest: dict[int, Any] = {}

    def forward(original: Any, self: Any, pixel_values: Any = None, **kwargs: Any) -> Any:
        pixels, output, asked = latest.get(id(self), (None, None, None))
        same = pixels is not None and pixels.shape == pixel_values.shape and bool((pixels == pixel_values).all())
        if not same or kwargs != asked or output.last_hidden_state.requires_grad:
            output = original(self, pixel_values, **kwargs)
        latest[id(self)] = (pixel_values.clone(), output, kwargs)
        return output

    wrap(patch, vision_tower(), "forward", forward)


@in_transformers(TRACE)
def first_asked_attention_sticks(patch: MonkeyPatch) -> None:
    """A model that was asked for attention maps once scales its attention by a little more ever after."""

    def forward(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("output_attentions"):
            for attention in every(self, "CLIPAttention"):
                attention.scale *= 1 + 1e-6
        return original(self, *args, **kwargs)

    for tower in (text_tower(), vision_tower()):
        wrap(patch, tower, "forward", forward)


@in_transformers(INPUTS)
def pixels_are_clamped_in_place(patch: MonkeyPatch) -> None:
    """The vision tower clamps the caller's pixel_values once it has used them."""

    def forward(original: Any, self: Any, pixel_values: Any = None, **kwargs: Any) -> Any:
        output = original(self, pixel_values, **kwargs)
        pixel_values.clamp_(-1, 1)
        return output

    wrap(patch, vision_tower(), "forward", forward)


@in_transformers(INPUTS)
def masks_are_inverted_in_place(patch: MonkeyPatch) -> None:
    """The text tower turns the caller's attention mask into its opposite."""
    change_mask(patch, _inverted_in_place)


@in_transformers(INPUTS)
def padding_is_zeroed_in_place(patch: MonkeyPatch) -> None:
    """The text tower sets the caller's ids to 0 where the mask hides them."""

    def zero(output: Any, input_ids: Any = None, attention_mask: Any = None, **_: Any) -> None:
        if attention_mask is not None:
            input_ids.masked_fill_(attention_mask == 0, 0)

    change_tower(patch, text_tower(), zero)


@in_loaded_model(BACK)
def training_leaves_statistics_behind(model: Any) -> None:
    """A layer gathers a running mean in training mode and adds a trace of it in evaluation mode."""
    for encoder in every(model, "CLIPEncoder"):
        gathered = [0.0]

        def normalise(x: Any, layer: Any = encoder.layers[0], gathered: list[float] = gathered) -> Any:
            if layer.training:
                gathered[0] += 1e-3
                return x
            return x + gathered[0]

        change_input(encoder.layers[0], normalise)


@in_loaded_model(TRAINING)
def training_drops_paths(model: Any) -> None:
    """In training mode a layer drops a tenth of what enters it, although the config says 0."""
    import torch

    for layer in every(model, "CLIPEncoderLayer"):
        change_input(layer, lambda x, layer=layer: torch.nn.functional.dropout(x, 0.1, training=layer.training))


@in_loaded_model(DROPOUT)
def attention_dropout_is_ignored(model: Any) -> None:
    """attention_dropout of the config never reaches the attention layers."""
    for attention in every(model, "CLIPAttention"):
        attention.dropout = 0.0


@in_transformers(DROPOUT)
def attention_dropout_is_always_on(patch: MonkeyPatch) -> None:
    """attention_dropout acts in evaluation mode, too: only a checkpoint that has one shows it."""

    def forward(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        training, self.training = self.training, self.training or self.dropout > 0
        try:
            return original(self, *args, **kwargs)
        finally:
            self.training = training

    wrap(patch, modeling().CLIPAttention, "forward", forward)


@in_transformers(SHARED)
def equal_weights_are_shared_between_models(patch: MonkeyPatch) -> None:
    """Loading a checkpoint once more hands out the memory of the first model."""
    from faults.patching import after_loading

    first: dict[Any, Any] = {}

    def share(model: Any) -> None:
        for name, parameter in model.named_parameters():
            earlier = first.setdefault((type(model).__name__, name, tuple(parameter.shape)), parameter.data)
            if earlier.dtype == parameter.dtype and bool((earlier == parameter.data).all()):
                parameter.data = earlier

    after_loading(patch, share)


@in_transformers(THREADS)
def states_are_recorded_on_the_model(patch: MonkeyPatch) -> None:
    """Hidden states are gathered in a list that belongs to the tower, so calls at the same time share it."""
    for tower in (text_tower(), vision_tower()):
        wrap(patch, tower, "forward", _recording)


@in_transformers(THREADS)
def sizes_are_kept_on_the_model(patch: MonkeyPatch) -> None:
    """The number of rows is kept on the encoder at its entry and used at its exit: threads cut each other's batches."""

    def encode(original: Any, self: Any, inputs_embeds: Any, *args: Any, **kwargs: Any) -> Any:
        self.rows = len(inputs_embeds)
        output = original(self, inputs_embeds, *args, **kwargs)
        output.last_hidden_state = output.last_hidden_state[: self.rows]
        return output

    wrap(patch, modeling().CLIPEncoder, "forward", encode)


@in_loaded_model(THREADS)
def calls_at_the_same_time_leave_a_mark(model: Any) -> None:
    """Two calls at the same time make an encoder fall back to another code path for good, which rounds otherwise."""
    for encoder in every(model, "CLIPEncoder"):
        lock, inside, marked = threading.Lock(), [0], [False]

        def forward(
            original: Any, *args: Any, lock: Any = lock, inside: Any = inside, marked: Any = marked, **kwargs: Any
        ) -> Any:
            with lock:
                inside[0] += 1
                marked[0] = marked[0] or inside[0] > 1
            try:
                output = original(*args, **kwargs)
            finally:
                with lock:
                    inside[0] -= 1
            if marked[0]:
                output.last_hidden_state = output.last_hidden_state * (1 + 2.0**-22)
            return output

        replace(encoder, forward)


@in_loaded_model(READY)
def embeddings_are_frozen(model: Any) -> None:
    """Loading freezes the token and patch embeddings."""
    for name, parameter in model.named_parameters():
        if "token_embedding" in name or "patch_embedding" in name:
            parameter.requires_grad_(False)


@in_loaded_model(READY)
def gradient_checkpointing_is_on(model: Any) -> None:
    """Loading switches gradient checkpointing on."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable()


@in_loaded_model(REACH)
def image_tower_is_detached(model: Any) -> None:
    """The projection of images cuts the gradient off: the vision tower never learns."""
    if hasattr(model, "visual_projection"):
        replace(model.visual_projection, lambda original, x: original(x.detach()))


@in_module("text_model.encoder.layers.1.self_attn", REACH, SLOPE, diverges_at=("text_model.encoder.layers.1",))
def one_layer_runs_without_gradients(attention: Any) -> None:
    """One attention layer runs under no_grad; the residual stream carries the gradient past it."""
    import torch

    def forward(original: Any, *args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            return original(*args, **kwargs)

    replace(attention, forward)


@in_module("vision_model.encoder.layers.2.mlp", SLOPE, diverges_at=())
def one_gradient_is_halved(mlp: Any) -> None:
    """One MLP returns the right values and passes half of the gradient."""
    replace(mlp, lambda original, x: (lambda y: 0.5 * y + 0.5 * y.detach())(original(x)))


@in_loaded_model(SLOPE)
def one_gradient_is_reversed(model: Any) -> None:
    """A hook reverses the gradient of the text projection: every gradient is there, finite, and of the right size."""
    if hasattr(model, "text_projection"):
        model.text_projection.weight.register_hook(lambda gradient: -gradient)


@in_loaded_model(RECORDING)
def training_takes_another_activation(model: Any) -> None:
    """Where gradients are recorded, every MLP computes the exact GELU."""
    import torch

    for mlp in every(model, "CLIPMLP"):
        own = mlp.activation_fn.forward
        mlp.activation_fn.forward = lambda x, own=own: (
            torch.nn.functional.gelu(x) if torch.is_grad_enabled() else own(x)
        )


@in_transformers(RECORDING)
def states_are_returned_detached(patch: MonkeyPatch) -> None:
    """The text tower returns its last states detached, the pooled ones not."""

    def detach(output: Any, **_: Any) -> None:
        output.last_hidden_state = output.last_hidden_state.detach()

    change_tower(patch, text_tower(), detach)


@in_module("vision_model.embeddings.patch_embedding", FINITE, diverges_at=())
def uniform_images_are_divided_by_zero(convolution: Any) -> None:
    """Each image is divided by its spread and multiplied with it again: a uniform one becomes NaN."""

    def standardise(original: Any, pixels: Any) -> Any:
        spread = pixels.std(dim=(1, 2, 3), keepdim=True)
        return original(pixels * (spread / spread))

    replace(convolution, standardise)


@in_module("text_model.embeddings.token_embedding", FINITE, diverges_at=(), options=("--clip-dtype", "float16"))
def large_ids_overflow_in_float16(embedding: Any) -> None:
    """Ids pass through float16 as a sum over the text, which a text of large ids overflows."""

    def embed(original: Any, ids: Any) -> Any:
        total = (ids == embedding.num_embeddings - 1).half().sum(-1).mul(2000.0)[:, None, None]
        return original(ids) + (total - total)

    replace(embedding, embed)


def _inverted_in_place(mask: Any) -> Any:
    kept = mask.clone()
    mask.copy_(mask == 0)
    return kept


def _recording(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
    """Run a tower, and let its hidden states be those that its layers left on it."""
    if not hasattr(self, "recorded"):
        self.recorded = []
        for layer in self.encoder.layers:
            layer.register_forward_hook(lambda _, entered, left: self.recorded.append(_state(left)))
    self.recorded = []
    output = original(self, *args, **kwargs)
    if getattr(output, "hidden_states", None) is not None:
        output.hidden_states = (output.hidden_states[0], *self.recorded)
    return output


def _state(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) else output
