"""The command line ``leod``: one subcommand per stage and tool.

A command is a function: its signature is the command line, its docstring the help (see `leod.cli.commands`). Functions
are imported only when their command runs, so that ``leod --help`` answers at once.
"""

from __future__ import annotations

import gc
import logging
import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from leod import __version__
from leod.cli.docstrings import summary
from leod.errors import LeodError
from leod.study.jobs import STAGES

COMMANDS = {
    "Stages of a study": {stage.replace("_", "-"): f"leod.stages.{stage}:{stage}" for stage in STAGES},
    "Tools": {
        "check-dataset": "leod.stages.check_dataset:check_dataset",
        "import-split": "leod.stages.import_split:import_split",
        "import-weights": "leod.stages.import_weights:import_weights",
        "export-weights": "leod.stages.export_weights:export_weights",
        "refilter": "leod.stages.track_filter:refilter_dataset",
        "visualize": "leod.stages.visualize:visualize",
        "detect": "leod.stages.detect:detect",
        "suggest-frames": "leod.stages.suggest_frames:suggest_frames",
        "export-onnx": "leod.stages.export_onnx:export_onnx",
        "export-dataset": "leod.stages.export_dataset:export_dataset",
        "export-labels": "leod.stages.export_labels:export_labels",
        "export-frames": "leod.stages.export_frames:export_frames",
        "import-labels": "leod.stages.import_labels:import_labels",
        "convert-boxes": "leod.stages.convert_boxes:convert_boxes",
        "suggest-corrections": "leod.stages.suggest_corrections:suggest_corrections",
        "benchmark": "leod.stages.benchmark:benchmark",
        "estimate": "leod.stages.estimate:estimate",
        "pack": "leod.stages.pack:pack",
        "unpack": "leod.stages.unpack:unpack",
        "compare": "leod.stages.compare:compare",
        "schema": "leod.stages.schema:schema",
    },
}
"""Heading of the help → name of a command → module and name of its function."""

_FUNCTIONS = {name: function for commands in COMMANDS.values() for name, function in commands.items()}


class _LazyCommands(TyperGroup):
    """Commands that stand for themselves in the help of the whole; the one that runs is built when it is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Replace the stand-in by the command itself."""
        name, _, rest = super().resolve_command(ctx, args)
        # It brings the configuration, which costs more time than the whole help.
        from leod.cli.commands import build_command

        module, _, function = _FUNCTIONS[str(name)].partition(":")
        # What is imported stays to the end. Looking through it for garbage again and again, and once more at the exit,
        # took a quarter of what a command with a detector costs beside its work.
        gc.disable()
        try:
            command = build_command(getattr(import_module(module), function))
        finally:
            gc.freeze()
            gc.enable()
        return name, command, rest


app = typer.Typer(
    name="leod",
    cls=_LazyCommands,
    help="Label-efficient object detection for event cameras. Each stage of a study is a command; "
    "`snakemake` runs them all in the right order.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _main_options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also log details.")] = False,
) -> None:
    if version:
        typer.echo(f"leod {__version__}")
        raise typer.Exit
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    for noisy in ("numba", "matplotlib", "PIL", "h5py", "fsspec", "torch"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


for _panel, _commands in COMMANDS.items():
    for _name, _target in _commands.items():
        app.command(_name, help=summary(_target), rich_help_panel=_panel)(lambda: None)


def main() -> None:
    """Run the command line; errors that users can mend are printed without a traceback."""
    try:
        app()
    except LeodError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)
