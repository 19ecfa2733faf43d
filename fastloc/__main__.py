"""`python -m fastloc ...`, the same as the `fastloc` command."""

from fastloc.cli import main

raise SystemExit(main())
