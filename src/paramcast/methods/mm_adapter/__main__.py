"""`python -m paramcast.methods.mm_adapter`: the benchmark of the Multi-Modal Adapter."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import click
import torch
from tqdm import tqdm

from paramcast import __version__
from paramcast.data.collection import Collection
from paramcast.errors import ParamcastError
from paramcast.files import write_json
from paramcast.methods.mm_adapter.baselines import METHODS
from paramcast.methods.mm_adapter.benchmark import SHOTS, measure
from paramcast.methods.mm_adapter.embedding import embed_task
from paramcast.training.model import TrainedModel


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--model", required=True, type=click.Path(path_type=Path), help="A model trained for retrieval."
)
@click.option("--data", required=True, type=click.Path(path_type=Path), help="A collection.")
@click.option(
    "--label", default="category", show_default=True, help="What is classified: category, equipment, ..."
)
@click.option("--shots", multiple=True, type=click.IntRange(1), default=SHOTS, show_default=True)
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="Draws of the shots.")
@click.option(
    "--split",
    default="ceil",
    show_default=True,
    type=click.Choice(["ceil", "floor"]),
    help="How half of the classes is rounded to base classes.",
)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures."
)
def command(
    model: Path,
    data: Path,
    label: str,
    shots: tuple[int, ...],
    seeds: int,
    split: str,
    json_file: Path | None,
) -> None:
    """Few-shot accuracy on base and new classes, against zero-shot, probes and other adapters."""
    torch.set_num_threads(1)
    task = embed_task(TrainedModel.load(model), Collection.open(data), label)
    with tqdm(total=len(shots) * seeds * len(METHODS), unit="fit", disable=None) as bar:
        rows = measure(task, shots, seeds, "floor" if split == "floor" else "ceil", bar.update)
    for row in rows:
        figures = "  ".join(
            f"{key} {'-' if row[key] is None else format(row[key], '.2f'):>6}"
            for key in ("base", "new", "harmonic")
        )
        click.echo(f"{row['shots']:3} shots  {row['method']:34}  {figures}")
    if json_file:
        typed = f"python -m paramcast.methods.mm_adapter --model MODEL --data {data.name} --label {label}"
        typed += "".join(f" --shots {count}" for count in shots) + f" --seeds {seeds} --split {split}"
        machine = {
            "cpu": platform.machine(),
            "system": platform.system(),
            "python": platform.python_version(),
        }
        about = {"command": typed, "version": __version__, "seed": list(range(seeds)), "machine": machine}
        sizes = {"classes": list(task.names), "pool": len(task.pool), "test": len(task.test)}
        write_json(json_file, {**about, **sizes, "rows": rows})


def main() -> None:
    """Run the command; what the user can mend is one line, without a traceback."""
    try:
        command()
    except ParamcastError as error:
        click.echo(f"mm_adapter: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
