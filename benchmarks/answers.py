"""Runs pairs of answers through the mathematics reward, and lists each verdict that differs from what is expected.

    python benchmarks/answers.py PAIRS.jsonl            # lines with gold, pred, right
    python benchmarks/answers.py --math-verify [DIR]    # math-verify's own tests; fetched where no DIR is given

math-verify's tests have answers in prose as well. The reward takes what is in the box: a text without one is given as a
box of its only formula, or of all of it. Exits 1 where a wrong answer is accepted that docs/reward.md does not name.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # from a checkout that is not installed

from recipe.asymgrpo.reward import compute_score

Pair = tuple[str, str, bool]
_FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<!\\)\$([^$]+)(?<!\\)\$|\\\[(.+?)\\\]|\\\((.+?)\\\)", re.DOTALL)


def pairs_of(path: Path) -> Iterator[Pair]:
    """The pairs of a file of JSON lines."""
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        yield row["gold"], row["pred"], bool(row["right"])


def pairs_of_math_verify(folder: Path) -> Iterator[Pair]:
    """The parameters (gold, pred, expected) of its tests; those with a setting `strict` are left out."""
    for path in sorted(folder.glob("**/tests/test_*.py")):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.path.insert(0, str(path.parents[1]))  # they import each other
        for loaded in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
            del sys.modules[loaded]
        try:
            spec.loader.exec_module(module)
        finally:
            sys.path.pop(0)
        for name, test in sorted(vars(module).items()):
            for mark in getattr(test, "pytestmark", []) if name.startswith("test_") else []:
                if mark.name != "parametrize":
                    continue
                names = re.findall(r"\w+", mark.args[0]) if isinstance(mark.args[0], str) else list(mark.args[0])
                if names[:2] != ["gold", "pred"] or "strict" in names:
                    continue
                for values in mark.args[1]:
                    yield str(values[0]), str(values[1]), bool(values[2])


def formula(text: str) -> str:
    """A box's content, the only formula of a text, or all of it."""
    if "\\boxed" in text:
        return text
    found = [next(group for group in match.groups() if group) for match in _FORMULA.finditer(text)]
    return found[0] if len(found) == 1 and "\\$" not in text else text


def source(version: str, folder: Path) -> Path:
    """math-verify's source distribution, unpacked."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "-q", "-d", str(folder)]
    subprocess.run([*command, f"math-verify=={version}"], check=True)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pairs", type=Path, nargs="?")
    parser.add_argument("--math-verify", type=Path, nargs="?", const=Path(), metavar="DIR")
    parser.add_argument("--version", default="0.9.0", help="of math-verify (default: %(default)s)")
    options = parser.parse_args()
    if (options.pairs is None) == (options.math_verify is None):
        parser.error("give a file of pairs, or --math-verify")
    with tempfile.TemporaryDirectory() as folder:
        if options.pairs is not None:
            pairs = list(pairs_of(options.pairs))
        else:
            given = options.math_verify
            pairs = list(pairs_of_math_verify(given if given != Path() else source(options.version, Path(folder))))
    counts: Counter[tuple[bool, bool]] = Counter()
    reasons: Counter[str] = Counter()
    for gold, pred, right in pairs:
        response = formula(pred)
        response = response if "\\boxed" in response else f"\\boxed{{{response}}}"
        found = compute_score("math", response, formula(gold) or gold)
        accepted = found["score"] == 1.0
        counts[right, accepted] += 1
        if accepted != right:
            reasons[("accepted: " if accepted else "refused: ") + found["why"]] += 1
            print(f"{'accepted' if accepted else 'refused '} {gold!r} | {pred!r}: {found['why']}")
    wrongs, rights = (counts[side, False] + counts[side, True] for side in (False, True))
    print(
        f"{len(pairs)} pairs: {counts[False, True]} of {wrongs} wrong ones accepted, "
        f"{counts[True, False]} of {rights} right ones refused"
    )
    for reason, count in reasons.most_common():
        print(f"{count:5d} {reason}")
    return int(counts[False, True] > 0)


if __name__ == "__main__":
    sys.exit(main())
