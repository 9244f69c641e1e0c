"""Help from Google docstrings."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_SECTION = re.compile(r"^(Args|Returns|Yields|Raises):\n", re.MULTILINE)
_ARGUMENT = re.compile(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", re.MULTILINE)


def summary(target: str) -> str:
    """First line of a function's docstring, read from its source: importing all stages would take seconds.

    Args:
        target: ``module:function``.
    """
    module, _, name = target.partition(":")
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(module)
    tree = ast.parse(Path(spec.origin).read_bytes())
    (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    return _plain((ast.get_docstring(function) or "").split("\n\n")[0])


def description(function: Callable[..., Any]) -> str:
    """What a docstring says before its sections."""
    return "\n\n".join(_plain(paragraph) for paragraph in _sections(function)[0].strip().split("\n\n"))


def argument_help(function: Callable[..., Any]) -> dict[str, str]:
    """Name of each parameter → what the docstring says about it."""
    sections = _sections(function)
    arguments = dict(zip(sections[1::2], sections[2::2], strict=True)).get("Args", "")
    return {name: _plain(text) for name, text in _ARGUMENT.findall(arguments)}


def _sections(function: Callable[..., Any]) -> list[str]:
    """What stands before the first section, then name and text of each."""
    return _SECTION.split(inspect.getdoc(function) or "")


def _plain(text: str) -> str:
    """Text for a terminal on one line, with brackets that rich takes as they are."""
    return re.sub(r"\s+", " ", text).replace("``", "`").replace("[", r"\[")
