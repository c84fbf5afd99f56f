r"""math-verify's parser (latex2sympy2_extended), held to what it was given: all of the text, or nothing."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from recipe.asymgrpo.reward.notation import NotRead


@lru_cache(maxsize=512)
def parse(latex: str) -> Any:
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig, _Latex2Sympy
    from sympy import Basic, E, I, Symbol, nan, zoo

    config = ConversionConfig(interpret_as_mixed_fractions=False, lowercase_symbols=False)
    converter = _Latex2Sympy(is_real=None, convert_degrees=False, config=config)
    try:
        parser = converter.create_parser(latex)
        tree = parser.math()
        if parser.getCurrentToken().type != -1 or not tree.set_elements():
            raise NotRead(latex)
        value = converter.convert_set_elements(tree.set_elements())
        if not isinstance(value, Basic):
            raise NotRead(latex)
        value = (
            value.subs({Symbol("i"): I, Symbol("e"): E})
            if not value.has(Symbol("i")) or "\\sum" not in latex
            else value
        )
        value = value.doit()
    except (MemoryError, NotRead):
        raise
    except Exception as error:
        raise NotRead(f"{latex}: {error!r:.80}") from None
    if not hasattr(value, "is_number") or value.has(nan, zoo):
        raise NotRead("no value")
    return value
