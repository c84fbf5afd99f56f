"""What a machine with a GPU makes of this package: the values of the CPU, what they cost, and a training. One page.

    bash examples/gpu_check.sh                 all of it: at most 6 minutes, offline
    DEVICE=cpu bash examples/gpu_check.sh      parts 1 and 2 without a GPU

1. Estimator, loss and diagnostics on the device against the CPU: values, gradients, memory, copies to the host.
2. benchmarks/estimator.py and benchmarks/policy_loss.py, beside verl's functions where verl is installed.
3. Two steps of examples/run_qwen2_5_0_5b_1gpu.sh at SCALE=tiny on the GPU itself, and a third after a resume.

Writes gpu_check.md and gpu_check.json into --out. Exit status: 0, or 1 where something failed.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # from a checkout that is not installed

from benchmarks import estimator as estimator_benchmark
from benchmarks import policy_loss as loss_benchmark
from recipe.asymgrpo import advantage, policy_loss
from recipe.asymgrpo.curves import PRESETS
from recipe.asymgrpo.diagnostics import covariance_sums, group_sums, truncation_sums

ROOT = Path(__file__).resolve().parents[1]
PASS, FAIL, ABSENT = "PASS", "FAIL", "not here"
MASKS = (torch.int64, torch.bool, torch.float32)
SHAPES = {"cuda": ((8, 16), (64, 1000), (256, 8192)), "cpu": ((8, 16), (64, 250))}
TINY = "run_qwen2_5_0_5b_1gpu"


@dataclass
class Finding:
    """One line of the page."""

    part: int
    what: str
    status: str
    words: str
    figures: dict[str, Any] = field(default_factory=dict)


# 1. The values of the CPU


def uids_of(rows: int) -> list[str]:
    return [f"prompt {row // 8}" for row in range(rows)]


def rollouts(rows: int, tokens: int, dtype: torch.dtype, mask: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rewards of 0 or 1 on the last token and a mask of random lengths, some of them 0, on the CPU."""
    make = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, tokens + 1, (rows,), generator=make)
    rewards = torch.zeros(rows, tokens)
    rewards[torch.arange(rows), (lengths - 1).clamp(min=0)] = (torch.rand(rows, generator=make) > 0.6).float()
    return rewards.to(dtype), (torch.arange(tokens) < lengths[:, None]).to(mask)


def estimates(device: str) -> Iterable[tuple[str, Tensor, Tensor, list[float], list[float]]]:
    """Name of a batch; its advantages and diagnostics on the CPU and on the device."""

    def both(rewards: Tensor, mask: Tensor, preset: str) -> tuple[Tensor, list[float]]:
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
            found, _ = advantage.compute_asym_grpo_advantage(rewards, mask, uids_of(len(mask)), config)
        finally:
            advantage.observers[:] = before
        return found, figures

    for rows, tokens in SHAPES[device]:
        for dtype in (torch.float32, torch.bfloat16):
            for mask_dtype in MASKS:
                rewards, mask = rollouts(rows, tokens, dtype, mask_dtype)
                for preset in PRESETS if rows < 200 else ("asymgrpo", "grpo"):
                    on_cpu, expected = both(rewards, mask, preset)
                    there, figures = both(rewards.to(device), mask.to(device), preset)
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
    rewards, mask = (tensor.to(device) for tensor in rollouts(rows, tokens, torch.float32, torch.int64))
    mask[:, 0] = 1
    uids = uids_of(rows)
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
            passed = all(a <= b for a, b in zip(found, COPIES[name], strict=True))
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


# 2. What they cost


