"""From `benchmarks/study/results/*.jsonl` to the tables and figures of docs/results.md, docs/entropy.md and README.md.

    python -m benchmarks.study.analysis [--results DIR] [--docs DIR]

Nothing is trained. The same results give the same text, to the byte.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.study import aggregates, control_sections, figures, long_tables, sections, tables
from benchmarks.study.experiments import TASKS, VERL_TASK, Incomplete
from benchmarks.study.measures import Study
from benchmarks.study.results import RESULTS, ROOT, read_results

BLOCKS: dict[str, Callable[[Study], str]] = {
    "tasks": tables.tasks_table,
    "runs": tables.runs_table,
    "claims": tables.claims_table,
    "headline": long_tables.headline_table,
    "why-final": partial(tables.why_table, group="final"),
    **{f"final-{task}": partial(tables.methods_table, group="final", task=task) for task in TASKS},
    "verl": partial(tables.methods_table, group="verl", task=VERL_TASK),
    **{f"grid-{task}": partial(tables.grid_table, task=task) for task in TASKS},
    **{f"coefficients-{task}": partial(tables.coefficients_table, task=task) for task in TASKS},
    "agreement": tables.agreement_table,
    **{f"long-grid-{task}": partial(long_tables.grid_table, task=task) for task in TASKS},
    **{f"long-kl-{task}": partial(long_tables.kl_table, task=task) for task in TASKS},
    **{f"long-{task}": partial(long_tables.final_table, task=task) for task in TASKS},
    "long-aggregate": aggregates.aggregate_table,
    "long-best": long_tables.best_checkpoint_table,
    "quantum-lock": sections.quantum_lock,
    "large-model": sections.large_model,
    "control-held": control_sections.held,
    "control-ways": control_sections.ways,
    "control-fresh": control_sections.fresh,
    "control-longer": control_sections.longer,
    "control-channels": control_sections.channels,
    "control-careless": control_sections.careless,
    "language-model": tables.language_model_table,
    "reruns": tables.reruns_table,
    **{f"figure-{name}": partial(figures.shown, name=name) for name in figures.DRAWN},
}
"""What stands between `<!-- begin NAME -->` and `<!-- end NAME -->` in docs/results.md, docs/entropy.md and README."""


def fill(text: str, study: Study) -> str:
    """`text` with its blocks made anew.

    Raises:
        ValueError: a block that is not known, or without an end.
    """
    for name in re.findall(r"<!-- begin (\S+) -->", text):
        if name not in BLOCKS:
            raise ValueError(f"<!-- begin {name} -->: unknown block; one of {', '.join(BLOCKS)}")
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"{begin} has no {end}")
        try:
            block = BLOCKS[name](study)
        except Incomplete as error:
            block = f"*Not complete: {error}.*"
        text = f"{before}{begin}\n\n{block}\n\n{end}{after}" if block else f"{before}{begin}\n{end}{after}"
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], prog="python -m benchmarks.study.analysis")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument(
        "--docs",
        type=Path,
        default=ROOT / "docs",
        help="folder of results.md, entropy.md and results/ (figures), below README",
    )
    options = parser.parse_args(argv)
    try:
        study = Study(read_results(options.results))
        for page in (options.docs / "results.md", options.docs / "entropy.md", options.docs.parent / "README.md"):
            page.write_text(fill(page.read_text(encoding="utf-8"), study), encoding="utf-8")
        for path in figures.draw(study, options.docs / "results"):
            print(path)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
