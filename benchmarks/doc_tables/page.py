"""Blocks of a page that are generated: a table stands between `<!-- table: NAME -->` and `<!-- end -->`."""

import re

__all__ = ["BLOCK"]

BLOCK = re.compile(r"(?P<start><!-- table: (?P<name>[\w-]+) -->\n)(?P<body>.*?)(?P<end><!-- end -->)", re.DOTALL)
