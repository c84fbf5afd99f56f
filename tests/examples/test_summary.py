"""The quickstart's table and picture, from run folders as verl writes them."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "quickstart"


@pytest.fixture(scope="module")
def summary():
    sys.path.insert(0, str(FOLDER))  # the script's own import of its neighbour
    try:
        spec = importlib.util.spec_from_file_location("quickstart_summary", FOLDER / "summary.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(FOLDER))


def write_lines(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_run(folder: Path, accuracies: dict[int, float], steps: int = 8) -> Path:
    records = []
    for step in range(steps + 1):
        data = {}
        if step:
            data |= {"actor/entropy": 1 - step / 10, "training/rollout_probs_diff_max": 1e-7 * step}
            # Two prompts; the first is solved by one of its two rollouts from step 5 on, the second never.
            rows = [
                {"uid": f"{u}_{r}_0", "score": float(u == "a_b" and r == 1 and step >= 5)}
                for u in ("a_b", "c")
                for r in (0, 1)
            ]
            write_lines(folder / "rollouts" / f"{step}.jsonl", rows)
        if step in accuracies:
            data["val-core/reasoning_gym/chain_sum/acc/mean@2"] = accuracies[step]
            rows = [{"input": f"p{i}", "acc": float(i < 4 * accuracies[step])} for i in range(4) for _ in range(2)]
            write_lines(folder / "validation" / f"{step}.jsonl", rows)
        records.append({"step": step, "data": data})
    write_lines(folder / "metrics-000.jsonl", records)
    (folder / "done.json").write_text("{}")
    return folder


def test_curves_are_read_as_verl_wrote_them(summary, tmp_path):
    run = summary.read_run(make_run(tmp_path / "asymgrpo-seed3", {0: 0.25, 8: 0.75}))
    assert (run.method, run.seed) == ("asymgrpo", "3")
    assert run.accuracy == {0: 0.25, 8: 0.75}
    assert run.unsolved == {1: 1, 2: 1, 3: 1, 4: 1, 5: 0.5, 6: 0.5, 7: 0.5, 8: 0.5}
    # Four problems, one of them right: sd of (1, 0, 0, 0) is 0.5, over sqrt(4).
    assert run.accuracy_error[0] == pytest.approx(0.25)
    assert run.max_probs_diff == pytest.approx(8e-7)


def test_resumed_steps_count_once(summary, tmp_path):
    folder = make_run(tmp_path / "grpo-seed1", {0: 0.25})
    write_lines(
        folder / "metrics-001.jsonl",
        [{"step": 8, "data": {"actor/entropy": 0.77, "training/rollout_probs_diff_max": 0.0}}],
    )
    run = summary.read_run(folder)
    assert run.entropy[8] == 0.77
    assert len(run.entropy) == 8


def test_table_says_first_best_last(summary, tmp_path):
    run = summary.read_run(make_run(tmp_path / "asymgrpo-seed1", {0: 0.25, 4: 0.75, 8: 0.5}))
    accuracy, unsolved, entropy = summary.table(run).splitlines()[1:4]
    assert [float(cell.split("±")[0]) for cell in accuracy[42:].replace(" ± ", "±").split()] == [0.25, 0.75, 0.5]
    assert [float(cell) for cell in unsolved[42:].split()] == [0.9, 0.6, 0.6]  # five-step means: 4 of 1, then ...
    assert [float(cell) for cell in entropy[42:].split()] == [0.7, 0.7, 0.4]


def test_script_overlays_all_finished_runs(tmp_path):
    make_run(tmp_path / "asymgrpo-seed1", {0: 0.25, 8: 0.75})
    make_run(tmp_path / "asymgrpo-seed2", {0: 0.25, 8: 0.5})
    make_run(tmp_path / "grpo-seed1", {0: 0.25, 8: 0.5})
    unfinished = make_run(tmp_path / "reinforce-seed1", {0: 0.25})
    (unfinished / "done.json").unlink()
    script = [sys.executable, str(FOLDER / "summary.py"), "--run"]
    done = subprocess.run([*script, str(tmp_path / "grpo-seed1")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "curves of 3 runs" in done.stdout
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    done = subprocess.run([*script, str(unfinished)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no finished run" in done.stderr
