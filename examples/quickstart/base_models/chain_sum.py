"""The texts of the small model: sums with their answers, as careful and as careless people write them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from recipe.asymgrpo.data import DEFAULT_LEVELS, Level


@dataclass(frozen=True)
class Demonstrations:
    """Who wrote the texts of the warm-start.

    A writer works a sum out term by term and notes the running totals (`8 1 3` for `3+5-7+2=`), or answers at once. At
    every step a writer may slip: add instead of subtract, or be off by one. Slips are likelier where people find
    it hard: when a total crosses a multiple of ten or goes below zero. A slip is carried on, as people do.

    All values are probabilities.
    """

    at_once: float = 0.25  # answers without working
    slip_easy: float = 0.02  # per step
    slip_hard: float = 0.22  # per step
    wrong_operator: float = 0.5  # of the slips; the rest is off by one


@dataclass(frozen=True)
class Settings:
    """Everything that decides what the small model becomes; its hash names the cache folder."""

    name: ClassVar = "small"
    task: ClassVar = "chain_sum"
    levels: ClassVar[Mapping[Level, float]] = DEFAULT_LEVELS  # hashed as well
    characters: ClassVar[str] = "0123456789+-= "
    spread: ClassVar[float] = 0.12  # of the first weights, about 1 / sqrt(hidden)

    seed: int = 0
    hidden: int = 64
    layers: int = 3
    heads: int = 2
    intermediate: int = 192
    steps: int = 1500
    careful_first: float = 0.75  # share of the steps in which all writers are careful
    batch: int = 64
    lr: float = 6e-3
    demonstrations: Demonstrations = field(default_factory=Demonstrations)
    val_size: int = 1024
    data_seed: int = 0

    def demonstrate(self, rng: random.Random, step: int) -> tuple[str, Callable[[], str]]:
        """A prompt of `chain_sum`, and a writer: what he puts after it is drawn when he is asked."""
        numbers, operators = draw_problem(rng, list(self.levels), list(self.levels.values()))
        mix = mixture_at(self, step)
        return write_expression(numbers, operators), lambda: write_answer(rng, numbers, operators, mix)


def draw_problem(rng: random.Random, levels: Sequence[Level], weights: Sequence[float]) -> tuple[list[int], list[str]]:
    """Operands and operators of a random `chain_sum`, as reasoning-gym draws them."""
    (level,) = rng.choices(levels, weights)
    low = 0 if level.digits == 1 else 10 ** (level.digits - 1)
    numbers = [rng.randint(low, 10**level.digits - 1) for _ in range(level.terms)]
    return numbers, [rng.choice("+-") for _ in range(level.terms - 1)]


def total(numbers: Sequence[int], operators: Sequence[str]) -> int:
    """The value of a chain of sums."""
    result = numbers[0]
    for operator, number in zip(operators, numbers[1:], strict=True):
        result += number if operator == "+" else -number
    return result


def write_expression(numbers: Sequence[int], operators: Sequence[str]) -> str:
    """``12-70=``"""
    return str(numbers[0]) + "".join(o + str(n) for o, n in zip(operators, numbers[1:], strict=True)) + "="


def write_answer(rng: random.Random, numbers: Sequence[int], operators: Sequence[str], mix: Demonstrations) -> str:
    """What one writer of the corpus puts after the ``=``."""
    value, totals = numbers[0], []
    for operator, number in zip(operators, numbers[1:], strict=True):
        after = total([value, number], [operator])
        hard = after < 0 or after // 10 != value // 10
        if rng.random() < (mix.slip_hard if hard else mix.slip_easy):
            if rng.random() < mix.wrong_operator:
                after = total([value, number], ["-" if operator == "+" else "+"])
            else:
                after += rng.choice((-1, 1))
        value = after
        totals.append(str(value))
    return totals[-1] if rng.random() < mix.at_once else " ".join(totals)


def mixture_at(settings: Settings, step: int) -> Demonstrations:
    """Careful writers first, so that the skill is learned in a minute; then the whole crowd."""
    if step < settings.careful_first * settings.steps:
        return Demonstrations(at_once=0, slip_easy=0, slip_hard=0)
    return settings.demonstrations
