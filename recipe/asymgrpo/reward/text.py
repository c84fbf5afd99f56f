# ruff: noqa: E501, SIM905 (tables)
r"""One spelling for what is written in many: the text of an answer before anything in it is read.

`plain` takes LaTeX, unicode and the notation of calculators to a small LaTeX: fractions, roots and powers with braces,
one macro for each relation, no sizes and no spacing, and every word in «», so that no letter of a word is taken for a
variable. It changes no meaning: what it does not know stays as it is, and is refused where it is read.
"""

from __future__ import annotations

import itertools
import re
import unicodedata

from recipe.asymgrpo.reward.spelling import closing_of, unwrap
from recipe.asymgrpo.reward.units import PLAIN

_VULGAR = "½1/2 ⅓1/3 ⅔2/3 ¼1/4 ¾3/4 ⅕1/5 ⅖2/5 ⅗3/5 ⅘4/5 ⅙1/6 ⅚5/6 ⅛1/8 ⅜3/8 ⅝5/8 ⅞7/8 ⅑1/9 ⅒1/10 ⅐1/7"
_GREEK = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma_ sigma tau upsilon phi chi psi omega"
GREEK = frozenset(name for name in _GREEK.split() if not name.endswith("_")) | {"varphi", "varepsilon", "vartheta", "varrho", "varsigma", "Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Phi", "Psi", "Omega", "Upsilon", "ell", "hbar"}  # fmt: skip
FUNCTIONS = frozenset(
    "sin cos tan sec csc cot sinh cosh tanh arcsin arccos arctan ln log exp gcd lcm max min".split()
)  # fmt: skip
_NAMES = {
    **{name: f"\\{name} " for name in FUNCTIONS | {"pi", "theta", "alpha", "beta", "gamma", "lambda", "sigma", "omega", "phi"}},
    **{f"a{name}": f"\\arc{name} " for name in ("sin", "cos", "tan")},
    "sqrt": "\\sqrt ", "floor": "\\floor ", "ceil": "\\ceil ", "cbrt": "\\sqrt[3] ", "inf": "\\infty ", "infinity": "\\infty ", "oo": "\\infty ", "union": "\\cup ",
    "lg": "\\log ", "div": "\\div ", "in": "\\in ", "abs": "\\abs ",
}  # fmt: skip

_UNICODE = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "×": "\\times ", "·": "\\cdot ", "⋅": "\\cdot ", "∙": "\\cdot ",
    "∗": "*", "÷": "\\div ", "∞": "\\infty ", "≤": "\\le ", "≥": "\\ge ", "⩽": "\\le ", "⩾": "\\ge ", "≠": "\\ne ",
    "∈": "\\in ", "∪": "\\cup ", "∩": "\\cap ", "∅": "\\emptyset ", "±": "\\pm ", "∓": "\\mp ", "°": "^{\\circ}", "º": "^{\\circ}",
    "√": "\\sqrt ", "∛": "\\sqrt[3] ", "ℝ": "\\mathbb{R}", "ℤ": "\\mathbb{Z}", "ℕ": "\\mathbb{N}", "ℚ": "\\mathbb{Q}",
    "ℂ": "\\mathbb{C}", "⌊": "\\lfloor ", "⌋": "\\rfloor ", "⌈": "\\lceil ", "⌉": "\\rceil ", "≈": "\\approx ", "≡": "\\equiv ",
    "→": "\\to ", "⇒": "\\Rightarrow ", "…": "\\ldots ", "⋯": "\\ldots ", "∑": "\\sum ", "∏": "\\prod ", "∫": "\\int ",
    "′": "'", "’": "'", "∖": "\\setminus ", "∧": "\\land ", "∨": "\\lor ", "€": "\\euro ", "£": "\\pounds ", "∼": "\\sim ",
    "ϕ": "\\phi ", "⁄": "/", "∕": "/", "∴": "\\therefore ", "ℯ": "e", "℃": "^{\\circ}C", "℉": "^{\\circ}F", "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u200b": "", "\ufeff": "", "⟨": "\\langle ", "⟩": "\\rangle ",
    **{chr(0x3B1 + number): f"\\{name} " for number, name in enumerate(_GREEK.split()) if not name.endswith("_")},
    **{"Γ": "\\Gamma ", "Δ": "\\Delta ", "Θ": "\\Theta ", "Λ": "\\Lambda ", "Σ": "\\Sigma ", "Φ": "\\Phi ", "Ψ": "\\Psi ", "Ω": "\\Omega "},
    **{part[0]: "\\frac{{{}}}{{{}}}".format(*part[1:].split("/")) for part in _VULGAR.split()},
}  # fmt: skip

