r"""Mathematical equivalence of two answers (`equivalence`), judged in processes that can be killed.

A model's text comes to sympy, and a text like ``9^{9^{9^9}}`` keeps that busy for ever, in C code that no thread can
interrupt. So the judging happens in worker processes, each with a limit of time and of memory that the kernel enforces:
a worker that passes one dies, the answer counts as wrong, and another worker takes its place. It works in any thread of
any process; no signal is used in the process that asks.

A helper process imports the parser once (a second), then forks workers (milliseconds), and ends with its starter.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # by path: this folder must not shadow what the parser imports, the package must be found
    sys.path[0] = str(Path(__file__).resolve().parents[3])

from recipe.asymgrpo.reward.spelling import normalise

TIMEOUT_S = 5.0
"""Seconds that one answer may take."""
WORKERS = 2
"""Workers of one process; verl has several reward processes."""
MEMORY_MB = 1024
"""Memory that a worker may take beyond what its imports took."""
MAX_CHARS = 1024
"""Longest answer that is judged; longer ones are wrong."""
CACHE_SIZE = 4096
GRACE_S = 0.5
START_S = 120.0


class VerifierError(RuntimeError):
    """No answer can be judged in this environment; the message says why."""


@dataclass(frozen=True)
class Verdict:
    """Whether two answers are equal, whether judging that was given up, and why, in words of `equivalence`."""

    equal: bool
    gave_up: bool = False
    reason: str = field(default="", compare=False)


class Verifier:
    """A pool of workers, started at the first answer that needs one; safe to share between threads.

    Args:
        workers: how many answers are judged at once; further callers wait.
        timeout_s: seconds that one answer may take, without waiting.
        memory_mb: memory of a worker beyond its imports, in MiB.
    """

    def __init__(self, workers: int = WORKERS, timeout_s: float = TIMEOUT_S, memory_mb: int = MEMORY_MB):
        self.timeout_s, self.memory_mb = timeout_s, memory_mb
        self.given_up = 0
        """Answers given up so far."""
        self._slots = threading.BoundedSemaphore(workers)
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._helper: _Helper | None = None
        self._cache: OrderedDict[tuple[str, str], Verdict] = OrderedDict()
        self._owner = os.getpid()

    def equal(self, gold: str, answer: str) -> Verdict:
        """Judge one answer; never raises because of the text.

        Args:
            gold: the expected answer, LaTeX or plain, without dollar signs or a box.
            answer: the model's.

        Raises:
            VerifierError: math-verify is not installed, or its process cannot start.
        """
        if len(answer) > MAX_CHARS or not answer.strip():
            return Verdict(False, reason="too long" if answer.strip() else "no answer")
        if normalise(gold) == normalise(answer):
            return Verdict(True, reason="equal text")
        key = gold, answer
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        with self._slots:
            verdict = self._ask(gold, answer)
        with self._lock:
            self.given_up += verdict.gave_up
            self._cache[key] = verdict
            if len(self._cache) > CACHE_SIZE:
                self._cache.popitem(last=False)
        return verdict

    def close(self) -> None:
        """End all processes; the next answer starts them again."""
        with self._lock:
            for worker in self._idle:
                worker.close()
            self._idle.clear()
            if self._helper:
                self._helper.close()
                self._helper = None

    def _ask(self, gold: str, answer: str) -> Verdict:
        question = {"gold": gold, "answer": answer, "limit": self.timeout_s}
        for _ in range(2):
            worker, began = self._take(), time.monotonic()
            equal = worker.ask(question)
            if equal is not None:
                with self._lock:
                    self._idle.append(worker)
                return Verdict(equal, reason=worker.why)
            worker.close()
            # One that died at once may have been dead already (an operator, the OOM killer): ask another.
            if time.monotonic() - began > self.timeout_s / 4:
                break
        return Verdict(False, gave_up=True, reason="gave up")

    def _take(self) -> _Worker:
        with self._lock:
            if self._owner != os.getpid():  # forked: the parent's workers are not ours
                self._owner, self._idle, self._helper = os.getpid(), [], None
            if self._idle:
                return self._idle.pop()
            if self._helper is None or not self._helper.alive:
                self._helper = _Helper(self.memory_mb)
            return self._helper.fork()


class _Worker:
    """One worker process, from the side of the process that asks."""

    def __init__(self, connection: socket.socket):
        self.connection = connection
        self.why = ""  # of the last verdict
        connection.settimeout(START_S)
        self.pid = struct.unpack("<q", _receive(connection, 8))[0]

    def ask(self, question: dict[str, Any]) -> bool | None:
        """The verdict, or None where the worker died or was too late."""
        # The worker's own timer ends it at the limit; this one is for a worker that does not even get there.
        self.connection.settimeout(question["limit"] + GRACE_S)
        try:
            _send(self.connection, json.dumps(question).encode())
            equal, self.why = json.loads(_receive_message(self.connection))
            return bool(equal)
        except (OSError, EOFError):  # a TimeoutError is an OSError
            return None

    def close(self) -> None:
        self.connection.close()
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)


class _Helper:
    """The process that has math-verify imported and forks workers."""

    def __init__(self, memory_mb: int):
        self.connection, theirs = socket.socketpair()
        # By path and isolated: neither the working directory nor PYTHON* variables decide what is imported.
        command = [sys.executable, str(Path(__file__).resolve()), str(theirs.fileno()), str(memory_mb)]
        self.process = subprocess.Popen(
            command,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        theirs.close()
        self.connection.settimeout(START_S)
        try:
            _receive(self.connection, 1)
        except (OSError, EOFError):
            self.process.kill()
            _, errors = self.process.communicate()  # no worker has been forked that could hold the pipe
            last = errors.decode(errors="replace").strip().rpartition("\n")[2] or "it did not answer"
            raise VerifierError(
                f"The process that judges mathematical answers did not start: {last}. "
                'It needs math-verify: pip install "verl-asymgrpo[math]".'
            ) from None
        atexit.register(self.close)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def fork(self) -> _Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self.connection, [b"f"], [theirs.fileno()])
        return _Worker(ours)

    def close(self) -> None:
        atexit.unregister(self.close)
        self.connection.close()
        self.process.kill()
        self.process.wait()
        if self.process.stderr:
            self.process.stderr.close()


def _send(connection: socket.socket, message: bytes) -> None:
    connection.sendall(struct.pack("<I", len(message)) + message)


def _receive(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def _receive_message(connection: socket.socket) -> bytes:
    return _receive(connection, struct.unpack("<I", _receive(connection, 4))[0])


# The other side ------------------------------------------------------------------------------------------------------


def _help(connection: socket.socket, memory_mb: int) -> None:
    """Import, then fork one worker a request until the other side is gone."""
    import latex2sympy2_extended  # noqa: F401  (its absence is an error that the starter is told)

    judge("\\sqrt{x+1}", "\\frac{\\sin 2x}{\\pi}")  # what the parser and sympy build at their first use
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    connection.sendall(b"r")
    while True:
        message, descriptors, *_ = socket.recv_fds(connection, 1, 1)
        if not message:
            return
        if os.fork() == 0:
            connection.close()
            try:
                _work(socket.socket(fileno=descriptors[0]), memory_mb)
            finally:
                os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)


def _work(connection: socket.socket, memory_mb: int) -> None:
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    limit = pages * resource.getpagesize() + memory_mb * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # nothing in here has a file to write
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # its default ends the process, in the middle of C code too
    connection.sendall(struct.pack("<q", os.getpid()))
    while True:
        try:
            question = json.loads(_receive_message(connection))
        except (OSError, EOFError):
            return
        signal.setitimer(signal.ITIMER_REAL, question["limit"])
        try:
            why, spent = judge(question["gold"], question["answer"]), False
        except MemoryError:
            why, spent = "gave up", True
        signal.setitimer(signal.ITIMER_REAL, 0)
        _send(connection, json.dumps([str(why).startswith("equal"), why]).encode())
        if spent:  # what is left of its memory may not be enough for the next
            return


def judge(gold: str, answer: str) -> str:
    """The reason of `equivalence`; whatever it trips over is wrong, but for a MemoryError, which is raised."""
    from recipe.asymgrpo.reward.equivalence import judge as reason_of

    try:
        return reason_of(gold, answer)
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        return "not read"


if __name__ == "__main__":
    _help(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
