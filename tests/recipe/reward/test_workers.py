# ruff: noqa: E501 (tables of answers)
r"""Mathematical answers: the right verdict on ordinary ones, an answer in time on hostile ones."""

from __future__ import annotations

import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from recipe.asymgrpo import reward
from recipe.asymgrpo.reward import compute_score, last_boxed
from recipe.asymgrpo.reward import workers as verifier_module
from recipe.asymgrpo.reward.workers import MAX_CHARS, Verifier, VerifierError, normalise

pytest.importorskip("math_verify")

LIMIT_S = 1.0

SAME = [
    # numbers
    ("5", "5"), ("5", " 5 "), ("5", "5."), ("5", "5.0"), ("5", "+5"), ("-3", "-3"), ("-3", "- 3"), ("0", "0.0"),
    ("1000", "1,000"), ("1,000,000", "1000000"), ("12345", "12,345"), ("0.5", ".5"), ("2", "\\frac{4}{2}"),
    ("10^{3}", "1000"), ("7", "x=7"), ("7", "n = 7"), ("3", "\\text{3}"), ("3", "\\mathbf{3}"),
    ("2^{10}", "1024"), ("5!", "120"), ("\\binom{5}{2}", "10"), ("|-4|", "4"), ("42", "$42$"), ("42", "\\$42"),
    # fractions
    ("\\frac{1}{2}", "\\frac{1}{2}"), ("\\frac{1}{2}", "\\dfrac{1}{2}"), ("\\frac{1}{2}", "\\tfrac12"),
    ("\\frac{1}{2}", "1/2"), ("\\frac{1}{2}", "0.5"), ("\\frac{1}{2}", "\\frac{2}{4}"), ("\\frac12", "\\frac{1}{2}"),
    ("-\\frac{3}{4}", "\\frac{-3}{4}"), ("-\\frac{3}{4}", "-0.75"), ("\\frac{7}{3}", "7/3"),
    ("\\frac{\\sqrt{3}}{3}", "\\frac{1}{\\sqrt{3}}"), ("\\frac{3\\pi}{4}", "\\frac{3}{4}\\pi"), ("1\\frac{1}{2}", "\\frac{3}{2}"),
    ("\\frac{x}{2}", "x/2"), ("\\frac{a+b}{2}", "\\frac{b+a}{2}"), ("\\frac{10}{4}", "2.5"), ("\\frac{1}{8}", "0.125"),
    # roots, powers, constants
    ("\\sqrt{8}", "2\\sqrt{2}"), ("\\sqrt{8}", "2\\sqrt2"), ("\\sqrt{12}", "2\\sqrt{3}"), ("\\sqrt{\\frac{1}{4}}", "\\frac{1}{2}"),
    ("\\sqrt[3]{27}", "3"), ("2^{\\frac12}", "\\sqrt{2}"), ("\\pi", "\\pi"), ("2\\pi", "\\pi \\cdot 2"),
    ("e^{0}", "1"), ("\\log_2 8", "3"), ("\\ln e", "1"), ("\\sin\\frac{\\pi}{6}", "\\frac12"), ("3+4i", "4i+3"),
    ("1+\\sqrt{5}", "\\sqrt{5}+1"), ("\\frac{1+\\sqrt5}{2}", "\\frac{\\sqrt{5}+1}{2}"),
    # expressions
    ("x^2+2x+1", "(x+1)^2"), ("x^2-1", "(x-1)(x+1)"), ("2x+2y", "2(x+y)"), ("a b", "b a"), ("x^{2}", "x^2"), ("3x", "x\\cdot 3"),
    ("x+1", "1+x"), ("\\frac{x^2-1}{x-1}", "x+1"), ("(n)(n+1)", "n^2+n"), ("6x-2", "-2+6x"), ("y=2x+1", "y = 2x + 1"),
    ("2\\left(x+1\\right)", "2(x+1)"), ("4\\times 5", "20"), ("x\\le 3", "x \\leq 3"), ("x^3-x", "x(x-1)(x+1)"),
    # sets, tuples, intervals
    ("\\{1,2\\}", "\\{2,1\\}"), ("\\{1,2,3\\}", "\\{3, 1, 2\\}"), ("(1,2)", "(1, 2)"), ("(1,2)", "\\left(1,2\\right)"),
    ("(0,1]", "(0, 1]"), ("[0,1]", "\\left[0,1\\right]"), ("(-\\infty,3)", "(-\\infty, 3)"), ("(1,2,3)", "(1,2,3)"),
    ("(\\frac12,3)", "(0.5,3)"), ("(0,1)\\cup(2,3)", "(0,1) \\cup (2,3)"), ("1,2", "1, 2"), ("2, 3", "\\{2,3\\}"),
    ("[2,5)", "[2, 5)"), ("(-2,2)", "(-2, 2)"), ("\\{-1,1\\}", "\\{1,-1\\}"),
    # matrices
    ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}"),
    ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{bmatrix}1\\\\2\\end{bmatrix}"),
    ("\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "\\begin{pmatrix}1 & 2\\\\3 & 4\\end{pmatrix}"),
    ("\\begin{pmatrix}\\frac12\\\\0\\end{pmatrix}", "\\begin{pmatrix}0.5\\\\0\\end{pmatrix}"),
    # units, percent, degrees, text
    ("10", "10\\text{ cm}"), ("10\\text{ cm}", "10"), ("90^\\circ", "90"), ("90", "90^{\\circ}"), ("50\\%", "50\\%"),
    ("\\$5", "5"), ("5\\text{ dollars}", "5"), ("\\text{Monday}", "Monday"), ("\\text{Evelyn}", "\\text{Evelyn}"),
    ("\\text{yes}", "\\text{yes}"), ("\\text{(C)}", "\\text{(C)}"), ("B", "\\text{B}"), ("12\\text{ hours}", "12 \\text{ hours}"),
    ("60\\,\\text{m}", "60"),
]  # fmt: skip
DIFFERENT = [
    ("5", "6"), ("5", "-5"), ("5", "50"), ("5", ""), ("5", "   "), ("1000", "1,00"), ("\\frac{1}{2}", "\\frac{1}{3}"), ("\\frac12", "2"),
    ("1\\frac12", "11/2"), ("12", "1 2"), ("11/2", "1 1/2"), ("\\sqrt{8}", "\\sqrt{6}"), ("\\pi", "3"), ("\\pi", "3.14"), ("x+1", "x-1"),
    ("x^2", "2x"), ("(1,2)", "(2,1)"), ("(0,1]", "(0,1)"), ("(0,1]", "[0,1]"), ("\\{1,2\\}", "\\{1,3\\}"), ("\\{1,2\\}", "1"), ("1,2", "1"),
    ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{pmatrix}2\\\\1\\end{pmatrix}"), ("\\text{Monday}", "\\text{Tuesday}"),
    ("B", "\\text{C}"), ("0.1", "0.2"), ("3+4i", "3-4i"), ("2^{10}", "1000"), ("10^{20}", "10^{21}"), ("y=2x+1", "y=2x-1"),
    ("(-\\infty,3)", "(-\\infty,3]"), ("50\\%", "5"), ("x", "y"), ("1", "\\text{one}"),
]  # fmt: skip


