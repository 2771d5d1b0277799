"""The `embed` command. Option parsing only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from clip_eval.cli.option_values import DTYPE_NAMES, a_dtype, a_name, a_place, quiet_option, settings_options
from clip_eval.run.settings import FilesOptions

__all__ = ["embed"]

_LEFT_OUT = 10


@click.command()
@click.argument("checkpoint", callback=a_name)
@settings_options(FilesOptions)
@click.option("--dataset", required=True, callback=a_place, metavar="DIR", help="The dataset to embed.")
@click.option("--out", required=True, callback=a_place, metavar="STORE", help="The store; several runs may share it.")
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="ray needs the extra clip-eval[ray].",
)
@click.option("--address", callback=a_name, metavar="ADDR", help="Of a Ray cluster; by default this machine.")
@click.option(
    "--device",
    callback=a_name,
    default="cpu",
    show_default=True,
    metavar="DEVICE",
    help="A torch device, such as cuda:0; with Ray cuda, a GPU for each worker.",
)
@click.option("--dtype", callback=a_dtype, metavar=DTYPE_NAMES, help="Default: the stored dtype.")
@click.option("--attn", "attention", callback=a_name, metavar="NAME", help="Default: transformers' choice.")
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Threads that decode, by default one a core; with Ray, processes that embed.",
)
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True, help="Images in a batch.")
@quiet_option
def embed(checkpoint: str, dataset: Path, out: Path, quiet: bool, **named: Any) -> int:
    """Embed a dataset into a store.

    Computes what the store does not have: images, captions, and prompts of classes. A run that was killed goes on where
    it was. Exit code 10 says that something has no embedding, such as a damaged image.

    Example: clip-eval embed my-clip --dataset my-images --out embeddings
    """
    from clip_eval.embedding.engines import fill
    from clip_eval.embedding.fill import EmbedOptions

    tally = fill(EmbedOptions(model=checkpoint, dataset=dataset, out=out, **named), quiet=quiet)
    click.echo("\n".join([*tally.lines, f"store: {out}"]))
    return _LEFT_OUT if tally.left_out else 0
