"""Times `entropy_modulated`, forward and backward with all metrics, beside verl's `vanilla` in one process.

    python benchmarks/policy_loss.py                                       CPU: 64 x 4096, float32
    python benchmarks/policy_loss.py --device cuda --shapes 64x8192 256x4096 --dtypes float32 bfloat16

Memory is what a step allocates at its peak beyond its inputs, from PyTorch's own record of allocations. Exits 1 when
the compiled loss takes more than half of vanilla's time, or more than half of its memory.
Wants a quiet machine: the ratio is a median over rounds, but a busy neighbour still blurs it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # from a checkout that is not installed

from verl.trainer.ppo.core_algos import compute_policy_loss_vanilla
from verl.workers.config import FSDPActorConfig

from recipe.asymgrpo.loss_config import EntropyModulatedLossConfig
from recipe.asymgrpo.policy_loss import compute_policy_loss_entropy_modulated

MOST = 0.5


def actor(compiled: bool) -> FSDPActorConfig:
    """verl's actor configuration with a loss that modulates."""
    return FSDPActorConfig(
        strategy="fsdp2",
        ppo_micro_batch_size_per_gpu=1,
        rollout_n=8,
        use_torch_compile=compiled,
        policy_loss=EntropyModulatedLossConfig(informative_coef=0.3, spurious_coef=0.1),
    )


def step_of(loss_fn: Callable, batch: tuple[torch.Tensor, ...], config: FSDPActorConfig) -> Callable[[], None]:
    """One forward and backward; metrics come to the host, as verl logs them."""
    old, new, advantages, mask = batch

    def step() -> None:
        new.grad = None
        loss, _ = loss_fn(old, new, advantages, mask, "token-mean", config)
        loss.backward()

    return step


def make_batch(rows: int, tokens: int, dtype: torch.dtype, device: str) -> tuple[torch.Tensor, ...]:
    """Log-probs a few updates apart, outcome advantages, ragged responses."""
    torch.manual_seed(0)
    old = -2 * torch.rand(rows, tokens, device=device)
    new = old + 0.3 * torch.randn(rows, tokens, device=device)
    advantages = torch.randn(rows, 1, device=device).expand(rows, tokens).contiguous()
    mask = torch.arange(tokens, device=device) < torch.randint(1, tokens + 1, (rows, 1), device=device)
    return old.to(dtype), new.to(dtype).requires_grad_(), advantages, mask


def milliseconds(steps: dict[str, Callable[[], None]], repeats: int, device: str) -> dict[str, list[float]]:
    """Time of each contender in each round; the order rotates."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    times: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for repeat in range(-3, repeats):  # three rounds warm up and compile
        for name in names:
            wait()
            start = time.perf_counter()
            steps[name]()
            wait()
            if repeat >= 0:
                times[name].append(1e3 * (time.perf_counter() - start))
        names.append(names.pop(0))
    return times


def peak_bytes(step: Callable[[], object], device: str) -> int:
    """Most bytes allocated at one time during a step, beyond what was there before."""
    step()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        step()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--shapes", nargs="+", default=["64x4096"], metavar="ROWSxTOKENS")
    parser.add_argument("--dtypes", nargs="+", default=["float32"], choices=["float32", "bfloat16"])
    parser.add_argument("--repeats", type=int, default=50)
    args = parser.parse_args()

    passed = True
    for shape in args.shapes:
        for dtype in args.dtypes:
            rows, tokens = map(int, shape.split("x"))
            batch = make_batch(rows, tokens, getattr(torch, dtype), args.device)
            steps = {
                "vanilla": step_of(compute_policy_loss_vanilla, batch, actor(False)),
                "eager": step_of(compute_policy_loss_entropy_modulated, batch, actor(False)),
                "compiled": step_of(compute_policy_loss_entropy_modulated, batch, actor(True)),
            }
            start = time.perf_counter()
            steps["compiled"]()
            print(f"{shape} {dtype} on {args.device}, first compiled step {time.perf_counter() - start:.1f} s")
            times = milliseconds(steps, args.repeats, args.device)
            memory = {name: peak_bytes(step, args.device) for name, step in steps.items()}
            for name in steps:
                by_round = (a / b for a, b in zip(times[name], times["vanilla"], strict=True))
                ratios = statistics.median(by_round), memory[name] / memory["vanilla"]
                print(
                    f"  {name:9s} median {statistics.median(times[name]):7.2f} ms  min {min(times[name]):7.2f}"
                    f"  peak {memory[name] / 2**20:7.1f} MiB   x vanilla: time {ratios[0]:.2f}  memory {ratios[1]:.2f}"
                )
            passed &= max(ratios) <= MOST
    print(f"compiled at most {MOST} x vanilla in time and memory: {'ok' if passed else 'FAILED'}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
