"""Carries what the estimator sees of a step into the trainer's log of the same step.

The estimator runs in the trainer's process and returns nothing but advantages; verl's trainers, V1, V0 and their
descendants, then ask ``compute_data_metrics`` for the step's figures, and a wrapper around that function adds
``asymgrpo/...`` to its result. Another, around ``compute_advantage``, sees the log-probabilities that the estimator is
not given. A third, around V1's ``compute_advantage_for_multi_trajectories``, sees which rows are of one rollout. In
both of these the entropy control acts last (`verl_ext.entropy_control`).

The wrappers are put around the functions where they are written, as soon as that module has been imported: so trainers,
and other plugins' wrappers, take ours with them. What was imported before us is wrapped, wherever a module has a
function of that name, at the estimator's first call; wrapping twice counts once.

Nothing here may stop a training: whatever goes wrong is one warning, and the step goes on without these figures.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import Any

from verl_ext import entropy_control
from verl_ext.after_import import after_import

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
    kept_only: bool = False
    """The groups are what `algorithm.filter_groups` has left."""
    unread: int = 0
    installed: bool = False
    warned: set[str] = field(default_factory=set)


state = State()


def install() -> None:
    """Let the estimator tell its figures, and stand around the functions that carry them."""
    from recipe.asymgrpo import advantage

    if note not in advantage.observers:
        advantage.observers.append(note)
        for name, wrapper, modules in wrappers():
            for module in modules:
                after_import(module, partial(_wrap_in, name=name, wrapper=wrapper))


def wrappers() -> tuple[tuple[str, Callable, tuple[str, ...]], ...]:
    """Each function, what stands around it, and where versions of verl have it written."""
    trainer = ("verl.trainer.ppo.ray_trainer", "verl.trainer.ppo.trainer_utils")
    return (
        ("compute_data_metrics", with_group_metrics, ("verl.trainer.ppo.metric_utils",)),
        ("compute_advantage", with_covariance, trainer),
        ("compute_advantage_for_multi_trajectories", with_sessions, ("verl.trainer.ppo.v1.utils",)),
    )


def _wrap_in(module: ModuleType, name: str, wrapper: Callable) -> None:
    original = vars(module).get(name)
    if callable(original) and not hasattr(original, "of_asym_grpo"):
        replace_everywhere(name, original, marked(wrapper(original)))


def marked(wrapper: Callable) -> Callable:
    """With a mark that functools.wraps of other wrappers copies: then ours is inside."""
    wrapper.of_asym_grpo = True  # type: ignore[attr-defined]
    return wrapper


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
        state.kept_only = filters(config)
        limit = response_limit(config)
        if limit:
            state.sums.add(diagnostics.truncation_sums(groups, response_mask, limit))
        state.last = groups, advantages
        state.unread += 1
        if state.unread == UNREAD_CALLS:
            warn("no trainer has asked for them in the last %d steps", UNREAD_CALLS)
    except Exception as error:
        warn("%s: %s", type(error).__name__, error)


def _root(config: Any) -> Any:
    """The configuration that this `config.algorithm` is a part of, if it is; {} else."""
    return (config._get_root() if hasattr(config, "_get_root") else None) or {}


def response_limit(config: Any) -> int | None:
    """The length at which a response is cut off, `data.max_response_length`.

    None where it is not known, or where `rollout.max_model_len` may end a response before: then by how much depends on
    its prompt, which is not seen here.
    """
    root = _root(config)
    data = root.get("data") or {}
    limit, prompt = data.get("max_response_length"), data.get("max_prompt_length")
    rollout = (root.get("actor_rollout_ref") or {}).get("rollout") or {}
    whole = rollout.get("max_model_len")
    if limit and whole and whole < limit + (prompt or 0):
        warn(
            "asymgrpo/truncated_groups is left out, because actor_rollout_ref.rollout.max_model_len=%s is less than "
            "data.max_prompt_length + data.max_response_length = %s",
            *(whole, limit + (prompt or 0)),
        )
        return None
    return int(limit) if limit else None


def filters(config: Any) -> bool:
    """Whether the trainer samples again for groups without a contrast (DAPO), so that those are not seen here."""
    section = _root(config).get("algorithm") or {}
    if not (section.get("filter_groups") or {}).get("enable"):
        return False
    warn(
        "algorithm.filter_groups removes groups before the estimator sees them, so solved shares and pass@k are those "
        "of the groups that were kept, as asymgrpo/kept/...; of what was sampled nothing is known here"
    )
    return True


def wrap_trainers() -> None:
    """Wrap what was imported before us, in every module that has a function of the name."""
    for name, wrapper, modules in wrappers():
        found = False
        for module in list(sys.modules.values()):
            function = getattr(module, "__dict__", {}).get(name)
            if callable(function):
                found = True
                _wrap_in(module, name, wrapper)
        if not found and name != "compute_advantage_for_multi_trajectories":  # V1's only
            warn("%s.%s is not where it was", modules[0], name)


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
            found = entropy_control.take_metrics()
            if sums:
                found |= _named(diagnostics.metrics(sums), state.kept_only)
            if found and not isinstance(result, MutableMapping):
                warn("compute_data_metrics returned %s, not a dict", type(result).__name__)
            elif found:
                result.update(found)
        except Exception as error:
            warn("%s: %s", type(error).__name__, error)
        return result

    return compute_data_metrics


def _named(metrics: dict[str, float], kept_only: bool) -> dict[str, float]:
    """Figures of sampling say so where they are those of the kept groups; those of the advantages are as they are."""
    if not kept_only:
        return metrics
    sampling = ("groups", "none_", "all_", "some_", "group_accuracy", "p_hist/", "pass_at/", "truncated_groups")
    prefix = "asymgrpo/"
    return {
        key.replace(prefix, f"{prefix}kept/") if key.removeprefix(prefix).startswith(sampling) else key: value
        for key, value in metrics.items()
    }


def with_covariance(original: Callable) -> Callable:
    """`compute_advantage` that also notes the covariance of log-probabilities and our advantages, and lets the entropy
    control act."""

    @functools.wraps(original)
    def compute_advantage(*args: Any, **kwargs: Any) -> Any:
        state.last = None
        with entropy_control.outer():  # of another plugin's function of this name, which may be around verl's
            result = original(*args, **kwargs)
        try:
            if state.last is not None:
                from recipe.asymgrpo import diagnostics

                batch = result.batch
                log_probs = batch.get("old_log_probs", batch.get("rollout_log_probs"))  # the latter in bypass mode
                if log_probs is not None:
                    state.sums.add(diagnostics.covariance_sums(*state.last, log_probs, batch["response_mask"]))
                state.last = None
        except Exception as error:
            warn("%s: %s", type(error).__name__, error)
        return entropy_control.act(result, kwargs.get("config"))

    return compute_advantage


def with_sessions(original: Callable) -> Callable:
    """V1's function, with one vote a rollout for our estimator too, as verl has it for its own GRPO; and the entropy
    control, which looks at every token of every output.

    A rollout (session) of an agent loop may have several outputs, rows ``{uid}_{session}_{output}``. Its last one is
    judged, and its advantage is that of all of them.
    """

    @functools.wraps(original)
    def compute_advantage_for_multi_trajectories(
        data: Any, batch_keys: Any, adv_estimator: Any, *args: Any, **kwargs: Any
    ) -> Any:
        with entropy_control.outer():
            found = one_vote_a_session(data, batch_keys, adv_estimator, *args, **kwargs)
        return entropy_control.act(found, kwargs.get("config"), batch_keys)

    def one_vote_a_session(data: Any, batch_keys: Any, adv_estimator: Any, *args: Any, **kwargs: Any) -> Any:
        sessions = [str(key).rpartition("_")[0] for key in batch_keys]
        if adv_estimator != "asym_grpo" or len(set(sessions)) == len(sessions):
            return original(data, batch_keys, adv_estimator, *args, **kwargs)
        last: dict[str, int] = {}
        for row in sorted(range(len(sessions)), key=lambda row: int(str(batch_keys[row]).rpartition("_")[2])):
            last[sessions[row]] = row
        rows = list(last.values())
        judged = original(data.select_idxs(rows), [batch_keys[row] for row in rows], adv_estimator, *args, **kwargs)
        first = judged.batch["response_mask"].argmax(1, keepdim=True)
        place = {session: number for number, session in enumerate(last)}
        of_session = judged.batch["advantages"].gather(1, first)[[place[session] for session in sessions]]
        data.batch["advantages"] = data.batch["returns"] = of_session * data.batch["response_mask"]
        return data

    return compute_advantage_for_multi_trajectories


def warn(reason: str, *args: Any) -> None:
    """Say once in a process that figures are missing, and why."""
    if reason not in state.warned:
        state.warned.add(reason)
        logger.warning("verl-asymgrpo: asymgrpo/... metrics are missing or incomplete: " + reason, *args)
