"""Times the mathematics reward beside math-verify called directly, interleaved in one process.

    python benchmarks/reward.py [--rounds 7] [--threads 8]

The pairs are the ordinary ones of tests/recipe/reward/test_workers.py (needs pytest). "worker" is every answer
judged by a worker process, nothing remembered; "reward" is `compute_score` on responses as a training sees them, each
answer eight times over, as rollouts of one prompt repeat themselves. math-verify itself can only be called from the
main thread.
Exits 1 when the worker's throughput is under 0.8 of math-verify's.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # from a checkout that is not installed

from math_verify import parse, verify

from recipe.asymgrpo import reward as reward_module
from recipe.asymgrpo.reward.workers import Verifier

ROOT = Path(__file__).resolve().parents[1]
LEAST_OF_DIRECT = 0.8
Pair = tuple[str, str]


def ordinary_pairs() -> list[Pair]:
    """(gold, answer), right and wrong."""
    spec = importlib.util.spec_from_file_location("pairs", ROOT / "tests" / "recipe" / "reward" / "test_workers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [(gold, answer) for gold, answer in module.SAME + module.DIFFERENT if answer.strip()]


def timed(call: Callable[[Pair], object], pairs: Sequence[Pair], threads: int = 1) -> tuple[float, list[float]]:
    """Seconds in all, and of each call."""

    def one(pair: Pair) -> float:
        began = time.perf_counter()
        call(pair)
        return time.perf_counter() - began

    began = time.perf_counter()
    if threads == 1:
        each = [one(pair) for pair in pairs]
    else:
        with ThreadPoolExecutor(threads) as executor:
            each = list(executor.map(one, pairs))
    return time.perf_counter() - began, each


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=8)
    options = parser.parse_args()
    pairs = ordinary_pairs()
    repeated = [pair for pair in pairs for _ in range(8)]
    pool = Verifier()

    def direct(pair: Pair) -> object:
        return verify(parse(f"\\boxed{{{pair[0]}}}"), parse(f"\\boxed{{{pair[1]}}}"))

    def worker(pair: Pair) -> object:
        return pool.equal(*pair)

    def reward(pair: Pair) -> object:
        return reward_module.compute_score("math", f"So the answer is \\boxed{{{pair[1]}}}.", pair[0])

    cases: dict[str, tuple[Callable[[Pair], object], list[Pair], int]] = {
        "math-verify": (direct, pairs, 1),
        "worker": (worker, pairs, 1),
        f"worker, {options.threads} threads": (worker, pairs, options.threads),
        f"reward, {options.threads} threads": (reward, repeated, options.threads),
    }
    for call, some, threads in cases.values():
        timed(call, some, threads)  # workers started, modules imported
    rates: dict[str, list[float]] = {name: [] for name in cases}
    latencies: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(options.rounds):
        for name, (call, some, threads) in cases.items():
            for verifier in (pool, reward_module._verifier):  # new workers, too: they remember what they parsed
                verifier._cache.clear()
                verifier.close()
            timed(call, [("7", f"{place}") for place in range(8)], threads)
            seconds, each = timed(call, some, threads)
            rates[name].append(len(some) / seconds)
            latencies[name] += each
    print(f"{len(pairs)} pairs, {options.rounds} rounds; ratios are medians over rounds (least to most)")
    for name in cases:
        ratios = [ours / theirs for ours, theirs in zip(rates[name], rates["math-verify"], strict=True)]
        quantiles = statistics.quantiles(latencies[name], n=100)
        print(
            f"{name:<20} {statistics.median(rates[name]):8.0f} a second   "
            f"{statistics.median(ratios):6.2f} ({min(ratios):.2f} to {max(ratios):.2f}) of math-verify   "
            f"p50 {1e3 * quantiles[49]:7.2f} ms   p99 {1e3 * quantiles[98]:7.2f} ms"
        )
    pool.close()
    ratio = statistics.median(a / b for a, b in zip(rates["worker"], rates["math-verify"], strict=True))
    return int(ratio < LEAST_OF_DIRECT)


if __name__ == "__main__":
    sys.exit(main())
