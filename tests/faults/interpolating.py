"""Faults of interpolate_pos_encoding: how position embeddings are taken to images of another size."""

from __future__ import annotations

from typing import Any

from pytest import MonkeyPatch  # noqa: PT013 - the type, in signatures

from faults.fault import in_transformers
from faults.patching import modeling, wrap, wrap_features

EMBEDDED = "interpolation.other_sizes_are_embedded_right"
EVERY_WAY = "interpolation.other_sizes_by_every_way"
OWN = "interpolation.own_size_is_left_alone"
VISION = ("vision_model",)


@in_transformers(EMBEDDED, EVERY_WAY, diverges_at=VISION)
def positions_are_interpolated_bilinearly(patch: MonkeyPatch) -> None:
    """Position embeddings are interpolated bilinearly."""
    _interpolate(patch, mode="bilinear", align_corners=False)


@in_transformers(EMBEDDED, EVERY_WAY, diverges_at=VISION)
def positions_are_the_nearest(patch: MonkeyPatch) -> None:
    """Each patch takes the position embedding of the nearest place."""
    _interpolate(patch, mode="nearest")


@in_transformers(EMBEDDED, EVERY_WAY, diverges_at=VISION)
def corners_are_aligned(patch: MonkeyPatch) -> None:
    """Position embeddings are interpolated with corners aligned."""
    _interpolate(patch, mode="bicubic", align_corners=True)


@in_transformers(EMBEDDED, EVERY_WAY, diverges_at=VISION)
def positions_are_antialiased(patch: MonkeyPatch) -> None:
    """Position embeddings are interpolated with antialiasing, as images are, where they are made fewer."""
    _interpolate(patch, mode="bicubic", align_corners=False, antialias=True)


@in_transformers(EMBEDDED, EVERY_WAY, diverges_at=VISION)
def rows_and_columns_change_places(patch: MonkeyPatch) -> None:
    """Position embeddings are laid out column by column where images are not square."""

    def positions(original: Any, self: Any, embeddings: Any, height: int, width: int) -> Any:
        return original(self, embeddings, width, height)

    wrap(patch, modeling().CLIPVisionEmbeddings, "interpolate_pos_encoding", positions)


@in_transformers(EMBEDDED, EVERY_WAY, diverges_at=VISION)
def as_many_patches_keep_their_positions(patch: MonkeyPatch) -> None:
    """An image of as many patches as the model's own takes the table as it is, whatever its height and width."""

    def positions(original: Any, self: Any, embeddings: Any, height: int, width: int) -> Any:
        if embeddings.shape[1] == self.num_positions:
            return self.position_embedding(self.position_ids)
        return original(self, embeddings, height, width)

    wrap(patch, modeling().CLIPVisionEmbeddings, "interpolate_pos_encoding", positions)


@in_transformers(EMBEDDED, EVERY_WAY, diverges_at=VISION)
def class_token_is_moved_too(patch: MonkeyPatch) -> None:
    """The class token takes the mean of the interpolated position embeddings."""

    def positions(original: Any, self: Any, embeddings: Any, height: int, width: int) -> Any:
        found = original(self, embeddings, height, width).clone()
        if (height, width) != (self.image_size, self.image_size):
            found[:, 0] = found[:, 1:].mean(dim=1)
        return found

    wrap(patch, modeling().CLIPVisionEmbeddings, "interpolate_pos_encoding", positions)


@in_transformers(EMBEDDED, EVERY_WAY, diverges_at=VISION)
def images_are_scaled_and_not_positions(patch: MonkeyPatch) -> None:
    """With interpolate_pos_encoding images are scaled to the model's own size."""
    from torch.nn.functional import interpolate

    def forward(original: Any, self: Any, pixel_values: Any, interpolate_pos_encoding: Any = False) -> Any:
        if interpolate_pos_encoding and pixel_values.ndim == 4:
            pixel_values = interpolate(pixel_values, size=(self.image_size, self.image_size), mode="bilinear")
        return original(self, pixel_values, interpolate_pos_encoding=interpolate_pos_encoding)

    wrap(patch, modeling().CLIPVisionEmbeddings, "forward", forward)


@in_transformers(OWN)
def positions_of_the_own_size_are_rounded(patch: MonkeyPatch) -> None:
    """With interpolate_pos_encoding the position embeddings pass through bfloat16 even where nothing is to be done."""

    def positions(original: Any, self: Any, embeddings: Any, height: int, width: int) -> Any:
        found = original(self, embeddings, height, width)
        return found.bfloat16().to(found.dtype)

    wrap(patch, modeling().CLIPVisionEmbeddings, "interpolate_pos_encoding", positions)


@in_transformers(EVERY_WAY)
def features_crop_and_do_not_interpolate(patch: MonkeyPatch) -> None:
    """get_image_features crops images to the model's own size where interpolate_pos_encoding is asked for."""

    def features(
        original: Any, self: Any, pixel_values: Any, interpolate_pos_encoding: Any = False, **more: Any
    ) -> Any:
        side = self.config.vision_config.image_size
        if interpolate_pos_encoding:
            pixel_values = pixel_values.repeat(1, 1, 2, 2)[:, :, :side, :side]
        return original(self, pixel_values, interpolate_pos_encoding=interpolate_pos_encoding, **more)

    wrap_features(patch, "get_image_features", features)


def _interpolate(patch: MonkeyPatch, **how: Any) -> None:
    """Interpolate in another way, wherever the size is not the model's own."""
    import torch

    def positions(original: Any, self: Any, embeddings: Any, height: int, width: int) -> Any:
        side = self.image_size // self.patch_size
        rows, columns = height // self.patch_size, width // self.patch_size
        if (rows, columns) == (side, side):
            return original(self, embeddings, height, width)
        table = self.position_embedding.weight
        grid = table[1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        moved = torch.nn.functional.interpolate(grid, size=(rows, columns), **how)
        return torch.cat([table[None, :1], moved.permute(0, 2, 3, 1).reshape(1, rows * columns, -1)], dim=1)

    wrap(patch, modeling().CLIPVisionEmbeddings, "interpolate_pos_encoding", positions)
