"""Times `entropy_modulated`, forward and backward with all metrics, beside verl's `vanilla` in one process.

    python benchmarks/policy_loss.py                                       CPU: 64 x 4096, float32
    python benchmarks/policy_loss.py --device cuda --shapes 64x8192 256x4096 --dtypes float32 bfloat16

Memory is what a step allocates at its peak beyond its inputs, from PyTorch's own record of allocations. Exits 1 when
the compiled loss takes more than half of vanilla's time, or more than half of its memory. Without verl only ours are
timed, with a plain token-mean.
Wants a quiet machine: the ratio is a median over rounds, but a busy neighbour still blurs it.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # from a checkout that is not installed

from benchmarks.estimator import interleaved, ratio
from recipe.asymgrpo import policy_loss

MOST = 0.5


def contenders(batch: tuple[torch.Tensor, ...]) -> dict[str, Callable[[], None]]:
    """One forward and backward of each; metrics come to the host, as verl logs them."""
    old, new, advantages, mask = batch

    def step_of(loss_fn: Callable[..., tuple[torch.Tensor, object]], *extra: object) -> Callable[[], None]:
        def step() -> None:
            new.grad = None
            loss, _ = loss_fn(old, new, advantages, mask, *extra)
            loss.backward()

        return step

    try:
        from verl.trainer.ppo.core_algos import compute_policy_loss_vanilla
        from verl.workers.config import FSDPActorConfig
    except ImportError:
        return {name: step_of(plain(name == "compiled")) for name in ("eager", "compiled")}
    from recipe.asymgrpo.loss_config import EntropyModulatedLossConfig

    def actor(compiled: bool) -> FSDPActorConfig:
        return FSDPActorConfig(
            strategy="fsdp2",
            ppo_micro_batch_size_per_gpu=1,
            rollout_n=8,
            use_torch_compile=compiled,
            policy_loss=EntropyModulatedLossConfig(informative_coef=0.3, spurious_coef=0.1),
        )

    ours = policy_loss.compute_policy_loss_entropy_modulated
    return {
        "vanilla": step_of(compute_policy_loss_vanilla, "token-mean", actor(False)),
        "eager": step_of(ours, "token-mean", actor(False)),
        "compiled": step_of(ours, "token-mean", actor(True)),
    }


def token_mean(loss_mat: torch.Tensor, loss_mask: torch.Tensor) -> torch.Tensor:
    """verl's `agg_loss` of one micro-batch in its mode token-mean."""
    return torch.where(loss_mask, loss_mat, 0.0).sum() / loss_mask.sum()


def plain(compiled: bool) -> Callable[..., tuple[torch.Tensor, list[float]]]:
    """`entropy_modulated` without verl: knobs of verl's defaults, informative_coef 0.3 and spurious_coef 0.1."""

    def loss(old: torch.Tensor, *others: torch.Tensor) -> tuple[torch.Tensor, list[float]]:
        run: Callable[..., tuple[torch.Tensor, torch.Tensor]] = policy_loss.loss_and_sums
        if compiled:
            run = functools.partial(policy_loss._compiled, "token-mean")
        value, sums = run(old, *others, None, aggregate=token_mean, **scalars(old.device))
        return value, sums.tolist()

    return loss


def scalars(device: torch.device, informative: float = 0.3, spurious: float = 0.1) -> dict[str, torch.Tensor]:
    """The knobs of `loss_and_sums`, with verl's default clip."""
    on_host = {"informative_coef": informative, "spurious_coef": spurious, "cap": 0.5, "clip_dual": 3.0}
    on_device = {"ratio_low": 0.8, "ratio_high": 1.2}
    return {name: policy_loss._scalar(value) for name, value in on_host.items()} | {
        name: policy_loss._scalar(value, device) for name, value in on_device.items()
    }


def make_batch(rows: int, tokens: int, dtype: torch.dtype, device: str) -> tuple[torch.Tensor, ...]:
    """Log-probs a few updates apart, outcome advantages, ragged responses."""
    torch.manual_seed(0)
    old = -2 * torch.rand(rows, tokens, device=device)
    new = old + 0.3 * torch.randn(rows, tokens, device=device)
    advantages = torch.randn(rows, 1, device=device).expand(rows, tokens).contiguous()
    mask = torch.arange(tokens, device=device) < torch.randint(1, tokens + 1, (rows, 1), device=device)
    return old.to(dtype), new.to(dtype).requires_grad_(), advantages, mask


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


def measure(
    rows: int, tokens: int, dtype: str, repeats: int, device: str
) -> tuple[float, dict[str, list[float]], dict[str, int]]:
    """Seconds of the first compiled step; milliseconds and peak bytes by contender."""
    batch = make_batch(rows, tokens, getattr(torch, dtype), device)
    steps = contenders(batch)
    start = time.perf_counter()
    steps["compiled"]()
    first = time.perf_counter() - start
    times = interleaved(steps, repeats, device, warm_up=3)  # three rounds warm up and compile
    return first, times, {name: peak_bytes(step, device) for name, step in steps.items()}


def ratios(times: dict[str, list[float]], memory: dict[str, int], name: str, other: str) -> tuple[float, float]:
    """Time and memory of a contender in those of another; of the times the median over the rounds."""
    return ratio(times, name, other), memory[name] / memory[other]


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
            first, times, memory = measure(rows, tokens, dtype, args.repeats, args.device)
            print(f"{shape} {dtype} on {args.device}, first compiled step {first:.1f} s")
            other = "vanilla" if "vanilla" in times else "eager"
            for name in times:
                time_ratio, memory_ratio = ratios(times, memory, name, other)
                print(
                    f"  {name:9s} median {statistics.median(times[name]):7.2f} ms  min {min(times[name]):7.2f}"
                    f"  peak {memory[name] / 2**20:7.1f} MiB   x {other}: time {time_ratio:.2f}"
                    f"  memory {memory_ratio:.2f}"
                )
            passed &= other != "vanilla" or max(ratios(times, memory, "compiled", other)) <= MOST
    print(f"compiled at most {MOST} x vanilla in time and memory: {'ok' if passed else 'FAILED'}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
