"""The GPU recipes: their dry run with every method, what they refuse, and that a shell reads them as meant."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from recipe.asymgrpo.data import main as data_main
from verl_ext import dry_run, models

ROOT = Path(__file__).resolve().parents[2]
ONE_GPU = ["run_qwen2_5_0_5b_1gpu", "run_qwen2_5_3b_lora_1gpu"]
RECIPES = ["run_qwen_7b", "run_qwen3_4b", "run_qwen2_5_math_1_5b", "run_qwen3_8b_multinode", *ONE_GPU]
WORDS = sorted(path.stem for path in (ROOT / "recipe" / "asymgrpo" / "conf" / "asymgrpo").iterdir())
METHODS = [word if word != "entropy_floor" else "paper,entropy_floor" for word in WORDS]
SCRIPTS = [*sorted((ROOT / "examples").glob("*.sh")), ROOT / "examples" / "quickstart" / "env.sh"]
SCRIPTS += [*sorted((ROOT / "tools").rglob("*.sh")), ROOT / "tests" / "run.sh", ROOT / ".ci" / "run"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """The tiny problems, enough of them for a batch of the real recipes."""
    folder = tmp_path_factory.mktemp("data")
    source = folder / "many.jsonl"
    source.write_text(
        "".join(json.dumps({"problem": f"What is ${i}+1$?", "answer": str(i + 1)}) + "\n" for i in range(1100))
    )
    held_out = ROOT / "examples" / "tiny" / "math500.jsonl"
    sets = {"train": source, "gsm8k_train": source, "math500": held_out, "gsm8k_test": held_out}
    local = [argument for name, file in sets.items() for argument in ("--local", f"{name}={file}")]
    assert data_main(["prepare", "--out", str(folder), *local]) == 0
    return folder


def run(script: str, *arguments: str, **knobs: str) -> subprocess.CompletedProcess:
    env = {key: value for key, value in os.environ.items() if key not in ("RAY_ADDRESS", "SLURM_NNODES")}
    return subprocess.run(
        ["bash", f"examples/{script}.sh", *arguments],
        cwd=ROOT,
        env={**env, "PYTHON": sys.executable, **knobs},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def hand_over(data, tmp_path_factory):
    """Runs a script up to its dry run, whose arguments it returns: a python in its place writes them down."""
    folder = tmp_path_factory.mktemp("python")
    python, seen = folder / "python", folder / "seen"
    # It fails where the arguments have a key that verl does not know, and has no flash-attn.
    python.write_text(
        f'#!/bin/sh\ncase "$2" in verl_ext.dry_run) shift 2; printf "%s\\0" "$@" END >> {seen};; esac\n'
        'case "$*" in *rollout.none=1* | *"import flash_attn"*) exit 1;; esac\n'
    )
    python.chmod(0o755)

    def start(script: str, *arguments: str, **knobs: str) -> tuple[subprocess.CompletedProcess, list[str]]:
        """The last one of the script's dry runs; `start.all` has every one."""
        seen.unlink(missing_ok=True)
        done = run(script, *arguments, **{"PYTHON": str(python), "DRY_RUN": "1", "DATA": str(data), **knobs})
        start.all = [one.split("\0")[:-1] for one in seen.read_text().split("END\0")[:-1]] if seen.exists() else []
        return done, start.all[-1] if start.all else []

    return start


@pytest.fixture
def planned(monkeypatch, capsys):
    """What a dry run of these arguments prints: composed once, where Hydra's own entry composes twice, and then through
    verl's `main` and the plan as there."""
    from hydra import compose, initialize_config_dir
    from verl.trainer import config as verl_config
    from verl.trainer import main_ppo

    lines = []

    def plan(arguments: list[str]) -> str:
        absent = None
        if arguments[0] == "--absent-ok":
            absent, arguments = Path(arguments[1]), arguments[2:]
        overrides = [argument for argument in arguments[1:] if not argument.startswith("hydra.")]
        with initialize_config_dir(str(next(iter(verl_config.__path__))), version_base=None):
            config = compose("ppo_trainer", overrides=overrides)
        lines.clear()
        monkeypatch.setattr(main_ppo, "run_ppo", lambda config, **_: lines.extend(dry_run.plan(config, absent)))
        main_ppo.main(config)
        return "\n".join("  ".join(line) for line in lines)

    return plan


