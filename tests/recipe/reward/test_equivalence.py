# ruff: noqa: E501 (tables of answers)
r"""recipe.asymgrpo.reward.equivalence: what counts as equal, kind by kind, and why a verdict is what it is."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

pytest.importorskip("latex2sympy2_extended")

from recipe.asymgrpo.reward import compute_score, last_boxed
from recipe.asymgrpo.reward.equivalence import DIFFERENT, EQUAL, judge
from recipe.asymgrpo.reward.workers import Verifier

PAIRS = [json.loads(line) for line in (Path(__file__).parent / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
KINDS = sorted({pair["kind"] for pair in PAIRS})


@pytest.fixture(scope="module")
def pool():
    verifier = Verifier(timeout_s=2.0)
    verifier.equal("7", "8")
    yield verifier
    verifier.close()


def test_there_are_pairs_of_each_kind_on_both_sides():
    counts = Counter((pair["kind"], pair["right"]) for pair in PAIRS)
    assert len(PAIRS) > 1000
    assert all(counts[kind, side] >= 3 for kind in KINDS for side in (True, False))


@pytest.mark.parametrize("kind", KINDS)
def test_no_wrong_answer_is_accepted(kind, pool):
    wrong = [pair for pair in PAIRS if pair["kind"] == kind and not pair["right"]]
    verdicts = {(pair["gold"], pair["pred"]): pool.equal(pair["gold"], pair["pred"]) for pair in wrong}
    assert [pair for pair, verdict in verdicts.items() if verdict.equal] == []
    assert {verdict.reason for verdict in verdicts.values()} <= {*DIFFERENT, "gave up"}


@pytest.mark.parametrize("kind", KINDS)
def test_no_right_answer_is_refused_without_a_reason(kind, pool):
    """A pair that is refused although it is right has the reason with it."""
    for pair in PAIRS:
        if pair["kind"] == kind and pair["right"]:
            verdict = pool.equal(pair["gold"], pair["pred"])
            assert (verdict.reason in EQUAL) == verdict.equal
            assert verdict.equal != ("refused" in pair), pair


HEDGES = ["{}, 17", "{} \\text{{ or }} 17", "17 \\Rightarrow {}", "{} \\to 17", "17 = {}", "17\\text{{ is wrong, it is }}{}", "\\text{{not }}{}",
          "17\\mid {}", "17 \\text{{ then }} {}", "{} \\text{{ instead of }} 17", "{}\\quad 17", "{} \\text{{ if }} x > 17"]  # fmt: skip


def _hedged(golds, pool):
    accepted = []
    for number, gold in enumerate(golds):
        for place in range(number % 3, len(HEDGES), 3):
            answer = HEDGES[place].format(gold)
            if answer.strip() != "17 = 17" and pool.equal(gold, answer).equal:
                accepted.append((gold, answer))
    return accepted


def test_a_second_candidate_beside_the_right_one_is_never_accepted(pool):
    golds = sorted({pair["gold"] for pair in PAIRS})
    assert _hedged(random.Random(1).sample(golds, 60), pool) == []


@pytest.mark.slow
def test_a_second_candidate_beside_any_right_one_is_never_accepted(pool):
    assert _hedged(sorted({pair["gold"] for pair in PAIRS}), pool) == []


def test_few_right_answers_are_refused():
    right = [pair for pair in PAIRS if pair["right"]]
    policy = "a number is expected, and this is left to do"
    assert sum(pair.get("refused", policy) != policy for pair in right) <= 0.005 * len(right)
    assert sum("refused" in pair for pair in right) <= 0.015 * len(right)


@pytest.mark.parametrize(
    ("gold", "answer", "reason"),
    [
        ("\\frac{1}{2}", "\\dfrac{1}{2}", "equal text"),
        ("\\frac{1}{2}", "0.5", "equal value"),
        ("\\text{an ellipse}", "\\text{ellipse}", "equal words"),
        ("5", "6", "different value"),
        ("5", "[5,6]", "different number of answers"),
        ("(0,1)", "\\text{yes}", "different kind"),
        ("5\\text{ m}", "5\\text{ cm}", "unit differs"),
        ("52_8", "52_9", "base differs"),
        ("x=5", "y=5", "label differs"),
        ("2^n \\text{ for } n\\ge2", "2^n \\text{ for } n\\ge5", "condition differs"),
        ("\\text{red}", "\\text{blue}", "different words"),
        ("3", "2 \\Rightarrow 3 \\to 4", "not read"),
        ("\\foo{3}", "3", "gold not read"),
        ("6", "2+4", "not worked out"),
    ],
)
def test_a_verdict_says_why(gold, answer, reason):
    assert judge(gold, answer) == reason
    found = compute_score("math", f"\\boxed{{{answer}}}", gold)
    assert (found["why"], found["score"]) == (reason, float(reason in EQUAL))


WRAPPED = [
    "=(x+2)(x-3)", "\\approx (x+2)(x-3)", "\\text{Result}=(x+2)(x-3)", "\\text{The answer is }(x+2)(x-3)",
    "(x+2)(x-3)\\text{ units}", "(x+2)(x-3), x\\in\\mathbb{R}", "((x+2)(x-3))", "\\mathbf{(x+2)(x-3)}",
    "\\color{red}(x+2)(x-3)", "(x+2)(x-3)=(x+2)(x-3)",
]  # fmt: skip
NOTHINGS = [
    "0:0", "\\infty:\\infty", "x-x:0", "0/0", "0\\cdot\\infty", "\\infty-\\infty", "1/0", "\\emptyset", "\\{\\}",
    "()", "[]", "=", "x=x", "0=0", "\\pm", "\\ldots", "?", ":", ",", "\\text{}", "|", "\\infty",
]  # fmt: skip
"""Answers that might be equal to anything."""
OF_EVERY_KIND = [
    "42", "-3.5", "\\frac12", "x^2+1", "\\sqrt2", "50\\%", "5\\text{ cm}", "\\$5", "x=5", "1:2", "2:3:5", "(1,2)", "1,2",
    "\\{1,2\\}", "[1,2)", "x\\ge 2", "\\text{yes}", "1\\pmod 6", "52_8", "y=2x+1", "\\begin{pmatrix}1\\\\2\\end{pmatrix}",
    "2k\\pi, k\\in\\mathbb{Z}", "3i", "\\pi", "90^\\circ", "3:30", "\\frac{1}{x}", "5!", "10^{20}", "\\angle ABC = 70^\\circ",
]  # fmt: skip


@pytest.mark.parametrize("nothing", NOTHINGS)
def test_no_answer_is_equal_to_everything(nothing):
    """As such, and as an item, a member of a chain or with a name."""
    shapes = (nothing, f"({nothing},{nothing})", f"{nothing},{nothing}", f"x={nothing}", f"1\\pmod{{{nothing}}}")
    assert [(gold, shape) for gold in OF_EVERY_KIND for shape in shapes if judge(gold, shape) in EQUAL] == []


ASKED = "What is $(4 \\times 12)-(4+12)$, if $x = 5$ and $\\frac{8}{22}$ of $50\\%$ have $\\left(x+2\\right)(x-3)$ and $|x - 3| < 5$?"


@pytest.mark.parametrize(
    ("gold", "answer", "copied"),
    [
        ("x^2-x-6", "(x+2)(x-3)", True),
        ("x^2-x-6", "\\left(x + 2\\right)\\left(x-3\\right)", True),
        ("\\frac{4}{11}", "\\dfrac{8}{22}", True),
        ("(x+2)(x-3)", "(x+2)(x-3)", False),  # what was expected, letter by letter
        ("x^2-x-6", "x^2-x-6", False),
        ("x^2-x-6", "(x-3)(x+2)", False),
        ("5", "x = 5", False),
        ("0.5", "50\\%", False),
        ("x^2-x-6", "f(x)=(x+2)(x-3)", True),
        ("x^2-x-6", "+(x+2)\\cdot(x−3),", True),
        ("f(x)=(x+2)(x-3)", "(x+2)(x-3)", False),
        ("8/22", "\\frac{8}{22}", False),
        *(("x^2-x-6", wrapped, True) for wrapped in WRAPPED),
    ],
)
def test_a_formula_of_the_question_is_no_answer(gold, answer, copied):
    found = compute_score("math", f"\\boxed{{{answer}}}", gold, {"question": ASKED})
    assert (found["why"] == "copied from the question") == copied
    assert found["score"] == found["acc"] == float(not copied)
    assert compute_score("math", f"\\boxed{{{answer}}}", gold, {"question": None})["score"] == 1.0


def test_the_other_reasons():
    assert compute_score("math", "no box", "5")["why"] == "no answer"
    assert compute_score("math", "\\boxed{" + "1+" * 600 + "1}", "5")["why"] == "too long"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\\boxed{5} \\boxed{}", "5"), ("\\boxed{5} and so \\boxed{ }", "5"), ("\\boxed{5}. \\boxed{Your answer}", "5"),
        ("\\boxed{5} \\boxed{\\text{your final answer here}}", "5"), ("\\boxed{5} \\boxed{...}", "5"), ("\\boxed{5} \\boxed{?}", "5"),
        ("\\boxed{5} \\boxed{answer}", "5"), ("\\boxed {5}", "5"), ("\\boxed 5", "5"), ("\\boxed 5.", "5"), ("\\boxed -3", "-3"),
        ("\\boxed x", "x"), ("\\boxed\n{7}", "7"), ("\\boxed{}", ""), ("\\boxed{\\{\\}}", "\\{\\}"), ("\\boxed{∞}", "∞"),
        ("\\boxed{1} and \\boxed{2}", "1, 2"), ("$\\boxed{1}$, $\\boxed{2}$ or $\\boxed{3}$", "1, 2, 3"), ("\\boxed{1}. Then \\boxed{2}", "2"),
        ("\\boxed{1} \\text{ and } \\boxed{2}", "1, 2"), ("\\boxed{x} is \\boxed{2}", "2"), ("\\boxed{\\boxed{4}}", "4"), ("\\boxed 5x", ""),
        ("\\boxed{12} \\boxed{___}", "12"), ("\\boxed{\\emptyset}", "\\emptyset"), ("\\boxed{answer 5}", "answer 5"),
    ],
)  # fmt: skip
def test_the_last_box_with_an_answer(text, expected):
    assert last_boxed(text) == expected


@pytest.mark.parametrize(
    "filler", [" ", ",", ", ", "[", "x=", "x = ", "and ", "$", "\\quad ", "\\text{and}", "a_1=", "\\boxed{", "answer "]
)
def test_what_stands_between_boxes_takes_no_time(filler):
    """Boxes are found in the process that asks, where no limit ends a regular expression."""
    for text in ("\\boxed{{1}},{}!\\boxed{{2}}", "\\boxed{{1}}{}\\boxed{{2}}", "\\boxed{{1}}{}", "\\boxed{{{}}}", "{}"):
        for count in (25, 115 // len(filler), 16_000 // len(filler)):
            began = time.perf_counter()
            last_boxed(text.format(filler * count))
            assert time.perf_counter() - began < 1.0


def test_guesses_in_several_boxes_are_no_answer():
    assert compute_score("math", "\\boxed{5} or \\boxed{7}", "7")["score"] == 0.0
    assert compute_score("math", "\\boxed{5} and \\boxed{7}", "5, 7")["score"] == 1.0


# Random expressions -------------------------------------------------------------------------------------------------


class Maker:
    """Expressions of a small grammar, each as (text, another text of the same value)."""

    def __init__(self, rng: random.Random):
        self.rng = rng

    def number(self) -> tuple[str, str]:
        value = self.rng.randint(2, 99)
        return self.rng.choice(
            [
                (f"{value}", f"{value}.0"),
                (f"{value}", f"\\frac{{{2 * value}}}{{2}}"),
                (f"{value / 4}", f"\\frac{{{value}}}{{4}}"),
                (f"\\frac{{{value}}}{{7}}", f"{value}/7"),
                (f"{value}\\frac{{1}}{{3}}", f"\\frac{{{3 * value + 1}}}{{3}}"),
                (f"\\sqrt{{{value}}}", f"{value}^{{1/2}}"),
                (f"{value}\\pi", f"\\pi\\cdot {value}"),
                (f"\\ln {value}", f"\\frac{{1}}{{2}}\\ln({value**2})"),
                (f"2^{{-{value}}}", f"\\frac{{1}}{{2^{{{value}}}}}"),
                (f"{value}!", f"{value}\\cdot {value - 1}!"),
            ]
        )

    def expression(self) -> tuple[str, str]:
        a, b = self.number(), self.number()
        n = self.rng.randint(2, 9)
        return self.rng.choice(
            [
                a,
                (f"x+{n}", f"{n}+x"),
                (f"{n}(x+1)", f"{n}x+{n}"),
                (f"(x+{n})^2", f"x^2+{2 * n}x+{n * n}"),
                (f"\\frac{{x}}{{{n}}}", f"\\frac{{1}}{{{n}}}x"),
                (f"\\sin({n}t)", f"\\sin({n}\\cdot t)"),
                (f"{a[0]}+\\sqrt{{x}}", f"x^{{1/2}}+{a[1]}"),
                (f"e^{{{n}x}}", f"(e^{{x}})^{{{n}}}"),
                (f"\\frac{{{a[0]}}}{{1+{b[0]}}}", f"\\frac{{{a[1]}}}{{{b[1]}+1}}"),
            ]
        )

    def answer(self) -> tuple[str, str, str]:
        """An answer, an equal one, and a wrong one: a number, sign, unit, base or element is changed."""
        rng = self.rng
        a, n = self.expression(), rng.randint(2, 9)
        number = self.number()
        kind = rng.randrange(9)
        if kind == 0:
            return a[0], a[1], f"{a[1]}+1"
        if kind == 1:
            return a[0], f"-(-({a[1]}))", f"-({a[1]})"
        if kind == 2:
            unit, other, wrong = rng.choice(
                [("cm", "centimeters", "m"), ("hours", "h", "minutes"), ("dollars", "dollar", "cents"), ("kg", "kilograms", "g"),
                 ("cm^2", "square cm", "cm^3"), ("m/s", "meters per second", "m")]
            )  # fmt: skip
            return f"{n}\\text{{ {unit}}}", f"{n}.0\\text{{ {other}}}", f"{n}\\text{{ {wrong}}}"
        if kind == 3:
            digits = "".join(rng.choice("01") for _ in range(5))
            return f"1{digits}_{n}", f"1{digits}_{{{n}}}", f"1{digits}_{{{n + 1}}}"
        if kind == 4:
            items = [f"{n}", f"{n + 20}", "\\sqrt{2}", number[0] + "+100!"]
            shuffled = [f"{n}.0", f"{n + 20}", "2^{1/2}", "100!+" + number[1]]
            rng.shuffle(shuffled)
            changed = [item if item != f"{n + 20}" else f"{n + 21}" for item in shuffled]
            return f"\\{{{', '.join(items)}\\}}", ", ".join(shuffled), f"\\{{{', '.join(changed)}\\}}"
        if kind == 5:
            swapped = f"({a[1]}, {n})" if judge(f"{n}", a[1]) not in EQUAL else f"({n}, {n + 1})"
            return f"({n}, {a[0]})", f"({n}.0, {a[1]})", swapped
        if kind == 6:
            return (
                f"[{n}, {n + 5})",
                f"{n} \\le x < {n + 5}",
                rng.choice([f"{n} < x < {n + 5}", f"[{n}, {n + 6})", f"[-{n}, {n + 5})"]),
            )
        if kind == 7:
            return f"f(x)={a[0]}", a[1], rng.choice([f"f(x)={a[1]}+{n}", f"{a[1]}, {n + 100}", f"f(x)=2\\cdot({a[1]})"])
        return (
            f"{n}\\pm {number[0]}",
            f"{n}-{number[1]}, {n}+{number[1]}",
            rng.choice([f"{n}+{number[1]}", f"{n}\\pm 2\\cdot {number[1]}"]),
        )


def _check(seed: int) -> None:
    gold, equal, wrong = Maker(random.Random(seed)).answer()
    assert judge(gold, wrong) not in EQUAL, (gold, wrong)
    assert judge(wrong, gold) not in EQUAL, (wrong, gold)
    assert judge(gold, equal) in EQUAL, (gold, equal)


@example(62608355)  # (3, 21/7) and (21/7, 3) are equal
@given(st.integers(0, 2**32))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_random_answers(seed):
    _check(seed)


@pytest.mark.slow
@given(st.integers(0, 2**32))
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
def test_ten_thousand_random_answers(seed):
    _check(seed)


@given(st.text(alphabet="0123456789xyn+-*/^_(){}[],.=<>|!% \\", max_size=30))
@settings(max_examples=300, deadline=None)
def test_any_text_has_a_verdict(text):
    """A number that no short text of these letters makes."""
    if not any(mark in text for mark in "^!"):  # what may take for ever is for the workers
        assert judge("\\sqrt{271828}+\\pi", text) in DIFFERENT
