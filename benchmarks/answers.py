"""Runs pairs of answers through the mathematics reward, and lists each verdict that differs from what is expected.

    python benchmarks/answers.py PAIRS.jsonl            # lines with gold, pred, right
    python benchmarks/answers.py --math-verify [DIR]    # math-verify's own tests; fetched where no DIR is given

math-verify's tests have answers in prose as well. The reward takes what is in the box: a text without one is given as a
box of its only formula, or of all of it. With each verdict that differs from theirs stands why. Exits 1 where a wrong
answer is accepted, or a verdict differs from math-verify's tests that nothing here explains.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import types
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # from a checkout that is not installed

from recipe.asymgrpo.reward import compute_score

Pair = tuple[str, str, bool]
# Where a verdict differs from the tests of math-verify 0.9.0, and why: digests of gold and answer.
EXPLAINED = {
    "prose or too long, and no box: no number is searched for in it": "08887c28 08a7755b 0a3904de 1171b36d "
    "377e609b 3c5ffe60 4056ca6f "
    "417487a4 4b3430db 51810ce7 59fc042b 7969a6e9 7be1f577 806bf1e1 "
    "830fa345 894f01bc 8bead268 9bfd0a9f a32c2db5 c2c1dbd2 f900f141",
    "a decimal for an exact gold": "3aec4fe7 5d1ac883 a80dae55",
    "a decimal comma: it separates thousands, or answers": "30d9a004 844bba46 d0b567d7",
    "a sum for a number: left to do": "46fb95d9",
    "a chain with a false member: theirs takes the last": "73b72945 9f05bcaf cdf4de65 fb8f0eb2",
    "another number of answers, or boxes far apart": "276bdec8 3fc31056 7602ebbc 9fc3ed9e c5429253 cc4b9205",
    "not read: an unknown macro, |z| as a variable, a box that does not close": "1bfb27b6 3006156e 57f9e973 a3cbd21c",
    "sums and products of matrices are not worked out": "a8d2b035 f11d379b",
    "terms that depend on an index, in another order": "1512252b",
    "their test keeps a fault on record: the answer is wrong": "ba922da0",
    "their extraction is tested, not the value: line breaks between dollars": "61ac8733 97216daf",
    "a setting of theirs: an inequality is its interval here": "04f5b470",
}
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
        # They import each other as `tests`, a name that other distributions have, too.
        package = types.ModuleType("tests")
        package.__path__ = [str(path.parent)]
        for loaded in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
            del sys.modules[loaded]
        sys.modules["tests"] = package
        spec.loader.exec_module(module)
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
    explained = {digest: why for why, digests in EXPLAINED.items() for digest in digests.split()}
    counts: Counter[tuple[bool, bool]] = Counter()
    reasons: Counter[str] = Counter()
    for gold, pred, right in pairs:
        response = formula(pred)
        response = response if "\\boxed" in response else f"\\boxed{{{response}}}"
        found = compute_score("math", response, formula(gold) or gold)
        accepted = found["score"] == 1.0
        counts[right, accepted] += 1
        if accepted != right:
            why = explained.get(hashlib.sha256(f"{gold}\0{pred}".encode()).hexdigest()[:8], "not explained")
            reasons[f"{'accepted' if accepted else 'refused'}: {why}"] += 1
            print(f"{'accepted' if accepted else 'refused '} {gold!r} | {pred!r}: {found['why']} ({why})")
    wrongs, rights = (counts[side, False] + counts[side, True] for side in (False, True))
    print(
        f"{len(pairs)} pairs: {counts[False, True]} of {wrongs} wrong ones accepted, "
        f"{counts[True, False]} of {rights} right ones refused"
    )
    for reason, count in reasons.most_common():
        print(f"{count:5d} {reason}")
    return int(any("not explained" in reason for reason in reasons) if options.math_verify else counts[False, True] > 0)


if __name__ == "__main__":
    sys.exit(main())