def check_speed(device: str) -> list[Finding]:
    findings = []
    shape, repeats = ((8192, 4096), 15) if device == "cuda" else ((4096, 2048), 5)
    times = estimator_benchmark.measure(*shape, repeats=repeats, device=device)
    figures: dict[str, Any] = {
        name: estimator_benchmark.ratio(times, name, "asym_grpo") for name in times if name != "asym_grpo"
    }
    median = sorted(times["asym_grpo"])[repeats // 2]
    words = f"{shape[0]} x {shape[1]}: {median:.2f} ms; in its time " + ", ".join(
        f"{name} {value:.2f}" for name, value in figures.items()
    )
    verl = figures.get("grpo_vectorized")
    status = PASS if verl is None or verl > 1 else FAIL
    words += " (verl's must be above 1)" if verl is not None else "; no verl here to compare with"
    findings.append(Finding(2, "estimator, time", status, words, {**figures, "milliseconds": median}))
    for rows, tokens in ((64, 8192), (256, 4096)) if device == "cuda" else ((64, 512),):
        for dtype in ("float32", "bfloat16"):
            first, spent, memory = loss_benchmark.measure(rows, tokens, dtype, 50 if device == "cuda" else 10, device)
            other = "vanilla" if "vanilla" in spent else "eager"
            ours = loss_benchmark.ratios(spent, memory, "compiled", other)
            passed = other == "eager" or max(ours) < 1
            words = (
                f"{rows} x {tokens}: compiled {ours[0]:.2f} of the time and {ours[1]:.2f} of the memory of "
                f"{other}{' of verl (below 1)' if other == 'vanilla' else '; no verl here to compare with'}, "
                f"first step {first:.1f} s"
            )
            figures = {"time": ours[0], "memory": ours[1], "of": other, "first_step_seconds": first}
            findings.append(Finding(2, f"loss, time, {dtype}", PASS if passed else FAIL, words, figures))
    return findings


# 3. A training


def check_training(device: str, out: Path, limit: float) -> list[Finding]:
    """Two steps on the GPU itself, then a third after a resume."""
    if device == "cpu":
        return [Finding(3, "training", ABSENT, f"on a CPU: SCALE=tiny bash examples/{TINY}.sh")]
    needed = ("verl", "vllm", "ray", "tensordict", "transformers", "pyarrow", "math_verify")
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        return [Finding(3, "training", ABSENT, f"missing: {', '.join(missing)}")]
    folder = out / "training"
    findings, until = list[Finding](), time.monotonic() + limit
    for what, steps in (("two steps", 2), ("resumed", 3)):
        started = time.monotonic()
        knobs = {"SCALE": "tiny", "DEVICE": "cuda", "PYTHON": sys.executable, "OUT": str(folder), "STEPS": str(steps)}
        command = ["bash", str(ROOT / "examples" / f"{TINY}.sh")]
        command += ["actor_rollout_ref.rollout.calculate_log_probs=True", "trainer.test_freq=-1"]
        try:
            done = subprocess.run(
                command,
                env={**os.environ, "HF_HUB_OFFLINE": "1", **knobs, "RUN_NAME": "check"},
                capture_output=True,
                text=True,
                timeout=max(10.0, until - time.monotonic()),
                check=False,
            )
        except subprocess.TimeoutExpired:
            return [*findings, Finding(3, what, FAIL, f"not ended after {limit:.0f} s; log: {folder}")]
        seconds = time.monotonic() - started
        if done.returncode:
            tail = " / ".join((done.stdout + done.stderr).strip().splitlines()[-4:])
            return [*findings, Finding(3, what, FAIL, f"exit status {done.returncode}: {tail}")]
        (run,) = (folder / TINY).glob("check-seed*")
        findings.append(judge_training(what, run, steps, seconds))
    flash = "present" if importlib.util.find_spec("flash_attn") else "missing: attention was sdpa"
    return [*findings, Finding(3, "flash-attn", PASS if flash == "present" else ABSENT, flash)]


def judge_training(what: str, run: Path, steps: int, seconds: float) -> Finding:
    """The last start of a run: its steps, that its figures are numbers, and vLLM's weights those of the trainer."""
    log = max(run.glob("metrics-*.jsonl"))
    found: dict[int, dict[str, Any]] = {}
    for line in log.read_text().splitlines():
        record = json.loads(line)
        found.setdefault(record["step"], {}).update(record["data"])
    last = found.get(steps, {})
    wanted = ("asymgrpo/group_accuracy", "actor/grad_norm", "training/rollout_probs_diff_mean", "actor/pg_loss")
    bad = [key for key in wanted if not math.isfinite(last.get(key, math.nan))]
    apart = last.get("training/rollout_probs_diff_mean", math.nan)
    if bad:
        status, words = FAIL, f"no number for {', '.join(bad)} in step {steps} of {log}"
    elif what == "resumed" and min(found) < steps:
        status, words = FAIL, f"began at step {min(found)} instead of {steps}"
    else:
        # bfloat16 has 8 bits: a probability differs by some hundredths at the most; unsynced weights by far more.
        status = PASS if apart < 0.05 else FAIL
        words = (
            f"{seconds:.0f} s; probabilities of vLLM and trainer differ by {apart:.1e} in the mean (below 0.05), "
            f"group accuracy {last['asymgrpo/group_accuracy']:.2f}"
        )
    return Finding(3, what, status, words, {key: last.get(key) for key in wanted} | {"seconds": seconds})


# The page


def machine(device: str) -> dict[str, Any]:
    name = torch.cuda.get_device_name(0) if device == "cuda" else platform.processor() or platform.machine()
    about: dict[str, Any] = {"device": name, "torch": torch.__version__, "python": platform.python_version()}
    if device == "cuda":
        about |= {"cuda": torch.version.cuda, "GiB": round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1)}
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        try:
            done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
            about["driver"] = done.stdout.strip().splitlines()[0]
        except (OSError, subprocess.SubprocessError, IndexError):
            about["driver"] = "unknown"
    for package in ("verl", "vllm", "flash_attn"):
        try:
            about[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            about[package] = "not installed"
    return about


def page(about: dict[str, Any], findings: Sequence[Finding], seconds: float) -> str:
    failed = [finding for finding in findings if finding.status == FAIL]
    lines = [
        f"# gpu_check on {about['device']}: {FAIL if failed else PASS}",
        "",
        ", ".join(f"{key} {value}" for key, value in about.items() if key != "device") + f"; {seconds:.0f} s.",
        "",
        "| part | what | | |",
        "|---|---|---|---|",
    ]
    for finding in findings:
        words = finding.words.replace("|", "\\|").replace("\n", " ")
        lines.append(f"| {finding.part} | {finding.what} | {finding.status} | {words} |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--out", type=Path, default=Path("outputs/gpu_check"), help="folder for page and figures")
    parser.add_argument("--parts", type=int, nargs="+", choices=[1, 2, 3], default=[1, 2, 3])
    parser.add_argument("--training-limit", type=float, default=240, metavar="SECONDS", help="of part 3")
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        print("gpu_check: no GPU that this torch can use; DEVICE=cpu runs parts 1 and 2 without one", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    checks: list[tuple[int, str, Callable[[], list[Finding]]]] = [
        (1, "estimator", lambda: check_estimator(args.device)),
        (1, "loss", lambda: check_loss(args.device)),
        (1, "costs", lambda: check_costs(args.device)),
        (2, "speed", lambda: check_speed(args.device)),
        (3, "training", lambda: check_training(args.device, args.out.resolve(), args.training_limit)),
    ]
    about, findings = machine(args.device), list[Finding]()
    for part, name, check in checks:
        if part not in args.parts:
            continue
        try:
            found = check()
        except Exception as error:  # the other parts still tell something
            words = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            found = [Finding(part, name, FAIL, words)]
        findings += found
        for finding in found:
            print(f"{finding.status:8s}  {finding.what}: {finding.words}", flush=True)
        # After each part: what is known stays if the machine goes away.
        seconds = time.monotonic() - started
        record = {"machine": about, "seconds": round(seconds, 1), "findings": [asdict(one) for one in findings]}
        (args.out / "gpu_check.json").write_text(json.dumps(record, indent=1) + "\n")
        (args.out / "gpu_check.md").write_text(page(about, findings, seconds))
    failed = sum(finding.status == FAIL for finding in findings)
    print(f"{FAIL if failed else PASS}: {len(findings)} checks, {failed} failed; {args.out / 'gpu_check.md'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
