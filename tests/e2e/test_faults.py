"""What goes wrong in the middle of a training, done for real to verl, Ray, FSDP2 and vLLM on the CPU stack.

    bash tests/run.sh tests/e2e/test_faults.py -m slow -rA

Each fault ends in a message that names it within a stated time, and what was trained before it is not lost.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from trainings import expected_advantages, groups_of, records

ROOT = Path(__file__).resolve().parents[2]
DEATH = 180  # seconds from the fault to the end of the run where a process dies
STALL = 120  # seconds without a step that end a run here; a start takes some 60 on 2 cores
END_OF_A_STALL = STALL + 60  # and what it takes to shut Ray down
WATCHER = "verl_ext.watch"

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="session")
def out(tmp_path_factory) -> Path:
    """One folder for all runs, so that prompts and base model are made once."""
    return tmp_path_factory.mktemp("faults")


class Training:
    """The quickstart with a checkpoint every step, and its output in a file."""

    def __init__(self, out: Path, name: str, *overrides: str, before: str = "", **knobs: str):
        self.log, number = out / f"{name}.out", 1
        while self.log.exists():
            number += 1
            self.log = out / f"{name}-{number}.out"
        settings = ["data.val_max_samples=64", "trainer.save_freq=1", f"trainer.experiment_name={name}", *overrides]
        env = {**os.environ, "VENV": sys.prefix, "OUT": str(out), "STALL": str(STALL), "SEED": "1", **knobs}
        command = ["bash", "examples/quickstart.sh", *settings]
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                ["bash", "-c", before + '\nexec "$@"', "bash", *command],
                cwd=ROOT,
                env=env,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        self.root = psutil.Process(self.process.pid)

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def run(self) -> Path:
        found = re.search(r"^training: (.+) \(log:", self.output, re.MULTILINE)
        return Path(found[1]) if found else Path("/nonexistent")

    def wait(self, until, limit: float = 600) -> None:
        """Until `until()` is true; the training must not end before."""
        deadline = time.monotonic() + limit
        while not until():
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.1)

    def wait_for_checkpoint(self, step: int) -> None:
        self.wait(lambda: checkpoint(self.run) >= step)

    def members(self, title: str) -> list[psutil.Process]:
        """Processes of the training with this in their command line; the watcher, which has verl's in its own, only
        where it is asked for."""
        found = []
        for member in self.root.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                line = " ".join(member.cmdline())
                if title in line and (title == WATCHER or WATCHER not in line):
                    found.append(member)
        return found

    def finish(self, expected: int, limit: float) -> tuple[str, float]:
        """Output, and seconds until the end."""
        began = time.monotonic()
        everyone = [self.root, *self.root.children(recursive=True)]
        try:
            code = self.process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            for member in everyone:
                with contextlib.suppress(psutil.Error):
                    member.kill()
            pytest.fail(f"not ended after {limit} s: {self.output}")
        took = time.monotonic() - began
        assert code == expected, self.output
        _, alive = psutil.wait_procs(everyone, timeout=20)
        assert not [member for member in alive if member.status() != psutil.STATUS_ZOMBIE], "something was left behind"
        print(f"ended after {took:.0f} s")
        return self.output.replace("\r", "\n"), took


def checkpoint(run: Path) -> int:
    """Step of the last complete checkpoint; 0 where there is none."""
    try:
        return int((run / "checkpoints" / "latest_checkpointed_iteration.txt").read_text())
    except (OSError, ValueError):
        return 0


def first_steps(run: Path) -> list[int]:
    """Which step each start of a run logged first: 0, or that of the checkpoint it went on from, validated again."""
    found = [path.read_text().splitlines() for path in sorted(run.glob("metrics-*.jsonl"))]
    return [json.loads(lines[0])["step"] for lines in found if lines]


def dump_of(run: Path, step: int) -> Path:
    return run / "rollouts" / f"{step}.jsonl"


def rollouts(run: Path, step: int) -> list[dict]:
    return [json.loads(line) for line in dump_of(run, step).read_text().splitlines()]


def prompts(run: Path, step: int) -> list[str]:
    return sorted(row["input"] for row in rollouts(run, step))


def check(run: Path, steps: int, reference: Path | None = None) -> None:
    """All steps are there, with the paper's advantages, on the prompts that an undisturbed run trains on.

    verl saves a step's checkpoint before it logs the step and dumps its rollouts: killed in between, it goes on after
    that step, of which log and dump are missing.
    """
    logged = records(run)
    assert sorted(logged) == list(range(steps + 1))
    assert checkpoint(run) == steps
    for step in range(1, steps + 1):
        if step in first_steps(run)[1:] and not dump_of(run, step).exists():
            continue
        expected = expected_advantages(groups_of(dump_of(run, step)))
        for name, value in (("max", max(expected)), ("min", min(expected))):
            assert logged[step][f"critic/advantages/{name}"] == pytest.approx(value, rel=1e-5, abs=1e-7)
        assert logged[step]["training/rollout_probs_diff_max"] < 1e-3
        if reference is not None:
            assert prompts(run, step) == prompts(reference, step), f"step {step}: not the same data"


KILLED = {
    # What is killed in the middle of a step, and what the message must have.
    "trainer": ("ray::TaskRunnerV1", r"ActorDiedError.* \(TaskRunnerV1, pid \d+\)"),
    "worker": ("ray::WorkerDict", r"ActorDiedError.* \(WorkerDict, pid \d+\)"),
    "vllm": ("VLLM::EngineCore", r"EngineDeadError.*\n.*vLLM's engine has died"),
    "raylet": ("raylet/raylet", r"exit code \d+: .*(closed|unavailable|died|raylet|lost)"),
    "launcher": ("verl.trainer.main_ppo", r"exit code -9"),
}


def test_killed_again_and_again(out):
    """Trainer, worker, vLLM engine, raylet and launcher, each killed in mid-step; the same command goes on."""
    steps = len(KILLED) + 2
    undisturbed = Training(out, "undisturbed", STEPS=str(steps))
    undisturbed.finish(0, 900)
    check(undisturbed.run, steps)
    reached = 0
    for part, (title, message) in KILLED.items():
        training = Training(out, "killed", STEPS=str(steps))
        training.wait_for_checkpoint(reached + 1)
        time.sleep(0.7)  # into the next step
        victims = training.members(title)
        assert victims, f"no {title}"
        before = checkpoint(training.run)
        for victim in victims:
            victim.kill()
        output, took = training.finish(1, DEATH)
        said = output[output.index("The run failed:") :]
        print(f"{part}: ended {took:.0f} s after the kill: {said}")
        assert re.search(message, said), said
        assert reached < before <= checkpoint(training.run) < steps
        reached = checkpoint(training.run)
    training = Training(out, "killed", STEPS=str(steps))
    training.finish(0, 900)
    assert first_steps(training.run)[0] == 0
    assert all(step > 0 for step in first_steps(training.run)[1:]), "a start began from nothing"
    check(training.run, steps, reference=undisturbed.run)


def test_a_killed_script_takes_its_training_along(out):
    """A kill of the script's shell reaches nobody else; what it has started must not go on alone."""
    training = Training(out, "script", STEPS="30")
    training.wait_for_checkpoint(1)
    everyone = training.root.children(recursive=True)
    began = time.monotonic()
    training.process.terminate()
    _, alive = psutil.wait_procs(everyone, timeout=60)
    assert not [member for member in alive if member.status() != psutil.STATUS_ZOMBIE], "something was left behind"
    print(f"ended {time.monotonic() - began:.0f} s after the kill")
    assert training.process.wait(10) == -signal.SIGTERM
    assert "Interrupted; the same command resumes" in training.output


