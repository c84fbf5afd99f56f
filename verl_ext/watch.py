"""Runs one verl training in a run folder and watches it: progress, failures, stalls, memory.

    python -m verl_ext.watch --run DIR --steps N [--stall SECONDS] [--max-probs-diff X] -- COMMAND...

COMMAND is verl's own ``python -m verl.trainer.main_ppo ...``; its output goes to ``DIR/train.log``, its metrics (verl's
``file`` logger) to ``DIR/metrics-K.jsonl``, one file for each start, because the logger empties the file it opens.
Ends the run, with a diagnosis, when rollout and trainer disagree about the policy or when nothing moves any more.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import psutil
from tqdm import tqdm

# Rollout and trainer compute the same probabilities in float32; a difference means that vLLM has stale weights.
MAX_PROBS_DIFF = 1e-3

# What verl prints while it starts, and what to call it.
PHASES = {
    "Started a local Ray instance": "starting the trainer",
    "Using dataset class": "building FSDP2 workers",
    "vLLMHttpServer": "starting vLLM",
    "GlobalRequestLoadBalancer": "first validation",
}


# What verl or torch write when something outside of them is wrong, and what to do.
REMEDIES = {
    "No space left|Disk quota|PytorchStreamWriter failed|inline_container.* unexpected pos": (
        "A disk or quota is full: make room; the same command resumes from the last complete checkpoint."
    ),
    "ActorDiedError": (
        "A process was killed. Memory is the usual reason: look for the kernel's out-of-memory killer (dmesg). "
        "The same command resumes from the last checkpoint."
    ),
    "EngineDeadError": (
        "vLLM's engine has died, and verl waits for it; the same command resumes from the last checkpoint."
    ),
    "rm_scores": "No reward came: the reward function must return a number, or a dict with a number as its score.",
    "no materializable trajectories": "Every response of a step failed, so mend what failed before.",
}


# Written where verl then waits without end; the run gets this many seconds more.
HOPELESS, GRACE = b"EngineDeadError", 60


class RunError(Exception):
    """The run must not go on; the message says why and what to do."""


class Tail:
    """The complete lines that are added to a file, as they come; it need not exist yet."""

    def __init__(self, path: Path, offset: int = 0):
        self.path, self._offset = path, offset

    def lines(self) -> list[bytes]:
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
        complete = new[: new.rfind(b"\n") + 1]
        self._offset += len(complete)
        return complete.splitlines()


class MetricsTail(Tail):
    """The records that verl's file logger adds to one JSON-lines file, as they come."""

    def read(self) -> list[dict]:
        return [json.loads(line) for line in self.lines()]


def cluster_variables(env: Mapping[str, str]) -> list[str]:
    """Overrides of verl that hand the loggers' variables to a cluster that is running: its processes do not have this
    one's. WANDB_API_KEY is not among them, for verl prints these: the nodes must have it."""
    names = ("VERL_FILE_LOGGER_PATH", "WANDB_RUN_ID", "WANDB_RESUME", "WANDB_DIR", "WANDB_MODE")
    return [f"++ray_kwargs.ray_init.runtime_env.env_vars.{name}='{env[name]}'" for name in names if env.get(name)]


def check_weight_sync(record: dict, limit: float = MAX_PROBS_DIFF) -> None:
    """Raise :class:`RunError` where vLLM sampled from another policy than the trainer's (a failed weight sync)."""
    data = record["data"]
    if "training/rollout_probs_diff_max" not in data:
        return
    diff = data["training/rollout_probs_diff_max"]
    if diff is None or not diff < limit:  # orjson writes NaN as null
        raise RunError(
            f"step {record['step']}: training/rollout_probs_diff_max is {diff}, must stay under {limit:g}: "
            "vLLM does not sample from the weights that are trained, so nothing learned from here would count"
        )


def memory_of(process: psutil.Process) -> int:
    """Proportional set size of a process and its descendants in bytes (shared pages are counted once)."""
    total = 0
    for member in (process, *process.children(recursive=True)):
        try:
            total += member.memory_full_info().pss
        except psutil.Error:  # it has just ended
            continue
    return total


