"""Prompts of reasoning-gym's tasks, whose own scorer judges the answers (`recipe.asymgrpo.reward`).

`chain_sum`: sums with one answer; `countdown`: numbers to be added and subtracted until they make a target;
`quantum_lock`: buttons to be pressed in an order that makes a number.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recipe.asymgrpo.data.files import Row

PROMPT_STYLES = ("short", "chat")
CHAT_INSTRUCTION = "Answer with the number only."


@dataclass(frozen=True)
class Level:
    """One difficulty: how many numbers are added or subtracted and how many digits each has; or how hard a lock is."""

    terms: int
    digits: int

    def __post_init__(self) -> None:
        if self.terms < 2 or self.digits < 1:
            raise ValueError(f"level {self}: needs at least 2 terms and 1 digit")

    def __str__(self) -> str:
        return f"{self.terms}x{self.digits}"

    @property
    def distinct(self) -> int:
        """How many different problems of `chain_sum` exist: every operand, every operator."""
        operands = 10 if self.digits == 1 else 9 * 10 ** (self.digits - 1)
        return operands**self.terms * 2 ** (self.terms - 1)


# Level -> its weight in the mix. Errors add up over the terms, so success rates spread over the whole range 0 to 1. Of
# two-term sums only 200 exist, which bounds their share.
DEFAULT_LEVELS: dict[Level, float] = {Level(2, 1): 1, Level(3, 1): 9, Level(4, 1): 10}
COUNTDOWN_LEVELS: dict[Level, float] = {Level(5, 1): 1}
LOCK_LEVELS: dict[Level, float] = {Level(6, 1): 1}


def parse_levels(text: str) -> dict[Level, float]:
    """Read ``TERMSxDIGITS[:WEIGHT]`` items separated by commas, e.g. ``2x1:1,2x2:3``.

    Raises:
        ValueError: an item that cannot be read, a weight that is not positive and finite, or a level named twice.
    """
    levels: dict[Level, float] = {}
    for item in text.split(","):
        shape, _, weight_text = item.strip().partition(":")
        try:
            terms, digits = (int(part) for part in shape.split("x"))
            level, weight = Level(terms, digits), float(weight_text or 1)
        except ValueError as error:
            raise ValueError(f"levels: cannot read {item!r}, expected TERMSxDIGITS[:WEIGHT] such as 2x1:3") from error
        if not 0 < weight < float("inf"):
            raise ValueError(f"levels: the weight of {shape} is {weight_text}, must be positive")
        if level in levels:
            raise ValueError(f"levels: {shape} is named twice")
        levels[level] = weight
    return levels


def split_evenly(total: int, weights: Sequence[float]) -> list[int]:
    """`total` cut into whole parts proportional to `weights` (largest remainders get what rounding leaves)."""
    exact = [total * weight / sum(weights) for weight in weights]
    parts = [int(share) for share in exact]
    by_remainder = sorted(range(len(parts)), key=lambda i: parts[i] - exact[i])
    for i in by_remainder[: total - sum(parts)]:
        parts[i] += 1
    return parts


def chain_sum_entries(level: Level, count: int, seed: int) -> list[dict[str, Any]]:
    """`count` reasoning-gym entries of one level, all different in their question text.

    Raises:
        ValueError: fewer than `count` different problems exist at this level, or turn up.
    """
    if count > level.distinct:
        raise ValueError(
            f"level {level} has only {level.distinct} different problems but {count} were asked for: lower the sizes, "
            f"or its weight in --levels"
        )
    config = {
        "min_terms": level.terms,
        "max_terms": level.terms,
        "min_digits": level.digits,
        "max_digits": level.digits,
    }
    return _first(
        count, level, _distinct_entries("chain_sum", level, seed, config, key=lambda entry: entry["question"])
    )


def countdown_entries(level: Level, count: int, seed: int) -> list[dict[str, Any]]:
    """`count` reasoning-gym entries of one level of `countdown` with + and -, all different in numbers and target.

    Raises:
        ValueError: so many different problems do not turn up in a hundred times as many draws.
    """
    low = 1 if level.digits == 1 else 10 ** (level.digits - 1)
    config = {
        "min_numbers": level.terms,
        "max_numbers": level.terms,
        "min_value": low,
        "max_value": 10**level.digits - 1,
        "min_target": 1,
        "max_target": level.terms * 10**level.digits,
        "operators": ("+", "-"),
    }
    return _first(count, level, _distinct_entries("countdown", level, seed, config, key=_countdown_key))


def lock_entries(level: Level, count: int, seed: int) -> list[dict[str, Any]]:
    """`count` reasoning-gym entries of `quantum_lock` up to the difficulty of the level's terms, all different in their
    buttons, in whatever order, and target.

    Raises:
        ValueError: a level with more than one digit, or so many different problems hardly turn up.
    """
    if level.digits != 1:
        raise ValueError(f"level {level}: the difficulty of quantum_lock is one number, write {level.terms}x1")
    return _first(count, level, _distinct_entries("quantum_lock", level, seed, {"difficulty": level.terms}, _lock_key))


def _lock_key(entry: dict[str, Any]) -> tuple[str, ...]:
    buttons, target = lock_of(entry).split("=")[:2]
    return (*sorted(buttons[at : at + 3] for at in range(0, len(buttons), 3)), target)


def _first(count: int, level: Level, entries: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    found = list(itertools.islice(entries, count))
    if len(found) < count:
        raise ValueError(
            f"level {level} has about {len(found)} different problems but {count} were asked for: lower the sizes, or "
            f"its weight in --levels"
        )
    return found


def _countdown_key(entry: dict[str, Any]) -> tuple[int, ...]:
    return (*sorted(entry["metadata"]["numbers"]), entry["metadata"]["target"])


MOST_REPEATS = 2000  # draws in a row without a new problem: there are hardly any more


def _distinct_entries(
    task: str, level: Level, seed: int, config: dict[str, Any], key: Callable[[dict[str, Any]], Any]
) -> Iterator[dict[str, Any]]:
    """Entries of a task with different keys, until hardly any new one turns up."""
    from reasoning_gym import create_dataset

    # reasoning-gym draws entry i from seed + i, so seeds 0 and 1 would share all but one entry: spread them first.
    spread = int.from_bytes(hashlib.sha256(f"{task}/{level}/{seed}".encode()).digest()[:6], "big")
    dataset = create_dataset(task, seed=spread, **config)
    seen = set()
    last = 0
    for i in itertools.count():
        entry = dataset[i]
        if (found := key(entry)) not in seen:
            seen.add(found)
            last = i
            yield entry
        elif i - last > MOST_REPEATS:
            return


@dataclass(frozen=True)
class Task:
    """A procedural task: its difficulties, its entries, and how a prompt of each style is worded."""

    levels: Mapping[Level, float]
    entries: Callable[[Level, int, int], list[dict[str, Any]]]
    short: Callable[[Mapping[str, Any]], str]
    instruction: str


def expression_of(entry: Mapping[str, Any]) -> str:
    """The bare sum of a `chain_sum` entry as the short prompt has it, e.g. ``12-70=``."""
    return entry["metadata"]["expression"].replace(" ", "") + "="


def numbers_and_target_of(entry: Mapping[str, Any]) -> str:
    """The numbers and the target of a `countdown` entry as the short prompt has them, e.g. ``3 7 5=9=``."""
    return f"{' '.join(map(str, entry['metadata']['numbers']))}={entry['metadata']['target']}="


def lock_of(entry: Mapping[str, Any]) -> str:
    """The buttons and the target of a `quantum_lock` entry as the short prompt has them, e.g. ``+2a-3g*2r=17=``: add 2
    at any light, subtract 3 at green, double at red."""
    signs = {"add": "+", "subtract": "-", "multiply": "*"}
    buttons = entry["metadata"]["buttons"]
    written = (f"{signs[button['type']]}{button['value']}{button['active_state'][0]}" for button in buttons)
    return f"{''.join(written)}={entry['metadata']['target_value']}="


TASKS: dict[str, Task] = {
    "chain_sum": Task(DEFAULT_LEVELS, chain_sum_entries, expression_of, CHAT_INSTRUCTION),
    "countdown": Task(
        COUNTDOWN_LEVELS,
        countdown_entries,
        numbers_and_target_of,
        "Use only + and -, and use every number exactly once. Answer with the expression only.",
    ),
    "quantum_lock": Task(LOCK_LEVELS, lock_entries, lock_of, "Answer with the names of the buttons only."),
}


def prompt_of(entry: Mapping[str, Any], style: str, task: str = "chain_sum") -> list[dict[str, str]]:
    """The messages for an entry: the bare problem (`short`), or the question after an instruction (`chat`).

    The instruction is the system message: it replaces the template's own, which says nothing and costs tokens.
    """
    if style == "short":
        return [{"role": "user", "content": TASKS[task].short(entry)}]
    return [
        {"role": "system", "content": TASKS[task].instruction},
        {"role": "user", "content": entry["question"]},
    ]


def procedural_rows(
    *,
    train_size: int,
    val_size: int,
    seed: int = 0,
    levels: Mapping[Level, float] | None = None,
    prompt_style: str = "short",
    task: str = "chain_sum",
) -> dict[str, list[Row]]:
    """Rows of both splits in verl's layout, a deterministic function of the arguments.

    Both splits hold the levels in the same proportions, and no question occurs twice, within a split or across.

    Returns:
        ``{"train": rows, "val": rows}`` with ``train_size`` and ``val_size`` rows.

    Raises:
        ValueError: sizes that are not positive, more problems than exist, an unknown prompt style or task.
    """
    if train_size < 1 or val_size < 1:
        raise ValueError(f"train and val sizes must be at least 1, got {train_size} and {val_size}")
    if prompt_style not in PROMPT_STYLES:
        raise ValueError(f"unknown prompt style {prompt_style!r}: one of {', '.join(PROMPT_STYLES)}")
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}: one of {', '.join(TASKS)}")
    levels = dict(levels or TASKS[task].levels)
    shares = {split: split_evenly(n, list(levels.values())) for split, n in (("train", train_size), ("val", val_size))}
    drawn: dict[str, list[tuple[Level, dict[str, Any]]]] = {"train": [], "val": []}
    for i, level in enumerate(levels):
        n_train, n_val = shares["train"][i], shares["val"][i]
        entries = TASKS[task].entries(level, n_train + n_val, seed)
        drawn["val"] += [(level, entry) for entry in entries[:n_val]]
        drawn["train"] += [(level, entry) for entry in entries[n_val:]]
    rows: dict[str, list[Row]] = {}
    for split, entries_of_split in drawn.items():
        random.Random(f"{seed}/{split}").shuffle(entries_of_split)
        rows[split] = [
            {
                "data_source": f"reasoning_gym/{task}",
                "prompt": prompt_of(entry, prompt_style, task),
                "ability": "math",
                "reward_model": {"style": "rule", "ground_truth": entry["answer"]},
                "extra_info": {
                    "index": index,
                    "split": split,
                    "task": task,
                    "level": str(level),
                    "prompt_style": prompt_style,
                    # What the scorer needs to have its entry back; JSON, because metadata differs between tasks.
                    "question": entry["question"],
                    "metadata": json.dumps(entry["metadata"], sort_keys=True),
                },
            }
            for index, (level, entry) in enumerate(entries_of_split)
        ]
    shared = {row["extra_info"]["question"] for row in rows["train"]} & {
        row["extra_info"]["question"] for row in rows["val"]
    }
    if shared:
        raise AssertionError(f"{len(shared)} questions are in both splits, e.g. {min(shared)!r}")
    return rows