@pytest.fixture(scope="module")
def pool():
    verifier = Verifier()
    yield verifier
    verifier.close()


def test_there_are_enough_pairs():
    assert len(set(SAME)) + len(set(DIFFERENT)) >= 120
    assert len(set(HOSTILE)) >= 150


@pytest.mark.parametrize(("gold", "answer"), SAME)
def test_same(pool, gold, answer):
    assert pool.equal(gold, answer).equal


@pytest.mark.parametrize(("gold", "answer"), DIFFERENT)
def test_different(pool, gold, answer):
    assert not pool.equal(gold, answer).equal


def _hostile() -> list[str]:
    towers = [
        f"{b}^" + "{9^" * n + "9" + "}" * n for b in ("9", "x", "\\pi", "0.1", "(-1)") for n in (1, 2, 3, 4, 10, 100)
    ]
    factorials = [f"{n}" + "!" * k for n in ("9", "99", "999", "10^9", "(5!)") for k in (1, 2, 3, 8)]
    nesting = [o * n + "1" + c * n for o, c in (("{", "}"), ("(", ")"), ("[", "]"), ("\\left(", "\\right)"), ("\\sqrt{", "}"), ("-", ""), ("|", "|")) for n in (10, 60, 300)]  # fmt: skip
    unbalanced = [t * n for t in ("{", "}", "(", "\\{", "\\frac{", "\\begin{pmatrix}", "\\left", "$", "\\\\", "&", "^", "_", "\\boxed{") for n in (1, 50)]  # fmt: skip
    long = ["9" * n for n in (300, 1000, 10_000)] + [
        "x" * 1000,
        "1+" * 500 + "1",
        "1," * 500,
        "(" + "1," * 400 + "1)",
        "a" * 1_000_000,
    ]
    regex = [
        "1" + ",000" * 200 + "x",
        " " * 900 + "x",
        "\\ " * 400,
        "a" * 500 + "!",
        "1 " * 500,
        "0.0" * 300,
        "-" * 900,
    ]
    sums = [f"\\{f}_{{k=1}}^{{10^{{{n}}}}} k^{{k}}" for f in ("sum", "prod") for n in (3, 9, 99)]
    calculus = [
        "\\int_0^{10^9} e^{x^{x^{x}}} dx",
        "\\lim_{x\\to 0} \\frac{\\sin(x^{x^{x}})}{x^{99}}",
        "\\frac{d}{dx} x^{x^{x^{x^{x}}}}",
    ]
    calculus += [
        "\\int " * 40 + "x" + " dx" * 40,
        "\\sin(" * 60 + "x" + ")" * 60,
        "\\log_{\\log_{2}{2}}{" * 20 + "2" + "}" * 20,
    ]
    python = ["__import__('os').system('touch /tmp/owned')", "().__class__.__bases__[0].__subclasses__()", "eval('1')", "open('/etc/passwd').read()", "lambda: 1", "exec(chr(49))", "S('__import__')", "f'{1}'", "@", "x.__class__", "1 if 1 else 2", "[i for i in range(10**9)]", "'a'*10**10", "10**10**10", "1<<10**10", "Symbol('x').func", "globals()", "import os", "os.abort()", "raise SystemExit", "exit()", "while True: pass"]  # fmt: skip
    unicode = ["\ud800", "\x00", "\x00" * 500, "\u202e5", "５", "٣", "²", "½", "∞" * 100, "🙂" * 200, "\uffff", "a\u0300" * 300, "\u2028", "−5", "\x1b[31m5", "\r\n5\r\n", "ﬁ", "\udfff\ud800"]  # fmt: skip
    sizes = ["10^{100000}", "10^{-100000}", "1e999999999", "1e-999999999", "0^{0}", "\\frac{1}{0}", "\\frac{0}{0}", "\\infty-\\infty", "\\sqrt{-1}^{10^{9}}", "\\binom{10^9}{5\\cdot 10^8}", "\\gcd(10^{50},10^{49})", "2^{2^{2^{2^{2^{2}}}}}", "(x+1)^{10000}", "(x+y+z)^{300}", "(1+\\sqrt{2})^{10^{7}}", "\\sin(10^{10^{5}})", "e^{e^{e^{e^{e}}}}", "123456789^{987654321}"]  # fmt: skip
    matrices = ["\\begin{pmatrix}" + "1&" * n + "1" + "\\\\1" * n + "\\end{pmatrix}" for n in (5, 100)]
    return (
        towers
        + factorials
        + nesting
        + unbalanced
        + long
        + regex
        + sums
        + calculus
        + python
        + unicode
        + sizes
        + matrices
    )


