import sys

from fastloc.eclip.cli import main

sys.exit(main())
