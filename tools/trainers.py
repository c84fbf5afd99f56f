"""Which trainers the estimator works in, tried: the table of docs/trainers.md.

    python tools/trainers.py                    the trainers inside the installed verl
    python tools/trainers.py --recipes FOLDER   and those of a checkout of verl-recipe, FOLDER/recipe/dapo and so on

For each trainer its configuration is composed with `+asymgrpo=maxrl`, and the statement by which it computes the
advantages is taken from its source and run, as it stands there, on a batch whose advantages are known. Then the same
with `+asymgrpo=[maxrl,entropy_floor]` and a floor that no policy reaches, and with verl's own `grpo` under that floor.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import importlib.util
import io
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a checkout needs no installation

CALLS = ("compute_advantage", "compute_advantage_for_multi_trajectories")
FLOOR = ("algorithm.asym_grpo.entropy_control.unit=nats", "algorithm.asym_grpo.entropy_control.floor=9")
RIGHT = [3.0, -1.0, -1.0, -1.0, 1.0, -1.0, 1.0, -1.0]  # maxrl at p = 1/4 and p = 1/2


@dataclass(frozen=True)
class Trainer:
    """Where a trainer has its parts.

    Args:
        name: as its users call it.
        fits: module with the statement that computes the advantages.
        main: module that a user starts.
        config: name of the trainer's configuration, in the folder `config` beside `main`, or in verl's own.
    """

    name: str
    fits: str
    main: str
    config: str = "ppo_trainer"


SEPARATION = "verl.experimental.separation.ray_trainer"
IN_VERL = (
    Trainer("verl, V1 (`main_ppo`)", "verl.trainer.ppo.v1.trainer_base", "verl.trainer.main_ppo"),
    Trainer("verl, legacy (`main_ppo_v0`)", "verl.trainer.ppo.ray_trainer", "verl.trainer.main_ppo_v0"),
    Trainer(
        "`one_step_off_policy`",
        SEPARATION,
        "verl.experimental.one_step_off_policy.main_ppo",
        "one_step_off_ppo_trainer",
    ),
    Trainer(
        "`fully_async_policy`",
        SEPARATION,
        "verl.experimental.fully_async_policy.fully_async_main",
        "fully_async_ppo_trainer",
    ),
)
IN_RECIPES = (
    Trainer("verl-recipe `dapo`", "recipe.dapo.dapo_ray_trainer", "recipe.dapo.main_dapo", "dapo_trainer"),
    Trainer(
        "verl-recipe `entropy`", "recipe.entropy.entropy_ray_trainer", "recipe.entropy.main_entropy", "entropy_trainer"
    ),
    Trainer("verl-recipe `prime`", "recipe.prime.prime_ray_trainer", "recipe.prime.main_prime", "prime_trainer"),
    Trainer("verl-recipe `spo`", "recipe.spo.spo_ray_trainer", "recipe.spo.spo_main_ppo", "spo_trainer"),
    Trainer("verl-recipe `partial_rollout`", SEPARATION, "recipe.partial_rollout.main_ppo"),
    Trainer(
        "verl-recipe `atropos`", "recipe.atropos.atropos_ray_trainer", "recipe.atropos.main_atropos", "atropos_trainer"
    ),
)


def compose(trainer: Trainer, *overrides: str) -> Any:
    """Its configuration."""
    import verl.trainer.config as verl_config
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    own = source(trainer.main).parent / "config"
    of_verl = Path(next(iter(verl_config.__path__)))
    folder = own if (own / f"{trainer.config}.yaml").is_file() else of_verl
    with initialize_config_dir(str(folder), version_base=None):
        # As in a checkout of verl, from whose root `file://verl/trainer/config` is meant.
        return hydra_compose(trainer.config, overrides=[*overrides, f"hydra.searchpath=[file://{of_verl}]"])


def source(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no module {module}")
    return Path(spec.origin)


def calls_of(path: Path, names: tuple[str, ...]) -> list[ast.Call]:
    tree = ast.parse(path.read_text())
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [call for call in found if isinstance(call.func, ast.Name) and call.func.id in names]


def made_batch() -> Any:
    """Two groups of four rollouts of three tokens: one of the first is right, two of the second."""
    import numpy as np
    import torch
    from tensordict import TensorDict
    from verl import DataProto

    rewards = torch.zeros(8, 3)
    rewards[:, -1] = torch.tensor([1.0, 0, 0, 0, 1, 0, 1, 0])
    ones = torch.ones(8, 3, dtype=torch.int64)
    tensors = {
        "token_level_rewards": rewards,
        "token_level_scores": rewards,
        "rm_scores": rewards,
        "response_mask": ones,
        "responses": ones,
        "prompts": ones,
        "attention_mask": torch.ones(8, 6, dtype=torch.int64),
        "old_log_probs": torch.tensor([-0.5, -1.0, -1.5]).repeat(8, 1),
    }
    uids = np.array(list("aaaabbbb"), dtype=object)
    return DataProto(batch=TensorDict(tensors, batch_size=8), non_tensor_batch={"uid": uids})


def advantages(trainer: Trainer, config: Any) -> tuple[Any, dict[str, float]]:
    """What its statement makes of the batch, (8, 3) advantages, and the figures that its log then has."""
    import verl.trainer.ppo.ray_trainer as verl_trainer

    from verl_ext import driver_metrics, entropy_control

    (call, *_) = calls_of(source(trainer.fits), CALLS)
    try:
        names = vars(importlib.import_module(trainer.fits))
    except ImportError:  # written for another verl: its statement, on what it imports from verl
        names = vars(verl_trainer)
    driver_metrics.state.sums, entropy_control.run = None, entropy_control.Run()  # nothing of an earlier call
    data = made_batch()
    keys = SimpleNamespace(keys=[f"{uid}_{row}_0" for row, uid in enumerate(data.non_tensor_batch["uid"])])
    trainer_of_call = SimpleNamespace(config=config, global_steps=1, _save_checkpoint=lambda: None)
    local = {"self": trainer_of_call, "batch": data, "norm_adv_by_std_in_grpo": True}
    if any(keyword.arg == "batch_keys" for keyword in call.keywords):
        local |= {"data": data, "batch": keys}
    found = eval(compile(ast.Expression(call), str(trainer.fits), "eval"), names, local)
    logged = names["compute_data_metrics"](batch=found, use_critic=False)
    return found.batch["advantages"], logged


def controlled(trainer: Trainer, estimator: str) -> bool:
    """Whether a floor above the batch's entropy changes advantages inside the responses, and is in the log."""
    word = "[maxrl,entropy_floor]" if estimator == "asym_grpo" else "entropy_floor"
    config = compose(trainer, f"+asymgrpo={word}", f"algorithm.adv_estimator={estimator}", *FLOOR)
    found, logged = advantages(trainer, config)
    success = found[found[:, 0] > 0]
    return bool((success[:, 2] > success[:, 0]).all()) and logged.get("asymgrpo/control/action", 0) > 0