HOSTILE = _hostile()


# Of each family some, at a limit that lets nobody wait; all of them at the limit of a training are slow.
@pytest.mark.parametrize(
    ("texts", "limit"),
    [(HOSTILE[::4], 0.2), pytest.param(HOSTILE, LIMIT_S, marks=pytest.mark.slow)],
    ids=["some", "all"],
)
def test_hostile_answers_are_wrong_in_time_and_the_pool_lives(monkeypatch, texts, limit):
    pool = Verifier(timeout_s=limit)
    pool.equal("7", "8")  # the first answer waits for math-verify's import
    monkeypatch.setattr(reward, "_verifier", pool)
    slowest = 0.0
    for text in texts:
        began = time.monotonic()
        found = compute_score("math", f"so \\boxed{{{text}}}", "271828")
        slowest = max(slowest, time.monotonic() - began)
        assert (found["score"], found["acc"]) == (0.0, 0.0), text[:80]
        assert time.monotonic() - began < limit + 1, text[:80]
        found["pred"].encode()
        alive = compute_score("math", "\\boxed{\\frac{4}{8}}", f"0.5{'0' * random.randrange(200)}")
        assert alive["score"] == 1.0, text[:80]
    assert pool.given_up > 0
    print(f"{len(texts)} hostile answers, {pool.given_up} given up, slowest {slowest:.2f} s at a limit of {limit} s")
    pool.close()
    assert not os.path.exists("/tmp/owned")


