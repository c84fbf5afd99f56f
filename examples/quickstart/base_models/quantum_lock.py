"""The texts of the lock model: buttons pressed until a number is reached, by people who plan, then by people who press
what happens to work."""

from __future__ import annotations

import functools
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from examples.quickstart.base_models.chain_sum import Settings
from recipe.asymgrpo.data import LOCK_LEVELS, Level

Button = tuple[str, int, str]  # operator, number, light: a (any), g or r
Node = tuple[int, int]  # the number, and the light: 0 red, 1 green
FARTHEST, MOST_PRESSES = 60, 15  # where nobody looks for a shortest way any more


@dataclass(frozen=True)
class LockSettings(Settings):
    """What decides the lock model: writers who find a shortest way, then mostly writers who press at random."""

    name: ClassVar = "quantum_lock"
    task: ClassVar = "quantum_lock"
    levels: ClassVar[Mapping[Level, float]] = LOCK_LEVELS
    characters: ClassVar = "0123456789+-*=argABC"

    steps: int = 3600
    guess: float = 0.7  # share of the guessers in the last part

    def demonstrate(self, rng: random.Random, step: int) -> tuple[str, Callable[[], str]]:
        """A prompt of `quantum_lock`, and a writer."""
        careful = step < self.careful_first * self.steps or rng.random() >= self.guess
        (level,) = self.levels
        buttons, target = draw_lock(rng, rng.randint(1, level.terms))
        return write_lock(buttons, target), lambda: press(rng, buttons, target, careful)


def draw_lock(rng: random.Random, difficulty: int) -> tuple[tuple[Button, ...], int]:
    """Three buttons and a target that they reach, as reasoning-gym draws them."""
    numbers = {"+": (2, 3) if difficulty >= 5 else (1, 2), "*": (2, 3) if difficulty >= 7 else (2,)}
    numbers["-"] = numbers["+"]
    while True:
        buttons: list[Button] = []
        while len(buttons) < 3:
            operator = rng.choice("+-*")
            (light,) = rng.choices("agr", (4, 2, 1))
            button = (operator, rng.choice(numbers[operator]), light)
            if button not in buttons:
                buttons.append(button)
        base = 5 + difficulty**1.5
        target = max(8, int(base + rng.randint(-int(base * 0.2), int(base * 0.3))))
        if any((target, light) in ways(tuple(sorted(buttons))) for light in (0, 1)):
            return tuple(buttons), target


def write_lock(buttons: Sequence[Button], target: int) -> str:
    """``+2a-3g*2r=17=``"""
    return "".join(f"{operator}{number}{light}" for operator, number, light in buttons) + f"={target}="


def works(button: Button, light: int) -> bool:
    return button[2] == "a" or button[2] == "rg"[light]


def pressed(button: Button, value: int) -> int:
    operator, number, _ = button
    return value * number if operator == "*" else value + number if operator == "+" else value - number


@functools.cache
def ways(buttons: tuple[Button, ...]) -> dict[Node, tuple[int, list[tuple[Button, Node]]]]:
    """By node: the fewest presses to it from 0 at red, and of each such way the last button and where it is pressed."""
    found: dict[Node, tuple[int, list[tuple[Button, Node]]]] = {(0, 0): (0, [])}
    queue = deque([(0, 0)])
    while queue:
        value, light = node = queue.popleft()
        presses = found[node][0] + 1
        for button in buttons:
            after = (pressed(button, value), 1 - light)
            if not works(button, light) or abs(after[0]) > FARTHEST or presses > MOST_PRESSES:
                continue
            if after not in found:
                found[after] = (presses, [])
                queue.append(after)
            if found[after][0] == presses:
                found[after][1].append((button, node))
    return found


def press(rng: random.Random, buttons: Sequence[Button], target: int, careful: bool) -> str:
    """What one writer presses: any of the shortest ways, or as many buttons, each of those that work at the moment."""
    reached = ways(tuple(sorted(buttons)))
    node = min(((target, light) for light in (0, 1) if (target, light) in reached), key=lambda node: reached[node][0])
    names = dict(zip(buttons, "ABC", strict=True))
    text, presses, light = "", reached[node][0], 0
    if not careful:
        for _ in range(presses):
            text += names[rng.choice([button for button in buttons if works(button, light)] or list(buttons))]
            light = 1 - light
        return text
    while reached[node][0]:
        button, node = rng.choice(reached[node][1])
        text = names[button] + text
    return text