def stop(process: subprocess.Popen, members: set[psutil.Process]) -> None:
    """Let verl and Ray shut down, then end what is left of the processes that this run started."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    _, alive = psutil.wait_procs(members, timeout=10)
    for member in alive:
        try:
            member.kill()
        except psutil.Error:
            continue


def lines_of(log: Path, start: int = 0) -> list[tuple[str, str]]:
    """(component, text) of each line of a verl log from byte `start` on, without Ray's colours; the component is Ray's
    ``WorkerDict pid=123``, with ``, ip=...`` on another node, or ``driver``."""
    colour, actor = re.compile(r"\x1b\[[\d;]*m"), re.compile(r"^\(([^)]*pid=[^)]*)\)\s*")
    with log.open("rb") as file:
        file.seek(start)
        text = colour.sub("", file.read().decode(errors="replace"))
    found = []
    for line in text.splitlines():
        match = actor.match(line)
        found.append((match[1], line[match.end() :]) if match else ("driver", line))
    return found


def last_seen(log: Path, start: int) -> str:
    """What each component of a run wrote last, and whether its process is still there; one line each."""
    last = {component: text.strip() for component, text in lines_of(log, start) if text.strip()}
    shown = []
    for component, text in last.items():
        pid = re.search(r"pid=(\d+)$", component)  # with an ip, it is another node's
        state = "" if pid is None else f", {doing(int(pid[1]))}"
        shown.append(f"  {component}{state}: {text[:160]}")
    return "\n".join(shown) or "  nothing was written"


def doing(pid: int) -> str:
    """Whether a process of this machine runs, and in which method where it is a Ray worker: Ray names it so."""
    try:
        process = psutil.Process(pid)
        title, status = " ".join(process.cmdline()), process.status()
    except psutil.Error:
        return "ended"
    method = re.match(r"ray::\w+\.(\w+)", title)
    return ("stopped" if status == psutil.STATUS_STOPPED else "running") + (f" {method[1]}()" if method else "")


def cause_in_log(log: Path, start: int = 0) -> str:
    """The exception that ended a verl run, from its log from byte `start` on, and what may have led to it.

    Ray repeats an exception on its way up, so it is the last one that is none of Ray's own wrappers. verl goes on for
    a while without the rollouts that failed, so the commonest exception of another kind comes with it.
    """
    # Of a traceback, or of a line that a logger wrote, as vLLM's.
    exception = re.compile(r"(?:ERROR\b.*?\s)?(((?:\w+\.)*\w*(?:Error|Exception|Interrupt)): .+)")
    found = []
    lines = lines_of(log, start)
    for number, (component, line) in enumerate(lines):
        if match := exception.match(line):
            text, kind = match[1], match[2]
            if kind.endswith("ActorDiedError"):
                text += dead_actor(line for _, line in lines[number + 1 : number + 8])
            found.append((kind, text, component.split()[0]))
    own = [one for one in found if not one[0].startswith("ray.exceptions")] or found
    if not own:
        return "no exception in the log"
    cause = own[-1][1]
    before = Counter((text, component) for _, text, component in own if text != cause)
    if before:
        (text, component), times = before.most_common(1)[0]
        cause += f"\nBefore it, {times} x in {component}: {text}"
    return cause + "".join(f"\n{remedy}" for symptom, remedy in REMEDIES.items() if re.search(symptom, cause))


def dead_actor(lines: Iterable[str]) -> str:
    """Which one it was, from the lines below Ray's ActorDiedError."""
    about = dict(line.strip().split(": ", 1) for line in lines if ": " in line)
    name = about.get("class_name", "").rpartition(".")[2]
    return f" ({name}, pid {about.get('pid', 'unknown')})" if name else ""


