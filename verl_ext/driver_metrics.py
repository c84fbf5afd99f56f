"""Carries what the estimator sees of a step into the trainer's log of the same step.

The estimator runs in the trainer's process and returns nothing but advantages; verl's trainers, V1, V0 and their
descendants, then ask ``compute_data_metrics`` for the step's figures. So the estimator's first call puts a wrapper
around that function, in whatever trainer has imported it, and the wrapper adds ``asymgrpo/...`` to its result. A
second wrapper, around ``compute_advantage``, sees the log-probabilities that the estimator is not given; the call that
installs it is already inside the original, so covariances start with the second step of a process.

Nothing here may stop a training: whatever goes wrong is one warning, and the step goes on without these figures.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger(f"verl.{__name__}")

UNREAD_CALLS = 100
"""Calls of the estimator without anybody asking for the figures, after which a warning is due."""


@dataclass
class State:
    """What is carried from the estimator to the log; the only state of this module."""

    sums: Any = None
    """Of the calls since the last log: `recipe.asymgrpo.diagnostics.Sums`, or None before the first."""
    last: tuple | None = None
    """Groups and advantages of the last call, for the covariance."""
    unread: int = 0
    installed: bool = False
    warned: bool = False


state = State()


def install() -> None:
    """Let the estimator tell its figures; the wrappers follow with its first call."""
    from recipe.asymgrpo import advantage

    if note not in advantage.observers:
        advantage.observers.append(note)


def note(groups: Any, advantages: Any, response_mask: Any, config: Any) -> None:
    """The estimator's observer: keeps the figures of one call (see `recipe.asymgrpo.advantage.observers`)."""
    try:
        from recipe.asymgrpo import diagnostics

        if not state.installed:
            state.installed = True
            wrap_trainers()
        if state.sums is None:
            state.sums = diagnostics.Sums()
        state.sums.add(diagnostics.group_sums(groups, advantages, len(response_mask)))
        limit = response_limit(config)
        if limit:
            state.sums.add(diagnostics.truncation_sums(groups, response_mask, limit))
        state.last = groups, advantages
        state.unread += 1
        if state.unread == UNREAD_CALLS:
            warn("no trainer has asked for them in the last %d steps", UNREAD_CALLS)
    except Exception as error:
        warn("%s: %s", type(error).__name__, error)


def response_limit(config: Any) -> int | None:
    """`data.max_response_length` of the configuration that this `config.algorithm` is a part of, if it is."""
    root = config._get_root() if hasattr(config, "_get_root") else None
    data = root.get("data") if root is not None else None
    limit = data.get("max_response_length") if data else None
    return int(limit) if limit else None


def wrap_trainers() -> None:
    """Wrap the two functions wherever a module of this process has them by name."""
    for module, name, wrapper in (
        ("verl.trainer.ppo.metric_utils", "compute_data_metrics", with_group_metrics),
        ("verl.trainer.ppo.ray_trainer", "compute_advantage", with_covariance),
    ):
        original = getattr(sys.modules.get(module), name, None)
        if callable(original):
            replace_everywhere(name, original, wrapper(original))
        else:
            warn("%s.%s is not where it was", module, name)


def replace_everywhere(name: str, original: Callable, replacement: Callable) -> None:
    """Replace a function in every module that holds it under its own name, as trainers import it by name."""
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", {})
        if names.get(name) is original:
            names[name] = replacement


def with_group_metrics(original: Callable) -> Callable:
    """`compute_data_metrics` that adds the figures noted since it was last called."""

    @functools.wraps(original)
    def compute_data_metrics(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        try:
            from recipe.asymgrpo import diagnostics

            sums, state.sums, state.last, state.unread = state.sums, None, None, 0
            if sums and not isinstance(result, MutableMapping):
                warn("compute_data_metrics returned %s, not a dict", type(result).__name__)
            elif sums:
                result.update(diagnostics.metrics(sums))
        except Exception as error:
            warn("%s: %s", type(error).__name__, error)
        return result

    return compute_data_metrics


def with_covariance(original: Callable) -> Callable:
    """`compute_advantage` that also notes the covariance of log-probabilities and our advantages."""

    @functools.wraps(original)
    def compute_advantage(*args: Any, **kwargs: Any) -> Any:
        state.last = None
        result = original(*args, **kwargs)
        try:
            if state.last is not None:
                from recipe.asymgrpo import diagnostics

                batch = result.batch
                log_probs = batch.get("old_log_probs", batch.get("rollout_log_probs"))  # the latter in bypass mode
                if log_probs is not None:
                    state.sums.add(diagnostics.covariance_sums(*state.last, log_probs, batch["response_mask"]))
        except Exception as error:
            warn("%s: %s", type(error).__name__, error)
        return result

    return compute_advantage


def warn(reason: str, *args: Any) -> None:
    """Say once in a process that figures are missing, and why."""
    if not state.warned:
        state.warned = True
        logger.warning("verl-asymgrpo: asymgrpo/... metrics are missing or incomplete: " + reason, *args)
