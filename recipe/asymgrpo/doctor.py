"""Looks at an environment before a training does.

    python -m recipe.asymgrpo.doctor [--no-ray] [--out DIR]

One line a check, OK, WARN or FAIL, with the remedy; exit status 1 where something is FAIL. It starts a Ray worker of
its own (or one on every node of the cluster of RAY_ADDRESS) to see whether the plugin is there too, and trains nothing.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OK, WARN, FAIL = "OK", "WARN", "FAIL"

# What the tests of this package have run with, and what they may be below or above (first unsupported version).
TESTED = {
    "verl": ("0.9.1", "0.6", "0.10"),
    "torch": ("2.13.0", "2.6", "3"),
    "vllm": ("0.28.0", "0.8", "1"),
    "ray": ("2.60", "2.41", "3"),
    "transformers": ("5.10.4", "4.51", "6"),
}
OPTIONAL = {
    "flash-attn": "without it attention is sdpa on padded batches, slower: pip install --no-build-isolation flash-attn",
    "math-verify": "the reward for mathematics needs it: pip install math-verify",
    "wandb": "only for trainer.logger=wandb: pip install wandb",
}
PROBE = (
    "import verl; from verl.trainer.ppo.core_algos import get_adv_estimator_fn as g; print(g('asym_grpo').__module__)"
)
# What the plugin leans on in verl: module, name, parameters that it uses, and whether a training can do without.
LEANS_ON = (
    ("verl.trainer.ppo.core_algos", "ADV_ESTIMATOR_REGISTRY", (), False),
    ("verl.trainer.ppo.core_algos", "POLICY_LOSS_REGISTRY", (), False),
    ("verl.trainer.ppo.core_algos", "agg_loss", ("loss_mat", "loss_mask", "loss_agg_mode"), False),
    ("verl.workers.config", "PolicyLossConfig", (), False),
    ("verl.utils.config", "validate_config", (), True),
    ("verl.trainer.ppo.metric_utils", "compute_data_metrics", (), True),
    ("verl.trainer.ppo.ray_trainer", "compute_advantage", (), True),
)
LEANING = """
import importlib, inspect, json, sys
missing = []
for module, name, parameters, spare in json.loads(sys.argv[1]):
    try:
        found = getattr(importlib.import_module(module), name)
        lacks = [p for p in parameters if p not in inspect.signature(found).parameters]
        problem = f"has no parameter {', '.join(lacks)}" if lacks else ""
    except Exception as error:
        problem = f"is not there ({type(error).__name__})"
    if problem:
        missing.append([f"{module}.{name} {problem}", spare])