def test_killed_watcher_leaves_no_second_training(out):
    """What watches is killed: the training goes on, and the same command does not start another beside it."""
    training = Training(out, "watcher", STEPS="200")
    training.wait_for_checkpoint(1)
    (launcher,) = training.members("verl.trainer.main_ppo")
    family = [launcher, *launcher.children(recursive=True)]
    for watcher in training.members(WATCHER):
        watcher.kill()
    training.process.wait(30)
    assert launcher.is_running()
    second = Training(out, "watcher", STEPS="200")
    output, took = second.finish(1, 60)
    assert "another training of" in output
    assert took < 30
    launcher.send_signal(signal.SIGINT)
    _, alive = psutil.wait_procs(family, timeout=60)
    for member in alive:
        member.kill()


def test_frozen_engine(out):
    """An engine that neither works nor dies: verl waits for it without end, the watcher does not."""
    training = Training(out, "frozen", STEPS="200")
    training.wait_for_checkpoint(1)
    for engine in training.members("VLLM::EngineCore"):
        engine.suspend()
    output, _ = training.finish(1, END_OF_A_STALL)
    assert f"nothing moved for {STALL} s" in output
    assert "What was last seen of each component" in output


def test_full_disk_at_a_checkpoint(out, tmp_path):
    """The checkpoints' disk is full at the second one; with room, the same command goes on from the first."""
    if subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs the permission to mount a small disk (unshare -rm)")
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f"""
mount -t tmpfs -o size=3m tmpfs {disk}
"$@"; echo "first: $?"
cat {disk}/latest_checkpointed_iteration.txt; ls {disk}
mount -o remount,size=100m {disk}
"$@"; code=$?; cat {disk}/latest_checkpointed_iteration.txt
exit $code
"""
    (tmp_path / "twice.sh").write_text(script)
    before = f'exec unshare -rm bash {tmp_path}/twice.sh "$@"'  # its own mount namespace: the disk goes with it
    training = Training(out, "full", f"trainer.default_local_dir={disk}", before=before, STEPS="3")
    output, _ = training.finish(0, 900)
    first, _, second = output.partition("first: 1")
    assert "A disk or quota is full: make room" in first
    assert second.strip().startswith("1")
    steps = first_steps(training.run)
    assert steps == [0, 1], "the second start did not go on from the first checkpoint"
    assert output.strip().endswith("3")


