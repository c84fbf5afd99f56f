"""Key by key, where our recipes and verl's own scripts for models of their kind differ, and why: docs/recipes.md.

    python tools/verls_scripts.py VERL      VERL: a checkout of verl at the tag that is compared with

Both are composed by Hydra. verl's scripts are run for their arguments, with a python in their way that writes them
down. A difference without a reason here is an error.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that a checkout needs no installation

# Recipe -> its name in the table, and verl's script; where verl has none for a model, that of the next of its kind.
THEIRS = {
    "run_qwen2_5_0_5b_1gpu": ("0.5B", "docs/start/quickstart.rst"),
    "run_qwen2_5_3b_lora_1gpu": ("3B", "examples/tuning/lora/run_qwen3_8b_fsdp.sh"),
    "run_qwen2_5_math_1_5b": ("1.5B", "examples/grpo_trainer/run_qwen3_4b_fsdp.sh"),
    "run_qwen3_4b": ("4B", "examples/grpo_trainer/run_qwen3_4b_fsdp.sh"),
    "run_qwen_7b": ("7B", "examples/grpo_trainer/run_qwen3_8b_fsdp.sh"),
    "run_qwen3_8b_multinode": ("8B", "examples/grpo_trainer/run_qwen3_8b_fsdp.sh"),
}

PAPER = "the paper's for the 4B; not stated for the 1.5B, taken from the 4B"
SEEDED = "one `SEED` for everything"
DYNAMIC = "micro-batches by tokens, so that long responses do not decide the memory"
# Why a key differs; the longest beginning counts.
WHY = {
    "actor_rollout_ref.actor.data_loader_seed": SEEDED,
    "actor_rollout_ref.actor.optim.lr": PAPER,
    "actor_rollout_ref.actor.ppo_max_token_len_per_gpu": "by the length of the responses and the memory of the card",
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu": DYNAMIC,
    "actor_rollout_ref.actor.ppo_mini_batch_size": PAPER,
    "actor_rollout_ref.actor.strategy": "FSDP2 is what is tested here; verl's `fsdp` is an override away",
    "actor_rollout_ref.actor.use_dynamic_bsz": DYNAMIC,
    "actor_rollout_ref.actor.use_kl_loss": "the paper trains without KL",
    "actor_rollout_ref.model.override_config": "verl's default, named because the script takes sdpa without flash-attn",
    "actor_rollout_ref.rollout.checkpoint_engine": "verl's default; its script has a larger bucket for the weight sync",
    "actor_rollout_ref.rollout.enable_chunked_prefill": "verl's default",
    "actor_rollout_ref.rollout.max_model_len": "prompt and response, so that vLLM plans for no longer context",
    "actor_rollout_ref.rollout.n": "the paper's 8 responses; the quickstart is PPO with one",
    "actor_rollout_ref.rollout.seed": SEEDED,
    "actor_rollout_ref.rollout.tensor_model_parallel_size": "the model fits on one GPU",
    "actor_rollout_ref.rollout.val_kwargs": "the paper's validation: temperature 0.4, 5 responses; verl's is greedy",
    "algorithm.adv_estimator": "what this package is for; compared with `METHOD=grpo`",
    "algorithm.asym_grpo": "what this package is for; compared with `METHOD=grpo`",
    "data.apply_chat_template_kwargs": "the paper's: Qwen3 without thinking",
    "data.filter_overlong_prompts": "a prompt that is too long is left out instead of ending the run",
    "data.max_response_length": "the paper's 4096; of Qwen2.5-Math what its context leaves",
    "data.seed": SEEDED,
    "data.train_batch_size": PAPER,
    "reward.custom_reward_function.path": "mathematics in a box: [reward.md](reward.md)",
    "trainer.max_actor_ckpt_to_keep": "verl keeps all of them until the disk is full",
    "trainer.n_gpus_per_node": "the paper's models fit on 4; one card",
    "trainer.nnodes": "its purpose",
    "trainer.save_freq": "less is lost when a run is interrupted",
    "trainer.test_freq": "a validation takes longer: more responses, or one card",
    "trainer.total_epochs": "`STEPS` ends the run",
    "trainer.total_training_steps": "`STEPS` ends the run",
    "trainer.val_before_train": "verl's default: without it a gain cannot be told",
}
# Keys that follow from others, by verl's interpolation or because nothing reads them without KL.
FOLLOW = (
    "actor_rollout_ref.actor.rollout_n",
    "actor_rollout_ref.ref.",
    "actor_rollout_ref.rollout.log_prob_",
    "actor_rollout_ref.rollout.n_gpus_per_node",
    "actor_rollout_ref.rollout.response_length",
    "actor_rollout_ref.rollout.prometheus.",
    "actor_rollout_ref.rollout.trace.",
    "critic.",
    "distillation.",
)
# Of each run its own: where things are and what they are called.
OWN = (
    "data.train_files",
    "data.val_files",
    "actor_rollout_ref.model.path",
    "trainer.default_local_dir",
    "trainer.rollout_data_dir",
    "trainer.validation_data_dir",
    "trainer.logger",
    "trainer.project_name",
    "trainer.experiment_name",
    "ray_kwargs.ray_init.address",
    "ray_kwargs.ray_init.runtime_env.py_executable",
)


def handed_over(command: Sequence[str], module: str, env: dict[str, str]) -> list[str]:
    """The arguments that a script gives to `python -m MODULE`."""
    with tempfile.TemporaryDirectory() as folder:
        python, seen = Path(folder, "python3"), Path(folder, "seen")
        python.write_text(f'#!/bin/sh\ncase "$2" in {module}) shift 2; printf "%s\\0" "$@" > {seen};; esac\n')
        python.chmod(0o755)
        path = f"{folder}{os.pathsep}{os.environ['PATH']}"
        env = {**os.environ, "PATH": path, "PYTHON": str(python), "HOME": folder, **env}
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        if not seen.exists():
            raise SystemExit(f"error: {' '.join(command)} handed nothing to {module}: {done.stderr.strip()}")
        return [argument for argument in seen.read_text().split("\0")[:-1] if argument != "--"]


def ours(recipe: str) -> list[str]:
    env = {"DRY_RUN": "1", "METHOD": "grpo"}
    found = handed_over(["bash", f"examples/{recipe}.sh"], "verl_ext.dry_run", env)
    return found[2:] if found[0] == "--absent-ok" else found


def theirs(verl: Path, script: str) -> list[str]:
    file = verl / script
    if file.suffix == ".sh":
        return handed_over(["bash", str(file)], "verl.trainer.main_ppo", {"VERL_USE_UV": "0", "DEVICE": "gpu"})
    command = file.read_text().split("-m verl.trainer.main_ppo", 1)[1].split("2>&1", 1)[0]
    words = command.replace("\\\n", " ").replace("$HOME", "/home").split()
    return [word for word in words if not word.startswith("critic.")]  # PPO's; and the estimator is GRPO's there


def composed(overrides: Sequence[str]) -> dict[str, Any]:
    """verl's whole configuration, flat."""
    import verl.trainer.config as verl_config
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(next(iter(verl_config.__path__))), version_base=None):
        wanted = [override for override in overrides if not override.startswith("hydra.")]
        config = OmegaConf.to_container(compose("ppo_trainer", overrides=wanted), resolve=True)

    def flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict) and value:
            for key, below in value.items():
                yield from flat(below, f"{path}.{key}" if path else str(key))
        else:
            yield path, value

    return dict(flat(config, ""))