def test_the_real_limit_ends_an_answer():
    pool = Verifier()
    assert pool.timeout_s == 5.0
    pool.equal("7", "8")
    began = time.monotonic()
    assert pool.equal("8", "9^{9^{9^9}}") == verifier_module.Verdict(False, gave_up=True)
    assert 4.5 < time.monotonic() - began < 7
    pool.close()


def test_hostile_gold_is_wrong_in_time():
    pool = Verifier(timeout_s=LIMIT_S)
    pool.equal("7", "8")
    began = time.monotonic()
    assert pool.equal("9^{9^{9^9}}", "8").gave_up
    assert time.monotonic() - began < LIMIT_S + 1
    pool.close()


def test_a_worker_that_runs_out_of_memory_says_wrong_and_makes_way(monkeypatch):
    # More than this process may give back after its size was read (rubbish of other tests).
    monkeypatch.setattr(verifier_module, "judge", lambda gold, answer: bool(bytearray(2**32)))
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            verifier_module._work(theirs, memory_mb=64)
        finally:
            os._exit(0)
    theirs.close()
    worker = verifier_module._Worker(ours)
    assert worker.pid == pid
    question = {"gold": "1", "answer": "2", "limit": 10}
    assert worker.ask(question) is False
    assert os.waitpid(pid, 0)[1] == 0
    assert worker.ask(question) is None
    ours.close()


def test_workers_that_were_killed_are_replaced():
    pool = Verifier()
    assert pool.equal("0.5", "\\frac{2}{4}").equal
    helper = psutil.Process(pool._helper.process.pid)
    for victim in (*helper.children(), helper):
        victim.kill()
    pool._helper.process.wait()
    assert pool.equal("0.25", "\\frac{2}{8}") == verifier_module.Verdict(True)
    pool.close()


def test_ten_thousand_calls_from_eight_threads_lose_none():
    pool = Verifier(timeout_s=0.5)
    pool.equal("7", "8")
    random.seed(0)
    calls = [(str(n), str(n + n % 2), n % 2 == 0) for n in range(8000)]
    calls += [(f"{n}", f"\\frac{{{2 * n}}}{{2}}", True) for n in range(1990)]
    calls += [("3", f"{n}^{{9^{{9^{{9}}}}}}", False) for n in range(2, 12)]
    random.shuffle(calls)
    with ThreadPoolExecutor(8) as executor:
        verdicts = list(executor.map(lambda call: pool.equal(call[0], call[1]).equal, calls))
    assert verdicts == [expected for *_, expected in calls]
    pool.close()


