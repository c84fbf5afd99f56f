"""The command line of `python -m verl_ext.watch`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from verl_ext.watch.checkpoint import RunError
from verl_ext.watch.training import INTERRUPTS, MAX_PROBS_DIFF, interrupt, train


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m verl_ext.watch", description="Run and watch one verl training.")
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--steps", type=int, required=True, help="steps that the run has in all")
    parser.add_argument("--stall", type=float, default=600, help="seconds without a record that end the run")
    parser.add_argument(
        "--max-probs-diff",
        type=float,
        default=MAX_PROBS_DIFF,
        help="largest training/rollout_probs_diff_max; above 1 it is not checked (bfloat16 differs by itself)",
    )
    parser.add_argument(
        "--end-with-parent",
        action="store_true",
        help="the end of the process that started this is an interrupt: for scripts, whose shell a kill ends alone",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and verl's command line")
    options = parser.parse_args()
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    parent = os.getppid() if options.end_with_parent else None
    options.run.mkdir(parents=True, exist_ok=True)

    # A TERM, or a terminal that is closed, is treated like Ctrl-C: it must not leave Ray and vLLM behind.
    for number in INTERRUPTS:
        if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, interrupt)
    try:
        facts = train(options.run, options.steps, options.stall, command, options.max_probs_diff, parent)
    except KeyboardInterrupt:
        print("\nInterrupted; the same command resumes from the last checkpoint.", file=sys.stderr)
        return 130
    except RunError as error:
        print(f"\nThe run failed: {error}\nIts log: {options.run / 'train.log'}", file=sys.stderr)
        return 1
    if 0 < facts["last_step"] < options.steps:
        print(f"\nverl has ended after step {facts['last_step']} of {options.steps}, as its settings or data have it.")
    (options.run / "done.json").write_text(json.dumps(facts | {"steps": options.steps}) + "\n")
    return 0
