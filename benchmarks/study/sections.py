"""Sections of docs/results.md that are there only where there are results, heading and all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from benchmarks.study import aggregates, long_tables
from benchmarks.study.experiments import LARGE_STEPS, LARGE_TASK, LONG_STEPS, LONG_TASKS, Incomplete
from benchmarks.study.measures import Study
from benchmarks.study.methods import OTHER_TASK_METHODS
from benchmarks.study.tables import methods_table

Part = tuple[str, Callable[[Study], str]]

PASSES = (
    "pass@1 / pass@8 / pass@32 on the selection prompts, means over the seeds in brackets; bold is the best pass@1."
)
FRESH = "Fresh seeds, test prompts, each method at the step size that the table above has in bold:"


def joined(study: Study, heading: str, parts: Sequence[Part]) -> str:
    """The heading and the parts whose tables have results, each with its sentence before it; "" without any."""
    found = []
    for words, make in parts:
        try:
            found.append(f"{words}\n\n{make(study)}".strip())
        except Incomplete:
            continue
    return "\n\n".join([heading, *found]) if found else ""


def quantum_lock(study: Study) -> str:
    """The long runs of the third task."""
    task = "quantum_lock"
    heading = (
        "### A third task\n\n"
        "*quantum lock*, `+2a-3g*2r=17=`: in which order to press A (add 2, at any light), B (subtract 3, at green) "
        "and C (double, at red) until 0 has become 17 in the fewest presses; each press turns the light, red at first. "
        f"Most have several shortest ways. {LONG_STEPS[task]} steps; {len(OTHER_TASK_METHODS)} methods, with the grid "
        "and the seeds of the other long runs."
    )
    parts: list[Part] = [
        (PASSES, partial(long_tables.grid_table, task=task)),
        ("What an update does, at the best step size so far:", partial(long_tables.kl_table, task=task)),
        (FRESH, partial(long_tables.final_table, task=task)),
        ("Over all three tasks, as above over two:", partial(aggregates.aggregate_table, tasks=tuple(LONG_TASKS))),
    ]
    return joined(study, heading, parts)


def large_model(study: Study) -> str:
    """The runs of the larger model."""
    heading = (
        "### A larger model\n\n"
        f"Countdown with a model of 1.34 M parameters, eight times as large, warm-started on the same texts; "
        f"{LARGE_STEPS} steps, step sizes of its own (2 seeds), 5 fresh seeds."
    )
    parts: list[Part] = [
        (PASSES, partial(long_tables.grid_table, task=LARGE_TASK, grid="large_grid")),
        (FRESH, partial(of_group, group="large", make=partial(methods_table, group="large", task=LARGE_TASK))),
        (
            f"Against GRPO, beside the small model's {LONG_STEPS[LARGE_TASK]} steps; paired by seed:",
            partial(of_group, group="large", make=long_tables.scale_table),
        ),
    ]
    return joined(study, heading, parts)


def of_group(study: Study, group: str, make: Callable[[Study], str]) -> str:
    """What `make` makes, where the group has runs."""
    if not study.groups[group]:
        raise Incomplete(f"no finished run: run.sh --only {group}")
    return make(study)
