"""What the study runs: methods, tasks, and groups of experiments, as data.

A method is what a user of verl types: Hydra overrides. Everything else of a training is the quickstart's.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

FORMAT = 2  # raise it when a change of an engine changes results: everything is then run anew
GRPO = "algorithm.asym_grpo.preset=grpo"
LOSS = "actor_rollout_ref.actor.policy_loss"

METHODS: dict[str, tuple[str, ...]] = {
    "asymgrpo": ("+asymgrpo=paper",),
    "grpo": ("+asymgrpo=grpo",),
    "reinforce": ("+asymgrpo=reinforce",),
    "pos_only": ("+asymgrpo=pos_only",),
    "neg_only": ("+asymgrpo=neg_only",),
    "ent_decrease": ("+asymgrpo=ent_decrease",),
    "ent_increase": ("+asymgrpo=ent_increase",),
    "asymgrpo_clip_higher": ("+asymgrpo=clip_higher",),
    "grpo_clip_higher": ("+asymgrpo=clip_higher", GRPO),
    "grpo_entropy_bonus": ("+asymgrpo=entropy_bonus", GRPO),
    "grpo_entropy_bonus_10": ("+asymgrpo=entropy_bonus", GRPO, "actor_rollout_ref.actor.entropy_coeff=0.01"),
    "dr_grpo": ("+asymgrpo=dr_grpo",),
    "maxrl": ("+asymgrpo=maxrl",),
    "w_reinforce": ("+asymgrpo=w_reinforce",),
    "grpo_clip_cov": ("+asymgrpo=grpo", f"{LOSS}.loss_mode=clip_cov"),
    "grpo_kl_cov": ("+asymgrpo=grpo", f"{LOSS}.loss_mode=kl_cov"),
}
LOSS_CHOSEN = (0.1, 0.0)  # informative_coef and spurious_coef: best mean over both tasks of group `coefficients`


def coefficient_overrides(informative: float, spurious: float) -> tuple[str, ...]:
    """Our loss with these coefficients."""
    return ("+asymgrpo=modulated", f"{LOSS}.informative_coef={informative:g}", f"{LOSS}.spurious_coef={spurious:g}")


METHODS["modulated"] = coefficient_overrides(*LOSS_CHOSEN)
HEADLINE = tuple(METHODS)[:9]  # these run in verl itself
LABELS = {
    "asymgrpo": "AsymGRPO",
    "grpo": "GRPO",
    "reinforce": "REINFORCE",
    "pos_only": "Pos-only",
    "neg_only": "Neg-only",
    "ent_decrease": "EntDecrease",
    "ent_increase": "EntIncrease",
    "asymgrpo_clip_higher": "AsymGRPO + clip-higher",
    "grpo_clip_higher": "GRPO + clip-higher",
    "grpo_entropy_bonus": "GRPO + entropy bonus 0.001",
    "grpo_entropy_bonus_10": "GRPO + entropy bonus 0.01",
    "dr_grpo": "Dr. GRPO",
    "maxrl": "MaxRL",
    "w_reinforce": "W-REINFORCE",
    "grpo_clip_cov": "GRPO + Clip-Cov",
    "grpo_kl_cov": "GRPO + KL-Cov",
    "modulated": "AsymGRPO + modulated loss",
}

# The quickstart's MODEL, and how many steps.
TASKS = {"chain_sum": "small", "countdown": "countdown"}
STEPS = {"chain_sum": 40, "countdown": 80}
LEARNING_RATES = (2e-4, 4e-4, 8e-4, 1.6e-3)
BETAS = (0.0, 0.25, 0.5, 0.75, 1.0)
COEFFICIENTS = (0.0, 0.1, 0.3, 1.0)
VERL_TASK = "countdown"
TUNED, FRESH, FEW = range(1, 4), range(11, 21), range(11, 16)  # seeds: to choose a step size, and to report

Result = dict[str, Any]


class Incomplete(Exception):
    """A group needs the results of another one; the message says which."""


@dataclass(frozen=True)
class Experiment:
    """One training.

    Args:
        group: what it is for; one of `GROUPS`.
        engine: `verl` (its trainer, through examples/quickstart.sh) or `light` (benchmarks/study/light.py).
        mean_size_of: `light` only: a method of METHODS whose mean |A| in every batch this one's is scaled to.
    """

    group: str
    engine: str
    method: str
    overrides: tuple[str, ...]
    task: str
    seed: int
    lr: float
    steps: int
    mean_size_of: str | None = None

    @property
    def selection(self) -> bool:
        """Whether it is there to choose settings: then it is evaluated on prompts that no comparison uses."""
        return self.group in ("grid", "coefficients")

    @property
    def model(self) -> str:
        """The quickstart's MODEL."""
        return "smollm2" if self.group == "smollm2" else TASKS[self.task]

    @property
    def config_hash(self) -> str:
        return hashlib.sha256(json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True).encode()).hexdigest()[:16]


def settled(results: Iterable[Result]) -> list[Result]:
    """The last try of every run: a failure that a second try has made good does not count. Repetitions all stay."""
    last: dict[Any, Result] = {}
    for number, row in enumerate(results):
        last[number if row["group"] == "rerun" else (row["group"], row["config_hash"])] = row
    return list(last.values())


