"""Runs one verl training in a run folder and watches it: progress, failures, stalls, memory.

    python -m verl_ext.watch --run DIR --steps N [--stall SECONDS] [--max-probs-diff X] -- COMMAND...

COMMAND is verl's own ``python -m verl.trainer.main_ppo ...``; its output goes to ``DIR/train.log``, its metrics (verl's
``file`` logger) to ``DIR/metrics-K.jsonl``, one file for each start, because the logger empties the file it opens.
Ends the run, with a diagnosis, when rollout and trainer disagree about the policy or when nothing moves any more.
"""