def when(recipe: str, method: str) -> list[pytest.MarkDecorator]:
    """Every method with one recipe, and every recipe with one, by default; in CI with two."""
    if recipe == RECIPES[0] or method == "paper":
        return []
    return [pytest.mark.ci if method == "modulated" else pytest.mark.slow]


PAIRS = [pytest.param(recipe, method, marks=when(recipe, method)) for recipe in RECIPES for method in METHODS]


@pytest.mark.parametrize(("recipe", "method"), PAIRS)
def test_dry_run_of_every_recipe_with_every_method(recipe, method, hand_over, planned, capsys):
    """The bash script for real, and its dry run in this process, which has verl imported already."""
    done, arguments = hand_over(recipe, METHOD=method)
    assert done.returncode == 0, done.stderr
    shown = planned(arguments)
    if method == "paper":  # and by Hydra's own entry, which says the same
        capsys.readouterr()
        assert dry_run.main(arguments) == 0
        printed = capsys.readouterr().out
        assert [" ".join(line.split()) for line in printed.splitlines() if not line.startswith("[")] == [
            " ".join(line.split()) for line in shown.splitlines()
        ]
    preset = {
        "paper,entropy_floor": "asymgrpo",
        "paper": "asymgrpo",
        "clip_higher": "asymgrpo",
        "entropy_bonus": "asymgrpo",
        "modulated": "asymgrpo",
    }
    assert f"asym_grpo, preset {preset.get(method, method)}" in shown
    assert ("clip 0.2 / 0.28" in shown) == (method == "clip_higher")
    assert ("entropy bonus" in shown) == (method == "entropy_bonus")
    assert ("entropy_modulated" in shown) == (method == "modulated")
    assert ("entropy control, successes, floor 0.5" in shown) == (method == "paper,entropy_floor")


AWKWARD = [
    "it's",
    'a "b"',
    "$(touch pwned)",
    "`touch pwned`",
    "a,b",
    "a=b",
    "{x}",
    "x;touch pwned",
    "run (copy)",
    "ü~&!^<",
]


@pytest.mark.parametrize("path", AWKWARD)
def test_a_path_may_have_any_printable_letters(path, data, hand_over, tmp_path, capsys):
    """It is read as it stands: by bash, which runs nothing in it, and by Hydra."""
    folder = tmp_path / path
    shutil.copytree(data, folder)
    done, arguments = hand_over("run_qwen_7b", DATA=str(folder), OUT=str(folder / "out"))
    assert done.returncode == 0, done.stderr
    assert dry_run.main(arguments) == 0
    shown = capsys.readouterr().out
    assert f"checkpoints in {folder}/out/run_qwen_7b/paper-seed1/checkpoints" in shown
    assert "1100 prompts" in shown
    done, arguments = hand_over("run_qwen_7b", DATA=str(folder), MODEL=str(folder / "none"))
    assert dry_run.main(arguments) == 1
    assert f"there is no {folder}/none/config.json" in capsys.readouterr().err
    assert not (ROOT / "pwned").exists()
    assert not (folder / "pwned").exists()


@pytest.mark.parametrize("knob", ["OUT", "DATA", "MODEL"])
def test_a_path_that_hydra_cannot_read_is_named(knob, data, tmp_path):
    done = run("run_qwen_7b", DRY_RUN="1", **{"DATA": str(data), knob: f"{tmp_path}/${{x}}"})
    assert done.returncode == 1
    assert f"{knob}={tmp_path}/${{x}}: Hydra cannot read" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_path_with_spaces(data, hand_over, tmp_path, capsys):
    spaced = tmp_path / "my data"
    shutil.copytree(data, spaced)
    _, arguments = hand_over("run_qwen_7b", DATA=str(spaced), OUT=str(tmp_path / "my runs"))
    assert dry_run.main(arguments) == 0
    assert f"{tmp_path}/my runs/run_qwen_7b/paper-seed1/checkpoints" in capsys.readouterr().out


def test_a_running_cluster_gets_absolute_paths(data, hand_over):
    relative = os.path.relpath(data, ROOT)
    _, arguments = hand_over("run_qwen_7b", DATA=relative, OUT="outputs/x", RAY_ADDRESS="auto")
    assert f"data.train_files='{data}/train.parquet'" in arguments
    assert f"trainer.default_local_dir='{ROOT}/outputs/x/run_qwen_7b/paper-seed1/checkpoints'" in arguments
    assert "actor_rollout_ref.model.path='Qwen/Qwen2.5-Math-7B'" in arguments