print("LEANING", json.dumps(missing))
"""
# pytorch/pytorch #194976: a Python float that reaches an operator's scalar argument is baked into a compiled graph.
BAKES_FLOATS = ((2, 8), (2, 15))
KEPT_7B_GB = 183  # two checkpoints of Qwen2.5-Math-7B, 12 bytes a parameter: weights and AdamW's two moments
MIN_DISK_GB, MIN_SHM_GB = KEPT_7B_GB * 3 // 2, 2


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    status: str
    topic: str
    text: str

    def __str__(self) -> str:
        return f"{self.status:<4}  {self.topic:<12}  {self.text}"


def version_of(name: str) -> str | None:
    """The installed version; vLLM's build for CPUs is another distribution."""
    for distribution in (name, f"{name}-cpu"):
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def as_numbers(version: str) -> tuple[int, ...]:
    """``2.13.0+cpu`` -> (2, 13, 0), for comparison; stops at the first part that is no number."""
    numbers = []
    for part in version.split("+")[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def check_versions() -> list[Finding]:
    """Versions against those the tests ran with."""
    found = []
    for name, (tested, lowest, beyond) in TESTED.items():
        version = version_of(name)
        if version is None:
            found.append(Finding(FAIL, name, f"not installed in {sys.executable}: verl needs it"))
        elif not as_numbers(lowest) <= as_numbers(version) < as_numbers(beyond):
            # An older verl lacks what a plugin needs; of a newer one `check_leaning` knows more than its number does.
            status = FAIL if name == "verl" and as_numbers(version) < as_numbers(lowest) else WARN
            found.append(Finding(status, name, f"{version} is outside {lowest} to {beyond}; tested with {tested}"))
        else:
            found.append(Finding(OK, name, version if version.startswith(tested) else f"{version} (tested: {tested})"))
    for name, why in OPTIONAL.items():
        version = version_of(name)
        found.append(Finding(OK, name, version) if version else Finding(WARN, name, f"not installed; {why}"))
    return found


def check_leaning() -> list[Finding]:
    """Whether verl still has what the plugin leans on, whatever its version."""
    command = [sys.executable, "-c", LEANING, json.dumps(LEANS_ON)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    line = next((line for line in done.stdout.splitlines() if line.startswith("LEANING ")), None)
    if line is None:
        cause = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return [Finding(FAIL, "verl's parts", f"they could not be looked at: {cause}")]
    missing = json.loads(line.removeprefix("LEANING "))
    if not missing:
        return [Finding(OK, "verl's parts", f"all {len(LEANS_ON)} that the plugin leans on are there")]
    lost = {True: "metrics or early checks will be missing", False: "the plugin cannot work with this verl"}
    return [Finding(WARN if spare else FAIL, "verl's parts", f"{text}: {lost[spare]}") for text, spare in missing]


def check_compiler() -> list[Finding]:
    """Whether this torch may compile a loss of the user's own wrongly; ours is not concerned."""
    version = version_of("torch") or ""
    if not BAKES_FLOATS[0] <= as_numbers(version)[:2] < BAKES_FLOATS[1]:
        return []
    text = (
        f"torch {version} may take a Python number in a compiled loss of yours (clamp's bounds, say) from an earlier "
        "call or run (pytorch/pytorch #194976): pass it as a tensor, or set actor.use_torch_compile=False. "
        "entropy_modulated is not concerned"
    )
    return [Finding(WARN, "torch.compile", text)]


def check_plugin() -> list[Finding]:
    """Whether a fresh python has the estimator after `import verl`."""
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=False)
    if done.returncode == 0 and "recipe.asymgrpo" in done.stdout:
        return [Finding(OK, "plugin", "algorithm.adv_estimator=asym_grpo is registered here")]
    cause = (done.stderr.strip().splitlines() or ["no message"])[-1]
    remedy = f"{sys.executable} -m pip install . in the folder of verl-asymgrpo"
    version = version_of("verl")
    if version and as_numbers(version) < (0, 9):
        remedy += ", and export VERL_USE_EXTERNAL_MODULES=verl_ext.plugin, for this verl looks for no plugins"
    return [Finding(FAIL, "plugin", f"not registered ({cause}): {remedy}")]


def check_ray() -> list[Finding]:
    """Whether a Ray worker has it as well, on every node of a cluster."""
    try:
        import logging

        import ray

        where: dict[str, Any] = {"address": "local", "num_cpus": 1, "include_dashboard": False}
        if os.environ.get("RAY_ADDRESS"):
            where = {}
        ray.init(logging_level=logging.ERROR, log_to_driver=False, **where)
    except Exception as error:
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return [Finding(FAIL, "Ray worker", f"Ray does not start: {cause}; see RAY_ADDRESS and ray status")]
    try:
        return probe_nodes()
    finally:
        ray.shutdown()


def probe_nodes() -> list[Finding]:
    """Whether a worker has the plugin, and what judges mathematics, on every node of the cluster of this process."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    @ray.remote(num_cpus=1)
    def probe() -> bool:
        from importlib.util import find_spec

        from verl.trainer.ppo.core_algos import get_adv_estimator_fn

        get_adv_estimator_fn("asym_grpo")
        return find_spec("latex2sympy2_extended") is not None

    found = []
    for node in (node for node in ray.nodes() if node["Alive"]):
        pinned = probe.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        name = node["NodeManagerAddress"]
        try:
            judges = ray.get(pinned.remote(), timeout=120)
            text = f"the plugin is registered on {name}" + ("" if judges else ", no math-verify: pip install it there")
            found.append(Finding(OK if judges else WARN, "Ray worker", text))
        except Exception as error:
            cause = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            text = f"not on {name} ({cause}): install verl-asymgrpo on that node, before ray start"
            found.append(Finding(FAIL, "Ray worker", text))
    return found


def check_accelerator() -> list[Finding]:
    """The accelerators, and the platform that verl has chosen."""
    try:
        import torch
        from verl.plugin.platform import get_platform

        platform = get_platform()
        name = str(getattr(platform, "device_name", type(platform).__name__))
    except Exception as error:
        return [Finding(FAIL, "accelerator", f"verl chooses no platform: {error!r}; is this verl 0.9?")]
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        text = f"{count} x {torch.cuda.get_device_name(0)}, {memory:.0f} GiB; platform {name}"
        if name == "cpu":
            return [Finding(WARN, "accelerator", f"{text}: unset VERL_PLATFORM to use the GPUs")]
        return [Finding(OK, "accelerator", text)]
    if name == "cpu":
        return [Finding(WARN, "accelerator", "none; platform cpu, for bash examples/quickstart.sh and SCALE=tiny")]
    return [Finding(OK, "accelerator", f"platform {name}")]


def check_space(out: Path) -> list[Finding]:
    """Room for checkpoints, and shared memory for Ray and weight transfers."""
    folder = next(path for path in (out.resolve(), *out.resolve().parents) if path.exists())
    disk = shutil.disk_usage(folder).free / 1e9
    text, enough = f"{disk:.0f} GB free at {folder}", disk >= MIN_DISK_GB
    if not enough:
        text += f"; of 7 B parameters two checkpoints take {KEPT_7B_GB} GB, and a third while it is written: OUT=DIR"
    found = [Finding(OK if enough else WARN, "disk", text)]
    if Path("/dev/shm").exists():
        shared = shutil.disk_usage("/dev/shm").free / 1e9
        text, enough = f"{shared:.1f} GB free", shared >= MIN_SHM_GB
        if not enough:
            text += ", Ray and vLLM want more; in a container: --shm-size=32g or --ipc=host"
        found.append(Finding(OK if enough else WARN, "/dev/shm", text))
    return found


def check_hub(timeout: float = 5) -> list[Finding]:
    """Whether models and data can be downloaded."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return [Finding(WARN, "hub", "HF_HUB_OFFLINE is set: models from the cache, data with data prepare --local")]
    import urllib.error
    import urllib.request

    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=timeout).close()
    except urllib.error.HTTPError:
        pass  # it answers
    except (OSError, ValueError) as error:
        remedy = "MODEL=/path/to/model and data prepare --local, or HF_ENDPOINT for a mirror"
        return [Finding(WARN, "hub", f"{endpoint} does not answer ({getattr(error, 'reason', error)}): {remedy}")]
    return [Finding(OK, "hub", f"{endpoint} answers")]


