# ruff: noqa: E501, SIM905 (tables)
r"""Units of measure behind a number: ``\text{ cm}^2``, ``miles per hour``, ``\%``, dollars, or a counted noun.

A unit is a monomial: powers of base units, and a factor. Two are comparable where the powers agree.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

PI_180 = "degree"
"""The factor of a degree is irrational: its base unit is the degree itself, and a bare number beside it is radians."""

# name: base unit, its power, factor
_BASES: dict[str, tuple[str, int, Fraction]] = {}


def _add(base: str, power: int = 1, **factors: tuple[str, str]) -> None:
    for factor, names in factors.values():
        for name in names.split():
            _BASES[name] = (base, power, Fraction(factor))


_add("metre", m=("1", "m meter metre"), cm=("1/100", "cm centimeter centimetre"), mm=("1/1000", "mm millimeter millimetre"),
     km=("1000", "km kilometer kilometre"), dm=("1/10", "dm decimeter"), foot=("0.3048", "ft foot feet"),
     inch=("0.0254", "inch inches in"), yard=("0.9144", "yd yard"), mile=("1609.344", "mi mile"))  # fmt: skip
_add("metre", 3, l=("1/1000", "L liter litre"), ml=("1/1000000", "ml mL milliliter millilitre"))
_add("second", s=("1", "s sec second"), min=("60", "min minute"), h=("3600", "h hr hrs hour"), day=("86400", "day"),
     week=("604800", "wk week"))  # fmt: skip
_add("month", month=("1", "month"), year=("12", "yr year"))
_add("gram", g=("1", "g gram"), kg=("1000", "kg kilogram"), mg=("1/1000", "mg milligram"), t=("1000000", "tonne"),
     lb=("453.59237", "lb lbs pound"), oz=("28.349523125", "oz ounce"))  # fmt: skip
_add("dollar", d=("1", "dollar USD usd"), c=("1/100", "cent ¢"))
_add("euro", e=("1", "euro EUR"))
_add(PI_180, d=("1", "degree deg"), m=("1/60", "arcminute"))
_add("percent", p=("1", "percent pct percentage"))
_COMPOUND = {"mph": "mile/hour", "kph": "km/hour", "kmh": "km/hour", "fps": "foot/second", "sqft": "foot2"}
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3, "squared": 2, "cubed": 3}
# "5 is wrong", "5 or more", "5th": no units, and what they say is more than a number.
_NO_UNITS = frozenset(
    "is are was were be not no none if or and but to at than more less least most about over under below above beyond zero negative factorial plus minus wrong right correct incorrect "
    "tenth hundredth thousandth third fourth fifth sixth seventh eighth ninth sixths sevenths eighths ninths one two three four five six seven eight nine ten eleven twelve twenty "
    "choose instead rejected approximately factorials bn mil mln x y z sqrt ln log exp sin cos tan maybe perhaps either neither only up down with without for where when th st nd rd half hundred thousand million billion trillion dozen "
    "tenths hundredths thousandths thirds halves fourths fifths lakh crore quadrillion inverse reciprocal root doubled tripled pi i e then so hence thus since because except remainder mod modulo base which that else otherwise does do has have false true error unknown impossible".split()
)  # fmt: skip
SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
_EMPTY = {"unit", "u"}
_SINGULAR = {"feet": "foot", "inches": "inch", "centuries": "century"}
PLAIN = frozenset(name for name in _BASES if len(name) > 1) | frozenset(_COMPOUND) | frozenset(_POWERS)
"""Words that are units without a ``\\text{}`` around them; one letter alone is a variable."""

_PIECE = re.compile(r"«([^»]*)»\.?|\^\{?(-?\d)\}?|(/)|(\\cdot|\s+)|(\\%|%)|(\^\{?\\circ\}?)")


@dataclass(frozen=True)
class Unit:
    """A factor times powers of base units, as sorted pairs; no powers is "unit" without a name."""

    factor: Fraction
    powers: tuple[tuple[str, int], ...]

    @property
    def nameless(self) -> bool:
        return not self.powers

    @property
    def percent(self) -> bool:
        return self.powers == (("percent", 1),)

    @property
    def degree(self) -> bool:
        return self.powers == ((PI_180, 1),)


def read_unit(text: str) -> Unit | None:
    """The unit that a text consists of, or None where it holds anything else. Words stand in «»."""
    factor = Fraction(1)
    powers: dict[str, int] = {}
    sign, ahead, position = 1, 1, 0
    last: tuple[str, int, Fraction] | None = None

    def take(name: str, base_power: int, scale: Fraction, power: int) -> None:
        nonlocal factor
        powers[name] = powers.get(name, 0) + base_power * power
        factor *= scale**power

    while position < len(text):
        piece = _PIECE.match(text, position)
        if piece is None:
            return None
        position = piece.end()
        word, exponent, slash, _, percent, circle = piece.groups()
        if slash or word == "per":
            sign, last = -1, None
        elif percent or circle:
            take("percent" if percent else PI_180, 1, Fraction(1), sign)
        elif exponent or word in ("squared", "cubed"):
            if last is None:
                return None
            take(*last[:2], last[2], sign * (int(exponent or _POWERS[word]) - 1))
            last = None
        elif word in _POWERS:
            ahead = _POWERS[word]
        elif word is not None:
            if word.lower() in _NO_UNITS or word in ("k", "M", "B"):  # thousands, millions, billions
                return None
            for name, power in _resolve(word):
                last = _BASES.get(name, (name, 1, Fraction(1)))
                take(*last, sign * ahead * power)
            ahead = 1
    if any(powers.get(name, 0) not in (0, 1) for name in ("percent", PI_180)):
        return None
    names = tuple(sorted((name, power) for name, power in powers.items() if power and name not in _EMPTY))
    return Unit(factor, names)


def _resolve(word: str) -> list[tuple[str, int]]:
    word = word if len(word) == 1 or word in _BASES else word.lower()
    if word in _COMPOUND:
        if word == "sqft":
            return [("foot", 2)]
        above, below = _COMPOUND[word].split("/")
        return [(above, 1), (below, -1)]
    if word in _BASES:
        return [(word, 1)]
    singular = _SINGULAR.get(word) or (
        word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 2 else word
    )
    return [(singular, 1)]
