"""Part 1: estimator, loss and diagnostics on the device against the CPU."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import policy_loss as loss_benchmark
from benchmarks.estimator import make_batch
from benchmarks.gpu_check import ABSENT, FAIL, PASS, Finding
from recipe.asymgrpo import advantage, policy_loss
from recipe.asymgrpo.curves import PRESETS
from recipe.asymgrpo.diagnostics import covariance_sums, group_sums, truncation_sums

MASKS = (torch.int64, torch.bool, torch.float32)
SHAPES = {"cuda": ((8, 16), (64, 1000), (256, 8192)), "cpu": ((8, 16), (64, 250))}


def estimates(device: str) -> Iterable[tuple[str, Tensor, Tensor, list[float], list[float]]]:
    """Name of a batch; its advantages and diagnostics on the CPU and on the device."""

    def both(rewards: Tensor, mask: Tensor, uids: np.ndarray, preset: str) -> tuple[Tensor, list[float]]:
        figures: list[float] = []

        def observe(groups: Any, advantages: Tensor, response_mask: Tensor, config: object) -> None:
            make = torch.Generator().manual_seed(1)
            log_probs = -torch.rand(*response_mask.shape, generator=make).to(response_mask.device)
            for sums in (
                group_sums(groups, advantages, len(response_mask)),
                truncation_sums(groups, response_mask, response_mask.shape[1]),
                covariance_sums(groups, advantages, log_probs, response_mask),
            ):
                figures.extend(float(value) for value in sums.values())

        before = advantage.observers[:]
        advantage.observers[:] = [observe]
        try:
            config = {"asym_grpo": {"preset": preset}}
            found, _ = advantage.compute_asym_grpo_advantage(rewards, mask, uids, config)
        finally:
            advantage.observers[:] = before
        return found, figures

    for rows, tokens in SHAPES[device]:
        rewards, mask, uids = make_batch(rows, tokens, group_size=8)
        mask[:: rows // 4] = 0  # padding, which is in no group
        for dtype in (torch.float32, torch.bfloat16):
            for mask_dtype in MASKS:
                rewards, mask = rewards.to(dtype), mask.to(mask_dtype)
                for preset in PRESETS if rows < 200 else ("asymgrpo", "grpo"):
                    on_cpu, expected = both(rewards, mask, uids, preset)
                    there, figures = both(rewards.to(device), mask.to(device), uids, preset)
                    assert there.device.type == device
                    name = f"{rows}x{tokens}, {dtype}, {mask_dtype} mask, {preset}"
                    yield name, on_cpu, there.cpu(), expected, figures


def check_estimator(device: str) -> list[Finding]:
    batches, differing, worst = 0, [], 0.0
    for name, on_cpu, there, expected, figures in estimates(device):
        batches += 1
        if not torch.equal(on_cpu, there):
            differing.append(name)
        for a, b in zip(expected, figures, strict=True):
            worst = max(worst, abs(a - b) / max(1.0, abs(a)))
    same = f"{batches} batches: " + (f"{len(differing)} differ, the first {differing[0]}" if differing else "all equal")
    return [
        Finding(1, "estimator, bit by bit", FAIL if differing else PASS, same, {"batches": batches}),
        Finding(
            *(1, "diagnostics", PASS if worst < 1e-5 else FAIL),
            f"largest relative difference {worst:.1e} (below 1e-5)",
            {"largest": worst},
        ),
    ]


@dataclass(frozen=True)
class LossErrors:
    """How far a loss is from the float64 one of the same batch."""

    loss: float  # in mean |A|
    gradient: float  # share of the own tokens whose gradient is off by more than a rounding
    sums: float  # of the 24 sums, relative

    def within(self, cpu: LossErrors, dtype: torch.dtype) -> bool:
        """No further off than what the CPU has in the same precision, but for chance: a ratio next to the clip."""
        little = 1e-5 if dtype == torch.float32 else 1e-2
        return (
            self.loss <= 2 * cpu.loss + little
            and self.gradient <= 2 * cpu.gradient + little
            and self.sums <= 2 * cpu.sums + little
        )


def evaluate(loss_fn: Callable, batch: Sequence[Tensor], device: str, **knobs: float) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, gradient and sums, in float64 on the CPU."""
    old, new, advantages, mask = (tensor.to(device) for tensor in batch)
    new = new.detach().requires_grad_()
    scalars = loss_benchmark.scalars(old.device, **knobs)
    loss, sums = loss_fn(old, new, advantages, mask, None, aggregate=loss_benchmark.token_mean, **scalars)
    (gradient,) = torch.autograd.grad(loss, new)
    return loss.detach().cpu().double(), gradient.cpu().double(), sums.cpu()


def errors(found: Sequence[Tensor], exact: Sequence[Tensor], batch: Sequence[Tensor]) -> LossErrors:
    _, new, advantages, mask = batch
    own = mask != 0
    rounding = (1e-4 if new.dtype == torch.float32 else 2**-5) * exact[1].abs().max()
    off = (found[1] - exact[1]).abs() > rounding
    size = advantages.abs().double()[own].mean()
    sums = (found[2] - exact[2]).abs() / exact[2].abs().clamp(min=1)
    return LossErrors(
        loss=float((found[0] - exact[0]).abs() / size),
        gradient=float(off[own].double().mean()) if not bool(off[~own].any()) else math.inf,
        sums=float(sums.max()),
    )


