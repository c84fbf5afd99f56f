"""verl's trainer, Ray, FSDP2 and vLLM for real, through the quickstart script."""

import json
import os
import signal
import subprocess
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import psutil
import pytest

from trainings import ROOT, expected_advantages, finish, groups_of, records, start, wait

QUICK = ["data.val_max_samples=64", "actor_rollout_ref.rollout.val_kwargs.n=1", "trainer.save_freq=1"]


@pytest.fixture(scope="session")
def out(tmp_path_factory) -> Path:
    """One folder for all runs, so that prompts and base model are made once."""
    return tmp_path_factory.mktemp("quickstart")


def quickstart(out: Path, *overrides: str, **knobs: str) -> subprocess.Popen:
    return start("quickstart", *QUICK, *overrides, OUT=str(out), **knobs)


def expected_group_metrics(groups: list[list[bool]]) -> dict[str, float]:
    """Every group metric that does not need more than the rewards, counted afresh."""
    rates = [Fraction(sum(group), len(group)) for group in groups]
    advantages = expected_advantages(groups)
    positive, negative = [a for a in advantages if a > 0], [-a for a in advantages if a < 0]

    def share(hits) -> float:
        hits = list(hits)
        return sum(hits) / len(hits)

    metrics = {
        "groups": len(groups),
        "padding_rows": 0,
        "none_solved": share(p == 0 for p in rates),
        "all_solved": share(p == 1 for p in rates),
        "some_solved": share(0 < p < 1 for p in rates),
        "group_accuracy": float(sum(rates) / len(rates)),
        "zero_adv_rows": share(a == 0 for a in advantages),
        "adv_positive": sum(positive) / len(positive),
        "adv_negative": -sum(negative) / len(negative),
        "adv_mass_positive": sum(positive) / (sum(positive) + sum(negative)),
    }
    for low in range(0, 100, 20):
        inside = (100 * p >= low and (100 * p < low + 20 or low == 80) for p in rates)
        metrics[f"p_hist/{low}_{low + 20}"] = share(inside)
    for k in (1, 2, 4, 8):
        # By enumeration: the share of the k-subsets with a success in them.
        metrics[f"pass_at/{k}"] = share(share(any(subset) for subset in combinations(group, k)) for group in groups)
    return {f"asymgrpo/{name}": value for name, value in metrics.items()}


def check(run: Path, steps: int) -> None:
    logged = records(run)
    assert sorted(logged) == list(range(steps + 1))
    for step in range(1, steps + 1):
        data = logged[step]
        assert data["training/rollout_probs_diff_max"] < 1e-3
        groups = groups_of(run / "rollouts" / f"{step}.jsonl")
        advantages = expected_advantages(groups)
        most, least = max(advantages), min(advantages)
        # The trainer's own figures: the estimator that verl ran is the paper's formula.
        assert data["critic/advantages/max"] == pytest.approx(most, rel=1e-5, abs=1e-7)
        assert data["critic/advantages/min"] == pytest.approx(least, rel=1e-5, abs=1e-7)
        assert data["actor/grad_norm"] > 0
        for key, value in expected_group_metrics(groups).items():
            assert data[key] == pytest.approx(value, rel=1e-5, abs=1e-9), key
        assert 0 <= data["asymgrpo/truncated_groups"] <= 1
    assert any(key.startswith("val-core/") for key in logged[steps])


# Two mini-batches, of two micro-batches on each of two ranks, under the loss with coefficients; and a reference model.
RANKS = (
    "actor_rollout_ref.actor.ppo_mini_batch_size=8",
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=16",
    "actor_rollout_ref.actor.use_kl_loss=True",
    "actor_rollout_ref.actor.policy_loss._target_=recipe.asymgrpo.loss_config.EntropyModulatedLossConfig",
    "++actor_rollout_ref.actor.policy_loss.informative_coef=0.1",
    "++actor_rollout_ref.actor.policy_loss.spurious_coef=0.3",
)


def check_channels(run: Path) -> None:
    """The channel metrics come together from all ranks and micro-batches."""
    for data in list(records(run).values())[1:]:
        assert data["actor/kl_loss"] >= 0
        shares = [data[f"actor/{channel}/token_share"] for channel in ("positive", "negative")]
        assert all(0 < share < 1 for share in shares)
        assert sum(shares) <= 1 + 1e-6
        for channel in ("positive", "negative"):
            before, after = data[f"actor/{channel}/adv_abs"], data[f"actor/{channel}/adv_abs_modulated"]
            assert 0.5 * before < after < 1.5 * before  # modulation_cap
            assert data[f"actor/{channel}/surprisal"] > 0
            assert 0 <= data[f"actor/{channel}/clipfrac"] <= 1
            for name in ("logprob_increment", "cov_logprob_adv"):
                assert f"actor/{channel}/{name}" in data
        assert data["actor/negative/adv_abs_modulated"] != data["actor/negative/adv_abs"]


