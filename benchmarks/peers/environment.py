"""The peers' own Python environment, made on first use: their pins (open_clip 2.23) and fastloc's exclude each other."""

import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / ".venv-peers"
REQUIREMENTS = Path(__file__).with_name("requirements-gem.txt")


def peer_python() -> Path:
    """The interpreter of .venv-peers, after making it or bringing it up to the pins. The first call downloads torch (minutes)."""
    python = FOLDER / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp, pins = FOLDER / "installed-pins.txt", REQUIREMENTS.read_text()
    if not (stamp.exists() and stamp.read_text() == pins):
        print(f"making {FOLDER.name} from {REQUIREMENTS.name} …", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", FOLDER], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", REQUIREMENTS], check=True)
        stamp.write_text(pins)
    return python
