"""From the measured entropy to an action: levels, the error, and how much each way moves. Plain numbers only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from recipe.asymgrpo.entropy_control.config import WAYS, EntropyControlConfig

MOST_BONUS = 0.5  # max_ent_coef of Skywork-OR1's configuration
FIRST_ZETA, LEAST_ZETA, MOST_ZETA = 1e-3, 1e-4, 0.05
KI_OF_KP = 0.01  # EntroPIC's integral gain, as a share of the proportional one


@dataclass(frozen=True)
class State:
    """What a controller knows of the steps before; all that a checkpoint needs.

    Args:
        reference: entropy of the first step that had one, in nats a token; None before.
        memory: the way's own: coefficient of `bonus`, zeta of `repo`, the integral of `weights` in nats.
    """

    reference: float | None = None
    memory: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Levels(NamedTuple):
    """Floor and ceiling of one step in nats a token; None where there is none."""

    floor: float | None
    ceiling: float | None

    def error(self, entropy: float) -> float:
        """Nats from the entropy to the level that it has crossed: above 0 under the floor, below 0 over the ceiling."""
        if self.floor is not None and entropy < self.floor:
            return self.floor - entropy
        if self.ceiling is not None and entropy > self.ceiling:
            return self.ceiling - entropy
        return 0.0


@dataclass(frozen=True)
class Action:
    """What is done to this step's advantages, in the unit of the way; above 0 raises the entropy, 0 does nothing.

    Args:
        value: coefficient in advantage units per nat (`successes`, `failures`, `both`, `bonus`), zeta (`repo`), weight
            (`weights`), or 1 or -1 (`filter`).
        saturated: it is at the bound of what the way can do.
    """

    value: float
    saturated: bool


def levels(config: EntropyControlConfig, reference: float, progress: float) -> Levels:
    """The levels in nats.

    Args:
        reference: the first step's entropy, in nats a token.
        progress: of the run, from 0 at its first step to 1 at its last.
    """

    def at(level: str) -> float | None:
        start, end = getattr(config, level), config.last(level)
        if start is None or end is None:
            return None
        return (start + (end - start) * progress) * (reference if config.unit == "share" else 1.0)

    return Levels(at("floor"), at("ceiling"))


def act(config: EntropyControlConfig, entropy: float, target: Levels, state: State) -> tuple[Action, State]:
    """One step of the controller.

    Args:
        entropy: of the policy that sampled, in nats a token, over the batch.
        target: this step's levels.
        state: after the step before.
    """
    action, memory = _RULES[config.way](config, entropy, target, state.memory)
    return action, replace(state, memory=memory)


def _proportional(config: EntropyControlConfig, entropy: float, target: Levels, memory: float) -> tuple[Action, float]:
    """`gain` times the error as a share of the level, so at most `gain`; it remembers nothing, so nothing winds up."""
    error = target.error(entropy)
    level = target.floor if error > 0 else target.ceiling
    share = max(error / level, -1.0) if error and level else 0.0  # a floor is undercut by at most all of it
    return Action(config.own_gain * share, abs(share) == 1), memory


def _bonus(config: EntropyControlConfig, entropy: float, target: Levels, memory: float) -> tuple[Action, float]:
    """The coefficient of an entropy bonus goes up by `gain` in every step under the floor and down by it in others.

    In [0, 0.5] from 0, and given only under the floor (Skywork-OR1, arXiv 2505.22312, `EntController` of its code;
    TRL's `use_adaptive_entropy` is the same with a bound of 1). Theirs answer in the next step, this in the same one.
    Over a ceiling, which they do not have, the mirror of it: a bonus below 0.
    """
    error, gain = target.error(entropy), config.own_gain
    if error:
        moved = max(memory, 0.0) + gain if error > 0 else min(memory, 0.0) - gain
    else:
        moved = max(memory - gain, 0.0) if memory > 0 else min(memory + gain, 0.0)
    coefficient = min(max(moved, -MOST_BONUS), MOST_BONUS)
    return Action(coefficient if error else 0.0, bool(error) and abs(coefficient) == MOST_BONUS), coefficient


def _repo(config: EntropyControlConfig, entropy: float, target: Levels, memory: float) -> tuple[Action, float]:
    """zeta is multiplied by `gain` (2) under the floor and divided by it over the ceiling (REPO-R, arXiv 2603.11682).

    |zeta| stays in [1e-4, 0.05]; at its least it changes its sign, so the other direction begins small. The authors'
    code is not public: bounds and first value are those of SkyRL's pull request #1896, which cites the paper. Between
    floor and ceiling, which they do not have, nothing is done and zeta goes to its least.
    """
    error, factor = target.error(entropy), config.own_gain
    sign = 1.0 if error > 0 else -1.0 if error < 0 else 1.0 if memory >= 0 else -1.0
    if not memory:
        zeta = sign * FIRST_ZETA if error else 0.0
    elif error and memory * sign > 0:
        zeta = sign * min(abs(memory) * factor, MOST_ZETA)
    elif abs(memory) / factor >= LEAST_ZETA:
        zeta = memory / factor
    else:
        zeta = sign * LEAST_ZETA
    return Action(zeta if error else 0.0, bool(error) and abs(zeta) == MOST_ZETA), zeta


def _weights(config: EntropyControlConfig, entropy: float, target: Levels, memory: float) -> tuple[Action, float]:
    """A PI controller, clipped to [-1, 1]: Kp e + Ki times the sum of the e before (EntroPIC, arXiv 2511.15248).

    Its code moves once a micro-batch and rank; here once a step. The sum is kept within what the clip can use, and
    between a floor and a ceiling it goes back to 0 (ours: the authors have one target and no bound).
    """
    error, kp = target.error(entropy), config.own_gain
    ki = KI_OF_KP * kp
    if not error:
        nearest = target.floor if memory > 0 else target.ceiling
        distance = abs(entropy - nearest) if nearest is not None else abs(memory)
        return Action(0.0, False), max(memory - distance, 0.0) if memory > 0 else min(memory + distance, 0.0)
    value = kp * error + ki * memory
    bound = 1 / ki if ki else 0.0
    return Action(min(max(value, -1.0), 1.0), abs(value) >= 1), min(max(memory + error, -bound), bound)


def _filter(config: EntropyControlConfig, entropy: float, target: Levels, memory: float) -> tuple[Action, float]:
    """Under the floor successes are left out, over the ceiling failures (Entrocraft, arXiv 2604.26326, Algorithm 1)."""
    error = target.error(entropy)
    value = float((error > 0) - (error < 0))
    return Action(value, value != 0), memory


_RULES: dict[str, Callable[..., tuple[Action, float]]] = {
    **{name: _proportional for name, way in WAYS.items() if way.channels},
    "bonus": _bonus,
    "repo": _repo,
    "weights": _weights,
    "filter": _filter,
}
