r"""Numbers with their units, bases and decimals: which differences count."""

from __future__ import annotations

from typing import Any

from recipe.asymgrpo.reward.nodes import Scalar
from recipe.asymgrpo.reward.numeric import same_value


def verdict(equal: bool | None) -> str:
    return "equal value" if equal else "different value"


def scalars(gold: Scalar, given: Scalar) -> str:
    if gold.base or given.base:
        return _based(gold, given)
    unit, other = gold.unit, given.unit
    value, answer = gold.value, given.value
    if (
        unit == other
        or (unit is None and other is not None and other.nameless)
        or (other is None and unit is not None and unit.nameless)
    ):
        return verdict(_same_number(gold, given))
    if unit is not None and other is not None:
        if unit.nameless or other.nameless:
            return verdict(_same_number(gold, given))
        if unit.powers != other.powers:
            return "unit differs"
        factor = _rational(other.factor / unit.factor)
        return (
            "equal value"
            if same_value(value, answer * factor)
            else "unit differs"
            if same_value(value, answer)
            else "different value"
        )
    return _one_unit(gold, given)


def _one_unit(gold: Scalar, given: Scalar) -> str:
    """One side has a unit: a missing unit is forgiven, and percent and degrees have a value without one, too."""
    from sympy import Rational, pi

    unit = gold.unit or given.unit
    assert unit is not None
    share = Rational(1, 100) if unit.percent else pi / 180 if unit.degree else None
    if share is not None:
        value, answer = (node.value * share if node.unit else node.value for node in (gold, given))
        if same_value(value, answer):
            return "equal value"
        if unit.percent and not (gold.value.is_Rational and given.value.is_Rational):
            return "unit differs"
        bare = gold.value if gold.unit is None else None
        if unit.percent and bare is not None and bare.is_number and bool(abs(bare) <= 1) and bare != 0:
            return "unit differs"
    return verdict(_same_number(gold, given))


def _based(gold: Scalar, given: Scalar) -> str:
    if gold.base and not given.base:
        digits = str(given.value) if given.value is not None and given.value.is_Integer else ""
        return "equal value" if gold.digits == digits and given.unit is None else "base differs"
    if gold.base != given.base:
        return "base differs"
    return "equal value" if gold.digits == given.digits else "different value"


def _rational(value: Any) -> Any:
    from sympy import Rational

    return Rational(value.numerator, value.denominator)


def _same_number(gold: Scalar, given: Scalar) -> bool:
    if same_value(gold.value, given.value):
        return True
    # A gold with four digits or more behind which there was a longer number: what rounds to it. With three the answer
    # is exact and has no end, and the gold's last digit is no 0 or 5, which are likely to be the end of it.
    if not gold.decimals or not given.value.is_number or not given.value.is_real or not gold.value.is_Rational:
        return False
    digits = len(str(abs(int(gold.value * 10**gold.decimals))))
    exact = given.decimals is None and not (given.value.is_Rational and _terminates(given.value.q))
    if exact and digits == 3 and given.value.is_Rational and gold.value * 10**gold.decimals % 5 == 0:
        return False
    if digits < (3 if exact else 4) or (given.decimals is not None and given.decimals <= gold.decimals):
        return False
    if given.decimals is None and not exact:
        return False
    scaled = abs(gold.value - given.value) * 10**gold.decimals
    return bool(scaled * 2 <= 1)


def _terminates(denominator: int) -> bool:
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return denominator == 1
