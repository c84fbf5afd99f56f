"""The watcher of the quickstart, on commands that behave as verl does when it goes well, fails, lies or hangs."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import psutil
import pytest

from verl_ext.watch import training as train

WATCH = (sys.executable, "-m", "verl_ext.watch")

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


def test_verl_can_be_interrupted_where_a_shell_ignores_it(tmp_path):
    with train.handled_by(signal.SIG_IGN, [signal.SIGINT]):
        body = """
try:
    record(1, **{"training/rollout_probs_diff_max": 1.0})
    time.sleep(60)
finally:
    print("shut down")
"""
        with pytest.raises(train.RunError, match="does not sample from the weights"):
            train.train(tmp_path, 3, 60, command(body))
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert "shut down" in (tmp_path / "train.log").read_text()


def test_stall_ends_the_run_and_its_processes(tmp_path):
    body = "import subprocess\nsubprocess.Popen(['sleep', '1234'])\nrecord(0)\ntime.sleep(1234)"
    with pytest.raises(train.RunError, match=r"nothing moved for 3 s.*STALL="):
        train.train(tmp_path, 3, 3, command(body))
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
        train.train(tmp_path, 3, 3, command(body))
    said = str(error.value).partition("What was last seen of each component:\n")[2].splitlines()
    assert said[0] == "  WorkerDict pid=999999999, ended: updating weights"
    assert said[1].startswith("  TaskRunnerV1 pid=")
    assert said[1].endswith(", running: step 1")
    assert said[2] == "  vLLMHttpServer pid=1, ip=10.0.0.2: ready"


def test_a_dead_engine_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "GRACE", 3)
    line = "(Server pid=1) ERROR 11-25 01:51:20 [async_llm.py:744] vllm.v1.EngineDeadError: it is"
    body = f"record(1)\nprint({line!r}, flush=True)\ntime.sleep(1234)"
    began = time.monotonic()
    with pytest.raises(
        train.RunError, match=r"1 of 3 steps\)[\s\S]*Cause: vllm.v1.EngineDeadError: it is\nvLLM's engine has died"
    ):
        train.train(tmp_path, 3, 600, command(body))
    assert time.monotonic() - began < 60


def test_a_dead_actor_is_named(tmp_path):
    body = r"""
print("ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task.")
print("\tclass_name: create_colocated_worker_cls.<locals>.WorkerDict\n\tactor_id: f0\n\tpid: 14175\n\tip: 10.0.0.2")
sys.exit(1)
"""
    with pytest.raises(train.RunError, match=r"\(WorkerDict, pid 14175\)\nA process was killed"):
        train.train(tmp_path, 3, 30, command(body))


def test_failure_names_the_cause_not_ray(tmp_path):
    body = r"""
print("\x1b[36m(TaskRunnerV1 pid=7)\x1b[0m FileNotFoundError: no such parquet")
print("ray.exceptions.RayTaskError(FileNotFoundError): wrapper")
sys.exit(3)
"""
    with pytest.raises(train.RunError, match="exit code 3: FileNotFoundError: no such parquet"):
        train.train(tmp_path, 3, 30, command(body))


def test_failure_names_what_failed_before(tmp_path):
    """verl goes on without the rollouts that failed, until none is left; an earlier start is not looked at."""
    (tmp_path / "train.log").write_text("OSError: of an earlier start\n" * 9)
    body = r"""
for _ in range(3):
    print("(AgentLoopWorkerTQ pid=7, ip=10.0.0.2) ZeroDivisionError: the reward tripped")
print("(AgentLoopWorkerTQ pid=7) KeyError: 'once'")
print("RuntimeError: groups with no materializable trajectories")
sys.exit(1)
"""
    with pytest.raises(train.RunError) as error:
        train.train(tmp_path, 3, 30, command(body))
    said = str(error.value).splitlines()
    assert said[0].endswith("RuntimeError: groups with no materializable trajectories")
    assert said[1] == "Before it, 3 x in AgentLoopWorkerTQ: ZeroDivisionError: the reward tripped"
    assert said[2].startswith("Every response of a step failed")
    with pytest.raises(train.RunError, match=r"no exception in the log$"):
        train.train(tmp_path, 3, 30, command("sys.exit(9)"))


@pytest.mark.parametrize(
    "text",
    [
        "OSError: [Errno 28] No space left on device: x",
        "RuntimeError: [enforce fail at inline_container.cc:672] . unexpected pos 407552 vs 407440",  # torch.save's
    ],
)
def test_full_disk_gets_a_remedy(tmp_path, text):
    with pytest.raises(train.RunError, match=r"exit code 1: .*\nA disk or quota is full: make room"):
        train.train(tmp_path, 3, 30, command(f"print({text!r})\nsys.exit(1)"))


@pytest.mark.parametrize("late", [1, 2])
def test_ray_gets_a_second_chance_to_start(tmp_path, late, capsys):
    body = f"""
