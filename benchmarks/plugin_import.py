"""What loading the plugin costs each process that imports verl, beyond `verl.trainer.ppo.core_algos`.

    python benchmarks/plugin_import.py [--runs 10]

Exits 1 when the median is above 0.1 s, or when a third-party module comes along.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST_SECONDS = 0.1
OURS = {"recipe", "verl_ext"}

CHILD = """
import json, sys, time
import verl.trainer.ppo.core_algos
before = set(sys.modules)
start = time.perf_counter()
import verl_ext.plugin
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "modules": sorted(set(sys.modules) - before)}))
"""


def measure() -> tuple[float, list[str]]:
    """Seconds and new modules of one import of the plugin, in a fresh process where verl has loaded no plugin."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "VERL_USE_EXTERNAL_PLUGINS": "none", "VERL_USE_EXTERNAL_MODULES": "", "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", CHILD], env=env, stdout=subprocess.PIPE, check=True, text=True)
    report = json.loads(done.stdout.splitlines()[-1])
    return report["seconds"], report["modules"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    args = parser.parse_args()

    seconds, modules = [], set[str]()
    for _ in range(args.runs):
        elapsed, new = measure()
        seconds.append(elapsed)
        modules.update(new)
    # The allowance is core_algos; another module of verl would be a cost of ours, so it counts as foreign.
    third_party = sorted({name for name in modules if name.split(".")[0] not in OURS | sys.stdlib_module_names})
    median = statistics.median(seconds)
    passed = median <= MOST_SECONDS and not third_party
    print(f"import verl_ext.plugin, {args.runs} fresh processes: median {median:.4f} s, max {max(seconds):.4f} s")
    print("our modules:", ", ".join(sorted(name for name in modules if name.split(".")[0] in OURS)))
    print("third-party modules:", ", ".join(third_party) or "none")
    print(f"at most {MOST_SECONDS} s and no third-party module: {'ok' if passed else 'FAILED'}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
