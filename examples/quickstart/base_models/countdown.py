"""The texts of the countdown model: expressions that make a number, by people who work, then by people who guess."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from examples.quickstart.base_models.chain_sum import Settings, total
from recipe.asymgrpo.data import COUNTDOWN_LEVELS, Level


@dataclass(frozen=True)
class CountdownSettings(Settings):
    """What decides the countdown model: writers who work, then nearly only writers who guess the signs."""

    name: ClassVar = "countdown"
    task: ClassVar = "countdown"
    levels: ClassVar[Mapping[Level, float]] = COUNTDOWN_LEVELS

    steps: int = 3000
    guess: float = 0.95  # share of the guessers in the last part

    def demonstrate(self, rng: random.Random, step: int) -> tuple[str, Callable[[], str]]:
        """A prompt of `countdown`, and a writer."""
        careful = step < self.careful_first * self.steps or rng.random() >= self.guess
        (level,) = self.levels
        prompt, answer = write_countdown(rng, level, careful)
        return prompt, lambda: answer


@dataclass(frozen=True)
class LargeCountdownSettings(CountdownSettings):
    """The same texts for a model eight times as large."""

    name: ClassVar = "countdown_large"
    spread: ClassVar = 0.08

    hidden: int = 160
    layers: int = 4
    heads: int = 5
    intermediate: int = 480
    steps: int = 1800
    lr: float = 3e-3


def write_countdown(rng: random.Random, level: Level, careful: bool) -> tuple[str, str]:
    """A random `countdown` with + and -, as reasoning-gym draws it, and what one writer puts after it.

    The answer has the numbers in any order, one that is added first. A careful writer's makes the target, a guesser's
    has any signs.
    """
    low = 1 if level.digits == 1 else 10 ** (level.digits - 1)
    target = 0
    while target < 1:
        numbers = [rng.randint(low, 10**level.digits - 1) for _ in range(level.terms)]
        signs = ["+", *(rng.choice("+-") for _ in numbers[1:])]
        target = total(numbers, signs[1:])
    shown = rng.sample(numbers, len(numbers))
    terms = list(zip(signs, numbers, strict=True))
    if not careful:
        terms = [(rng.choice("+-"), number) for number in numbers]
        terms[0] = ("+", terms[0][1])
    rng.shuffle(terms)
    first = next(i for i, (sign, _) in enumerate(terms) if sign == "+")
    terms.insert(0, terms.pop(first))
    answer = "".join(f"{sign}{number}" for sign, number in terms).removeprefix("+")
    return f"{' '.join(map(str, shown))}={target}=", answer