def best_lr(results: Iterable[Result], method: str, task: str) -> float:
    """The step size with the best mean accuracy on the selection prompts, of the light grid.

    Raises:
        Incomplete: the grid of this method and task has not finished.
    """
    by_lr: dict[float, list[float]] = {lr: [] for lr in LEARNING_RATES}
    for row in settled(results):
        same = (row["group"], row["method"], row["task"]) == ("grid", method, task)
        if same and tuple(row["overrides"]) == METHODS[method]:
            # A training that failed has solved nothing.
            by_lr.setdefault(row["lr"], []).append(row["val_acc"] or 0.0)
    if any(len(found) < len(TUNED) for found in by_lr.values()):
        raise Incomplete(f"the step size of {method} on {task} is not known yet: run.sh --only grid")
    return max(sorted(by_lr), key=lambda lr: round(statistics.fmean(by_lr[lr]), 6))


def _grid(_: Sequence[Result]) -> Iterator[Experiment]:
    for seed, task, lr, (method, overrides) in itertools.product(TUNED, TASKS, LEARNING_RATES, METHODS.items()):
        yield Experiment("grid", "light", method, overrides, task, seed, lr, STEPS[task])


def _final(results: Sequence[Result]) -> Iterator[Experiment]:
    for seed, task, (method, overrides) in itertools.product(FRESH, TASKS, METHODS.items()):
        yield Experiment("final", "light", method, overrides, task, seed, best_lr(results, method, task), STEPS[task])


def _equal(results: Sequence[Result]) -> Iterator[Experiment]:
    for seed, task, (method, overrides) in itertools.product(FRESH, TASKS, METHODS.items()):
        if seed in FEW or method in ("asymgrpo", "grpo"):  # the claim that matters most has more seeds
            lr = best_lr(results, "grpo", task)
            yield Experiment("equal", "light", method, overrides, task, seed, lr, STEPS[task], mean_size_of="grpo")


def beta_overrides(beta_pos: float, beta_neg: float) -> tuple[str, ...]:
    return (
        "+asymgrpo=paper",
        f"algorithm.asym_grpo.beta_pos={beta_pos:g}",
        f"algorithm.asym_grpo.beta_neg={beta_neg:g}",
    )


def _plane(results: Sequence[Result]) -> Iterator[Experiment]:
    for seed, task, beta_pos, beta_neg in itertools.product(FEW, TASKS, BETAS, BETAS):
        name, lr = f"beta({beta_pos:g},{beta_neg:g})", best_lr(results, "asymgrpo", task)
        yield Experiment("plane", "light", name, beta_overrides(beta_pos, beta_neg), task, seed, lr, STEPS[task])


def _coefficients(results: Sequence[Result]) -> Iterator[Experiment]:
    for seed, task, informative, spurious in itertools.product(FEW, TASKS, COEFFICIENTS, COEFFICIENTS):
        name, lr = f"modulated({informative:g},{spurious:g})", best_lr(results, "asymgrpo", task)
        overrides = coefficient_overrides(informative, spurious)
        yield Experiment("coefficients", "light", name, overrides, task, seed, lr, STEPS[task])


def _long(results: Sequence[Result]) -> Iterator[Experiment]:
    for seed, task, method in itertools.product(FEW, TASKS, ("asymgrpo", "grpo")):
        lr = best_lr(results, method, task)
        yield Experiment("long", "light", method, METHODS[method], task, seed, lr, 5 * STEPS[task])


def _long_equal(results: Sequence[Result]) -> Iterator[Experiment]:
    for seed, task, method in itertools.product(FEW, TASKS, ("asymgrpo", "grpo")):
        lr, steps = best_lr(results, "grpo", task), 5 * STEPS[task]
        yield Experiment("long_equal", "light", method, METHODS[method], task, seed, lr, steps, mean_size_of="grpo")


def _verl(results: Sequence[Result]) -> Iterator[Experiment]:
    for seed, method in itertools.product(FEW, HEADLINE):
        lr = best_lr(results, method, VERL_TASK)
        yield Experiment("verl", "verl", method, METHODS[method], VERL_TASK, seed, lr, STEPS[VERL_TASK])


def _smollm2(_: Sequence[Result]) -> Iterator[Experiment]:
    for seed, method in itertools.product((1, 2), ("asymgrpo", "grpo")):
        yield Experiment("smollm2", "verl", method, (f"+asymgrpo={method}",), "chain_sum", seed, 5e-6, 30)


def _smoke(_: Sequence[Result]) -> Iterator[Experiment]:
    for engine, method in itertools.product(("light", "verl"), ("asymgrpo", "grpo")):
        yield Experiment("smoke", engine, method, METHODS[method], "chain_sum", 1, 4e-4, 20)


GROUPS: dict[str, Callable[[Sequence[Result]], Iterator[Experiment]]] = {
    "grid": _grid,
    "coefficients": _coefficients,
    "final": _final,
    "verl": _verl,
    "equal": _equal,
    "plane": _plane,
    "long": _long,
    "long_equal": _long_equal,
    "smollm2": _smollm2,
    "smoke": _smoke,
}
"""In the order in which they are run; `smoke` only when it is asked for."""
