"""Registration in verl's name -> function tables that may be repeated, and never displaces a stranger.

verl's own `register_adv_est` raises when the same module was imported under two paths, and `register_policy_loss`
overwrites silently; neither is what a plugin loaded in every process wants.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, MutableMapping
from typing import Any


class RegistrationError(RuntimeError):
    """Another function already has the name."""


def register(table: MutableMapping[str, Any], name: str, function: Callable, *, setting: str) -> None:
    """Puts `function` into `table` under `name`; a second time, also from a second import of its file, changes nothing.

    Args:
        table: `ADV_ESTIMATOR_REGISTRY` or `POLICY_LOSS_REGISTRY` of `verl.trainer.ppo.core_algos`.
        setting: the override that selects from this table, for the error message.

    Raises:
        RegistrationError: a different function has the name; the message says which, and where it comes from.
    """
    present = table.setdefault(name, function)
    if present is not function and _origin(present) != _origin(function):
        raise RegistrationError(
            f"{setting}={name}: the name is taken by {_describe(present)}, so {_describe(function)} "
            "was not registered. Remove or rename one of them."
        )


def _origin(function: Any) -> object:
    """Where a function was written: equal for two imports of one file, different for any two functions."""
    function = inspect.unwrap(function)
    code = getattr(function, "__code__", None)
    if code is None:  # a callable object or a partial: only itself
        return id(function)
    return os.path.realpath(code.co_filename), function.__qualname__


def _describe(function: Any) -> str:
    function = inspect.unwrap(function)
    code = getattr(function, "__code__", None)
    if code is None:
        return f"{function!r} ({type(function).__module__}.{type(function).__qualname__})"
    return f"{function.__module__}.{function.__qualname__} ({code.co_filename})"
