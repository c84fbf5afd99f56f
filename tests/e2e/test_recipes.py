"""The GPU recipes at SCALE=tiny: the same scripts, verl's trainer and the mathematics reward, on a CPU."""

import json
import subprocess
from pathlib import Path

import psutil
import pytest

from recipe.asymgrpo.reward import compute_score
from trainings import finish, start, wait


@pytest.fixture(scope="session")
def out(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("recipes")


def tiny(script: str, *arguments: str, out: Path, **knobs: str) -> subprocess.Popen:
    return start(script, *arguments, SCALE="tiny", OUT=str(out), **knobs)


def kill_after_first_checkpoint(process: subprocess.Popen, run: Path) -> None:
    """SIGKILL for the script and all it has started, as when a node goes down."""
    wait(process, (run / "checkpoints" / "latest_checkpointed_iteration.txt").exists)
    root = psutil.Process(process.pid)
    members = [root, *root.children(recursive=True)]
    for member in members:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    process.communicate()
    _, alive = psutil.wait_procs(members, timeout=20)
    assert not [member for member in alive if member.status() != psutil.STATUS_ZOMBIE]


def steps_of(path: Path) -> dict[int, dict]:
    steps: dict[int, dict] = {}
    for line in path.read_text().splitlines():
        record = json.loads(line)
        steps.setdefault(record["step"], {}).update(record["data"])
    return steps


def check_step(figures: dict, name: str = "math500") -> None:
    assert figures["training/rollout_probs_diff_max"] < 1e-3
    assert figures[f"val-core/{name}/acc/mean@2"] >= 0


def check_scores(run: Path) -> None:
    """Rewards are as compute_score gives them."""
    scores = []
    for dump in (run / "rollouts").glob("*.jsonl"):
        for row in map(json.loads, dump.read_text().splitlines()):
            assert row["score"] == compute_score("math", row["output"], row["gts"])["score"]
            scores.append(row["score"])
    assert 0 < sum(scores) < len(scores), "the tiny model is right sometimes"


def check(run: Path, last: int, name: str = "math500") -> None:
    """Killed and resumed, it reached the last step."""
    first, second = (steps_of(path) for path in sorted(run.glob("metrics-*.jsonl")))
    assert max(first) < last
    assert min(second) > 0, "the second start began from nothing"
    assert max(second) == last
    check_step(second[last], name)
    assert (run / "checkpoints" / "latest_checkpointed_iteration.txt").read_text() == str(last)
    check_scores(run)


OTHERS = ["run_qwen3_4b", "run_qwen3_8b_multinode"]
ONE_GPU = ["run_qwen2_5_0_5b_1gpu", "run_qwen2_5_3b_lora_1gpu"]


@pytest.mark.e2e
@pytest.mark.parametrize(
    "script",
    [
        pytest.param("run_qwen_7b", marks=pytest.mark.ci),
        *(pytest.param(name, marks=pytest.mark.slow) for name in [*OTHERS, *ONE_GPU]),
    ],
)
def test_killed_and_resumed(script, out):
    run = out / script / "paper-seed1"
    kill_after_first_checkpoint(tiny(script, out=out, STEPS="3", TEST_FREQ="3"), run)
    finish(tiny(script, out=out, STEPS="3", TEST_FREQ="3"))
    check(run, 3, "gsm8k" if script in ONE_GPU else "math500")
    assert "has finished" in finish(tiny(script, out=out, STEPS="3"))


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.parametrize("script", OTHERS)
def test_trains(script, out):
    finish(tiny(script, out=out, STEPS="1", TEST_FREQ="1", SEED="2"))
    (metrics,) = (out / script / "paper-seed2").glob("metrics-*.jsonl")
    check_step(steps_of(metrics)[1])


@pytest.mark.e2e
@pytest.mark.slow
def test_what_lora_has_learned_is_evaluated(out):
    """A step size at which the tiny model forgets all it knew: the base model would still be right half of the time."""
    knobs = {"SEED": "2", "STEPS": "8", "TEST_FREQ": "8", "SAVE_FREQ": "8", "LR": "2e-2"}
    finish(tiny("run_qwen2_5_3b_lora_1gpu", out=out, **knobs))
    run = out / "run_qwen2_5_3b_lora_1gpu" / "paper-seed2"
    (metrics,) = run.glob("metrics-*.jsonl")
    steps = steps_of(metrics)
    assert steps[0]["val-core/gsm8k/acc/mean@2"] > 0.3
    assert steps[8]["val-core/gsm8k/acc/mean@2"] < 0.1
    assert "gsm8k: 6 problems  pass@1 0.000" in finish(tiny("eval", str(run), out=out))


MATH_1_5B = "run_qwen2_5_math_1_5b"


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("script", "killed"),
    [
        ("run_qwen_7b", True),
        pytest.param(MATH_1_5B, True, marks=pytest.mark.slow),
        pytest.param(MATH_1_5B, False, marks=pytest.mark.ci),
    ],
)
def test_a_row_of_the_papers_table_is_trained_and_evaluated(script, killed, out):
    """And with it the script that the row runs."""
    seed = "3" if killed else "1"
    knobs = {"RECIPE": script, "ROWS": "grpo_clip_higher", "SEED": seed}
    knobs |= {"STEPS": "3", "TEST_FREQ": "3"} if killed else {"STEPS": "2", "TEST_FREQ": "1"}
    name, last = f"grpo_clip_higher-seed{seed}", int(knobs["STEPS"])
    run = out / script / name
    if killed:
        kill_after_first_checkpoint(tiny("paper_table", out=out, **knobs), run)
    output = finish(tiny("paper_table", out=out, **knobs))
    if killed:
        check(run, last)
    else:
        (metrics,) = run.glob("metrics-*.jsonl")
        check_step(steps_of(metrics)[last])
        check_scores(run)
    overrides = (run / "hydra" / ".hydra" / "overrides.yaml").read_text()
    assert "+asymgrpo=clip_higher" in overrides
    assert "algorithm.asym_grpo.preset=grpo" in overrides

    # The best on MATH-500 of the checkpoints that were validated; after a kill, also the one that was resumed from.
    seen: dict[int, float] = {}
    for path in run.glob("metrics-*.jsonl"):
        for step, figures in steps_of(path).items():
            if step and "val-core/math500/acc/mean@2" in figures:
                seen[step] = figures["val-core/math500/acc/mean@2"]
    assert last in seen
    assert len(seen) > 1
    best = max(seen, key=lambda step: (seen[step], step))
    (dump,) = (run / "evaluation").glob("*/*/0.jsonl")
    assert dump.parent.parent.name == f"step_{best}"
    rows = [json.loads(line) for line in dump.read_text().splitlines()]
    assert len(rows) == 6 * 5
    accuracy = sum(row["score"] for row in rows) / len(rows)
    assert f"| {name} | {best} | {100 * accuracy:.2f} |" in output
    assert f"math500: 6 problems  pass@1 {accuracy:.3f}" in output