@pytest.mark.e2e
def test_interrupted_run_of_two_ranks_resumes_and_finishes(out):
    """With wandb offline: the second start goes on in the same wandb run."""
    runs = out / "small"
    process = quickstart(out, *RANKS, STEPS="3", NGPUS="2", WANDB_MODE="offline")
    wait(process, lambda: list(runs.glob("*/checkpoints/latest_checkpointed_iteration.txt")))
    members = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)  # Ctrl-C
    output = finish(process, expected=130)
    assert "resumes" in output
    _, alive = psutil.wait_procs(members, timeout=20)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]

    output = finish(quickstart(out, *RANKS, STEPS="3", NGPUS="2", WANDB_MODE="offline"))
    (run,) = runs.glob("asymgrpo-*-seed1")
    first, second = sorted(run.glob("metrics-*.jsonl"))
    assert json.loads(second.read_text().splitlines()[0])["step"] > 0, "the second start began from nothing"
    assert first.stat().st_size > 0
    check(run, 3)
    check_channels(run)
    first, second = run.glob("wandb/offline-run-*/run-*.wandb")
    assert first.name == second.name == f"run-{(run / 'wandb-id').read_text()}.wandb"
    assert "validation accuracy" in output
    assert "METHOD=grpo bash examples/quickstart.sh" in output
    page = (runs / "report" / "report.html").read_text()
    assert f"{run.name}: 3 training steps" in page
    assert (runs / "report" / "entropy.png").read_bytes().startswith(b"\x89PNG")


def covariances(data: dict) -> list[float]:
    return [value for key, value in data.items() if key.startswith("asymgrpo/cov_")]


@pytest.mark.e2e
@pytest.mark.ci
def test_legacy_trainer_logs_the_same(out):
    finish(quickstart(out, "trainer.use_v1=False", STEPS="2", SEED="3"))
    (run,) = (out / "small").glob("asymgrpo-*-seed3")
    check(run, 2)
    logged = records(run)
    assert all(len(covariances(logged[step])) > 1 for step in (1, 2))


@pytest.mark.e2e
@pytest.mark.slow
def test_trains_on_where_verl_has_no_function_to_stand_around(out, tmp_path):
    """In the trainer's process, the log's function has another name than the one that the plugin knows."""
    (tmp_path / "verl_has_renamed_it.py").write_text("""
from verl_ext import driver_metrics

def wrappers():
    return tuple((name + "_renamed", wrapper, modules) for name, wrapper, modules in KNOWN)

KNOWN, driver_metrics.wrappers = driver_metrics.wrappers(), wrappers
""")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    finish(quickstart(out, STEPS="2", SEED="4", PYTHONPATH=path, VERL_USE_EXTERNAL_MODULES="verl_has_renamed_it"))
    (run,) = (out / "small").glob("asymgrpo-*-seed4")
    logged = records(run)
    assert logged[2]["critic/advantages/max"] > 0
    assert not [key for key in logged[2] if key.startswith("asymgrpo/")]
    assert (run / "train.log").read_text().count("asymgrpo/... metrics are missing or incomplete") == 2


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.parametrize("ranks", ["1", "2", "4"])
def test_fsdp2_ranks_with_the_modulated_loss(out, ranks):
    finish(quickstart(out, "+asymgrpo=modulated", *RANKS, STEPS="2", NGPUS=ranks, SEED=ranks))
    (run,) = (out / "small").glob(f"modulated-*-seed{ranks}")
    check(run, 2)
    check_channels(run)


@pytest.mark.e2e
@pytest.mark.slow
def test_smollm2(out):
    finish(quickstart(out, "data.val_max_samples=8", STEPS="2", MODEL="smollm2"))
    (run,) = (out / "smollm2").glob("asymgrpo-*")
    check(run, 2)


@pytest.mark.e2e
def test_bad_knob_fails_before_any_worker_starts(out):
    output = finish(quickstart(out, "+algorithm.asym_grpo.beta_pso=1", METHOD="grpo", STEPS="1"), expected=1)
    (run,) = (out / "small").glob("grpo-*")
    assert "Started a local Ray instance" not in (run / "train.log").read_text()
    assert "algorithm.asym_grpo.beta_pso" in output
    assert "beta_pos" in output


def test_refuses_what_it_cannot_do():
    for knobs, message in (
        ({"MODEL": "llama"}, "choose small, countdown, countdown_large, quantum_lock or smollm2"),
        ({"NGPUS": "3"}, "NGPUS=3"),
        ({"METHOD": "grpoo"}, "choose one of: a_grae asymgrpo"),
        ({"VENV": "/proc/none/venv", "PYTHON": "/bin/false"}, "Python 3.11"),
    ):
        done = subprocess.run(
            ["bash", "examples/quickstart.sh"],
            cwd=ROOT,
            env=os.environ | knobs,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert message in done.stderr