@pytest.fixture(scope="module")
def trained(out) -> Path:
    """The folder of a run of two steps whose checkpoints tests may spoil in a copy."""
    training = Training(out, "spoilt", STEPS="2")
    training.finish(0, 900)
    return training.run


@pytest.mark.parametrize("fault", ["cut off", "no data.pt", "empty tracker", "gone"])
def test_damaged_checkpoint(out, trained, fault):
    """Named before anything starts, with the command that goes on from the one before; and that command works."""
    (trained / "done.json").unlink(missing_ok=True)
    keep = trained.with_name("kept")
    shutil.copytree(trained / "checkpoints", keep)
    latest, tracker = trained / "checkpoints" / "global_step_2", "latest_checkpointed_iteration.txt"
    if fault == "cut off":
        shard = latest / "actor" / "model_world_size_1_rank_0.pt"
        os.truncate(shard, shard.stat().st_size // 2)
    elif fault == "no data.pt":
        (latest / "data.pt").unlink()
    elif fault == "empty tracker":
        (trained / "checkpoints" / tracker).write_text("")
    else:
        shutil.rmtree(latest)
    try:
        output, took = Training(out, "spoilt", STEPS="3").finish(1, 60)
        assert took < 30
        assert "Started a local Ray" not in output
        assert "cannot be resumed from" in output
        remedy = re.search(r"which is intact: (echo \d > .*)", output)
        if fault == "empty tracker":
            assert remedy[1].startswith("echo 2 >")
        else:
            assert remedy[1].startswith("echo 1 >")
        if fault == "cut off":
            subprocess.run(["bash", "-c", remedy[1]], check=True, cwd=ROOT)
            training = Training(out, "spoilt", STEPS="2")
            training.finish(0, 900)
            assert first_steps(training.run)[-1] == 1
            check(training.run, 2)
    finally:
        shutil.rmtree(trained / "checkpoints")
        keep.rename(trained / "checkpoints")


REWARD = """
import os, time
from recipe.asymgrpo.reward import compute_score as good

calls = 0

def compute_score(*args, **kwargs):
    global calls
    calls += 1
    kind, result = os.environ["FAULT"], good(*args, **kwargs)
    if calls <= 64 + 128 + 8:  # validation, step 1, and the first of step 2
        return result
    if kind == "raises" or (kind == "raises once" and calls == 64 + 128 + 9):
        raise ZeroDivisionError("the reward tripped")
    if kind == "hangs":
        time.sleep(10000)
    return {"NaN": float("nan"), "string": "correct", "None": None}.get(kind, result)
"""


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("raises", "ZeroDivisionError: the reward tripped"),
        ("NaN", "responses is NaN or infinite .*Look at the reward function"),
        ("string", "can't assign a str to a torch"),
        ("None", "the reward function must return a number"),
        ("hangs", rf"nothing moved for {STALL} s[\s\S]*RewardLoopWorker pid=\d+, running compute_score\(\)"),
    ],
)
def test_reward_function(out, tmp_path, fault, message):
    """It goes wrong in step 2; the run ends and names it, and with a good one goes on from step 1."""
    path = tmp_path / "reward.py"
    path.write_text(REWARD)
    overrides = (f"reward.custom_reward_function.path={path}",)
    knobs = {"STEPS": "3", "FAULT": fault}
    training = Training(out, "reward", *overrides, **knobs)
    training.wait_for_checkpoint(1)
    output, _ = training.finish(1, END_OF_A_STALL if fault == "hangs" else DEATH)
    assert re.search(message, output[output.index("The run failed:") :]), output
    assert checkpoint(training.run) in (1, 2)
    if fault == "NaN":
        path.write_text(REWARD.replace('kind, result = os.environ["FAULT"]', 'kind, result = "none of them"'))
        training = Training(out, "reward", *overrides, **knobs)
        training.finish(0, 900)
        assert first_steps(training.run)[-1] == 1
        check(training.run, 3)


