"""tools/upstream.sh: the recipe in the form of verl-recipe, in a checkout of it, without this tree."""

import ast
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytest.importorskip("verl")
from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = "recipe/asymgrpo/run_qwen3_4b.sh"


@pytest.fixture(scope="module")
def verl(tmp_path_factory):
    """A folder laid out as a checkout of verl, whose submodule `recipe` is one of verl-recipe with two recipes."""
    checkout = tmp_path_factory.mktemp("upstream") / "verl"
    (checkout / "recipe" / "dapo").mkdir(parents=True)
    (checkout / "recipe" / "dapo" / "main_dapo.py").write_text("")
    done = subprocess.run(
        ["bash", ROOT / "tools" / "upstream.sh", checkout / "recipe"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{checkout}/recipe/asymgrpo\n"
    return checkout


@pytest.fixture(scope="module")
def environment(verl, tmp_path_factory):
    """The checkout, and what is installed but for editable packages, of which this one may be: -S leaves them out."""
    commands = tmp_path_factory.mktemp("bin")
    python3 = commands / "python3"
    python3.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    python3.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VERL_", "RAY_", "PYTHON"))}
    return {
        **kept,
        "PATH": f"{commands}:{os.environ['PATH']}",
        "PYTHONPATH": sysconfig.get_path("purelib"),
        # As in an environment without us; a plugin that is installed here would register as well.
        "VERL_USE_EXTERNAL_PLUGINS": "none",
    }


def run(verl, environment, code, **variables):
    path = f"{verl}:{environment['PYTHONPATH']}"
    done = subprocess.run(
        ["python3", "-c", code],
        cwd=verl,
        env={**environment, "PYTHONPATH": path, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def composed(verl, environment):
    """What the run script hands to verl's trainer, as Hydra composes it."""
    command = ["bash", SCRIPT, "algorithm.asym_grpo.beta_pos=0.7", "--cfg", "job"]
    done = subprocess.run(command, cwd=verl, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return OmegaConf.create(done.stdout)


def test_it_has_what_every_recipe_there_has(verl):
    recipe = verl / "recipe" / "asymgrpo"
    readme = (recipe / "README.md").read_text()
    assert readme.startswith("# Recipe: ")
    assert "\n## Required `verl` version\n" in readme
    for link in re.findall(r"\]\(([^):]+)\)", readme):
        assert (recipe / link).exists(), link
    # As install_verl.sh of verl-recipe reads it.
    required = [line.partition("=") for line in (recipe / "REQUIRED_VERL.txt").read_text().splitlines()]
    fields = {key: value for key, _, value in required if not key.startswith("#")}
    assert fields["MODE"] == "pinned_tag"
    assert fields["TAG"] == "v" + fields["PIP_INSTALL"].removeprefix("pip install verl==")
    assert (recipe.parent / "dapo" / "main_dapo.py").exists()


def test_it_is_written_once(verl):
    command = ["bash", ROOT / "tools" / "upstream.sh", verl / "recipe"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "remove it to write it anew" in done.stderr


def test_it_says_nothing_of_the_bridge(verl):
    files = [path for path in (verl / "recipe" / "asymgrpo").rglob("*") if path.suffix in (".py", ".yaml", ".sh")]
    assert len(files) > 50
    for path in files:
        text = path.read_text()
        assert not re.search("verl_ext|verl-asymgrpo|hydra_plugins|benchmarks", text), path
        for page in re.findall(r"docs/\w+\.md", text):
            assert (verl / "recipe" / "asymgrpo" / page).exists(), f"{path}: {page}"
        if path.suffix == ".py":
            ast.parse(text)


EVERY_MODULE = """
import importlib, pkgutil, sys
import recipe.asymgrpo
names = [m.name for m in pkgutil.walk_packages(recipe.asymgrpo.__path__, "recipe.asymgrpo.")]
for name in names:
    if not name.endswith("__main__"):
        print(importlib.import_module(name).__file__)
assert not {name.split(".")[0] for name in sys.modules} & {"verl_ext", "benchmarks", "hydra_plugins"}
"""


def test_every_module_imports_from_there(verl, environment):
    files = run(verl, environment, EVERY_MODULE, VERL_USE_EXTERNAL_MODULES="recipe.asymgrpo.register").splitlines()
    files = [file for file in files if file.endswith(".py")]
    assert len(files) > 25
    assert all(file.startswith(f"{verl}/recipe/asymgrpo/") for file in files)


def test_the_command_of_its_data_runs(verl, environment):
    code = f"""
from recipe.asymgrpo.data import main
assert main(["prepare", "--out", "data", "--local", "train={ROOT}/examples/tiny/train.jsonl"]) == 0
"""
    assert "data/train.parquet" in run(verl, environment, code)


def flat(config, prefix=""):
    found = {}
    for key, value in config.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {prefix + key: value}
    return found


def test_the_run_script_composes_what_ours_does(composed, tmp_path):
    """But for places, the logger, and how it registers."""
    from hydra import compose, initialize_config_module

    python, seen = tmp_path / "python", tmp_path / "seen"
    python.write_text(f'#!/bin/sh\ncase "$2" in verl_ext.dry_run) shift 2; printf "%s\\0" "$@" > {seen};; esac\n')
    python.chmod(0o755)
    knobs = {"PYTHON": str(python), "DRY_RUN": "1", "DATA": str(tmp_path)}
    (tmp_path / "train.parquet").write_bytes(b"")
    subprocess.run(
        ["bash", ROOT / "examples" / "run_qwen3_4b.sh", "algorithm.asym_grpo.beta_pos=0.7"],
        env={**{name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}, **knobs},
        capture_output=True,
        check=True,
    )
    words = seen.read_text().split("\0")[:-1]
    overrides = [word for word in words[words.index("--") + 1 :] if not word.startswith("hydra.")]
    with initialize_config_module("verl.trainer.config", version_base=None):
        ours = flat(OmegaConf.to_container(compose("ppo_trainer", overrides)))
    theirs = flat(OmegaConf.to_container(composed))
    differing = {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}
    env_vars = "ray_kwargs.ray_init.runtime_env.env_vars."
    assert differing - {"ray_kwargs.ray_init.address"} == {
        "data.train_files",
        "data.val_files",
        env_vars + "VERL_USE_EXTERNAL_MODULES",
        env_vars + "PYTHONPATH",
        "trainer.default_local_dir",
        "trainer.rollout_data_dir",
        "trainer.validation_data_dir",
        "trainer.logger",
        "trainer.experiment_name",
    }
    assert theirs["algorithm.asym_grpo.beta_pos"] == 0.7
    assert theirs["algorithm.adv_estimator"] == "asym_grpo"


# verl's own launcher starts Ray as the configuration says, and hands the configuration to a TaskRunner in a process of
# Ray's. Ours asks there for an estimate and a loss, by the functions by which verl's trainers ask.
TASK_RUNNER = """
import json, os, sys

import ray
from omegaconf import OmegaConf
from verl.trainer.main_ppo import run_ppo

assert "recipe.asymgrpo.register" not in sys.modules, "only what the configuration carries counts"


@ray.remote
class TaskRunner:
    def run(self, config):
        import numpy, torch
        from verl import DataProto
        from verl.trainer.ppo.core_algos import get_policy_loss_fn
        from verl.trainer.ppo.ray_trainer import compute_advantage

        data = DataProto.from_dict(
            tensors={
                "token_level_rewards": torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]),
                "response_mask": torch.ones(4, 2, dtype=torch.long),
            },
            non_tensors={"uid": numpy.array(["a"] * 4, dtype=object)},
        )
        config = config.algorithm
        advantages = compute_advantage(data, config.adv_estimator, config=config).batch["advantages"]
        loss = get_policy_loss_fn("entropy_modulated")
        with open("task_runner.json", "w") as file:
            json.dump(
                {
                    "driver": DRIVER,
                    "process": os.getpid(),
                    "advantages": advantages[:, 0].tolist(),
                    "loss": loss.__code__.co_filename,
                    "bridge": [name for name in sys.modules if name.startswith("verl_ext")],
                },
                file,
            )


DRIVER = os.getpid()
run_ppo(OmegaConf.load("composed.yaml"), TaskRunner)
"""


@pytest.mark.ci
def test_it_registers_in_verls_task_runner(verl, environment, composed):
    """On a cluster that was started without the variables, where only the configuration can carry them."""
    import json

    config = composed.copy()
    OmegaConf.update(
        config, "ray_kwargs.ray_init", {"num_cpus": 1, "include_dashboard": False, "address": "local"}, merge=True
    )
    OmegaConf.save(config, verl / "composed.yaml")
    (verl / "main.py").write_text(TASK_RUNNER)
    done = subprocess.run(
        ["python3", "main.py"],
        cwd=verl,
        env={**environment, "PYTHONPATH": f"{verl}:{environment['PYTHONPATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads((verl / "task_runner.json").read_text())
    assert found["process"] != found["driver"]
    # p = 1/4 with beta_pos 0.7 of the command line, beta_neg 0.4.
    assert found["advantages"] == pytest.approx([3**0.7, *[-((1 / 3) ** 0.4)] * 3], rel=1e-5)
    assert found["loss"] == f"{verl}/recipe/asymgrpo/policy_loss.py"
    assert found["bridge"] == []
