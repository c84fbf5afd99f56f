"""How the time and the memory of the estimator and of the loss grow with the batch, from 1,000 to 1,000,000 rows.

    python benchmarks/scale.py [--rows 1000 10000 ...] [--tokens 64] [--figure docs/scale.png]

The estimator runs as in a training, with the metrics of its groups; the loss forward and backward, compiled, as is
verl's default. Memory is what a call holds at its peak beyond its inputs, Python's objects included. Prints a table in
Markdown, and what the driver of 64 nodes needs, from two measured lengths. Exits 1 when a row costs more than twice as
much, in time (the quickest round: a busy neighbour only adds) or memory, at the largest batch as at 10,000 rows or
more. 1,000,000 rows take 2 GB of memory.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import platform
import statistics
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # from a checkout that is not installed

from benchmarks import estimator, policy_loss
from recipe.asymgrpo.advantage import compute_asym_grpo_advantage
from recipe.asymgrpo.report.figures import COLOURS
from verl_ext import driver_metrics

ROWS = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
PROPORTION_FROM = 10_000
"""Below, a call is dominated by what does not depend on the batch."""
MOST_GROWTH = 2.0
# A driver's batch at 64 nodes: as many rows a step as 512 GPUs are kept busy with, of the paper's longest responses.
NODES, GPUS, ROWS_PER_GPU, TOKENS = 64, 8, 128, 8192


@dataclass(frozen=True)
class Cost:
    """What one call costs: milliseconds (median, lowest and highest of the rounds) and bytes at its peak."""

    rows: int
    median: float
    low: float
    high: float
    peak: int


def peak_bytes(call: Callable[[], object]) -> int:
    """Bytes held at the peak of a call beyond its inputs: tensors by PyTorch's record, and Python's own objects.

    The two peaks need not coincide, so this is an upper bound.
    """
    tensors = policy_loss.peak_bytes(call, "cpu")
    gc.collect()
    tracemalloc.start()
    result = call()
    objects = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    del result
    return tensors + objects


def cost(rows: int, call: Callable[[], object], repeats: int) -> Cost:
    times = estimator.interleaved({"call": call}, repeats)["call"]
    return Cost(rows, statistics.median(times), min(times), max(times), peak_bytes(call))


def of_estimator(rows: int, tokens: int, repeats: int) -> Cost:
    """With the metrics of the groups, as the plugin installs them."""
    rewards, mask, uids = estimator.make_batch(rows, tokens, group_size=8)

    def call() -> object:
        driver_metrics.state.sums = None  # as after each log
        driver_metrics.state.unread = 0
        return compute_asym_grpo_advantage(rewards, mask, uids, {})

    driver_metrics.install()
    result = cost(rows, call, repeats)
    driver_metrics.state.last = None
    return result


def of_loss(rows: int, tokens: int, repeats: int) -> Cost:
    batch = policy_loss.make_batch(rows, tokens, torch.float32, "cpu")
    return cost(rows, policy_loss.contenders(batch)["compiled"], repeats)


def growth(costs: list[Cost], figure: str) -> float:
    """Cost of a row at the largest batch over the cheapest row from `PROPORTION_FROM` rows on."""
    per_row = [getattr(c, figure) / c.rows for c in costs if c.rows >= PROPORTION_FROM]
    return per_row[-1] / min(per_row) if len(per_row) > 1 else 1.0


def table(parts: dict[str, list[Cost]]) -> str:
    lines = [
        "| part | rows | ms (lowest to highest) | µs a row | peak, MiB | bytes a row |",
        "|---|---|---|---|---|---|",
    ]
    for part, costs in parts.items():
        for c in costs:
            lines.append(
                f"| {part} | {c.rows:,} | {c.median:.1f} ({c.low:.1f} to {c.high:.1f}) | {1e3 * c.median / c.rows:.2f} "
                f"| {c.peak / 2**20:.1f} | {c.peak / c.rows:.0f} |"
            )
    return "\n".join(lines)


def draw(parts: dict[str, list[Cost]], tokens: int, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
    for (part, costs), colour, marker in zip(parts.items(), COLOURS[:2], "os", strict=True):
        rows = [c.rows for c in costs]
        left.plot(rows, [c.median for c in costs], color=colour, marker=marker, label=part)
        left.fill_between(rows, [c.low for c in costs], [c.high for c in costs], color=colour, alpha=0.2)
        right.plot(rows, [c.peak / 2**20 for c in costs], color=colour, marker=marker, label=part)
        for axes, last in ((left, costs[-1].median), (right, costs[-1].peak / 2**20)):
            axes.plot(rows, [last * r / rows[-1] for r in rows], color=colour, linestyle=":", linewidth=1)
    for axes, label in ((left, "milliseconds"), (right, "MiB at the peak, beyond the inputs")):
        axes.set(xscale="log", yscale="log", xlabel=f"rows of {tokens} tokens", ylabel=label)
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False)
    panels.suptitle("Dotted: in proportion to the rows", fontsize=10)
    panels.savefig(path, dpi=120)


def driver_estimate(short: tuple[int, int], long: tuple[int, int], rows: int) -> str:
    """From (tokens, peak bytes) of two lengths at equally many rows: bytes a row and a token, and 64 nodes."""
    a_token = (long[1] - short[1]) / rows / (long[0] - short[0])
    a_row = short[1] / rows - a_token * short[0]
    batch = NODES * GPUS * ROWS_PER_GPU
    total = batch * (a_row + a_token * TOKENS)
    return (
        f"estimator: {a_row:.0f} bytes a row + {a_token:.1f} bytes a token. {NODES} nodes x {GPUS} GPUs x "
        f"{ROWS_PER_GPU} rows = {batch:,} rows of {TOKENS:,} tokens: {total / 2**30:.2f} GiB in the driver, of which "
        f"{batch * TOKENS * 4 / 2**30:.2f} GiB are the advantages that every estimator returns"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", type=int, default=list(ROWS))
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--figure", type=Path, help="draw it here (PNG; needs matplotlib)")
    args = parser.parse_args()
    rows = sorted(args.rows)

    parts = {
        "estimator": [of_estimator(n, args.tokens, args.repeats) for n in rows],
        "loss": [of_loss(n, args.tokens, args.repeats) for n in rows],
    }
    print(
        f"{datetime.date.today()}, Python {platform.python_version()}, torch {torch.__version__}, verl "
        f"{version('verl')}, {torch.get_num_threads()} threads; {args.tokens} tokens a row, {args.repeats} rounds\n"
    )
    print(table(parts))
    print()
    middle = min(rows[-1], 100_000)
    lengths = (args.tokens, 8 * args.tokens)
    short, long = ((tokens, of_estimator(middle, tokens, 1).peak) for tokens in lengths)
    print(driver_estimate(short, long, middle))
    if args.figure:
        draw(parts, args.tokens, args.figure)

    passed = True
    for part, costs in parts.items():
        grown = {figure: growth(costs, figure) for figure in ("low", "peak")}
        passed &= max(grown.values()) <= MOST_GROWTH
        print(f"{part}: a row costs {grown['low']:.2f} x the cheapest in time, {grown['peak']:.2f} x in memory")
    print(f"in proportion (at most {MOST_GROWTH:g} x from {PROPORTION_FROM:,} rows on): {'ok' if passed else 'FAILED'}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