def test_processes_end_with_the_one_that_asked():
    code = (
        "import os, signal, sys\nfrom recipe.asymgrpo.reward.workers import Verifier\nv = Verifier()\n"
        "assert v.equal('0.5', '1/2').equal\nprint(v._helper.process.pid, v._idle[0].pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL) if sys.argv[1] == 'killed' else None\n"
    )
    for end in ("normal", "killed"):
        done = subprocess.run(
            [sys.executable, "-c", code, end], capture_output=True, text=True, timeout=120, check=False
        )
        pids = [int(word) for word in done.stdout.split()]
        assert len(pids) == 2, done.stderr
        deadline = time.monotonic() + 10
        while any(psutil.pid_exists(pid) for pid in pids):
            assert time.monotonic() < deadline, end
            time.sleep(0.1)


def test_works_off_the_main_thread_and_leaves_signals_alone():
    before, results = signal.getsignal(signal.SIGALRM), []
    pool = Verifier()
    thread = threading.Thread(target=lambda: results.append(pool.equal("0.5", "\\frac{3}{6}").equal))
    thread.start()
    thread.join()
    assert results == [True]
    assert signal.getsignal(signal.SIGALRM) is before
    pool.close()


def test_without_math_verify_the_error_says_what_to_install(monkeypatch, tmp_path):
    broken = tmp_path / "verifier.py"
    broken.write_text("raise ModuleNotFoundError(\"No module named 'math_verify'\")")
    monkeypatch.setattr(verifier_module, "__file__", str(broken))
    with pytest.raises(VerifierError, match=r"No module named 'math_verify'.*pip install \"verl-asymgrpo\[math\]\""):
        Verifier().equal("1", "2")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\\boxed{5}", "5"), ("\\boxed{1} then \\boxed{2}.", "2"), ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{\\{1,2\\}}", "\\{1,2\\}"), ("\\boxed{a\\}b}", "a\\}b"), ("\\fbox{7}", "7"), ("\\boxed{ 3 }", "3"),
        ("\\boxed{1} and \\boxed{2", "1"), ("\\boxed{{{", ""), ("no box", ""), ("", ""), (None, ""), ("\\boxed 5", "5"),
        ("\\boxed{" * 1000, ""), ("\\boxed{}", ""), ("\\boxed{x\\", ""),
    ],
)  # fmt: skip
def test_last_box(text, expected):
    assert last_boxed(text) == expected


def test_normalise_keeps_what_a_space_means():
    assert normalise("1 1/2") != normalise("11/2")
    assert normalise("\\frac 1 2") == normalise("\\frac 1 2 ")
    assert normalise("\\left( 1 ,\\, 2 \\right)") == "(1,2)"


def test_long_answers_are_wrong_without_being_judged():
    pool = Verifier()
    assert not pool.equal("5", "5" + " " * MAX_CHARS + "0").equal
    assert pool._helper is None


def test_score_is_verls_reward():
    assert compute_score("HuggingFaceH4/MATH-500", "I get \\boxed{0.50}", "\\frac12") == {
        "score": 1.0,
        "acc": 1.0,
        "pred": "0.50",
        "gave_up": 0.0,
        "why": "equal value",
        "set": "HuggingFaceH4/MATH-500",
    }
    assert compute_score("aime24", "0.5", "0.5")["score"] == 0.0  # not in a box


@pytest.mark.ci
def test_throughput_beside_math_verify_itself():
    """Side by side in one process."""
    from math_verify import parse, verify

    pairs = [(gold, answer) for gold, answer in SAME + DIFFERENT if answer.strip()]
    pool = Verifier()
    ratios = []
    for _ in range(3):
        pool._cache.clear()
        pool.close()  # workers remember what they parsed
        pool.equal("7", "8")
        began = time.perf_counter()
        for gold, answer in pairs:
            pool.equal(gold, answer)
        ours = time.perf_counter() - began
        began = time.perf_counter()
        for gold, answer in pairs:
            verify(parse(f"\\boxed{{{gold}}}"), parse(f"\\boxed{{{answer}}}"))
        ratios.append((time.perf_counter() - began) / ours)
    assert statistics.median(ratios) > 0.8
    pool.close()
