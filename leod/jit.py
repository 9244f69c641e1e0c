"""Compiling numerical loops with numba."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import numba

logger = logging.getLogger(__name__)

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile ``function`` to machine code that runs without the interpreter lock.

    The machine code is kept on disk between runs. Where no folder for it is writable (a read-only installation
    without a home), the function is compiled anew in every process instead of failing.
    """
    return _compile(function)


def compiled_arithmetic(function: Function) -> Function:
    """As `compiled`, for loops over network activations: the compiler may round a product and a sum together.

    A division by zero gives an infinity, as in numpy, instead of an error.
    """
    return _compile(function, fastmath={"contract", "nsz"}, error_model="numpy")


def _compile(function: Function, **options: Any) -> Function:
    try:
        return numba.njit(function, cache=True, nogil=True, **options)
    except RuntimeError:
        logger.debug("no writable cache for the compiled %s; set NUMBA_CACHE_DIR to keep it", function.__qualname__)
        return numba.njit(function, nogil=True, **options)
