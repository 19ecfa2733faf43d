"""Write tests/goldens again with the official packages: `python benchmarks/goldens.py [-o folder]`.

Needs a package index on the first run, when it makes the peers' environments `pinned` and `mmseg`; then about two minutes on one core.
The weights are seeded, so no checkpoint is downloaded.
"""

import subprocess
import sys
from pathlib import Path

from fastloc.bench.peer_environments import python_of, set_up
from fastloc.errors import FastlocError

# each writes the goldens of its packages, and lists the cases; the environment it runs in
SCRIPTS = {
    "gem_vit.py": "pinned", "relevance.py": "pinned", "cnn.py": "pinned", "transformers_models.py": "pinned", "mmseg_metrics.py": "mmseg",
}  # fmt: skip

if __name__ == "__main__":
    try:
        set_up(sorted(set(SCRIPTS.values())))
        pythons = {name: python_of(name) for name in SCRIPTS.values()}
    except FastlocError as error:
        sys.exit(f"error: {error}")
    for script, environment in SCRIPTS.items():
        ended = subprocess.run([pythons[environment], Path(__file__).parent / "official_goldens" / script, *sys.argv[1:]], check=False)
        if ended.returncode:
            sys.exit(ended.returncode)