def check_wandb() -> list[Finding]:
    """What the recipes will do with wandb."""
    mode = os.environ.get("WANDB_MODE", "")
    if mode == "offline":
        return [Finding(OK, "wandb mode", "offline: wandb sync uploads the run later")]
    if os.environ.get("WANDB_API_KEY"):
        return [Finding(OK, "wandb mode", "online (WANDB_API_KEY)")]
    return [Finding(OK, "wandb mode", "off; set WANDB_API_KEY, or WANDB_MODE=offline, and the recipes log there too")]


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m recipe.asymgrpo.doctor", description="Checks an environment.")
    parser.add_argument("--no-ray", action="store_true", help="start no Ray worker")
    parser.add_argument("--out", type=Path, default=Path("outputs"), help="where runs will be kept (default: outputs)")
    options = parser.parse_args(argv)
    checks: list[Callable[[], list[Finding]]] = [check_versions, check_compiler, check_leaning, check_plugin]
    checks += [check_accelerator, lambda: check_space(options.out), check_hub, check_wandb]
    if not options.no_ray:
        checks.append(check_ray)
    worst = OK
    for check in checks:
        for finding in check():
            print(finding, flush=True)
            worst = max(worst, finding.status, key=[OK, WARN, FAIL].index)
    print({OK: "all well", WARN: "it can train; see the warnings", FAIL: "mend what says FAIL first"}[worst])
    return int(worst == FAIL)


if __name__ == "__main__":
    sys.exit(main())
