"""Lets the entropy control act on the advantages of verl's trainers, whichever estimator made them.

It stands where `driver_metrics` stands, around ``compute_advantage`` (legacy trainer and its descendants) and V1's
``compute_advantage_for_multi_trajectories``, after everything else that makes an advantage. A step is one call of the
outer of these. The trainer that calls is looked up in the calling functions, for what the functions are not given: the
step, the length of the run, and the folder of its checkpoints, where the controller's state goes with them.

Unlike the figures of `driver_metrics`, a control that cannot act ends the run: it would not be the run that was asked
for.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from verl_ext import entropy_state
from verl_ext.callers import attribute, frames, keys_of, objects, transfer_queue

logger = logging.getLogger(f"verl.{__name__}")

FADE = "fade_dynamic"  # the preset that asks for the entropy itself; it remembers the first step's only


@dataclass
class Run:
    """The control of one training; the only state of this module."""

    trainer: Any = None
    state: Any = None
    """`recipe.asymgrpo.entropy_control.State`, or None before the first step."""
    inside: int = 0
    """How many functions of ours are running that are around another one of ours: only the outer one acts."""
    version: Any = None
    """Of the policy that sampled: asynchronous trainers call several times for one."""
    before: Any = None
    """The state before that version's first call."""
    calls: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    """Means over the calls of the last version, until they are logged."""
    exact: bool | None = None
    """Whether entropies are the trainer's own; decided in the first step, for levels are shares of its figure."""
    said: set[str] = field(default_factory=set)


run = Run()


@contextlib.contextmanager
def outer() -> Iterator[None]:
    """While a function of ours runs that is around another one: that one does not act."""
    run.inside += 1
    try:
        yield
    finally:
        run.inside -= 1


def act(data: Any, algorithm: Any = None, keys: Sequence[str] | None = None) -> Any:
    """Control the advantages in `data`, where the run asks for it and no function of ours is around.

    Args:
        data: verl's DataProto, with `advantages`, `response_mask` and `old_log_probs` (or `rollout_log_probs`).
        algorithm: verl's `config.algorithm`; that of the calling trainer where it is None.
        keys: of the rows in V1's TransferQueue.

    Returns:
        `data`, with new advantages where the control acted; its returns, from which a critic learns, stay.

    Raises:
        recipe.asymgrpo.config.ConfigError: a knob is impossible, there are no log-probabilities, or levels fall in a
            run of unknown length.
    """
    if run.inside or not hasattr(data, "batch"):  # the latter of a stranger's function that has the name
        return data
    from recipe.asymgrpo.config import ConfigError
    from recipe.asymgrpo.entropy_control import PATH, EntropyControlConfig, control

    if algorithm is None:
        algorithm = getattr(getattr(_calling_trainer(), "config", None), "algorithm", None)
    config = EntropyControlConfig.from_algorithm(algorithm)
    if config is None:
        return data
    trainer = _calling_trainer()
    _start(trainer, config.way, config)
    batch = data.batch
    log_probs = batch.get("old_log_probs", batch.get("rollout_log_probs"))
    if log_probs is None:
        raise ConfigError(
            f"{PATH} needs the batch's old_log_probs, and this trainer has none when advantages are made."
        )
    entropies = None if keys is None or _bypasses(algorithm) else _entropies(keys, log_probs.shape)
    if entropies is None and run.exact:
        raise ConfigError(
            f"{PATH}: the checkpoint's levels are of V1's per-token entropy, and here is only an estimate of it "
            "(another trainer, or bypass mode), which is another measure. Resume as it was started, or remove the "
            f"checkpoint's {entropy_state.STATE_FILE}: then the control starts anew."
        )
    run.exact = entropies is not None
    _say(config, exact=run.exact)
    progress = _progress(config, trainer)
    before = _before(trainer)
    found = control(
        config, before, progress, batch["advantages"], log_probs, batch["response_mask"], entropies=entropies
    )
    if not found.metrics:
        _warn_once("no token of this batch has a finite entropy, so nothing was controlled", "no entropy")
    run.state = found.state
    _note(found.metrics)
    if _frozen(trainer):
        run.state = replace(run.state, memory=before.memory)
    if found.advantages is not batch["advantages"]:
        batch["advantages"] = found.advantages
    return data


def _before(trainer: Any) -> Any:
    """The state that a call starts from: that before the first call for the policy that sampled, for until it changes
    nothing answers to an action, and what a way remembers moves once."""
    version = getattr(trainer, "current_param_version", None)
    version = getattr(trainer, "global_steps", None) if version is None else version
    if version is None or version != run.version:
        run.version, run.before, run.calls, run.metrics = version, run.state, 0, {}
    return replace(run.before, reference=run.state.reference)


def _note(metrics: dict[str, float]) -> None:
    run.calls += 1
    for name, value in metrics.items():
        mean = run.metrics.get(name, value)
        run.metrics[name] = mean + (value - mean) / run.calls


