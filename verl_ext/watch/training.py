"""Starts a verl training and looks at it until it ends: progress, weight sync, stalls, memory."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
from tqdm import tqdm

from verl_ext.hydra_text import quoted
from verl_ext.watch.checkpoint import RunError, check_checkpoint
from verl_ext.watch.log import MetricsTail, Tail, cause_in_log, last_seen

# Rollout and trainer compute the same probabilities in float32; a difference means that vLLM has stale weights.
MAX_PROBS_DIFF = 1e-3

# What verl prints while it starts, and what to call it.
PHASES = {
    "Started a local Ray instance": "starting the trainer",
    "Using dataset class": "building FSDP2 workers",
    "vLLMHttpServer": "starting vLLM",
    "GlobalRequestLoadBalancer": "first validation",
}


# Written where verl then waits without end; the run gets this many seconds more.
HOPELESS, GRACE = b"EngineDeadError", 60

# Ray gives itself 30 s to start, and no setting gives it more.
RAY_WAS_LATE = "The current node timed out during startup"

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def interrupt(*_: Any) -> None:
    """Ends the run, once: a terminal that closes sends its signal twice, and the second must not end the clean-up."""
    for number in INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def cluster_variables(env: Mapping[str, str]) -> list[str]:
    """Overrides of verl that hand the loggers' variables to a cluster that is running: its processes do not have this
    one's. WANDB_API_KEY is not among them, for verl prints these: the nodes must have it."""
    names = ("VERL_FILE_LOGGER_PATH", "WANDB_RUN_ID", "WANDB_RESUME", "WANDB_DIR", "WANDB_MODE")
    return [f"++ray_kwargs.ray_init.runtime_env.env_vars.{name}={quoted(env[name])}" for name in names if env.get(name)]


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


def train(
    run: Path,
    steps: int,
    stall: float,
    command: list[str],
    max_probs_diff: float = MAX_PROBS_DIFF,
    parent: int | None = None,
) -> dict:
    """Run `command` to its end; a second time where Ray was late.

    Args:
        parent: the process that started this one, if its end is an interrupt.

    Returns:
        ``seconds`` (of this start), ``startup_seconds`` (until verl's first record, None without one), ``last_step``
        and ``peak_memory_gb``.

    Raises:
        RunError: another training of this folder is running, its last checkpoint is damaged, verl ended early, the
            weight sync failed, or no record came for `stall` seconds.
    """
    with locked(run) as lock:
        check_checkpoint(run / "checkpoints")
        try:
            return watch(run, steps, stall, command, max_probs_diff, lock, parent)
        except RunError as error:
            if RAY_WAS_LATE not in str(error):
                raise
        print("\nRay did not start within its 30 s, as on a busy machine; once more.", file=sys.stderr)
        return watch(run, steps, stall, command, max_probs_diff, lock, parent)


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


@contextlib.contextmanager
def handled_by(handler: Any, numbers: Iterable[int] = INTERRUPTS) -> Iterator[None]:
    """Inside, these signals have another handler."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, own in before.items():
            signal.signal(number, own)


@contextlib.contextmanager
def interrupts_held_back() -> Iterator[None]:
    """An interrupt that comes inside is raised at the end: while a process is started nobody could stop it yet."""
    came: list[int] = []
    caught = [number for number in INTERRUPTS if callable(signal.getsignal(number))]
    # A script's `command &` ignores SIGINT, and what it starts would too: `stop` could only kill it.
    ignored = [signal.SIGINT] if signal.getsignal(signal.SIGINT) is signal.SIG_IGN else []
    with handled_by(lambda number, _frame: came.append(number), caught), handled_by(lambda *_: None, ignored):
        yield
    if came:
        raise KeyboardInterrupt


def watch(
    run: Path, steps: int, stall: float, command: list[str], max_probs_diff: float, lock: int, parent: int | None
) -> dict:
    """What :func:`train` does once the folder is ours and its checkpoint is good."""
    log = run / "train.log"
    numbers = [int(path.stem[8:]) for path in run.glob("metrics-*.jsonl") if path.stem[8:].isdecimal()]
    number = max(numbers, default=-1) + 1
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
    process = None
    try:
        with log.open("ab") as output, interrupts_held_back():
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
        while process.poll() is None:
            time.sleep(0.5)
            now = time.monotonic()
            if parent is not None and os.getppid() != parent:
                raise KeyboardInterrupt
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
            if process is not None:
                with handled_by(signal.SIG_IGN):  # for half a minute at most
                    with contextlib.suppress(psutil.Error):  # it has ended
                        members.update(root.children(recursive=True))
                    stop(process, members)
    return {
        "seconds": round(time.monotonic() - began, 1),
        "startup_seconds": None if math.isnan(startup) else round(startup, 1),
        "last_step": bar.n,
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
