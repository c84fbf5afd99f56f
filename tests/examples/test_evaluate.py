"""Which checkpoint is evaluated, and the table; the generation itself is in tests/e2e/test_recipes.py."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("evaluate", ROOT / "examples" / "evaluate.py")
evaluate = sys.modules["evaluate"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(evaluate)


def make_run(folder: Path, accuracy: dict[int, float], kept: list[int]) -> Path:
    folder.mkdir()
    with (folder / "metrics-000.jsonl").open("w") as file:
        for step, value in accuracy.items():
            data = {"val-core/math500/acc/mean@5": value, "val-core/math500/acc/best@5/mean": 1 - value}
            file.write(json.dumps({"step": step, "data": {**data, "actor/entropy": 1.0}}) + "\n")
    for step in kept:
        actor = folder / "checkpoints" / f"global_step_{step}" / "actor"
        actor.mkdir(parents=True)
        (actor / "fsdp_config.json").write_text("{}")
    (folder / "checkpoints" / "global_step_99").mkdir(parents=True, exist_ok=True)  # cut off while it was written
    return folder


def test_the_best_of_the_checkpoints_that_are_there(tmp_path):
    run = make_run(tmp_path / "run", {0: 0.1, 10: 0.9, 20: 0.5, 30: 0.5, 40: 0.4}, [20, 30, 40])
    steps = evaluate.kept_steps(run)
    assert steps == [20, 30, 40]
    assert evaluate.best_step(evaluate.read_run(run), steps) == 30
    with pytest.raises(evaluate.EvaluationError, match="choose one: --step N"):
        evaluate.best_step(evaluate.read_run(run), [25])


def test_a_run_on_another_set_is_chosen_by_it_and_evaluated_on_it(tmp_path):
    run = make_run(tmp_path / "run", {10: 0.9, 20: 0.5}, [10, 20])
    log = run / "metrics-000.jsonl"
    log.write_text(log.read_text().replace("math500", "gsm8k"))
    assert evaluate.best_step(evaluate.read_run(run), [10, 20]) == 10
    assert evaluate.sets_of(run) == evaluate.PASSES  # nothing is known of it
    (run / "hydra" / ".hydra").mkdir(parents=True)
    config = run / "hydra" / ".hydra" / "config.yaml"
    config.write_text("data:\n  val_files: /data/gsm8k_test.parquet\n")
    assert evaluate.sets_of(run) == {("gsm8k_test",): 5}
    config.write_text("data:\n  val_files: [/data/math500.parquet]\n")
    assert evaluate.sets_of(run) == evaluate.PASSES
    # Two sets and none of them MATH-500: neither is better than the other.
    log.write_text(log.read_text() + '{"step": 10, "data": {"val-core/other/acc/mean@5": 1.0}}\n')
    with pytest.raises(evaluate.EvaluationError, match="choose one: --step N"):
        evaluate.best_step(evaluate.read_run(run), [10, 20])


def test_what_lora_has_learned_is_evaluated(tmp_path):
    """verl.model_merger leaves the base model as it was, and the adapter beside it."""
    model = f"actor_rollout_ref.model.path='{tmp_path}'"
    assert evaluate.model_overrides(tmp_path) == [model]
    (tmp_path / "lora_adapter").mkdir()
    adapter = f"actor_rollout_ref.model.lora_adapter_path='{tmp_path}/lora_adapter'"
    assert evaluate.model_overrides(tmp_path) == [model, adapter]


def test_what_cannot_be_evaluated(tmp_path, capsys):
    run = make_run(tmp_path / "run", {10: 0.9}, [])
    assert evaluate.main([str(run)]) == 1
    assert "overrides.yaml is missing" in capsys.readouterr().err
    (run / "hydra" / ".hydra").mkdir(parents=True)
    (run / "hydra" / ".hydra" / "overrides.yaml").write_text("- a=1\n")
    assert evaluate.main([str(run)]) == 1
    assert "--step 0 evaluates the model it began with" in capsys.readouterr().err
    assert evaluate.main([str(run), "--step", "7"]) == 1
    assert "no checkpoint of step 7; it has none" in capsys.readouterr().err
    assert evaluate.main([str(run), "--step", "0", "--data", str(tmp_path)]) == 1
    assert "--data names another folder" in capsys.readouterr().err


def dump(folder: Path, sets: dict[str, list[int]], n: int) -> None:
    folder.mkdir(parents=True)
    with (folder / "0.jsonl").open("w") as file:
        for name, solved in sets.items():
            for problem, c in enumerate(solved):
                for sample in range(n):
                    row = {"input": f"{name}{problem}", "score": float(sample < c), "set": name}
                    file.write(json.dumps({**row, "uid": f"{name}{problem}_{sample}_0"}) + "\n")
    (folder / "done.json").write_text("{}")


def verl_in_its_place(monkeypatch, lines=10, done=True):
    """Merges and generates as verl does; `calls` has what was started."""
    calls = []

    def start(command, **_):
        calls.append("merge" if "verl.model_merger" in command else "generate")
        if calls[-1] == "merge":
            target = Path(command[command.index("--target_dir") + 1])
            target.mkdir(parents=True)
            (target / "config.json").write_text("{}")
            return subprocess.CompletedProcess(command, 0 if done else 1)
        folder = Path(command[command.index("--run") + 1])
        with (folder / "0.jsonl").open("w") as file:
            for problem in range(lines):
                file.write(json.dumps({"uid": f"{problem}_0_0", "input": "x", "score": 1.0, "set": "math500"}) + "\n")
        if done:
            (folder / "done.json").write_text("{}")
        return subprocess.CompletedProcess(command, 0 if done else 1)

    monkeypatch.setattr(evaluate.subprocess, "run", start)
    return calls


@pytest.fixture
def evaluated(tmp_path):
    """A run that can be evaluated, and its data: two problems."""
    run = make_run(tmp_path / "run", {10: 0.9}, [10])
    (run / "hydra" / ".hydra").mkdir(parents=True)
    (run / "hydra" / ".hydra" / "overrides.yaml").write_text("- a=1\n")
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"data_source": ["math500"] * 2}), tmp_path / "data" / "math500.parquet")
    return [str(run), "--data", str(tmp_path / "data")]


def test_an_interrupted_evaluation_is_no_finished_one(evaluated, monkeypatch, capsys):
    calls = verl_in_its_place(monkeypatch, lines=1, done=False)
    assert evaluate.main(evaluated) == 1  # the merge
    assert evaluate.main(evaluated) == 1
    assert calls == ["merge", "merge"]
    verl_in_its_place(monkeypatch)
    assert evaluate.main(evaluated) == 0
    run = Path(evaluated[0])
    (run / "evaluation" / "step_10" / "math500" / "done.json").unlink()  # killed while verl wrote
    assert evaluate.table([run]).splitlines()[2].startswith("| run | 10 |  |")
    calls = verl_in_its_place(monkeypatch, lines=1)
    assert evaluate.main(evaluated) == 0
    assert calls == ["generate"]
    assert "1 of 2 problems were left out" in capsys.readouterr().out
    assert evaluate.main(evaluated) == 0
    assert calls == ["generate"]


def test_an_evaluation_with_other_settings_is_another_one(evaluated, monkeypatch, capsys):
    calls = verl_in_its_place(monkeypatch)
    assert evaluate.main(evaluated) == 0
    assert evaluate.main([*evaluated, "--", "actor_rollout_ref.rollout.val_kwargs.n=64"]) == 1
    assert "was evaluated with other overrides" in capsys.readouterr().err
    pq.write_table(pa.table({"data_source": ["math500"] * 3}), Path(evaluated[2]) / "math500.parquet")
    assert evaluate.main(evaluated) == 1
    assert "was evaluated with other problems" in capsys.readouterr().err
    assert calls == ["merge", "generate"]


def test_a_checkpoint_that_was_written_again_is_merged_and_evaluated_again(evaluated, monkeypatch):
    calls = verl_in_its_place(monkeypatch)
    assert evaluate.main(evaluated) == 0
    checkpoint = Path(evaluated[0]) / "checkpoints" / "global_step_10" / "actor" / "fsdp_config.json"
    later = time.time() + 60
    os.utime(checkpoint, (later, later))
    assert evaluate.main(evaluated) == 0
    assert calls == ["merge", "generate"] * 2


def test_of_another_number_of_samples_the_best_is_taken_as_well(tmp_path):
    run = make_run(tmp_path / "run", {10: 0.7}, [10, 20])
    with (run / "metrics-001.jsonl").open("w") as file:
        file.write('{"step": 20, "data": {"val-core/math500/acc/mean@10": 0.6}}\n')
    assert evaluate.best_step(evaluate.read_run(run), [10, 20]) == 10


def test_table(tmp_path, capsys):
    full, part, none = (make_run(tmp_path / name, {10: 0.5}, [10]) for name in ("full", "part", "none"))
    for run in (full, part):
        dump(run / "evaluation" / "step_10" / "math500+olympiadbench", {"math500": [5, 0], "olympiadbench": [1]}, 5)
    dump(full / "evaluation" / "step_10" / "aime", {"aime24": [10], "aime25": [0], "amc23": [4, 2]}, 10)
    assert evaluate.main(["--table", str(full), str(part), str(none)]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0] == "| run | step | math500 | olympiadbench | aime24 | aime25 | amc23 | mean |"
    assert rows[2] == "| full | 10 | 50.00 | 20.00 | 100.00 | 0.00 | 30.00 | 40.00 |"
    assert rows[3] == "| part | 10 | 50.00 | 20.00 |  |  |  |  |"
    assert rows[4] == "| none | not evaluated |  |  |  |  |  |  |"


def test_the_table_shows_the_best_of_what_was_evaluated_and_not_the_last(tmp_path):
    """As eval.sh without STEP promises, also where another checkpoint or the first model was evaluated after it."""
    run = make_run(tmp_path / "run", {0: 0.1, 10: 0.9, 20: 0.5}, [10, 20])
    for age, (step, solved) in enumerate({10: 4, 20: 3, 0: 1}.items()):
        folder = run / "evaluation" / f"step_{step}"
        dump(folder / "math500", {"math500": [solved]}, 5)
        os.utime(folder, (1e9 + age, 1e9 + age))
    assert evaluate.table([run]).splitlines()[2].startswith("| run | 10 | 80.00 |")
    for step in (10, 20):
        shutil.rmtree(run / "evaluation" / f"step_{step}")
    assert evaluate.table([run]).splitlines()[2].startswith("| run | 0 | 20.00 |")
