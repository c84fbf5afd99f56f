"""The watcher of the quickstart, on commands that behave as verl does when it goes well, fails, lies or hangs."""

import importlib.util
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "quickstart" / "train.py"
spec = importlib.util.spec_from_file_location("quickstart_train", SCRIPT)
train = importlib.util.module_from_spec(spec)
spec.loader.exec_module(train)

WRITER = """
import json, os, sys, time
log = open(os.environ["VERL_FILE_LOGGER_PATH"], "w", buffering=1)
def record(step, **data):
    log.write(json.dumps({{"step": step, "data": data}}) + "\\n")
{body}
"""


def command(body: str) -> list[str]:
    return [sys.executable, "-c", WRITER.format(body=body)]


GOOD = """
record(0, **{"val-core/reasoning_gym/chain_sum/acc/mean@2": 0.25})
for step in (1, 2, 3):
    time.sleep(0.2)
    record(step, **{"training/rollout_probs_diff_max": 1e-7, "timing_s/step": 0.2})
"""


def test_good_run_is_timed_and_numbered(tmp_path):
    facts = train.train(tmp_path, 3, 30, command(GOOD))
    assert 0.5 < facts["seconds"] < 30
    assert facts["startup_seconds"] <= facts["seconds"]
    train.train(tmp_path, 3, 30, command(GOOD))
    # verl's file logger empties the file it opens: each start has its own.
    assert [p.name for p in sorted(tmp_path.glob("metrics-*"))] == ["metrics-000.jsonl", "metrics-001.jsonl"]


@pytest.mark.parametrize("value", ["0.2", "float('nan')", "None"])
def test_weight_sync_failure_ends_the_run(tmp_path, value):
    body = f"record(1, **{{'training/rollout_probs_diff_max': {value}}})\ntime.sleep(60)"
    began = time.monotonic()
    with pytest.raises(train.RunError, match=r"rollout_probs_diff_max.*does not sample from the weights"):
        train.train(tmp_path, 3, 60, command(body))
    assert time.monotonic() - began < 40


def test_stall_ends_the_run_and_its_processes(tmp_path):
    body = "import subprocess\nsubprocess.Popen(['sleep', '1234'])\nrecord(0)\ntime.sleep(1234)"
    with pytest.raises(train.RunError, match=r"nothing moved for 7 s.*STALL="):
        train.train(tmp_path, 3, 7, command(body))
    assert not [p for p in psutil.Process().children(recursive=True) if "1234" in p.cmdline()]


def test_stall_says_what_was_last_seen_of_each_component(tmp_path):
    (tmp_path / "train.log").write_text("(WorkerDict pid=1) of an earlier start\n")
    body = r"""
print("\x1b[36m(WorkerDict pid=999999999)\x1b[0m loading")
print(f"\x1b[36m(TaskRunnerV1 pid={os.getpid()})\x1b[0m step 1")
print("\x1b[36m(WorkerDict pid=999999999)\x1b[0m \x1b[33mupdating weights\x1b[0m", flush=True)
print("(vLLMHttpServer pid=1, ip=10.0.0.2) ready", flush=True)
time.sleep(1234)
"""
    with pytest.raises(train.RunError) as error:
        train.train(tmp_path, 3, 5, command(body))
    said = str(error.value).partition("What was last seen of each component:\n")[2].splitlines()
    assert said[0] == "  WorkerDict pid=999999999, ended: updating weights"
    assert said[1].startswith("  TaskRunnerV1 pid=")
    assert said[1].endswith(", running: step 1")
    assert said[2] == "  vLLMHttpServer pid=1, ip=10.0.0.2: ready"


def test_failure_names_the_cause_not_ray(tmp_path):
    body = r"""
print("\x1b[36m(TaskRunnerV1 pid=7)\x1b[0m FileNotFoundError: no such parquet")
print("ray.exceptions.RayTaskError(FileNotFoundError): wrapper")
sys.exit(3)
"""
    with pytest.raises(train.RunError, match="exit code 3: FileNotFoundError: no such parquet"):
        train.train(tmp_path, 3, 30, command(body))


def test_a_running_cluster_gets_the_loggers_variables(tmp_path, monkeypatch):
    """Its processes do not inherit them; a child that only looks at its arguments stands for them."""
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setenv("WANDB_RUN_ID", "abc")
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    body = """
import pathlib
del os.environ["VERL_FILE_LOGGER_PATH"]
given = dict(argument.split("=", 1) for argument in sys.argv[1:])
prefix = "++ray_kwargs.ray_init.runtime_env.env_vars."
assert given[prefix + "WANDB_RUN_ID"] == "'abc'"
assert prefix + "WANDB_API_KEY" not in given
log = open(given[prefix + "VERL_FILE_LOGGER_PATH"].strip("'"), "w", buffering=1)
for step in range(4):
    print(json.dumps({{"step": step, "data": {{}}}}), file=log)
    time.sleep(0.2)
"""
    script = tmp_path / "child.py"
    script.write_text("import json, os, sys, time\n" + body.replace("{{", "{").replace("}}", "}"))
    train.train(tmp_path, 3, 30, [sys.executable, str(script)])
    assert len((tmp_path / "metrics-000.jsonl").read_text().splitlines()) == 4


def test_tail_waits_for_complete_lines(tmp_path):
    path = tmp_path / "m.jsonl"
    tail = train.MetricsTail(path)
    assert tail.read() == []
    path.write_text('{"step": 1, "data": {}}\n{"step": 2,')
    assert [r["step"] for r in tail.read()] == [1]
    path.write_text('{"step": 1, "data": {}}\n{"step": 2, "data": {}}\n')
    assert [r["step"] for r in tail.read()] == [2]


def test_memory_counts_descendants():
    child = subprocess.Popen(
        [sys.executable, "-c", "x = bytearray(200_000_000); print(1, flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        child.stdout.readline()
        assert train.memory_of(psutil.Process()) > 200e6
    finally:
        child.communicate(b"\n")


def test_done_is_written_only_on_success(tmp_path):
    run = [sys.executable, str(SCRIPT), "--run", str(tmp_path / "run"), "--steps", "3", "--"]
    failed = subprocess.run([*run, *command("sys.exit(1)")], capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "train.log" in failed.stderr
    assert not (tmp_path / "run" / "done.json").exists()
    assert subprocess.run([*run, *command(GOOD)], capture_output=True, check=False).returncode == 0
    assert math.isfinite(json.loads((tmp_path / "run" / "done.json").read_text())["seconds"])
