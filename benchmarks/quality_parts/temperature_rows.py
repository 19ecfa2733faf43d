"""Rows of the study of temperatures, as data."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

PUBLISHED = ("itsm", "gem", "clip_surgery", "naclip")
ALL = ("vv", "kk", "qq")


@dataclass(frozen=True)
class Row:
    """One way to choose temperatures, and what else differs.

    kind: a published method; "number" (one inverse temperature for all), "matched" (solved for every picture) or "table".
    size, made_at: the model's input while judging, and while the table was measured.
    source, pictures: what the table is measured on, "" for the set's usual one, and how many.
    order: of the map, "" for the method's own.
    pooled: axes of the table [blocks, heads, streams, passes] that are replaced by their geometric mean.
    """

    kind: str = "table"
    sweep: str = ""
    label: str = ""
    rho: float = 0.7
    blocks: int = 6
    iterations: int = 0
    residual: bool = False
    terms: tuple[str, ...] = ALL
    number: float = 0.0
    source: str = ""
    pictures: int = 6
    size: int = 0
    made_at: int = 0
    pooled: tuple[int, ...] = ()
    order: str = ""

    def at(self, sizes: tuple[int, ...]) -> int:
        """The usual size of a set."""
        return sizes[0] if len(sizes) == 2 else sizes[1]

    def to_dict(self, name: str) -> dict[str, Any]:
        """The fields that identify the row in the record."""
        return {"set": name, "sweep": self.sweep, "label": self.label, "residual": self.residual}

    def details(self) -> dict[str, Any]:
        """The row's other fields of the record, most of them only where a temperature was chosen."""
        if self.kind in PUBLISHED:
            return {"size": self.size}
        names = ("blocks", "iterations", "terms", "size")
        measured = {"table": ("rho", "made_at", "pictures"), "matched": ("rho",), "number": ("number",)}[self.kind]
        return {name: getattr(self, name) for name in (*names, *measured)}


DEFAULT = Row()
POOLED = {
    "per block, head, stream, pass": (), "per block, stream, pass": (1,), "per block, head, pass": (2,), "per block, pass": (1, 2),
    "per head, stream, pass": (0,), "one number for the model": (0, 1, 2, 3),
}  # fmt: skip
RHOS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7)
# the value of the first trial, which the sweep over iterations keeps to
TRIAL = 0.35
NUMBERS = (2.5, 5.0, 10.0, 20.0, 40.0)


def rows(name: str, sizes: tuple[int, ...], layers: int) -> Iterator[Row]:
    """The rows of a set, in the order in which they are measured."""
    usual = DEFAULT.at(sizes)
    for row in _rows(name, sizes, layers):
        size = row.size or usual
        yield replace(row, size=size, made_at=row.made_at or size)


def _rows(name: str, sizes: tuple[int, ...], layers: int) -> Iterator[Row]:
    yield from (Row(method, "published", method, residual=method in ("gem", "clip_surgery")) for method in PUBLISHED)
    yield Row("naclip", "published", "naclip, min-max of cosines", order="picture")
    for residual in (False, True):
        yield from (Row("table", "iterations", str(each), rho=TRIAL, iterations=each, residual=residual) for each in range(3))
        yield from (Row("table", "rho", f"{rho:g}", rho=rho, iterations=1, residual=residual) for rho in RHOS)
        yield from (Row("table", "rho, no iteration", f"{rho:g}", rho=rho, residual=residual) for rho in (*RHOS, 0.8, 0.9))
    yield from (Row("number", "number, no iteration", f"{each:g}", number=each) for each in NUMBERS)
    yield from (Row("number", "number", f"{each:g}", number=each, iterations=1) for each in NUMBERS)
    own = "unrelated scenes" if name == "embedded" else "the other photographs"
    sources = (own, "photographs", "scenes", "noise")
    yield from (Row("table", "source", each, source=each, pictures=12 if each == own else 6) for each in sources)
    yield from (Row("table", "blocks", str(each), blocks=each) for each in range(1, min(9, layers) + 1))
    yield from (Row("table", "pooled", label, pooled=axes) for label, axes in POOLED.items())
    yield from (Row("table", "pictures", str(each), pictures=each) for each in (1, 2, 3, 6, 12))
    yield from (Row("table", "streams", " ".join(terms), terms=terms) for terms in _subsets())
    for size in (sizes[0], sizes[-1]):
        yield from (
            Row("table", "size", f"judged at {size}, measured at {made_at}", size=size, made_at=made_at, pictures=3)
            for made_at in (sizes[0], sizes[-1])
        )
        yield Row("gem", "size", f"judged at {size}, official", size=size, residual=True)
        yield Row("number", "size", f"judged at {size}, 5 everywhere", size=size, number=5.0)
    yield from (Row("matched", "rho, solved for every picture", f"{rho:g}", rho=rho) for rho in (0.35, 0.5, 0.7))


def _subsets() -> list[tuple[str, ...]]:
    return [("vv",), ("kk",), ("qq",), ("vv", "kk"), ("vv", "qq"), ("kk", "qq"), ALL]
