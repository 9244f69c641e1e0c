"""The `box_weighting` setting: how much a box counts in the loss, as a function of its scores."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable

from torch import Tensor

from leod.errors import ConfigError

_SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "obj": lambda objectness, class_confidence: objectness,
    "cls": lambda objectness, class_confidence: class_confidence,
    "objxcls": operator.mul,
}
_BINARY: dict[type[ast.operator], Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_UNARY: dict[type[ast.unaryop], Callable] = {ast.UAdd: operator.pos, ast.USub: operator.neg}

Weighting = Callable[[Tensor, Tensor], Tensor]
"""Maps objectness and class confidence to weights of the same shape."""


def parse_weighting(setting: str) -> Weighting:
    """Compile the setting into a function; nothing but arithmetic on w is understood.

    Args:
        setting: `obj`, `cls` or `objxcls` (the score w), optionally followed by `-` and an expression in w made of
            numbers, + - * / ** and brackets, such as `cls-w**2`.

    Raises:
        ConfigError: The setting is not of this form.
    """
    name, dash, expression = setting.partition("-")
    if name not in _SCORES:
        raise ConfigError(f"box_weighting {setting!r}: {name!r} is no score. Allowed are {', '.join(_SCORES)}.")
    score = _SCORES[name]
    if not dash:
        return score
    problem = ConfigError(
        f"box_weighting {setting!r}: {expression!r} is no arithmetic expression in w. Allowed are w, numbers, "
        "+ - * / ** and brackets, for example cls-w**2."
    )
    try:
        tree = ast.parse(expression, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise problem from None
    _check(tree, problem)
    return lambda objectness, class_confidence: _evaluate(tree, score(objectness, class_confidence))


def _check(node: ast.expr, problem: ConfigError) -> None:
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        _check(node.left, problem)
        _check(node.right, problem)
    elif isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        _check(node.operand, problem)
    elif not (
        (isinstance(node, ast.Name) and node.id == "w")
        or (isinstance(node, ast.Constant) and type(node.value) in (int, float))
    ):
        raise problem


def _evaluate(node: ast.expr, score: Tensor) -> Tensor:
    match node:
        case ast.BinOp():
            return _BINARY[type(node.op)](_evaluate(node.left, score), _evaluate(node.right, score))
        case ast.UnaryOp():
            return _UNARY[type(node.op)](_evaluate(node.operand, score))
        case ast.Constant():
            # As a tensor: Python's own integers would let 9**9**9 run for ever.
            return score.new_full((), float(node.value))
        case _:
            return score
