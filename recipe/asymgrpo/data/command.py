"""The command line of `python -m recipe.asymgrpo.data`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from recipe.asymgrpo.data.files import DataError, write_parquet
from recipe.asymgrpo.data.math_sets import REJECTED, prepare
from recipe.asymgrpo.data.procedural import PROMPT_STYLES, TASKS, parse_levels, procedural_rows
from recipe.asymgrpo.data.sources import SETS, SPLITS, described


def parse_local(items: Sequence[str]) -> dict[str, Path]:
    """Read ``[NAME=]FILE`` items; a file without a name is the training set.

    Raises:
        DataError: an unknown name, or one named twice.
    """
    files: dict[str, Path] = {}
    for item in items:
        name, separator, file = item.partition("=")
        # A file may have a `=` in its path: only a name of a set before it counts.
        if not separator or "/" in name or "." in name:
            name, file = "train", item
        if name in SPLITS:
            raise DataError(f"--local {item}: {name} is several sets; a file is one of {', '.join(SPLITS[name])}")
        if name not in SETS:
            raise DataError(f"--local {item}: unknown set {name!r}; one of {', '.join(SETS)}")
        if name in files:
            raise DataError(f"--local: {name} is named twice")
        files[name] = Path(file)
    return files


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m recipe.asymgrpo.data",
        description="Prompts with verifiable answers, as the parquet files verl reads.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    procedural = commands.add_parser(
        "procedural",
        help="arithmetic made by reasoning-gym",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    procedural.add_argument("--out", type=Path, required=True, help="folder for train.parquet and val.parquet")
    procedural.add_argument("--task", choices=list(TASKS), default="chain_sum", help="reasoning-gym task")
    procedural.add_argument("--train-size", type=int, default=2048, help="training prompts")
    procedural.add_argument("--val-size", type=int, default=1024, help="held-out prompts")
    procedural.add_argument("--seed", type=int, default=0)
    procedural.add_argument(
        "--levels",
        help="difficulties as TERMSxDIGITS[:WEIGHT], comma-separated (default: "
        + " or ".join(
            ",".join(f"{level}:{weight:g}" for level, weight in task.levels.items()) for task in TASKS.values()
        )
        + ", by task)",
    )
    procedural.add_argument(
        "--prompt-style",
        choices=PROMPT_STYLES,
        default="short",
        help="short: the bare problem, `12-70=`, `3 7 5=9=` or `+2a-3g*2r=17=`; chat: in words and with an instruction",
    )
    math = commands.add_parser(
        "prepare",
        help="sets of mathematics, from the hub or from files",
        description="Sets of mathematics to DIR/<set>.parquet. By default the paper's: MATH and five evaluation sets.",
        epilog=described(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    math.add_argument("--out", type=Path, required=True, help="folder for the parquet files and manifest.json")
    math.add_argument("--sets", nargs="+", metavar="NAME", help="sets to make, of the list below")
    math.add_argument(
        "--local",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="parquet, JSON lines, a JSON array or CSV from disk instead of the hub; NAME is a set of the list below "
        "(default train). Repeat it for several; without --sets, sets that are not named are not made",
    )
    math.add_argument("--force", action="store_true", help="make sets anew that are there already")
    return parser


def _procedural(args: argparse.Namespace) -> None:
    splits = procedural_rows(
        train_size=args.train_size,
        val_size=args.val_size,
        seed=args.seed,
        levels=parse_levels(args.levels) if args.levels else None,
        prompt_style=args.prompt_style,
        task=args.task,
    )
    for split, path in write_parquet(splits, args.out).items():
        print(f"{path}: {len(splits[split])} prompts, e.g. {splits[split][0]['prompt'][0]['content']!r}")


def _prepare(args: argparse.Namespace) -> None:
    sets = prepare(args.out, parse_local(args.local), args.force, args.sets)["sets"]
    for entry in sets.values():
        rejected = "".join(f", {count} rejected: {reason}" for reason, count in sorted(entry["rejected"].items()))
        print(f"{args.out / entry['file']}: {entry['rows']} prompts from {entry['source']}{rejected}")
        if licence := entry.get("licence"):
            print(f"    licence: {licence}")
    if any(entry["rejected"] for entry in sets.values()):
        print(f"rejected rows: {args.out / REJECTED}")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status (2 and one line on stderr for an error the user can mend)."""
    args = _parser().parse_args(argv)
    try:
        _procedural(args) if args.command == "procedural" else _prepare(args)
    except ModuleNotFoundError as error:
        print(f'error: {error.name} is missing: pip install "verl-asymgrpo[cpu]"', file=sys.stderr)
        return 2
    except (ValueError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: cannot write to --out {args.out}: {error}", file=sys.stderr)
        return 2
    return 0