def of_caller(rows: int) -> tuple[float, float] | None:
    """The entropy of the batch for which an estimator is called, and that of the run's first, in nats a token.

    None where no calling function has such a batch, or it has no token with a finite one.

    Args:
        rows: how many the estimator was given.
    """
    from recipe.asymgrpo.entropy_control import PREFIX, mean_entropy

    data, keys = _calling_batch(rows)
    if data is None:
        return None
    trainer = _calling_trainer()
    log_probs = data.get("old_log_probs", data.get("rollout_log_probs"))
    bypasses = trainer is not None and _bypasses(trainer.config.algorithm)
    _start(trainer, FADE)
    entropies = None if keys is None or bypasses else _entropies(keys, log_probs.shape)
    entropy = mean_entropy(log_probs, data["response_mask"].bool(), entropies)
    if entropy is None:
        return None
    if run.state.reference is None:
        run.state = replace(run.state, reference=entropy)
    run.metrics = {f"{PREFIX}entropy": entropy}
    return entropy, run.state.reference


def _calling_batch(rows: int) -> tuple[Any, Sequence[str] | None]:
    """The tensors of verl's batch with log-probabilities of so many rows, and their keys in V1's TransferQueue."""
    batch: Any = None
    for frame in frames():
        for holder in objects(frame):
            tensors: Any = attribute(holder, "batch") if attribute(holder, "non_tensor_batch") is not None else None
            known = tensors is not None and ("old_log_probs" in tensors or "rollout_log_probs" in tensors)
            if batch is None and known and len(tensors) == rows:
                batch = tensors
        keys = keys_of(frame, rows)
        if keys is not None:
            return batch, keys
    return batch, None


def take_metrics() -> dict[str, float]:
    """The figures of the last step, once."""
    found, run.metrics, run.calls = run.metrics, {}, 0
    return found


def _calling_trainer() -> Any:
    """The object in the calling functions that has verl's whole configuration and counts its steps; None without."""
    for frame in frames():
        for holder in objects(frame):
            if hasattr(holder, "__dict__") and "global_steps" in vars(holder):
                config = vars(holder).get("config")
                if type(config).__module__.split(".")[0] == "omegaconf" and "algorithm" in config:
                    return holder
    return None


def _start(trainer: Any, way: str, config: Any = None) -> None:
    """At the first step of a trainer in this process: its state so far, and that checkpoints keep it; and what its
    launcher has refused, where it asks us."""
    from recipe.asymgrpo.entropy_control import State

    global run
    if run.state is None or run.trainer is not trainer:
        run = Run(trainer, State(), run.inside)
        if trainer is not None:
            if config is not None:
                from verl_ext.early_check import check_entropy_control

                check_entropy_control(config, trainer.config)
            loaded = entropy_state.load(trainer, way, _warn_once)
            if loaded is not None:
                run.state, run.exact = loaded
            save = getattr(trainer, "_save_checkpoint", None)
            if save is None:
                _warn_once("this trainer has no _save_checkpoint: after a resume the control starts anew", "no save")
            else:
                trainer._save_checkpoint = entropy_state.saving(trainer, save, way, run)


def _progress(config: Any, trainer: Any) -> float:
    """From 0 at the first step to 1 at the last."""
    if not config.falls:
        return 0.0
    from recipe.asymgrpo.config import ConfigError
    from recipe.asymgrpo.entropy_control import PATH

    total = getattr(trainer, "total_training_steps", None)
    if not total:  # fully_async_policy's trainer counts versions of the parameters, each of several steps
        versions = getattr(trainer, "total_train_steps", None)
        total = versions and versions * getattr(trainer, "trigger_parameter_sync_step", 1)
    if not total:
        raise ConfigError(
            f"{PATH}: the levels fall over the run, and this trainer does not say how many steps it has. Leave "
            "final_floor and final_ceiling null."
        )
    return min(max((trainer.global_steps - 1) / max(total - 1, 1), 0.0), 1.0)


def _frozen(trainer: Any) -> bool:
    """Whether the policy is not updated in this step, because the critic warms up: then nothing answers to a way."""
    settings = trainer.config.trainer if trainer is not None else {}
    return bool(settings) and trainer.global_steps < (settings.get("critic_warmup") or 0)


def _bypasses(algorithm: Any) -> bool:
    """Whether V1 takes the sampler's log-probabilities and so computes no entropy."""
    return bool(((algorithm or {}).get("rollout_correction") or {}).get("bypass_mode"))


def _entropies(keys: Sequence[str], shape: Sequence[int]) -> Any:
    """(B, T) per-token entropies that V1 keeps beside the log-probabilities; None where it keeps none.

    Raises:
        Exception: TransferQueue's own, where the steps before had them: another measure would be another level.
    """
    from torch.nn.functional import pad

    if run.exact is False:
        return None
    try:
        entropies = transfer_queue(keys, "entropy").to_padded_tensor()["entropy"]
    except Exception as error:  # TransferQueue's own, for a field that no row has
        if run.exact:
            raise
        run.exact = False
        _warn_once(f"V1's per-token entropy cannot be read ({type(error).__name__}: {error})", "no field")
        return None
    run.exact = True
    return pad(entropies, (0, shape[1] - entropies.shape[1]))  # these rows' longest may be shorter than the batch's


def _say(config: Any, exact: bool) -> None:
    if "start" not in run.said:
        run.said.add("start")
        source = "the trainer's per-token entropy" if exact else "minus the mean log-probability of the sampled tokens"
        print(f"verl-asymgrpo: entropy control, {config.summary}; entropy is {source}.", flush=True)


def _warn_once(message: str, key: str) -> None:
    if key not in run.said:
        run.said.add(key)
        logger.warning("verl-asymgrpo: entropy control: %s", message)
