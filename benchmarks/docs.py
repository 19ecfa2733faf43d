"""Write the generated tables and plots of the README and of docs from the records.

    python benchmarks/docs.py           # write them
    python benchmarks/docs.py --check   # exit 1 and say which page or table is out of date, which plot is missing
"""

import sys
from pathlib import Path

# python -P leaves a script's folder out
if str(Path(__file__).resolve().parent) not in sys.path:
    sys.path.insert(0, str(Path(__file__).resolve().parent))

from doc_tables.pages import main

if __name__ == "__main__":
    sys.exit(main())