_MACROS = {
    **dict.fromkeys("displaystyle textstyle scriptstyle limits nolimits left right middle big Big bigg Bigg tiny small normalsize large Large LARGE huge Huge bigl bigr Bigl Bigr biggl biggr Biggl Biggr mathstrut strut thinspace negthinspace".split(), ""),
    **dict.fromkeys("quad qquad enspace medspace thickspace".split(), " "),
    **dict.fromkeys("dfrac tfrac cfrac".split(), "\\frac "), **dict.fromkeys("dbinom tbinom".split(), "\\binom "),
    **dict.fromkeys("leq leqslant leqq".split(), "\\le "), **dict.fromkeys("geq geqslant geqq".split(), "\\ge "),
    **dict.fromkeys("neq not=".split(), "\\ne "), "lt": "<", "gt": ">",
    **dict.fromkeys("dots cdots dotsc dotsb dotso".split(), "\\ldots "),
    "varnothing": "\\emptyset ", "colon": ":", "lbrace": "\\{", "rbrace": "\\}",
    **dict.fromkeys("vert lvert rvert".split(), "|"), "backslash": "\\setminus ", "simeq": "\\approx ",
    "imath": "i", "lparen": "(", "rparen": ")", "lbrack": "[", "rbrack": "]", "degree": "^{\\circ}", "ast": "\\cdot ", "times": "\\cdot ",
    "euro": "«euro»", "pounds": "«sterling»", "percent": "\\%", "arctg": "\\arctan ", "tg": "\\tan ", "ctg": "\\cot ", "lg": "\\log ",
    "longrightarrow": "\\to ", "rightarrow": "\\to ", "implies": "\\Rightarrow ", "prime": "'", "ne": "\\ne ", "div": "\\div ",
}  # fmt: skip

ROW = "¶"
"""Ends a row of a matrix."""
_TEXT = r"text|textbf|textit|textrm|textsf|texttt|textnormal|mbox|hbox|emph|textup"
_FONT = r"mathrm|mathbf|mathit|mathsf|mathtt|boldsymbol|bm|vec|overrightarrow|mathcal|operatorname|operatorname\*|rm|pmb|mathop"
_WORDS = frozenset(
    "and or per pm am no yes for if all any odd even is are the of to or not undefined none where with real".split()
)
_FORMULA = frozenset(_NAMES) | FUNCTIONS
_PROSE = re.compile(r"(?<![\\a-zA-Z«{])[a-z]{3,}(?: [a-z]{3,})+(?![a-zA-Z»(}])")
"""Two words of three letters or more: no product of variables is written so."""
_AROUND = {"abs": ("|", "|"), "floor": ("\\lfloor ", "\\rfloor "), "ceil": ("\\lceil ", "\\rceil ")}
_VECTOR = re.compile(r"\\(?:vec|overrightarrow|hat|mathbf|boldsymbol|bm)(?![a-zA-Z])\s*\{?[a-zA-Z]")
_COUNTED = re.compile(r"(?:[\d})/»]|(?<![\\A-Za-z])[A-Za-z]{2,})\s*\Z")
_BRACED = r"\{((?:[^{}]|\{[^{}]*\})*)\}"
_GLUED = re.compile(r"\\\\(?=(?:frac|sqrt|pi|infty|cup|text|left|right|cdot|times|pm|le|ge|in)(?![a-z]))")


