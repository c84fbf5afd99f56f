"""Prompts with verifiable answers, as the parquet files verl reads.

    python -m recipe.asymgrpo.data procedural --out DIR --task chain_sum --train-size 2048 --val-size 1024 --seed 0

writes ``DIR/train.parquet`` and ``DIR/val.parquet``. The problems come from reasoning-gym, whose own scorer judges
the answers (``recipe/asymgrpo/reward/``): `chain_sum`, sums with one answer; `countdown`, numbers to be added and
subtracted until they make a target, mostly in several ways; or `quantum_lock`, buttons to be pressed in one of the
orders that make a number in the fewest presses. Needs ``reasoning-gym`` and ``pyarrow``
(``verl-asymgrpo[cpu]``).

    python -m recipe.asymgrpo.data prepare --out DIR                                      # from the Hugging Face hub
    python -m recipe.asymgrpo.data prepare --out DIR --local train=FILE --local math500=FILE         # without a hub

writes the paper's data (arXiv 2604.04894): the training problems of MATH and five evaluation sets, each as
``DIR/<set>.parquet``, and ``DIR/manifest.json`` with their sources, licences, row counts and sha256. Other sets
(`sources`) are made where they are named:

    python -m recipe.asymgrpo.data prepare --out DIR --sets gsm8k     # DIR/gsm8k_train.parquet, DIR/gsm8k_test.parquet

A set that is there already, as the manifest has it, is not fetched again. Needs ``pyarrow``, and ``datasets`` for the
hub (verl brings both).
"""

from recipe.asymgrpo.data.command import main, parse_local
from recipe.asymgrpo.data.files import DataError, Row, read_local, sha256_of, write_parquet
from recipe.asymgrpo.data.math_sets import fetch, prepare
from recipe.asymgrpo.data.procedural import (
    CHAT_INSTRUCTION,
    COUNTDOWN_LEVELS,
    DEFAULT_LEVELS,
    LOCK_LEVELS,
    PROMPT_STYLES,
    TASKS,
    Level,
    chain_sum_entries,
    countdown_entries,
    lock_entries,
    parse_levels,
    procedural_rows,
    prompt_of,
    split_evenly,
)
from recipe.asymgrpo.data.rows import Rejected, answer_of, math_rows, question_key
from recipe.asymgrpo.data.sources import PAPER, SETS, SPLITS, Source

__all__ = [
    "CHAT_INSTRUCTION",
    "COUNTDOWN_LEVELS",
    "DEFAULT_LEVELS",
    "LOCK_LEVELS",
    "PAPER",
    "PROMPT_STYLES",
    "SETS",
    "SPLITS",
    "TASKS",
    "DataError",
    "Level",
    "Rejected",
    "Row",
    "Source",
    "answer_of",
    "chain_sum_entries",
    "countdown_entries",
    "fetch",
    "lock_entries",
    "main",
    "math_rows",
    "parse_levels",
    "parse_local",
    "prepare",
    "procedural_rows",
    "prompt_of",
    "question_key",
    "read_local",
    "sha256_of",
    "split_evenly",
    "write_parquet",
]