def test_dry_run_as_the_user_types_it(data):
    done = run("run_qwen3_4b", DRY_RUN="1", DATA=str(data))
    assert done.returncode == 0, done.stderr
    # The paper's setting: batch 128, mini-batch 64, 8 rollouts, 4 GPUs.
    assert "128 prompts x 8 = 1024 responses a step, 2 updates of 64 x 8 = 512, 128 on each rank" in done.stdout
    assert "1 x 4: 4 FSDP ranks" in done.stdout
    assert f"{1024 * (1024 + 4096):,}" in done.stdout  # tokens a step, at most
    assert "beta_neg 0.4, beta_pos 0.9" in done.stdout
    assert not (ROOT / "outputs" / "recipes" / "run_qwen3_4b").exists(), "a dry run leaves nothing behind"


def test_one_gpu_of_24_and_one_of_48_gib(hand_over, planned):
    """The memory that cannot be avoided leaves half of the card to activations."""
    for script, most in zip(ONE_GPU, (24, 48), strict=True):
        shown = planned(hand_over(script)[1])
        assert float(re.search(r"at least ([\d.]+) GiB a GPU", shown)[1]) < most / 2
    assert "adapters not counted" in shown


@pytest.mark.parametrize(
    ("knobs", "status", "message"),
    [
        ({"DEVICE": "cpu"}, 1, "DEVICE=cpu is for SCALE=tiny"),
        ({"DEVICE": "gpu"}, 1, "DEVICE=gpu is unknown; choose cuda or cpu"),
        ({"SCALE": "tiny", "DEVICE": "cuda"}, 2, "no GPU that torch"),
    ],
)
def test_device(knobs, status, message):
    done = run(ONE_GPU[0], **knobs)
    assert done.returncode == status
    assert message in done.stderr


def test_tiny_on_a_gpu_is_the_same_script(tmp_path, hand_over):
    """Nothing of the CPU's settings, and the user's own python."""
    data = {"DATA": str(tmp_path / "data"), "OUT": str(tmp_path)}
    _, arguments = hand_over(ONE_GPU[0], SCALE="tiny", DEVICE="cuda", **data)
    assert f"data.train_files='{tmp_path}/data/gsm8k_train.parquet'" in arguments
    assert "actor_rollout_ref.actor.strategy=fsdp2" in arguments
    assert "trainer.total_training_steps=2" in arguments
    assert not [argument for argument in arguments if "cpu" in argument.replace(str(tmp_path), "")]


def test_without_flash_attn_a_micro_batch_is_counted_with_its_padding(tmp_path, hand_over, planned, monkeypatch):
    """A plan on a machine with a GPU looks for it; elsewhere it takes it for granted."""
    packed = "actor_rollout_ref.actor.use_dynamic_bsz=True"
    assert packed in hand_over("run_qwen_7b")[1]
    (tmp_path / "nvidia-smi").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    done, arguments = hand_over("run_qwen_7b", ROLLOUTS="6")
    assert "no flash-attn" in done.stderr
    assert packed not in arguments
    assert "actor_rollout_ref.model.use_remove_padding=False" in arguments
    # 16384 tokens are 4 rows of 4096, and 256 * 6 / 8 rows a rank are a multiple.
    assert "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=4" in arguments
    assert "192 on each rank" in planned(arguments)
    _, odd = hand_over("run_qwen_7b", ROLLOUTS="3", MINI_BATCH="8", MAX_TOKENS="20480")
    assert "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=3" in odd  # of 3 rows, not 5


def test_megatron_and_a_missing_micro_batch(hand_over, capsys):
    wanted = [arg for arg in hand_over("run_qwen_7b")[1] if "strategy=fsdp2" not in arg]
    assert dry_run.main([*wanted, "model_engine=megatron"]) == 0, capsys.readouterr().err
    assert "Megatron, whose ranks and memory are not checked" in capsys.readouterr().out
    assert dry_run.main([*wanted, "actor_rollout_ref.actor.use_dynamic_bsz=False"]) == 1
    assert "micro_batch_size_per_gpu" in capsys.readouterr().err