def check_checkpoint(folder: Path) -> None:
    """Raise :class:`RunError` where verl would fail on the checkpoint that it is about to resume from, or would begin
    from nothing because it is not there.

    Complete archives are recognised by their ends, so that large ones take no time; shards on the disks of other nodes
    (RAY_ADDRESS) are not looked for.
    """
    tracker = folder / "latest_checkpointed_iteration.txt"
    if not tracker.exists():
        return
    step = tracker.read_text(errors="replace").strip()
    bad = faults_of(folder / f"global_step_{step}") if step.isdecimal() else [f"{tracker.name} says {step[:20]!r}"]
    if not bad:
        return
    others = (path for path in folder.glob("global_step_*") if not faults_of(path))
    intact = sorted(int(path.name.rpartition("_")[2]) for path in others)
    remedy = (
        f"To go on from step {intact[-1]}, which is intact: echo {intact[-1]} > {shlex.quote(str(tracker))}"
        if intact
        else f"No other checkpoint is intact. To begin again: mv {shlex.quote(str(folder))} elsewhere"
    )
    raise RunError(f"the checkpoint of step {step or '?'} cannot be resumed from: {', '.join(bad)}.\n{remedy}")


def faults_of(checkpoint: Path) -> list[str]:
    """What a checkpoint of verl lacks, in words."""
    if not checkpoint.is_dir():
        return [f"{checkpoint} does not exist"]
    actor = checkpoint / "actor"
    shards = sorted(actor.glob("*.pt"))
    found = [f"{path} is cut off or damaged" for path in shards if not zipfile.is_zipfile(path)]
    if not os.environ.get("RAY_ADDRESS"):
        # model_world_size_2_rank_0.pt, optim_..., extra_state_...: whatever was saved, each rank has it.
        parts = [re.fullmatch(r"(.+)_world_size_(\d+)_rank_\d+", path.stem) for path in shards]
        for kind, world in sorted({part.groups() for part in parts if part}):
            names = (actor / f"{kind}_world_size_{world}_rank_{rank}.pt" for rank in range(int(world)))
            found += [f"{name} is missing" for name in names if not name.exists()]
        if not (actor.is_dir() and any(actor.iterdir())):
            found.append(f"{actor} is missing or empty")
    if not zipfile.is_zipfile(checkpoint / "data.pt"):
        found.append(f"{checkpoint / 'data.pt'} is missing or damaged")
    return found


def train(run: Path, steps: int, stall: float, command: list[str], max_probs_diff: float = MAX_PROBS_DIFF) -> dict:
    """Run `command` to its end.

    Returns:
        ``seconds`` (of this start), ``startup_seconds`` (until verl's first record) and ``peak_memory_gb``.

    Raises:
        RunError: another training of this folder is running, its last checkpoint is damaged, verl ended early, the
            weight sync failed, or no record came for `stall` seconds.
    """
    with locked(run) as lock:
        check_checkpoint(run / "checkpoints")
        return watch(run, steps, stall, command, max_probs_diff, lock)


@contextlib.contextmanager
def locked(run: Path) -> Iterator[int]:
    """The run folder's lock, as a file descriptor: a process that inherits it holds it as well, so that a training
    outlives a watcher that was killed and is still the only one."""
    with (run / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"another training of {run} is running; two would overwrite each other's checkpoints"
            ) from None
        yield lock.fileno()