def differences(verl: Path, recipe: str) -> list[tuple[str, Any, Any]]:
    """(key, verl's value, ours), None where there is none."""
    a, b = composed(theirs(verl, THEIRS[recipe][1])), composed(ours(recipe))
    keys = [key for key in sorted({*a, *b}) if a.get(key) != b.get(key)]
    return [(key, a.get(key), b.get(key)) for key in keys if key not in OWN and not key.startswith(FOLLOW)]


def reason(key: str) -> str | None:
    known = [start for start in WHY if key.startswith(start)]
    return WHY[max(known, key=len)] if known else None


def table(found: dict[str, list[tuple[str, Any, Any]]]) -> str:
    """Markdown: a key a row, verl's value and ours by recipe."""
    lines = ["| key | verl -> here | why |", "|---|---|---|"]
    for key in sorted({key for rows in found.values() for key, _, _ in rows}):
        changes: dict[str, list[str]] = {}
        for recipe, rows in found.items():
            for name, their, our in rows:
                if name == key and not (their in (None, {}) and our in (None, {})):
                    changes.setdefault(f"{shown(their)} -> {shown(our)}", []).append(THEIRS[recipe][0])
        if not changes:
            continue
        everywhere = len(changes) == 1 and len(next(iter(changes.values()))) == len(THEIRS)
        cells = [change if everywhere else f"{', '.join(names)}: {change}" for change, names in changes.items()]
        lines.append(f"| `{key}` | {'; '.join(cells)} | {reason(key)} |")
    return "\n".join(lines)


def shown(value: Any) -> str:
    return "not set" if value is None else str(value)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verl", type=Path, help="checkout of verl")
    args = parser.parse_args(argv)
    found = {recipe: differences(args.verl, recipe) for recipe in THEIRS}
    print(table(found))
    unexplained = sorted({key for rows in found.values() for key, _, _ in rows if reason(key) is None})
    if unexplained:
        print(f"error: without a reason: {', '.join(unexplained)}", file=sys.stderr)
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
