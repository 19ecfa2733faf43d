"""Write tests/goldens again with the official packages: `python benchmarks/goldens.py [-o folder]`.

Needs a package index on the first run, when it makes the peers' environment `pinned`; then about a minute on one core. The weights
are seeded, so no checkpoint is downloaded.
"""

import subprocess
import sys
from pathlib import Path

from fastloc.bench.peer_environments import python_of, set_up
from fastloc.errors import FastlocError

# each writes the goldens of its packages, and lists the cases
SCRIPTS = ("gem_vit.py", "relevance.py", "cnn.py", "transformers_models.py")

if __name__ == "__main__":
    try:
        set_up(["pinned"])
        python = python_of("pinned")
    except FastlocError as error:
        sys.exit(f"error: {error}")
    for script in SCRIPTS:
        ended = subprocess.run([python, Path(__file__).parent / "official_goldens" / script, *sys.argv[1:]], check=False)
        if ended.returncode:
            sys.exit(ended.returncode)