def test_a_model_in_the_hubs_cache_is_looked_at(tmp_path, monkeypatch):
    snapshot = tmp_path / "models--some--model/snapshots/abc"
    snapshot.mkdir(parents=True)
    refs = tmp_path / "models--some--model/refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    sizes = {"vocab_size": 10, "hidden_size": 8, "num_hidden_layers": 2, "intermediate_size": 16}
    config = {"max_position_embeddings": 64, "num_attention_heads": 2, **sizes}
    (snapshot / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert models.describe_model("some/model").context == 64
    assert models.vocabulary("some/model") == 10
    assert models.describe_model("some/other") is None
    with pytest.raises(models.PlanError, match=r"there is no some/where/else/config\.json"):
        models.describe_model("some/where/else")


def test_before_the_data_is_there(hand_over, planned):
    done, arguments = hand_over("run_qwen_7b", DATA="")
    assert done.returncode == 0, done.stderr
    assert "not here yet; the script gets it first" in planned(arguments)


MISTAKES = {
    "indivisible mini-batch": (["data.train_batch_size=1000"], {}, "not a multiple of actor.ppo_mini_batch_size"),
    "indivisible ranks": ([], {"NGPUS_PER_NODE": "6", "TENSOR_PARALLEL": "1"}, "not a multiple of the data-parallel"),
    "missing file": (["data.train_files=/nowhere/train.parquet"], {}, "there is no /nowhere/train.parquet"),
    "context too long": ([], {"RESPONSE_LENGTH": "4096"}, "longer than the context of Qwen/Qwen2.5-Math-7B, 4096"),
    "unknown method": ([], {"METHOD": "grpoo"}, "METHOD=grpoo is unknown; choose one of: a_grae asymgrpo"),
    "one response": ([], {"ROLLOUTS": "1"}, "rollout.n=1"),
    "no nodes": ([], {"NNODES": "0"}, "NNODES=0 is not a whole number above 0"),
    "more nodes than Slurm has": ([], {"NNODES": "4", "SLURM_NNODES": "2"}, "the Slurm job has 2 nodes"),
    "tensor parallel": ([], {"TENSOR_PARALLEL": "3"}, "tensor_model_parallel_size (3)"),
    "heads": ([], {"TENSOR_PARALLEL": "8"}, "attention heads (28)"),
    "tokens": ([], {"MAX_TOKENS": "2048"}, "ppo_max_token_len_per_gpu=2048"),
    "no model": (["actor_rollout_ref.model.path=/nowhere/model"], {}, "there is no /nowhere/model/config.json"),
    "misspelt key": (["data.train_batch=128"], {}, "train_batch"),
    "misspelt knob": (["algorithm.asym_grpo.beta_pso=1"], {}, "beta_pso"),
    "bad knob": (["algorithm.asym_grpo.success_threshold=high"], {}, "success_threshold"),
    "mini-batch too large": ([], {"MINI_BATCH": "2048"}, "is more than data.train_batch_size"),
    "scale": ([], {"SCALE": "small"}, "SCALE=small is unknown"),
    "a floor under nothing": ([], {"METHOD": "entropy_floor"}, "stands behind another word"),
    "a list with an unknown method": ([], {"METHOD": "[grpo,entropyfloor]"}, "METHOD=entropyfloor is unknown"),
    "a floor that is too low": (
        ["algorithm.asym_grpo.entropy_control.floor=0"],
        {"METHOD": "grpo,entropy_floor"},
        "entropy_control.floor=0 is out of range",
    ),
    "path as method": ([], {"METHOD": "../../secret"}, "is not a name"),
    "one checkpoint": ([], {"KEEP": "1"}, "a crash in between loses both"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_dry_run_names_a_mistake_in_one_line(mistake, hand_over, capsys):
    arguments, knobs, message = MISTAKES[mistake]
    done, handed = hand_over("run_qwen_7b", *arguments, **knobs)
    status, errors = done.returncode, done.stderr
    if handed:  # the script has no objection
        status, errors = dry_run.main(handed), capsys.readouterr().err
    assert status == 1
    (line,) = [line for line in errors.splitlines() if line.startswith(("error: ", "run_qwen_7b.sh: "))]
    assert message in line
    assert "Traceback" not in errors


def test_one_response_is_enough_where_the_curves_are_constant(hand_over, capsys):
    for method, status in (("reinforce", 0), ("psr", 0), ("nsr", 0), ("grpo", 1)):
        _, arguments = hand_over("run_qwen_7b", METHOD=method, ROLLOUTS="1")
        assert dry_run.main(arguments) == status, method
        assert ("of one response p is 0 or 1" in capsys.readouterr().out) == (status == 0)


@pytest.mark.parametrize("success_key", ["acc", None])
def test_a_kl_penalty_in_the_reward_is_a_warning(success_key, hand_over, capsys):
    """As in training: it runs, and with `success_key` there is nothing to warn of."""
    key = [f"algorithm.asym_grpo.success_key={success_key}"] if success_key else []
    _, arguments = hand_over("run_qwen_7b", "algorithm.use_kl_in_reward=True", *key)
    assert dry_run.main(arguments) == 0
    assert ("has the KL penalty in it" in capsys.readouterr().out) == (success_key is None)


@pytest.mark.ci
def test_a_failed_dry_run_as_the_user_types_it(data):
    done = run("run_qwen_7b", "data.train_batch=1", DRY_RUN="1", DATA=str(data))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "data.train_batch" in done.stderr


def test_too_few_prompts_and_not_a_data_file(data, hand_over, tmp_path, capsys):
    few = tmp_path / "few"
    shutil.copytree(data, few)
    shutil.copy(data / "math500.parquet", few / "train.parquet")
    _, arguments = hand_over("run_qwen3_4b", DATA=str(few))
    assert dry_run.main(arguments) == 1
    assert "6 prompts, less than one step's 128" in capsys.readouterr().err
    (few / "train.parquet").write_text("no parquet")
    assert dry_run.main(arguments) == 1
    assert "is not a parquet file" in capsys.readouterr().err


@pytest.mark.parametrize("script", [*RECIPES, "paper_table", "eval"])
def test_without_a_gpu(script, tmp_path):
    done = run(script, str(tmp_path), CUDA_VISIBLE_DEVICES="") if script == "eval" else run(script)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "no GPU" in done.stderr
    assert "bash examples/quickstart.sh" in done.stderr


def test_what_a_machine_with_gpus_still_lacks(tmp_path):
    python = tmp_path / "python"  # a machine with GPUs, as far as the script can see
    python.write_text("#!/bin/sh\necho 8\n")
    python.chmod(0o755)
    done = run("run_qwen3_8b_multinode", PYTHON=str(python))
    assert done.returncode == 1
    assert "NNODES=2 needs a Ray cluster that is running: set RAY_ADDRESS" in done.stderr
    done = run("run_qwen_7b", PYTHON=str(python), NGPUS_PER_NODE="16")
    assert "NGPUS_PER_NODE=16, but this machine has 8 GPUs" in done.stderr
    done = run("run_qwen_7b", PYTHON=str(python), DATA=str(tmp_path))
    assert f"DATA={tmp_path} has no train.parquet" in done.stderr


def test_paper_table_has_the_papers_rows(hand_over, planned):
    done, _ = hand_over("paper_table", ROWS="grpo_entropy_bonus grpo_clip_higher beta_pos_0.25")
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("== ")] == [
        "== grpo_entropy_bonus",
        "== grpo_clip_higher",
        "== beta_pos_0.25",
    ]
    bonus, clip, beta = map(planned, hand_over.all)
    assert "preset grpo" in bonus
    assert "entropy bonus 0.001" in bonus
    assert "preset grpo" in clip
    assert "clip 0.2 / 0.28" in clip
    assert "beta_neg 0.4, beta_pos 0.25" in beta
    assert "run_qwen3_4b/beta_pos_0.25-seed1" in beta


def test_paper_table_goes_on_after_a_row_that_fails(hand_over):
    done, _ = hand_over("paper_table", "rollout.none=1", ROWS="grpo paper")
    assert done.returncode == 1
    assert "failed: grpo paper" in done.stderr
    assert len(hand_over.all) == 2
    done, _ = hand_over("paper_table", ROWS="grpo papper")
    assert "papper is unknown; choose of: reinforce grpo" in done.stderr
    assert hand_over.all == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_bash_reads_it(script):
    subprocess.run(["bash", "-n", script], check=True)


@pytest.mark.skipif(
    not shutil.which("shellcheck"), reason="shellcheck is not installed (Debian: apt install shellcheck)"
)
def test_shellcheck():
    done = subprocess.run(["shellcheck", "-x", *SCRIPTS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