def check_loss(device: str) -> list[Finding]:
    findings = []
    compiled = functools.partial(policy_loss._compiled, "token-mean")
    for dtype in (torch.float32, torch.bfloat16):
        ways: dict[str, Callable] = {"eager": policy_loss.loss_and_sums, "compiled": compiled}
        worst = {name: LossErrors(0, 0, 0) for name in ways}
        failed: dict[str, list[str]] = {name: [] for name in ways}
        batches = 0
        for rows, tokens in SHAPES[device]:
            *tensors, mask = loss_benchmark.make_batch(rows, tokens, dtype, "cpu")
            for mask_dtype in MASKS if dtype == torch.float32 else (torch.bool,):
                for knobs in ({"informative": 0.0, "spurious": 0.0}, {}):
                    batch = [*(tensor.detach() for tensor in tensors), mask.to(mask_dtype)]
                    exact = evaluate(policy_loss.loss_and_sums, [t.double() for t in batch], "cpu", **knobs)
                    on_cpu = errors(evaluate(policy_loss.loss_and_sums, batch, "cpu", **knobs), exact, batch)
                    batches += 1
                    for name, loss_fn in ways.items():
                        found = errors(evaluate(loss_fn, batch, device, **knobs), exact, batch)
                        if not found.within(on_cpu, dtype):
                            failed[name].append(f"{rows}x{tokens}, {mask_dtype} mask")
                        pairs = zip(asdict(worst[name]).values(), asdict(found).values(), strict=True)
                        worst[name] = LossErrors(*(max(pair) for pair in pairs))
        for name, bad in failed.items():
            fell_back = name == "compiled" and policy_loss._compile_failures
            words = (
                f"{batches} batches: loss off by {worst[name].loss:.1e} of |A|, {worst[name].gradient:.1e} of the "
                f"gradients by more than a rounding, sums by {worst[name].sums:.1e}"
            )
            words += f"; further than on the CPU: {len(bad)}, the first {bad[0]}" if bad else ""
            words += f"; torch.compile failed: {str(fell_back[0]).splitlines()[0]}" if fell_back else ""
            what = f"loss, {name}, {str(dtype).removeprefix('torch.')}"
            findings.append(Finding(1, what, FAIL if bad or fell_back else PASS, words, asdict(worst[name])))
    return findings


# Transfers of one call, as docs/gpu.md lists them: to the host, to the device.
COPIES = {"estimator": (3, 1), "loss, eager": (1, 0), "loss, compiled": (1, 0)}


def copies(step: Callable[[], object]) -> tuple[int, int]:
    """How many transfers to the host and to the device a step makes, by CUDA's own record."""
    step()
    torch.cuda.synchronize()
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        step()
        torch.cuda.synchronize()
    names = [event.name for event in profile.events()]
    return sum("Memcpy DtoH" in name for name in names), sum("Memcpy HtoD" in name for name in names)


def check_costs(device: str) -> list[Finding]:
    """Transfers (on a GPU) and peak memory."""
    rows, tokens = SHAPES[device][-1]
    rewards, mask, uids = make_batch(rows, tokens, group_size=8)
    rewards, mask = rewards.to(device), mask.to(device)
    batch = loss_benchmark.make_batch(rows, tokens, torch.float32, device)
    steps: dict[str, Callable[[], object]] = {
        "estimator": lambda: advantage.compute_asym_grpo_advantage(rewards, mask, uids, {}),
    }
    for name, compiled in (("loss, eager", False), ("loss, compiled", True)):
        steps[name] = functools.partial(loss_benchmark.plain(compiled), *batch)
    before = advantage.observers[:]
    advantage.observers.clear()
    try:
        peak = loss_benchmark.peak_bytes(steps["estimator"], device) / (rows * tokens * 4)
        findings = [
            Finding(
                *(1, "estimator, peak memory", PASS if peak <= 1.25 else FAIL),
                f"{peak:.2f} of a (rows, tokens) matrix of the rewards beyond its input (at most 1.25)",
                {"matrices": peak},
            )
        ]
        if device != "cuda":
            return [*findings, Finding(1, "copies", ABSENT, "host and device are one")]
        for name, step in steps.items():
            found = copies(step)
            # None at all to the host would mean that they are not seen.
            passed = 0 < found[0] <= COPIES[name][0] and found[1] <= COPIES[name][1]
            words = (
                f"{found[0]} to the host, {found[1]} to the device (documented: {COPIES[name][0]}, {COPIES[name][1]})"
            )
            findings.append(
                Finding(
                    1, f"{name}, copies", PASS if passed else FAIL, words, {"to_host": found[0], "to_device": found[1]}
                )
            )
    finally:
        advantage.observers[:] = before
    return findings
