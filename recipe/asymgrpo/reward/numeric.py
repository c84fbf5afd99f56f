"""Equality of two sympy expressions: exact where both are rational, else at a precision that follows their size.

With variables both are evaluated at points: two analytic expressions that agree at a few points that nobody chose to
suit them agree everywhere. Points where either is not real are left out, so that a root may be written either way.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

POINTS = 5
MAX_DIGITS = 3000
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)


def same_value(left: Any, right: Any) -> bool:
    """Whether two expressions have the same value for all values of their variables."""
    if left == right:
        return not left.has(_nan())
    if left.is_Rational and right.is_Rational:
        return False
    names = left.free_symbols | right.free_symbols
    if not names:
        return _close(left, right)
    if _is_polynomial(left) and _is_polynomial(right):
        return (left - right).expand() == 0
    return _agree(left, right, sorted(names, key=str))


def proportional(left: Any, right: Any, *, positive: bool = False) -> bool:
    """Whether left = c * right for one constant c, not 0 (above 0 if `positive`): the same equation (inequality)."""
    names = sorted(left.free_symbols | right.free_symbols, key=str)
    if not names or left.free_symbols != right.free_symbols:
        return False
    for point in _points(names):
        above, below = left.subs(point), right.subs(point)
        if not _usable(above) or not _usable(below) or _close(below, 0 * below):
            continue
        factor = above / below
        if _close(factor, 0 * factor) or (positive and not (factor.is_positive or factor.evalf(30) > 0)):
            return False
        return same_value(left, factor * right)
    return False


def compare(left: Any, right: Any) -> int:
    """-1, 0 or 1; both must be real numbers or infinite.

    Raises:
        TypeError: they are not.
    """
    if same_value(left, right):
        return 0
    return -1 if bool(left < right) else 1


def determinant(rows: list[list[Any]]) -> Any:
    """Of a square matrix, of at most 4 rows.

    Raises:
        ValueError: it is none.
    """
    from sympy import Matrix

    if not 0 < len(rows) <= 4:
        raise ValueError("a determinant of that size")
    return Matrix(rows).det()


def infinity(sign: int) -> Any:
    from sympy import oo

    return oo if sign > 0 else -oo


def _nan() -> Any:
    from sympy import nan

    return nan


def _is_polynomial(value: Any) -> bool:
    return (
        bool(value.is_polynomial())
        and value.count_ops() < 60
        and all(p.exp.is_Integer and p.exp <= 12 for p in value.atoms(_pow()))
    )


def _pow() -> Any:
    from sympy import Pow

    return Pow


def _agree(left: Any, right: Any, names: list[Any]) -> bool:
    from sympy import I

    is_complex = left.has(I) or right.has(I)
    rooted = _has_roots(left)
    agreed = 0
    for whole in (False, True):
        for point in _points(names, whole):
            a, b = left.subs(point), right.subs(point)
            if not _usable(a) or not _usable(b):
                continue
            if not is_complex and not (_is_real(a) and _is_real(b) and _in_domain(left, point)):
                continue
            if not is_complex and rooted and not _in_domain(right, point):  # sqrt(xy) is sqrt(x) sqrt(y) where both are
                continue
            if not _close(a, b):
                return False
            agreed += 1
        if agreed >= POINTS - 2:
            return True
    # No sum, integral or root that can be evaluated: what sympy can show.
    from sympy import simplify

    return agreed == 0 and (left.doit() - right.doit() == 0 or simplify(left - right) == 0)


def _points(names: list[Any], whole: bool = False) -> list[dict[Any, Any]]:
    from sympy import Rational

    points = []
    for number in range(2 * POINTS + POINTS // 2 + 1):
        point = {}
        for place, name in enumerate(names):
            prime = _PRIMES[(3 * number + 5 * place) % len(_PRIMES)]
            if whole:
                point[name] = Rational(2 + (number * (place + 1) + 3 * place) % (5 + 2 * len(names)))
            else:
                value = Fraction(prime * 7 + 3 * number + 1, 10 + 3 * place + number)
                last = number >= 2 * POINTS  # small and below 0, for what is real in (-1, 1) only
                value = value / 16 if last or number % 3 == 1 else value
                value = -value if last or number % 3 == 2 else value
                point[name] = Rational(value.numerator, value.denominator)
        points.append(point)
    return points


def _usable(value: Any) -> bool:
    from sympy import nan, oo, zoo

    if value.has(nan, zoo, oo, -oo):
        return False
    number = value if value.is_Rational else value.evalf(20)
    return (
        bool(number.is_number)
        and not number.has(nan, zoo, oo)
        and bool(number.is_comparable or number.as_real_imag()[0].is_comparable)
    )


def _in_domain(value: Any, point: dict[Any, Any]) -> bool:
    """Whether no root and no logarithm in it is of a negative number."""
    from sympy import Pow, log

    for part in value.atoms(Pow, log):
        if isinstance(part, log) or not part.exp.subs(point).is_integer:
            inner = part.args[0].subs(point)
            if inner.is_number and inner.is_extended_negative:
                return False
    return True


def _has_roots(value: Any) -> bool:
    from sympy import Pow, log

    return any(
        part.free_symbols and (isinstance(part, log) or (part.exp.is_Rational and not part.exp.is_Integer))
        for part in value.atoms(Pow, log)
    )


def _is_real(value: Any) -> bool:
    if value.is_real is not None:
        return bool(value.is_real)
    real, imaginary = value.evalf(30).as_real_imag()
    return bool(abs(imaginary) <= 1e-20 * (1 + abs(real)))


def _close(left: Any, right: Any) -> bool:
    """Whether two numbers agree, at a precision that their difference could not hide behind."""
    from sympy import oo, zoo

    if left == right:
        return True
    if (left.is_Rational and right.is_Rational) or left in (oo, -oo, zoo) or right in (oo, -oo, zoo):
        return False
    digits = 60 + _size(left) + _size(right)
    if digits > MAX_DIGITS:
        return False
    a, b = left.evalf(digits + 20), right.evalf(digits + 20)
    scale = max(abs(a), abs(b))
    difference = abs(a - b)
    if left == 0 or right == 0:  # one is exactly nothing: the other must be shown to be
        other = right if left == 0 else left
        return bool(scale < 10**-digits) and (other.equals(0) is not False)
    return bool(difference <= scale * _ten(-digits))


def _ten(power: int) -> Any:
    from sympy import Float

    return Float(10, 30) ** power


def _size(value: Any) -> int:
    """Digits of all numbers that stand in it, powers of numbers worked out."""
    from sympy import Float, Pow, Rational, exp, factorial

    digits = 0
    for part in value.rewrite(exp).atoms(Rational, Pow, factorial, exp):  # sinh, tanh as well
        if part.is_Rational:
            digits += len(str(abs(part.p))) + len(str(part.q))
        elif part.is_number and not part.has(Float):
            size = abs(part.evalf(15))
            if size.is_comparable and size != 0:
                exponent = size._mpf_[2] + size._mpf_[3] if hasattr(size, "_mpf_") else 0
                digits += min(abs(exponent) // 3, MAX_DIGITS)
    return digits
