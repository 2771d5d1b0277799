"""The `bench` command. Option parsing only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from clip_eval.cli.option_values import DTYPE_NAMES, a_dtype, a_name, a_place, quiet_option, settings_options
from clip_eval.run.settings import DEFAULT_OUT, VariantOptions
from clip_eval.user_values import require_utf8

__all__ = ["bench"]


@click.command()
@click.argument("checkpoint", callback=a_name)
@settings_options(VariantOptions)
@click.option("--against", callback=a_name, metavar="CHECKPOINT", help="Time it in turns with another checkpoint.")
@click.option(
    "--against-python", callback=a_name, metavar="EXE", help="The other side runs under this Python; by default itself."
)
@click.option(
    "--device",
    "devices",
    callback=a_name,
    multiple=True,
    default=("cpu",),
    metavar="DEVICE",
    help="A torch device, such as cuda:0; of several the first is measured, then all at once.  [default: cpu]",
)
@click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    callback=a_dtype,
    metavar=DTYPE_NAMES,
    help="Default: the stored dtype and bfloat16.",
)
@click.option(
    "--attn",
    "attentions",
    callback=a_name,
    multiple=True,
    metavar="NAME",
    help="Default: transformers' choice and eager.",
)
@click.option("--compile", "compiled", is_flag=True, help="Try torch.compile on what is fastest without it.")
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Threads of torch. With more of them, other processes disturb timings more.",
)
@click.option("--most-rows", type=click.IntRange(1), help="Try no larger batch.")
@click.option("--out", callback=a_place, metavar="DIR", help="Where the reports go.  [default: reports/latest]")
@quiet_option
def bench(
    checkpoint: str, dtypes: tuple[str, ...], attentions: tuple[str, ...], out: Path | None, quiet: bool, **named: Any
) -> None:
    """Measure how fast a checkpoint is, and say what to run.

    Tries dtypes, attentions, batch sizes and text lengths, each in turns with the same forward in plain torch.
    Options that name several are given several times. Writes bench.json, bench.md and bench.html.

    Example: clip-eval bench my-clip --dtype bfloat16 --out reports/speed
    """
    from clip_eval.checkpoint.checkpoint import open_checkpoint
    from clip_eval.files.folder_lock import clear, owned
    from clip_eval.files.read_write import writable_directory

    where = writable_directory(out or DEFAULT_OUT)
    require_utf8((checkpoint, named["against"]))
    open_checkpoint(checkpoint, variant=named["variant"])  # before torch is loaded, which takes seconds
    if named["against"] is not None:
        open_checkpoint(named["against"])

    from clip_eval.throughput.bench import Options, run_bench, write_bench
    from clip_eval.throughput.bench.markdown import terminal
    from clip_eval.throughput.bench.write import FILES

    options = Options(model=checkpoint, dtypes=dtypes, attentions=attentions, **named)
    with owned(where):
        clear(where, FILES)
        results = run_bench(options, say=lambda line: None if quiet else click.echo(line, err=True))
        click.echo("\n".join(terminal(results)))  # before the files, so that it is shown even if they cannot be written
        write_bench(results, where)
    click.echo(f"reports: {where / 'bench.html'}")
