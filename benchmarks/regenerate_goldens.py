"""Write tests/goldens again with the official GEM package: `python benchmarks/regenerate_goldens.py [-o folder]`.

Needs a package index on the first run, when it makes .venv-peers; then about a minute on one core. The weights are seeded,
so no checkpoint is downloaded.
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
# python -P leaves a script's folder out
sys.path.insert(0, str(HERE))

from peers.environment import peer_python  # noqa: E402

if __name__ == "__main__":
    script = HERE / "peers" / "gem_goldens.py"
    sys.exit(subprocess.run([peer_python(), script, *sys.argv[1:]], check=False).returncode)
