"""What the signature of a stage cannot say by itself about its command line (see `leod.cli.commands`).

A parameter is an option of its own name. The classes here go into `Annotated` where that is not enough.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Argument:
    """The value is given without a name."""


@dataclass(frozen=True)
class Names:
    """Names of the option, where they are not the parameter's.

    Attributes:
        names: As typer takes them: ``--name``, several of them, or ``--yes/--no`` for a switch.
    """

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)


@dataclass(frozen=True)
class FromOptions:
    """The value is made of other options.

    Attributes:
        make: Makes the value; its parameters are the options, its docstring is their help.
    """

    make: Callable[..., Any]


@dataclass(frozen=True)
class FromStudy:
    """The value comes out of the study if it is not given.

    Attributes:
        pick: Takes the study; its further parameters are the command's own of the same name, or options besides.
    """

    pick: Callable[..., Any]