def plain(text: str) -> str:
    """The answer in the small LaTeX; raises nothing on any text."""
    text = unwrap(re.sub(r"\{([^{}]*)\\choose(?![a-z])([^{}]*)\}", r"\\binom{\1}{\2}", text))
    # A line break ends a row where there are rows, and is a slip of an escape where there are none.
    text = re.sub(r"\\\\(?:\[[^\]]*\])?", ROW, text) if "\\begin" in text else _GLUED.sub(r"\\", text)
    text = _unicode(text)
    text = re.sub(
        r"(?<![\d\\,])(\d{1,3})((?:,?\\[,!] ?\d{3})+)(?!\d)", lambda found: re.sub(r"[^\d]", "", found.group()), text
    )
    text = re.sub(r"\\[,;:>! ]|\\\n|~", lambda found: "" if found.group() == "\\!" else " ", text)
    text = re.sub(r"\\q?quad", " ", text)
    text = _joined(text)
    text = re.sub(r"\\[hv]space\*?\s*\{[^{}]*\}", " ", text)
    text = re.sub(r"\\underline\s*\{([\d.,]+)\}", r"\1", text)
    text = re.sub(r"\\color\s*\{\w+\}|\\textcolor\s*\{\w+\}(?=\{)", "", text)
    text = re.sub(r"\\\\\s*$", "", text)
    text = re.sub(r"(?<=\d)\{([,.:])\}", r"\1", text)
    text = re.sub(rf"\\(?:{_TEXT})\s*{_BRACED}", lambda found: _words(found.group(1)), text)
    text = re.sub(rf"\\(?:{_FONT})(?![a-zA-Z])\s*(?:{_BRACED}|(\w))", _font, text)
    text = re.sub(r"\\([a-zA-Z]+)", lambda found: _MACROS.get(found.group(1), found.group()), text)
    text = re.sub(r"\\mathbb\s*\{?([A-Z])\}?", r"\\mathbb{\1}", text)
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?", r"^{\\circ}", text)
    text = re.sub(r"\^\{\\circ\}\s*([CF])(?![A-Za-z'])", r"^{\\circ}«\1»", text)
    for old, new in (
        ("<=", "\\le "),
        (">=", "\\ge "),
        ("!=", "\\ne "),
        ("...", "\\ldots "),
        ("**", "^"),
        ("\\not=", "\\ne "),
    ):
        text = text.replace(old, new)
    text = re.sub(r"\+ ?-(?=[ \d.a-zA-Z\\(])", "-", text.replace("*", "\\cdot "))
    text = re.sub(r"\\(max|min|gcd|lcm)\s*\\\{([^{}]*)\\\}", r"\\\1(\2)", text)
    text = re.sub(r"^(\d+)\s*\^?\s*\{?\s*«?(st|nd|rd|th)»?\s*\}?$", r"\1 «\2»", text.strip())
    text = re.sub(r"(?<=\d)\^\{\\circ\}\s*(\d+)'$", r" «degrees» \1 «arcminutes»", text)
    text = re.sub(
        r"(\d:\d\d|\d (?=[AP]))\s*([AaPp])\.?[Mm]\b\.?", lambda found: f"{found[1]} «{found[2].lower()}m»", text
    )
    text = re.sub(r"(?<![a-zA-Z])log(10|2)(?=\s*\()", r"\\log_{\1}", text)
    text = _PROSE.sub(
        lambda found: found.group() if _FORMULA & set(found.group().split()) else _words(found.group()), text
    )
    text = re.sub(r"(?<![\\a-zA-Z«])(?<!begin\{)(?<!end\{)([A-Za-z]{2,})(?![a-zA-Z»])", _letters, text)
    text = re.sub(r"«per»\s*«cents?»", "«percent»", text)
    text = re.sub(r"\\in\s*([ZNRQC])(?![A-Za-z_«])", r"\\in \\mathbb{\1}", text)
    text = _brackets(_arguments(text))
    text = re.sub(
        r"^(?:«(?:the|final|correct|my)»\s*)*«answer»\s*(?:«is»)?\s*[:=]?(?=.*\S)",
        "",
        re.sub(r"\s+", " ", text).strip(),
        flags=re.IGNORECASE,
    )
    return re.sub(rf"(?:\s|(?<!\.)\.|[,;{ROW}])+$", "", text).strip()


def _joined(text: str) -> str:
    r"""``\land`` and ``\lor`` between conditions are words; of letters they are logic. Of vectors, ``\times`` is no product."""
    if _VECTOR.search(text):
        text = re.sub(r"\\times(?![a-zA-Z])", r"\\crossed ", text)
    if re.search(r"[<>=]|\\(?:le|ge|ne|in)(?:q|qslant)?(?![a-z])", text):
        text = re.sub(r"\\(?:land|wedge)(?![a-zA-Z])", " «and» ", text)
        text = re.sub(r"\\(?:lor|vee)(?![a-zA-Z])", " «or» ", text)
    return text


def _brackets(text: str) -> str:
    r"""``]0,1[`` is (0,1), ``\langle 1,2\rangle`` a tuple, ``(52)_8`` 52_8."""
    if text.startswith("]") or text.endswith("["):
        text = re.sub(
            r"([\[\]])([^\[\],;]+)[,;]([^\[\],;]+)([\[\]])",
            lambda f: ("[" if f[1] == "[" else "(") + f"{f[2]},{f[3]}" + ("]" if f[4] == "]" else ")"),
            text,
        )
    text = re.sub(r"(\\mathbb\{R\}|[)\]])\s*-\s*(?=\\\{)", r"\1\\setminus ", text)
    text = re.sub(r"\\langle(?![a-z])([^|]*?,[^|]*?)\\rangle(?![a-z])", r"(\1)", text)
    return re.sub(r"\(([0-9A-F]*\d[0-9A-F]*)\)\s*_\s*(?=\{\d)", r"\1_", text)


def _level(character: str) -> str:
    """^ or _ of a raised or lowered character, else nothing."""
    kind = unicodedata.decomposition(character).partition(" ")[0]
    return {"<super>": "^", "<sub>": "_"}.get(kind, "") if character not in "ºª™℠" else ""


