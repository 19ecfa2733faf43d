import sys

from fastloc.bench.cli import main

sys.exit(main())
