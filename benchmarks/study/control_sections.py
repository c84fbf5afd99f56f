"""What the study says of the entropy control: docs/entropy.md, from "What it gains" on, as far as there are results."""

from __future__ import annotations

from functools import partial

from benchmarks.study import aggregates, control_tables, figures, long_tables
from benchmarks.study.control import CONTROL_TASKS, HELD_FLOOR, HELD_STEPS, HELD_TASK, LONGER, TASK, tuned
from benchmarks.study.experiments import FEW, LONG_STEPS, Incomplete
from benchmarks.study.measures import TASK_NAMES, Study
from benchmarks.study.methods import BASES, CONTROL_METHODS, FLOORS, LABELS, LONGER_METHODS
from benchmarks.study.sections import FRESH, PASSES, Part, joined, of_group
from benchmarks.study.tables import methods_table


def of(task: str) -> str:
    """The task at the beginning of a sentence."""
    return TASK_NAMES[task].capitalize()


def held(study: Study) -> str:
    """How near to its floor each way keeps the entropy."""
    words = f"{of(HELD_TASK)}, GRPO, {HELD_STEPS} steps, floor {HELD_FLOOR}, {len(FEW)} seeds "
    words += "(`benchmarks/study/run.sh --only control_held`): the entropy of the last 20 steps by the floor's, mean "
    words += "(least to most of the seeds), and what was solved of the test prompts. 1 is at the floor."
    return joined(study, "### What a way can hold", [(words, control_tables.held_table)])


def ways(study: Study) -> str:
    """Step sizes and floors, on the selection prompts."""
    first = [method for method in CONTROL_METHODS if method == tuned(method)]
    parts: list[Part] = []
    for task in CONTROL_TASKS:
        name = f"{of(task)}, {LONG_STEPS[task]} steps"
        grid = partial(long_tables.grid_table, task=task, grid="control_grid", methods=first)
        words = f"{name}: every way at floor {FLOORS[0]}, by step size; {PASSES}"
        parts += [
            (words, grid),
            (f"{name}: every floor, at the way's own step size:", partial(control_tables.levels_table, task=task)),
        ]
    return joined(study, "### Every way and floor", parts)


def fresh(study: Study) -> str:
    """The best of them on fresh seeds, against their bases and over temperatures of evaluation."""
    parts: list[Part] = []
    for task in CONTROL_TASKS:
        words = f"{of(task)}, fresh seeds, test prompts; each at its own step size, that of a way at its first floor; "
        words += "\\* means of the last 20 steps, on the training prompts:"
        parts.append(
            (words, partial(of_group, group="control", make=partial(methods_table, group="control", task=task)))
        )
    for base in BASES:
        own = [method for method in LONGER_METHODS if base == "grpo" or method.startswith(base)]
        make = partial(
            aggregates.aggregate_table, tasks=CONTROL_TASKS, group="control", methods=own, baseline=base
        )  # against GRPO all, against AsymGRPO its own
        parts.append((f"Over both tasks, against {LABELS[base]}:", make))
    for task in CONTROL_TASKS:
        words = f"{of(task)}, pass@1 / pass@32 by the temperature of evaluation:"
        parts.append((words, partial(control_tables.frontier_table, task=task)))
    parts.append(("", partial(figures.shown, name="control_frontier")))
    words = "Each at the temperature of evaluation that is best for it, for pass@1 and for pass@32:"
    parts.append((words, control_tables.more_than_a_temperature_table))
    return joined(study, "### The best on fresh seeds", parts)


def longer(study: Study) -> str:
    """Twice the length, with step sizes for it."""
    methods = control_tables.controlled(study, "control_800_grid")
    made = partial(methods_table, group="control_800", task=TASK)
    parts: list[Part] = [
        (f"{of(TASK)}, {PASSES}", partial(long_tables.grid_table, task=TASK, grid="control_800_grid", methods=methods)),
        (FRESH, partial(of_group, group="control_800", make=made)),
        ("Paired by seed:", control_tables.longer_table),
    ]
    return joined(study, f"### {LONGER[TASK]} steps", parts)


def channels(study: Study) -> str:
    """The paper's thesis, by holding the entropy on one channel."""
    words = "What each floor reached, and pass@1 / @8 / @32 there; all at the base's own step size:"
    compared = "At equal measured entropy, on the channel's line through a seed's floors:"
    parts: list[Part] = [(words, control_tables.reached_table), (compared, _channels_or_why)]
    return joined(study, "### Does the channel matter?", parts)


def _channels_or_why(study: Study) -> str:
    """The table, or the sentence why there is none although the runs are there."""
    try:
        return control_tables.channel_table(study)
    except Incomplete as error:
        if not study.groups["control_channel"]:
            raise
        return f"*Not comparable: {error}.*"


def careless(study: Study) -> str:
    """Step sizes from careful to careless, and bonuses that explode."""
    parts: list[Part] = [
        ("pass@1 / @8 / @32 on the test prompts (seeds):", control_tables.robust_table),
        ("", partial(figures.shown, name="control_robust")),
        ("Mean over these step sizes, paired by seed:", control_tables.untuned_table),
        ("Entropy bonuses that are too large, at GRPO's own step size:", control_tables.explosion_table),
    ]
    return joined(study, "### At a careless step size or bonus", parts)