def _unicode(text: str) -> str:
    parts: list[str] = []
    if text.isascii():
        return text
    for level, run in itertools.groupby(text, key=_level):
        raised = "".join(run)
        parts.append(f"{level}{{{unicodedata.normalize('NFKC', raised)}}}" if level else raised)
    text = "".join(parts)
    text = "".join(_UNICODE.get(character, character) for character in text)
    return unicodedata.normalize("NFKC", text) if "«" not in text else text


def _words(text: str) -> str:
    text = re.sub(
        r"\\([a-zA-Z]+)", lambda found: found.group() if found.group(1) in _MACROS else found.group() + " ", text
    )
    text = re.sub(r"(?<!\\)\$", " ", text)
    return " " + re.sub(r"(?<![\\a-zA-Z])[A-Za-z][A-Za-z']*", lambda found: f"«{found.group()}»", text) + " "


def _font(found: re.Match[str]) -> str:
    inner = (found.group(1) if found.group(1) is not None else found.group(2)).strip(" ~")
    if re.fullmatch(r"[A-Za-z]", inner) and found.group().startswith("\\mathrm") and inner not in "eidxy":
        return f"«{inner}»"
    if found.group().startswith("\\mathrm") and re.fullmatch(
        r"(?!e\^)[A-Za-z]+(?:[\s\\,.~^{}/-]|\d|[A-Za-z]|\\cdot)*[/^][\s\\,.~^{}/-]*(?:[\s\\,.~^{}/-]|\d|[A-Za-z])*",
        inner,
    ):
        return _words(inner)  # \mathrm{m/s^2}
    if not re.search(r"[A-Za-z]{2,}", inner) or "\\" in inner:
        return f" {inner} " if not inner or len(inner) == 1 else f"{{{inner}}}"
    if inner in FUNCTIONS:
        return f"\\{inner} "
    return _words(inner)


def _letters(found: re.Match[str]) -> str:
    run = found.group(1)
    if run in _NAMES:
        return _NAMES[run]
    singular = run.removesuffix("s")
    known = run.lower() in _WORDS and not (run.isupper() and len(run) == 2)  # NO is a segment
    if run in PLAIN or singular in PLAIN or run.lower() in ("inch", "inches"):
        # hr is a unit behind a number, and h times r behind a variable
        known = len(run) > 3 or _COUNTED.search(found.string, 0, found.start()) is not None
    if known or (len(run) >= 4 and re.search("[aeiouyAEIOUY]", run)):
        return f"«{run}»"
    for name in ("sqrt", "pi", "sin", "cos", "tan", "ln", "log", "exp"):
        if run.endswith(name) and len(run) <= len(name) + 2:  # 2pi is two runs, xsin is not
            return " ".join(run[: -len(name)]) + " " + _NAMES[name]
    return run


def _arguments(text: str) -> str:
    r"""``\frac12``, ``\sqrt2``, ``\sqrt(2)``, ``x^10``, ``x^(1/2)`` with braces."""
    out, position = [], 0
    pending = re.compile(r"\\(frac|sqrt|binom|abs|floor|ceil)(?![a-zA-Z])|[\^_]")
    while found := pending.search(text, position):
        out.append(text[position : found.end()])
        position = found.end()
        name = found.group(1)
        if name == "sqrt" and (index := re.compile(r"\s*\[([^\[\]]*)\]").match(text, position)):
            out.append(f"[{index.group(1)}]")
            position = index.end()
        for _ in range(2 if name in ("frac", "binom") else 1):
            argument, position = _argument(text, position, one_digit=name in ("frac", "binom"))
            if argument is None:
                break
            if name in _AROUND:
                opening, closing = _AROUND[name]
                out[-1] = out[-1].removesuffix(f"\\{name}") + opening + "{" + _arguments(argument) + "}" + closing
            else:
                out.append("{" + _arguments(argument) + "}")
    return "".join(out) + text[position:]


def _argument(text: str, position: int, one_digit: bool) -> tuple[str | None, int]:
    while position < len(text) and text[position] == " ":
        position += 1
    start = text[position : position + 1]
    if start in ("{", "(") and (end := closing_of(text, position)) > 0 and text[end] == {"{": "}", "(": ")"}[start]:
        return text[position + 1 : end], end + 1
    if (nested := re.compile(r"\\(frac|sqrt)(?![a-zA-Z])").match(text, position)) is not None:
        end = nested.end()
        for _ in range(2 if nested.group(1) == "frac" else 1):
            inner, end = _argument(text, end, one_digit=nested.group(1) == "frac")
            if inner is None:
                return None, position
        return text[position:end], end
    digits = r"\d" if one_digit else r"[-+]?\d+(?:\.\d+)?|-?[A-Za-z]"
    found = re.compile(rf"{digits}|\\[a-zA-Z]+|[A-Za-z]|\*|'").match(text, position)
    return (found.group(), found.end()) if found else (None, position)
