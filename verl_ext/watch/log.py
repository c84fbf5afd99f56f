"""What verl writes: its metrics as they come, and what its log says of a run that went wrong."""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import psutil

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
        """Without what is no record: a full disk cuts a line, and the next one is written behind it."""
        found = []
        for line in self.lines():
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict) and isinstance(record.get("step"), int) and "data" in record:
                    found.append(record)
        return found
