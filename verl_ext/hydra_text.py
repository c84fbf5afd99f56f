"""Text that Hydra's override grammar must not read anything into."""

from __future__ import annotations

import re


def quoted(value: object) -> str:
    """A value for ``key=value`` on Hydra's command line that is read as this very text, such as a path with spaces,
    quotes, commas or letters of any script. `hydra` of examples/quickstart/env.sh does the same.

    Raises:
        ValueError: it has ``${`` in it, which OmegaConf takes for the beginning of an interpolation.
    """
    text = str(value)
    if "${" in text:
        raise ValueError(f"{text}: Hydra cannot read ${{ in a value; use another name")
    # A backslash means itself but before a quote, where it is doubled.
    return "'" + re.sub(r"(\\*)('|$)", lambda match: match[1] * 2 + ("\\'" if match[2] else ""), text) + "'"
