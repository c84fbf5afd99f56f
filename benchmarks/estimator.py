"""Times `asym_grpo` against its floor and against verl's `grpo_vectorized`, interleaved in one process.

    python benchmarks/estimator.py [--rows 8192] [--tokens 4096] [--repeats 15] [--device cuda]

The floor is what any estimator of this kind must do: `rewards.sum(-1)` and one `scores[:, None] * mask`.
"diagnostics" is the estimator with the metrics that it notes for the log; "covariance" is what the log's covariances
of log-probability and advantage take beside it; "control" what the entropy control takes beside it where it acts.
Exits 1 when ours takes more than 1.25 times the floor, with the control 2 times, or not less than `grpo_vectorized`.
On a GPU the floor is no bar: what a group decides is decided on the host, which waits for the device. Without verl
only ours are timed. Wants a quiet machine: beside a busy neighbour, threads that wait for a core blur the ratios.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # from a checkout that is not installed

from recipe.asymgrpo import advantage
from recipe.asymgrpo.advantage import compute_asym_grpo_advantage
from recipe.asymgrpo.diagnostics import covariance_sums, group_sums
from recipe.asymgrpo.entropy_control import EntropyControlConfig, State, control
from recipe.asymgrpo.groups import Groups

MOST_TIMES_FLOOR, MOST_WITH_CONTROL = 1.25, 2.0
ALWAYS_BELOW = EntropyControlConfig(floor=20.0, unit="nats")


def verls() -> Callable | None:
    """verl's estimator, where verl is installed."""
    try:
        from verl.trainer.ppo.core_algos import compute_grpo_vectorized_outcome_advantage
    except ImportError:
        return None
    return compute_grpo_vectorized_outcome_advantage


def make_batch(rows: int, tokens: int, group_size: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Rewards (0/1 on the last token), an int64 mask of random lengths, and shuffled uuid4 strings, as verl makes."""
    torch.manual_seed(seed)
    lengths = torch.randint(1, tokens + 1, (rows,))
    rewards = torch.zeros(rows, tokens)
    rewards[torch.arange(rows), lengths - 1] = (torch.rand(rows) > 0.5).float()
    mask = (torch.arange(tokens) < lengths[:, None]).long()
    prompts = [str(uuid.uuid4()) for _ in range(-(-rows // group_size))]
    uids = [prompts[row // group_size] for row in range(rows)]
    random.Random(seed).shuffle(uids)
    return rewards, mask, np.array(uids, dtype=object)


def interleaved(
    contenders: Mapping[str, Callable[[], object]], repeats: int, device: str = "cpu", warm_up: int = 1
) -> dict[str, list[float]]:
    """Milliseconds of each contender in each round; the order rotates, so that nobody always runs after the same."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    times: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for repeat in range(-warm_up, repeats):
        for name in names:
            wait()
            start = time.perf_counter()
            result = contenders[name]()
            wait()
            elapsed = 1e3 * (time.perf_counter() - start)
            del result  # freeing belongs to nobody's time
            if repeat >= 0:
                times[name].append(elapsed)
        names.append(names.pop(0))
    return times


def ratio(times: dict[str, list[float]], name: str, other: str) -> float:
    """Median over the rounds of name / other: a busy neighbour hits both halves of a round."""
    return statistics.median(a / b for a, b in zip(times[name], times[other], strict=True))


def measure(
    rows: int,
    tokens: int,
    group_size: int = 8,
    repeats: int = 15,
    mask_dtype: str = "int64",
    padding: float = 0.0,
    device: str = "cpu",
) -> dict[str, list[float]]:
    """Milliseconds by contender and round; `grpo_vectorized` only where verl is installed."""
    rewards, mask, uids = make_batch(rows, tokens, group_size)
    mask[: int(padding * rows)] = 0
    rewards, mask = rewards.to(device), mask.to(device, getattr(torch, mask_dtype))
    log_probs = -torch.rand(rows, tokens, device=device)
    seen: list[tuple[Groups, torch.Tensor]] = []

    def observe(groups: Groups, advantages: torch.Tensor, response_mask: torch.Tensor, config: object) -> None:
        group_sums(groups, advantages, len(response_mask))
        seen[:] = [(groups, advantages)]

    def estimate(*observers: Callable) -> torch.Tensor:
        before = advantage.observers[:]
        advantage.observers[:] = observers
        try:
            return compute_asym_grpo_advantage(rewards, mask, uids, {})[0]
        finally:
            advantage.observers[:] = before

    advantages = estimate(observe)
    contenders: dict[str, Callable[[], object]] = {
        "floor": lambda: rewards.sum(-1)[:, None] * mask,
        "asym_grpo": estimate,
        "diagnostics": lambda: estimate(observe),
        "covariance": lambda: covariance_sums(*seen[0], log_probs, mask),
        "control": lambda: control(ALWAYS_BELOW, State(), 0.0, advantages, log_probs, mask),
    }
    if (verl := verls()) is not None:
        contenders["grpo_vectorized"] = lambda: verl(rewards, mask, uids)
    return interleaved(contenders, repeats, device)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rows", type=int, default=8192)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--mask-dtype", choices=["int64", "bool", "float32"], default="int64", help="verl: int64")
    parser.add_argument("--padding", type=float, default=0.0, help="share of rows with an all-zero mask")
    args = parser.parse_args()

    times = measure(**vars(args))
    print(
        f"{args.rows} rows x {args.tokens} tokens, groups of {args.group_size}, {args.mask_dtype} mask, "
        f"{args.repeats} repeats, {args.device}, {torch.get_num_threads()} threads"
    )
    for name, values in times.items():
        print(
            f"{name:16s} median {statistics.median(values):7.1f} ms   min {min(values):7.1f}   max {max(values):7.1f}"
            f"   {ratio(times, name, 'floor'):.3f} x floor"
        )
    times["with control"] = [a + b for a, b in zip(times["asym_grpo"], times["control"], strict=True)]
    against_floor, with_control = ratio(times, "asym_grpo", "floor"), ratio(times, "with control", "floor")
    passed = args.device != "cpu" or (against_floor <= MOST_TIMES_FLOOR and with_control < MOST_WITH_CONTROL)
    verdict = f"asym_grpo / floor = {against_floor:.3f} (at most {MOST_TIMES_FLOOR} on a CPU), "
    verdict += f"with control {with_control:.3f} (below {MOST_WITH_CONTROL} there)"
    if "grpo_vectorized" in times:
        against_verl = ratio(times, "asym_grpo", "grpo_vectorized")
        passed &= against_verl < 1
        verdict += f", asym_grpo / grpo_vectorized = {against_verl:.3f} (below 1)"
    print(f"{verdict}: {'ok' if passed else 'FAILED'}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