def test_reward_function_that_raises_for_one_response(out, tmp_path):
    """verl trains on without that response: its group is one smaller, and the metrics say so."""
    path = tmp_path / "reward.py"
    path.write_text(REWARD)
    training = Training(out, "once", f"reward.custom_reward_function.path={path}", STEPS="3", FAULT="raises once")
    training.finish(0, 900)
    logged = records(training.run)
    assert sorted(logged) == [0, 1, 2, 3]
    assert [logged[step]["asymgrpo/padding_rows"] for step in (1, 2, 3)] == [0, 1, 0]
    sizes = []
    for step in (1, 2, 3):
        sizes.append(sum(not row["uid"].startswith("pad") for row in rollouts(training.run, step)))
        # Of a group of seven as well; the row of padding is a failure alone, which has advantage 0.
        expected = expected_advantages(groups_of(dump_of(training.run, step)))
        assert logged[step]["critic/advantages/max"] == pytest.approx(max(expected), rel=1e-5)
        assert logged[step]["critic/advantages/min"] == pytest.approx(min(expected), rel=1e-5)
    assert sizes == [128, 127, 128]


def test_row_without_an_answer(out, tmp_path):
    """Found in the launcher, before any worker starts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    Training(out, "row", STEPS="1").finish(0, 900)  # which makes the prompts
    rows = pq.read_table(out / "data-small" / "train.parquet").to_pylist()
    rows[5]["reward_model"]["ground_truth"] = None
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    training = Training(out, "answers", f"data.train_files={tmp_path}/train.parquet", STEPS="1")
    output, took = training.finish(1, 120)
    assert "train.parquet, row 5: reward_model.ground_truth is None" in output
    assert "Started a local Ray instance" not in (training.run / "train.log").read_text()
    assert took < 60


def test_cluster_that_was_started_before_the_plugin_was_installed(out, tmp_path):
    """The launcher's environment has the plugin, the cluster's has not: said at once. Installed there, it trains."""
    venv, port = tmp_path / "venv", 6399
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(venv), "platbase": str(venv)}))
    for entry in Path(sysconfig.get_path("purelib")).iterdir():  # all of this environment but the plugin
        if not entry.name.startswith(("verl_asymgrpo", "__editable__", "verl_ext", "hydra_plugins", "recipe")):
            (site / entry.name).symlink_to(entry)
    python = venv / "bin" / "python"
    probe = "import importlib.util as u; import verl; print(u.find_spec('verl_ext') is None)"
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "RAY_ADDRESS")}
    clean |= {"VERL_PLATFORM": "cpu", "RAY_AUTH_MODE": "disabled"}
    seen = subprocess.run([python, "-c", probe], cwd=tmp_path, env=clean, capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "True", "the cluster's environment has the plugin"
    ray = [python, "-c", "import sys; from ray.scripts.scripts import main; sys.exit(main())"]
    head = ["start", "--head", f"--port={port}", "--num-cpus=8", "--num-gpus=1", "--include-dashboard=false"]
    temp = tempfile.mkdtemp(prefix="faults-", dir="/tmp")  # a socket's path must be short
    started = subprocess.run(
        [*ray, *head, f"--temp-dir={temp}"], cwd=tmp_path, env=clean, check=False, capture_output=True, text=True
    )
    assert started.returncode == 0, started.stdout + started.stderr
    cluster = [process for process in psutil.process_iter() if temp in " ".join(process.cmdline())]
    assert cluster
    env = clean | {"SCALE": "tiny", "VENV": sys.prefix, "OUT": str(out / "cluster"), "STEPS": "1"}
    env |= {"RAY_ADDRESS": f"127.0.0.1:{port}", "STALL": "300"}
    # Without the egg-info of an editable install: workers search the launcher's folder as well.
    checkout = tmp_path / "checkout"
    no = shutil.ignore_patterns(".*", "*.egg-info", "outputs", "build", "dist")
    shutil.copytree(ROOT, checkout, ignore=no)
    train = ["bash", "examples/run_qwen_7b.sh"]
    try:
        began = time.monotonic()
        done = subprocess.run(train, cwd=checkout, env=env, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "install verl-asymgrpo on that node, before ray start" in done.stderr
        took = time.monotonic() - began
        print(f"refused after {took:.0f} s")
        assert took < 120
        wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT]
        subprocess.run(wheel, check=True)
        (built,) = tmp_path.glob("verl_asymgrpo-*.whl")
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, built]
        subprocess.run(install, check=True)
        done = subprocess.run(train, cwd=checkout, env=env, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "finished: " in done.stdout
    finally:
        members = {child for process in cluster if process.is_running() for child in process.children(recursive=True)}
        for process in (*members, *cluster):
            with contextlib.suppress(psutil.Error):
                process.kill()
        shutil.rmtree(temp, ignore_errors=True)
