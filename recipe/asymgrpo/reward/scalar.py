r"""One expression: from the small LaTeX of `text.plain` to sympy by math-verify's parser, and sound comparison.

The parser (latex2sympy2_extended) takes the longest start that it can read, makes 5 of ``2 3`` and of ``(2)(3)``, and
floats of decimals. So each token is looked at first: an unknown one is `NotRead`, products get a ``\cdot``, decimals
become fractions, and what a letter cannot carry (``\hat{x}``, ``f(x)``, a word) becomes a variable of its own.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from recipe.asymgrpo.reward.engine import parse
from recipe.asymgrpo.reward.notation import (
    APPLIED,
    MIXED,
    REPEATING,
    NotRead,
    mixed,
    opaque_applications,
    plain_number,
    repeating,
    symbol,
    top_commas,
)
from recipe.asymgrpo.reward.numeric import infinity
from recipe.asymgrpo.reward.spelling import closing_of
from recipe.asymgrpo.reward.text import FUNCTIONS, GREEK

_TOKEN = re.compile(
    r"\s+|(?P<number>\d+\.\d+|\.\d+|\d+)|\\(?P<macro>[a-zA-Z]+)|(?P<letter>[A-Za-z])|«(?P<word>[^»]*)»|(?P<sign>[-+/^_!'|,=(){}\[\]])"
)
_HEADS = FUNCTIONS | {"frac", "sqrt", "binom"}
_BIG = frozenset({"sum", "prod", "int", "lim"})
_DECORATED = frozenset(
    {"hat", "bar", "overline", "tilde", "widehat", "dot", "ddot", "underline", "mathbb", "widetilde"}
)
_CONSTANTS = frozenset({"pi", "infty"})
_INVERSE = re.compile(r"\\(sin|cos|tan)\s*\^\s*\{\s*-\s*1\s*\}")
_POWER_OF_TEN = re.compile(r"([-+]?\d+(?:\.\d+)?)[eE]([-+]?\d{1,4})")
_SIMPLE = re.compile(r"([-+]?) ?(?:(\d+)(?:\.(\d*))?|\.(\d+))")
_SIMPLE_FRACTION = re.compile(r"([-+]?) ?(?:\\frac\{(-?\d+)\}\{(\d+)\}|(\d+) ?/ ?(\d+))")
_AMBIGUOUS = re.compile(r"/ ?(?:\d+(?:\.\d+)?|[A-Za-z]) ?(?:[A-Za-z(]|\\(?:pi|sqrt|frac|ln|log|sin|cos|tan|e)\b)")
MAX_DIGITS = 400


def read_scalar(text: str, log_base: str = "e") -> Any:
    """A sympy expression (exact: no floats) of all of the text.

    Raises:
        NotRead: some of it is not understood, or it has no value.
    """
    text = text.strip()
    if (found := _SIMPLE.fullmatch(text)) is not None:
        sign, whole, decimals, bare = found.groups()
        return _rational(Fraction(f"{sign}{whole or 0}.{decimals or bare or 0}"))
    if (found := _SIMPLE_FRACTION.fullmatch(text)) is not None:
        sign, above, below, above2, below2 = found.groups()
        if int(below or below2) == 0:
            raise NotRead("division by zero")
        return _rational(Fraction(int(above or above2), int(below or below2)) * (-1 if sign == "-" else 1))
    if (found := _POWER_OF_TEN.fullmatch(text)) is not None:
        return _rational(Fraction(found.group(1)) * Fraction(10) ** int(found.group(2)))
    if "\\infty" in text and not re.search(r"\\(?:sum|int|prod|lim)(?![a-z])", text):
        if (found := re.fullmatch(r"\(?\s*([-+]?)\s*\\infty\s*\)?", text)) is None:
            raise NotRead("arithmetic with infinity")
        return infinity(-1 if found.group(1) == "-" else 1)
    return parse(emit(text, log_base))


def _rational(value: Fraction) -> Any:
    from sympy import Rational

    return Rational(value.numerator, value.denominator)


def emit(text: str, log_base: str = "e") -> str:
    """The text for the parser, every token of it known."""
    if _AMBIGUOUS.search(text):
        raise NotRead("1/2x may mean two things")
    text = REPEATING.sub(repeating, text)
    text = MIXED.sub(mixed, text)
    text = _INVERSE.sub(r"\\arc\1 ", text)
    text = re.sub(r"(\d+(?:\.\d+)?)\s*\^\{\\circ\}", r"(\1 \\frac{\\pi}{180})", text)
    text = text.replace("\\operatorname", "")
    if any(f"\\{name}" in text for name in _BIG) and (
        APPLIED.search(text)
        or re.search(r"_\{[^{}=]*[a-z][^{}=]*\}(?!\s*\^)", re.sub(r"\\(?:sum|prod|int|lim)\s*_\{[^{}]*\}", "", text))
    ):
        raise NotRead("terms that depend on an index")
    text = opaque_applications(text)
    out: list[str] = []
    state = "start"  # of what stands left: an operand, a number, an operator, the name of a function
    big = any(f"\\{name}" in text for name in _BIG) or "\\frac{d" in text
    bars, position = 0, 0
    heads: list[int] = []
    stack: list[str] = []
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise NotRead(f"{text[position : position + 12]!r}")
        position = found.end()
        number, macro, letter, word, sign = found.group("number", "macro", "letter", "word", "sign")
        if number:
            if state == "number":
                raise NotRead("two numbers side by side")
            out.append(_join(state) + plain_number(number))
            state = "number"
        elif letter or word is not None or macro in GREEK - _CONSTANTS or macro in _DECORATED:
            name = letter or ("«" + word.lower() + "»" if word and len(word) > 1 else word) or macro
            if macro in _DECORATED:
                decorated = re.compile(r"\s*(?:\{([A-Za-z0-9]+)\}|([A-Za-z]))").match(text, position)
                if decorated is None:
                    raise NotRead(f"\\{macro}")
                name, position = f"{macro}:{decorated.group(1) or decorated.group(2)}", decorated.end()
            if (index := re.compile(r"_\s*\{((?:[^{}]|\{[^{}]*\})*)\}").match(text, position)) is not None and name:
                name += "_" + re.sub(r"[\s{}«»\\]", "", index.group(1))
                position = index.end()
            while text[position : position + 1] == "'":
                name, position = name + "'", position + 1
            native = len(name) == 1 and name not in "IdSEN" and word is None
            out.append(
                ("" if big and state in ("operand", "number") and letter else _join(state))
                + (name if native or (big and len(name) == 1) else symbol(name))
                + " "
            )
            state = "operand"
        elif macro in _CONSTANTS:
            out.append(_join(state) + f"\\{macro} ")
            state = "operand"
        elif macro in _HEADS:
            out.append(_join(state))
            if macro in FUNCTIONS:
                position = _function(text, position, macro, out, log_base)
            else:
                out.append(f"\\{macro}")
                position = _groups(text, position, macro, out, log_base)
            state = "operand"
        elif macro in _BIG or macro == "to":
            out.append((_join(state) if macro in _BIG else "") + f"\\{macro} ")
            state = "operator"
        elif macro in ("lfloor", "lceil"):
            out.append(_join(state) + f"\\{macro} ")
            stack.append(macro)
            state = "operator"
        elif macro in ("rfloor", "rceil"):
            if not stack or stack.pop() != macro.replace("r", "l", 1):
                raise NotRead("brackets")
            out.append(f"\\{macro} ")
            state = "operand"
        elif macro in ("cdot", "div"):
            if state not in ("operand", "number"):
                raise NotRead("an operator without what stands before it")
            out.append(f"\\{macro} ")
            state = "operator"
        elif macro:
            raise NotRead(f"\\{macro}")
        elif sign == "^" or sign == "_":
            group = re.compile(r"\s*\{").match(text, position)
            end = closing_of(text, group.end() - 1) if group else -1
            if (
                group is None
                or end < 0
                or (sign == "_" and state == "number")
                or state not in ("operand", "number", "operator")
            ):
                raise NotRead(sign)
            script = text[group.end() : end]
            if sign == "_" and big and "=" in script:
                left, _, right = script.partition("=")
                out.append("_{" + emit(left, log_base) + "=" + emit(right, log_base) + "}")
            elif sign == "_" and "\\to" in script:
                left, _, right = script.partition("\\to")
                out.append("_{" + emit(left, log_base) + "\\to " + emit(right, log_base) + "}")
            else:
                out.append(sign + "{" + emit(script, log_base) + "}")
            position = end + 1
            if state == "number":
                state = "operand"
        elif sign == "|":
            opening = bars == 0 or state in ("start", "operator")
            bars += 1 if opening else -1
            out.append((_join(state) if opening else "") + "|")
            state = "operator" if opening else "operand"
        elif sign in ("(", "{", "["):
            closing = closing_of(text, position - 1)
            if closing < 0 or text[closing] != {"(": ")", "{": "}", "[": "]"}[sign]:
                raise NotRead("brackets")
            inner = text[position:closing]
            out.append(_join(state) + "(" + emit(inner, log_base) + ")")
            position, state = closing + 1, "operand"
        elif sign in ("-", "+", "/"):
            if sign == "/" and state not in ("operand", "number"):
                raise NotRead("/")
            if sign != "/" and state in ("operator",) and out and out[-1].endswith(("+", "-")):
                raise NotRead("two signs")
            out.append(sign)
            state = "operator"
        elif sign == "!":
            if state not in ("operand", "number") or out[-1] == "!":  # 5!! is no (5!)!
                raise NotRead("!")
            out.append("!")
            state = "operand"
        elif sign:
            raise NotRead(sign)
    if state not in ("operand", "number") or bars or stack or heads:
        raise NotRead("it ends in the middle")
    return "".join(out)


def _join(state: str) -> str:
    return "\\cdot " if state in ("operand", "number") else ""


_PART = re.compile(
    r"\s*(?:(?P<head>\\(?:"
    + "|".join(sorted(FUNCTIONS))
    + r")(?![a-zA-Z]))|\\(?:frac|binom)\s*(?P<two>\{)|\\sqrt\s*(?:\[[^\[\]]*\])?\s*(?P<one>\{)"
    r"|(?P<open>[({\[])|(?P<bar>\|)|\\(?:"
    + "|".join(sorted((GREEK | _CONSTANTS) - {"to"}))
    + r")(?![a-zA-Z])|\d+(?:\.\d+)?|[A-Za-z]|«[^»]*»|\\(?:hat|bar|overline|tilde)\s*(?P<deco>\{))"
)
_ATTACHED = re.compile(r"\s*(?:[\^_]\s*(\{)|!|')")


def _function(text: str, position: int, macro: str, out: list[str], log_base: str) -> int:
    r"""A function with its argument in brackets: ``\sin 2x\cos x`` is sin(2x) cos(x), ``\sin x \cdot y`` sin(x) y."""
    scripts = []
    while (found := re.compile(r"\s*([\^_])\s*\{").match(text, position)) is not None:
        end = closing_of(text, found.end() - 1)
        if end < 0:
            raise NotRead(f"\\{macro}")
        scripts.append((found.group(1), emit(text[found.end() : end], log_base)))
        position = end + 1
    based = [script for mark, script in scripts if mark == "_"]
    if macro in ("log", "ln"):
        macro = "log" if based else "ln" if macro == "ln" or log_base == "e" else "log"
    elif based:
        raise NotRead(f"\\{macro}")
    start, count = position, 0
    while (part := _PART.match(text, position)) is not None:
        if count and re.match(r"\s*d ?[a-z](?![a-zA-Z])", text[position:]):
            break
        if count and (part.group("head") or part.group("open") == "(" or part.group("bar")):
            break
        count += 1
        if part.group("open") == "(" and (end := closing_of(text, part.start("open"))) > 0:
            position = end + 1  # sin(x)^2 is (sin x)^2
            break
        if part.group("head"):
            inner: list[str] = []
            position = _function(text, part.end(), part.group("head")[1:], inner, log_base)
            break
        position = part.end()
        if part.group("bar"):
            position = text.find("|", position) + 1
            if position == 0:
                raise NotRead("|")
            break
        for _ in range(
            2 if part.group("two") else 1 if part.group("one") or part.group("open") or part.group("deco") else 0
        ):
            position = text.find("{", position) + 1 if text[position - 1] not in "({[" else position
            end = closing_of(text, position - 1) if position else -1
            if end < 0:
                raise NotRead("brackets")
            position = end + 1
        while (more := _ATTACHED.match(text, position)) is not None:
            position = more.end()
            if more.group(1):
                end = closing_of(text, position - 1)
                if end < 0:
                    raise NotRead("brackets")
                position = end + 1
        if part.group("open") == "(":
            break
    if not count:
        raise NotRead(f"\\{macro} of nothing")
    argument = text[start:position].strip()
    whole = argument[0] in "({[" and closing_of(argument, 0) == len(argument) - 1
    parts = top_commas(argument[1:-1]) if whole else [argument]
    if len(parts) > 1 and macro not in ("gcd", "lcm", "max", "min"):
        raise NotRead(f"\\{macro} of several")
    below = f"_{{{based[0]}}}" if based else ""
    powers = [script for mark, script in scripts if mark == "^"]
    value = f"\\{macro}{below}(" + ",".join(emit(part, log_base) for part in parts) + ")"
    out.append(f"({value})^{{{powers[0]}}}" if powers else value)
    return position


def _groups(text: str, position: int, macro: str, out: list[str], log_base: str) -> int:
    if macro == "sqrt" and (index := re.compile(r"\s*\[([^\[\]]*)\]").match(text, position)) is not None:
        out.append(f"[{emit(index.group(1), log_base)}]")
        position = index.end()
    for _ in range(1 if macro == "sqrt" else 2):
        start = re.compile(r"\s*\{").match(text, position)
        end = closing_of(text, start.end() - 1) if start else -1
        if start is None or end < 0:
            raise NotRead(f"\\{macro} without its arguments")
        inner = text[start.end() : end]
        if macro == "frac" and re.fullmatch(r"\s*d(?:\s*[a-z])?\s*|.*\\partial.*", inner):
            raise NotRead("a derivative")
        out.append("{" + emit(inner, log_base) + "}")
        position = end + 1
    return position
