"""Write tests/goldens again with the official GEM package: `python benchmarks/regenerate_goldens.py [-o folder] [--cases CASE …]`.

Needs a package index on the first run, when it makes the peers' environment `pinned`; then about a minute on one core. The weights
are seeded, so no checkpoint is downloaded.
"""

import subprocess
import sys
from pathlib import Path

from fastloc.bench.environments import python_of, set_up
from fastloc.errors import FastlocError

if __name__ == "__main__":
    try:
        set_up(["pinned"])
        python = python_of("pinned")
    except FastlocError as error:
        sys.exit(f"error: {error}")
    script = Path(__file__).with_name("gem_goldens.py")
    sys.exit(subprocess.run([python, script, *sys.argv[1:]], check=False).returncode)
