"""The command line: all parts, the page, and part 2, speed."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks import estimator as estimator_benchmark
from benchmarks import gpu_check
from benchmarks import policy_loss as loss_benchmark
from benchmarks.gpu_check import FAIL, PASS, Finding
from benchmarks.gpu_check.training import check_training
from benchmarks.gpu_check.values import check_costs, check_estimator, check_loss


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
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_check",
        description=gpu_check.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
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
