"""The README's badges, small SVG files of facts that the project states elsewhere: a badge cannot say more than they do."""

import tomllib
from pathlib import Path
from xml.sax.saxutils import escape

from fastloc import __version__
from fastloc.recipes import RECIPES
from fastloc.utils.atomic_write import write_text

__all__ = ["FOLDER", "badges_table", "missing_badges"]

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "assets" / "badges"
# pixels: a letter of 11 px Verdana-like type on average, the space around a text
LETTER, SPACE = 6.7, 12


def facts() -> dict[str, tuple[str, str]]:
    """File name to (label, value) of each badge."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, checks = content["project"], content["tool"]["mypy"]
    found = {
        "version": ("fastloc", __version__),
        "python": ("python", project["requires-python"].replace(">=", "≥ ")),
        "licence": ("licence", project["license"]),
        "methods": ("methods", str(len(RECIPES))),
    }
    return {**found, **({"types": ("types", "mypy strict")} if checks["strict"] else {})}


def svg(label: str, value: str) -> str:
    """One badge: the label on grey, the value on orange, 20 px high."""
    left, right = (round(len(text) * LETTER + SPACE) for text in (label, value))
    whole, label, value = left + right, escape(label), escape(value)
    style = 'font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" fill="#fff" text-anchor="middle"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" height="20" role="img" aria-label="{label}: {value}">'
        f'<clipPath id="r"><rect width="{whole}" height="20" rx="3"/></clipPath><g clip-path="url(#r)">'
        f'<rect width="{left}" height="20" fill="#4a4f57"/><rect x="{left}" width="{right}" height="20" fill="#b4390b"/></g>'
        f'<g {style}><text x="{left / 2}" y="14">{label}</text><text x="{left + right / 2}" y="14">{value}</text></g></svg>\n'
    )


def badges_table(_: object) -> str:
    """The line of badges, each with its words for those who do not see it."""
    return " ".join(f"![{label} {value}](docs/assets/badges/{name}.svg)" for name, (label, value) in facts().items()) + "\n"


def missing_badges(draw: bool) -> list[str]:
    """Badges that differ from the facts, one line each; draw: they are written first."""
    made = {FOLDER / f"{name}.svg": svg(*each) for name, each in facts().items()}
    if draw:
        FOLDER.mkdir(exist_ok=True)
        for path, content in made.items():
            write_text(path, content)
    there = {path: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.svg")}
    odd = sorted(path for path in {*made, *there} if made.get(path) != there.get(path))
    return [f"docs/assets/badges/{path.name} must state the facts of the project: run `python benchmarks/docs.py`" for path in odd]