with open({str(tmp_path / "starts")!r}, "a+") as starts:
    starts.write("x")
    starts.seek(0)
    if len(starts.read()) <= {late}:
        print("Exception: The current node timed out during startup. This could happen because of this or that.")
        sys.exit(1)
"""
    if late == 1:
        assert train.train(tmp_path, 3, 30, command(body + GOOD))["last_step"] == 3
    else:
        with pytest.raises(train.RunError, match="exit code 1: Exception: The current node timed out"):
            train.train(tmp_path, 3, 30, command(body + GOOD))
    assert (tmp_path / "starts").read_text() == "xx"
    assert capsys.readouterr().err.count("once more") == 1


def test_two_trainings_of_one_folder(tmp_path):
    """The lock is the launcher's, so it holds after its watcher has been killed, and no longer than the launcher."""
    run = [*WATCH, "--run", str(tmp_path), "--steps", "3", "--", *command("time.sleep(600)")]
    watcher = psutil.Popen(run, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (children := watcher.children()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    watcher.kill()
    watcher.wait()
    with pytest.raises(train.RunError, match=r"another training of .* is running"):
        train.train(tmp_path, 3, 30, command(GOOD))
    children[0].kill()
    psutil.wait_procs(children, timeout=10)
    train.train(tmp_path, 3, 30, command(GOOD))


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_behind_where_nobody_reads(tmp_path, signal_):
    """As when a terminal is closed: the progress bar cannot be written any more."""
    run = [*WATCH, "--run", str(tmp_path), "--steps", "3", "--", *command("time.sleep(600)")]
    watcher = psutil.Popen(run, stderr=subprocess.PIPE, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
    deadline = time.monotonic() + 60
    while not (children := watcher.children()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    watcher.stderr.close()
    watcher.send_signal(signal_)
    watcher.wait(60)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


@pytest.mark.parametrize("numbers", [(signal.SIGHUP, signal.SIGHUP), (signal.SIGINT, signal.SIGINT)])
def test_a_second_interrupt_does_not_end_the_clean_up(tmp_path, numbers):
    """A terminal that is closed sends SIGHUP twice; an impatient user Ctrl-C."""
    slow = """
import signal, subprocess
deaf = "import signal, time; signal.signal(2, signal.SIG_IGN); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", deaf])
def end(*_):
    time.sleep(2)
    sys.exit(1)
signal.signal(signal.SIGINT, end)
record(1)
time.sleep(600)
"""
    run = [*WATCH, "--run", str(tmp_path), "--steps", "3", "--", *command(slow)]

    def as_a_terminal_has_it():
        for number in set(numbers):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    watcher = psutil.Popen(run, stderr=subprocess.DEVNULL, preexec_fn=as_a_terminal_has_it)
    deadline = time.monotonic() + 60
    while len(members := watcher.children(recursive=True)) < 2 or not list(tmp_path.glob("metrics-*.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(1)
    for number in numbers:
        watcher.send_signal(number)
        time.sleep(0.5)
    assert watcher.wait(60) == 130
    _, alive = psutil.wait_procs(members, timeout=10)
    assert not alive


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGKILL])
def test_a_training_ends_with_the_script_that_started_it(tmp_path, signal_):
    """A kill of the script's shell reaches nobody else."""
    run = [*WATCH, "--end-with-parent", "--run", str(tmp_path), "--steps", "3", "--", *command("time.sleep(600)")]
    script = psutil.Popen(["bash", "-c", '"$@"; exit $?', "bash", *run], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(members := script.children(recursive=True)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    script.send_signal(signal_)
    _, alive = psutil.wait_procs(members, timeout=30)
    assert not alive
    assert "Interrupted; the same command resumes" in script.communicate()[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_verl_is_started_stops_it(tmp_path, monkeypatch, number):
    """The process is there before Popen returns, and nobody could stop it."""
    started = []

    class Interrupted(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            started.append(psutil.Process(self.pid))
            signal.raise_signal(number)

    monkeypatch.setattr(train.subprocess, "Popen", Interrupted)
    # Both, because where the tests run in the background a shell may have made them ignore Ctrl-C.
    both = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(one, signal.default_int_handler) for one in both]
    try:
        with pytest.raises(KeyboardInterrupt):
            train.train(tmp_path, 3, 30, command("time.sleep(600)"))
        assert [signal.getsignal(one) for one in both] == [signal.default_int_handler] * 2
    finally:
        for one, handler in zip(both, before, strict=True):
            signal.signal(one, handler)
    assert len(started) == 1
    assert not psutil.wait_procs(started, timeout=10)[1]


def test_a_command_that_cannot_be_started_leaves_interrupts_as_they_were(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(FileNotFoundError):
        train.train(tmp_path, 3, 30, [str(tmp_path / "nowhere")])
    assert signal.getsignal(signal.SIGINT) is before


def make_checkpoint(folder: Path, step: int, world: int = 1) -> Path:
    """A checkpoint as verl leaves it; the archives are empty."""
    checkpoint = folder / f"global_step_{step}"
    (checkpoint / "actor").mkdir(parents=True)
    for name in ["data"] + [
        f"actor/{kind}_world_size_{world}_rank_{rank}"
        for rank in range(world)
        for kind in ("model", "optim", "extra_state")
    ]:
        with zipfile.ZipFile(checkpoint / f"{name}.pt", "w") as archive:
            archive.writestr("data", b"0" * 1000)
    (folder / "latest_checkpointed_iteration.txt").write_text(str(step))
    return checkpoint


def test_intact_checkpoints_pass(tmp_path):
    train.check_checkpoint(tmp_path / "none")
    train.check_checkpoint(tmp_path)
    checkpoint = make_checkpoint(tmp_path, 10, world=2)
    train.check_checkpoint(tmp_path)
    for path in checkpoint.glob("actor/optim*"):  # actor.checkpoint.save_contents without the optimizer
        path.unlink()
    train.check_checkpoint(tmp_path)


SPOIL = {
    "cut off or damaged": lambda checkpoint: os.truncate(checkpoint / "actor" / "model_world_size_2_rank_1.pt", 500),
    "optim_world_size_2_rank_1.pt is missing": lambda checkpoint: (
        checkpoint / "actor" / "optim_world_size_2_rank_1.pt"
    ).unlink(),
    "actor is missing or empty": lambda checkpoint: shutil.rmtree(checkpoint / "actor"),
    "has no shard of the model": lambda checkpoint: [path.unlink() for path in checkpoint.glob("actor/model_*.pt")],
    "data.pt is missing": lambda checkpoint: (checkpoint / "data.pt").unlink(),
    "does not exist": shutil.rmtree,
    "says ''": lambda checkpoint: (checkpoint.parent / "latest_checkpointed_iteration.txt").write_text(""),
}


@pytest.mark.parametrize("fault", SPOIL)
def test_damaged_checkpoint_is_named_with_the_way_on(tmp_path, fault):
    folder = tmp_path / "with space" / "checkpoints"
    make_checkpoint(folder, 10, world=2)
    SPOIL[fault](make_checkpoint(folder, 20, world=2))
    with pytest.raises(train.RunError, match=fault) as error:
        train.train(folder.parent, 3, 30, command(GOOD))
    assert not (folder.parent / "train.log").exists(), "it was started"
    remedy = re.search(r"intact: (echo .*)", str(error.value))[1]
    subprocess.run(["bash", "-c", remedy], check=True)
    train.check_checkpoint(folder)


def test_no_intact_checkpoint_left(tmp_path):
    (make_checkpoint(tmp_path, 20) / "data.pt").unlink()
    with pytest.raises(train.RunError, match=r"No other checkpoint is intact. To begin again: mv "):
        train.check_checkpoint(tmp_path)


def test_shards_of_other_nodes_are_not_missed(tmp_path, monkeypatch):
    shutil.rmtree(make_checkpoint(tmp_path, 20) / "actor")
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    train.check_checkpoint(tmp_path)


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


def test_what_is_no_record_is_passed_over(tmp_path):
    """A full disk cuts a line, and the next one is written behind it."""
    path = tmp_path / "m.jsonl"
    path.write_text(
        '{"step": 1, "da{"step": 2, "data": {}}\n[3]\n{"step": null, "data": {}}\n{"step": 4, "data": {}}\n'
    )
    assert [record["step"] for record in train.MetricsTail(path).read()] == [4]


def test_a_start_overwrites_no_earlier_ones_records(tmp_path):
    (tmp_path / "metrics-001.jsonl").write_text("1\n")
    (tmp_path / "metrics-004.jsonl").write_text("4\n")
    train.train(tmp_path, 3, 30, command(GOOD))
    assert (tmp_path / "metrics-004.jsonl").read_text() == "4\n"
    assert len((tmp_path / "metrics-005.jsonl").read_text().splitlines()) == 4


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
    run = [*WATCH, "--run", str(tmp_path / "run"), "--steps", "3", "--"]
    failed = subprocess.run([*run, *command("sys.exit(1)")], capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "train.log" in failed.stderr
    assert not (tmp_path / "run" / "done.json").exists()
    assert subprocess.run([*run, *command(GOOD)], capture_output=True, check=False).returncode == 0
    facts = json.loads((tmp_path / "run" / "done.json").read_text())
    assert math.isfinite(facts["seconds"])
    assert (facts["steps"], facts["last_step"]) == (3, 3)


def test_an_early_end_is_said(tmp_path):
    """Of a run that verl says is over: total_epochs, or an override of its length."""
    run = [*WATCH, "--run", str(tmp_path), "--steps", "3", "--"]
    early = subprocess.run([*run, *command("record(1)")], capture_output=True, text=True, check=True)
    assert "verl has ended after step 1 of 3" in early.stdout
    none = subprocess.run([*run, *command("pass")], capture_output=True, text=True, check=True)
    assert "has ended" not in none.stdout
    facts = json.loads((tmp_path / "done.json").read_text())  # no NaN, which is no JSON
    assert facts["startup_seconds"] is None