def watch(run: Path, steps: int, stall: float, command: list[str], max_probs_diff: float, lock: int) -> dict:
    """What :func:`train` does once the folder is ours and its checkpoint is good."""
    log = run / "train.log"
    number = sum(1 for _ in run.glob("metrics-*.jsonl"))
    tail = MetricsTail(run / f"metrics-{number:03d}.jsonl")
    env = {**os.environ, "VERL_FILE_LOGGER_PATH": str(tail.path.resolve())}
    if env.get("RAY_ADDRESS"):
        command = [*command, *cluster_variables(env)]
    began = last_record = time.monotonic()
    startup, peak, next_memory = math.nan, 0, 0.0
    members: set[psutil.Process] = set()
    hopeless = False
    bar = tqdm(
        total=steps, desc="starting Ray", unit="step", dynamic_ncols=True, mininterval=1 if sys.stderr.isatty() else 15
    )
    with log.open("ab") as output:
        log_start = output.tell()
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=env,
            start_new_session=True,
            pass_fds=[lock],
        )
    root = psutil.Process(process.pid)
    written = Tail(log, log_start)
    try:
        while process.poll() is None:
            time.sleep(0.5)
            now = time.monotonic()
            for record in tail.read():
                last_record = now
                startup = now - began if math.isnan(startup) else startup
                check_weight_sync(record, max_probs_diff)
                show(bar, record)
            if not hopeless and any(HOPELESS in line for line in written.lines()):
                hopeless, stall = True, min(stall, now - last_record + GRACE)
            if now >= next_memory:
                members.update(root.children(recursive=True) if root.is_running() else ())
                peak = max(peak, memory_of(root))
                # Reading the page tables of large processes takes time, and holds them up.
                next_memory = now + max(5, 50 * (time.monotonic() - now))
                if math.isnan(startup) and (phase := phase_in_log(log, log_start)):
                    bar.set_description(phase, refresh=not bar.desc.startswith(phase))
            if now - last_record > stall:
                advice = "" if hopeless else "If this machine is only slow, allow more: STALL=SECONDS\n"
                raise RunError(
                    f"nothing moved for {stall:.0f} s (last: {bar.desc.strip(': ')}, {bar.n} of {steps} steps). "
                    f"{advice}"
                    f"Cause: {cause_in_log(log, log_start)}\n"
                    f"What was last seen of each component:\n{last_seen(log, log_start)}"
                )
        for record in tail.read():
            check_weight_sync(record, max_probs_diff)
            show(bar, record)
        if process.returncode != 0:
            raise RunError(f"verl ended with exit code {process.returncode}: {cause_in_log(log, log_start)}")
    finally:
        try:
            bar.close()  # fails where nobody reads what we write any more
        finally:
            with contextlib.suppress(psutil.Error):  # it has ended
                members.update(root.children(recursive=True))
            stop(process, members)
    return {
        "seconds": round(time.monotonic() - began, 1),
        "startup_seconds": round(startup, 1),
        "peak_memory_gb": round(peak / 1e9, 2),
    }


def phase_in_log(log: Path, start: int) -> str | None:
    """How far verl's start-up has come, in words."""
    with log.open("rb") as file:
        file.seek(start)
        text = file.read().decode(errors="replace")
    return next((name for marker, name in reversed(PHASES.items()) if marker in text), None)


def show(bar: tqdm, record: dict) -> None:
    """Move the bar to a record's step; a step can have two records, training and validation."""
    if record["step"] > bar.n:
        if bar.n == 0:
            # The time left is estimated from steps, not from the start-up; a resumed run begins above 0.
            bar.initial = record["step"] - 1
            bar.start_t = bar.last_print_t = time.time() - record["data"].get("timing_s/step", 0)
        bar.update(record["step"] - bar.n)
    bar.set_description("training", refresh=False)
    accuracy = validation_accuracy(record["data"])
    if accuracy is not None:
        bar.set_postfix_str(f"held-out accuracy {accuracy:.3f}", refresh=False)


def validation_accuracy(data: dict) -> float | None:
    """Held-out accuracy of a record of verl's log, if it has one (``val-core/<source>/acc/mean@N``)."""
    for key, value in data.items():
        if key.startswith("val-core/") and "/acc/mean@" in key:
            return value
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description="Run and watch one verl training.")
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--steps", type=int, required=True, help="steps that the run has in all")
    parser.add_argument("--stall", type=float, default=600, help="seconds without a record that end the run")
    parser.add_argument(
        "--max-probs-diff",
        type=float,
        default=MAX_PROBS_DIFF,
        help="largest training/rollout_probs_diff_max; above 1 it is not checked (bfloat16 differs by itself)",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and verl's command line")
    options = parser.parse_args()
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    options.run.mkdir(parents=True, exist_ok=True)

    # A TERM, or a terminal that is closed, is treated like Ctrl-C: it must not leave Ray and vLLM behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        facts = train(options.run, options.steps, options.stall, command, options.max_probs_diff)
    except KeyboardInterrupt:
        print("\nInterrupted; the same command resumes from the last checkpoint.", file=sys.stderr)
        return 130
    except RunError as error:
        print(f"\nThe run failed: {error}\nIts log: {options.run / 'train.log'}", file=sys.stderr)
        return 1
    (options.run / "done.json").write_text(json.dumps(facts) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