def row(trainer: Trainer) -> list[str]:
    """A line of the table."""
    from verl_ext import early_check

    try:
        importlib.import_module(trainer.main)
        importlib.import_module(trainer.fits)
        imports = "yes"
    except ImportError as error:
        imports = f"no: {str(error).split(' (')[0]}"
    try:
        config = compose(trainer, "+asymgrpo=maxrl", "actor_rollout_ref.rollout.n=4")
    except Exception as error:
        return [trainer.name, imports, f"no: {str(error).splitlines()[0]}", *[""] * 4]
    try:
        early_check.check(config)
    except ValueError as error:
        return [trainer.name, imports, "yes", f"refused at the start: {error}", *[""] * 3]
    try:
        found, logged = advantages(trainer, config)
        first = found[:, 0].tolist()
        right = "yes" if first == RIGHT else f"no: {first}"
    except Exception as error:
        right, logged = f"no: {type(error).__name__}: {error}", {}
    floors = [name for name in ("asym_grpo", "grpo") if _holds(trainer, name)]
    early = bool(calls_of(source(trainer.main), ("validate_config",)))
    return [
        trainer.name,
        imports,
        "yes",
        right,
        "yes" if logged.get("asymgrpo/group_accuracy") == 0.375 else "no",
        "yes" if len(floors) == 2 else "no" if not floors else f"{floors[0]} only",
        "at the start" if early else "at the first step",
    ]


def _holds(trainer: Trainer, estimator: str) -> bool:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return controlled(trainer, estimator)
    except Exception as error:
        print(f"{trainer.name}, entropy control of {estimator}: {type(error).__name__}: {error}", file=sys.stderr)
        return False


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--recipes", type=Path, help="folder that has verl-recipe as `recipe`")
    options = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    trainers = list(IN_VERL)
    if options.recipes:
        sys.path.append(str(options.recipes.resolve()))
        trainers += IN_RECIPES
    import verl

    import verl_ext.plugin  # noqa: F401  (registers)

    print(f"verl {verl.__version__}\n")
    head = [
        "trainer",
        "imports",
        "`+asymgrpo=NAME`",
        "whole groups, right advantages",
        "`asymgrpo/...` in the log",
        "entropy control",
        "bad settings",
    ]
    print(*("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *map(row, trainers))), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
