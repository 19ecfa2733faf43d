"""The page of one run: its figures beside published ones, classes, confusions, best and worst pictures, and the run's settings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from fastloc.evaluation.metrics.summary import Confusion
from fastloc.evaluation.report.charts import bar, strip
from fastloc.evaluation.report.content import Published, RunContent, Shown, exact, worth
from fastloc.evaluation.report.numbers import counted, evaluated, interval, percent, signed
from fastloc.evaluation.report.pictures import fitting
from fastloc.evaluation.report.sections import Markup, facts, name, section, table, whole_page
from fastloc.imaging.html_page import picture_element

__all__ = ["page"]

# rows of a list
MOST_CLASSES = 400
# marks beside the run's own on the strip
MOST_MARKS = 6
NO_CLASS = "no class"
# above so many classes, the list has two columns
FEW = 12
_ORDER = Markup("""<script>
for (const button of document.querySelectorAll(".order button")) button.addEventListener("click", () => {
  const list = document.getElementById(button.dataset.list), key = button.dataset.key;
  const value = row => key === "name" ? row.dataset.name : -Number(row.dataset[key]);
  const rows = [...list.children].sort((a, b) => key === "name" ? value(a).localeCompare(value(b)) : value(a) - value(b));
  list.append(...rows);
  for (const each of button.parentElement.children) each.setAttribute("aria-pressed", String(each === button));
});
</script>""")


def page(content: RunContent) -> str:
    """The page, HTML in UTF-8, below 3 MB; all text from outside is escaped."""
    parts = [("figures", "Figures", _headline(content))] if content.figures else []
    if content.published:
        parts.append(("published", "Beside published figures", _published(content)))
    if content.classes:
        parts.append(("classes", "Classes", _classes(content)))
    if content.confusions:
        parts.append(("confusions", "Confusions", _confusions(content.confusions)))
    if content.shown:
        parts.append(("pictures", "Pictures", _pictures(content.shown)))
    if content.failures:
        parts.append(("failures", "Not evaluated", _failures(content)))
    parts.append(("run", "What ran", section("run", "What ran", "", facts(content.facts, content.changed))))
    lead = Markup(f"{name(content.model)} · protocol {name(content.protocol)} · {escape(evaluated(content))}")
    heading = Markup(f"{name(content.method)} on {name(content.data)}")
    return whole_page(f"{content.method} on {content.data}", heading, lead, parts)


def _headline(content: RunContent) -> str:
    first, *others = content.figures
    ends = interval(first.estimate)
    about = f"95 % interval {ends}, standard error {percent(first.estimate.error, 2)}, by a bootstrap over pictures" if ends else ""
    marks = [(f"{row.method} {row.model} {percent(row.value, 2)}", row.value) for row in content.published[:MOST_MARKS]]
    drawn = "" if math.isnan(first.estimate.value) else strip(first.estimate, f"this run {percent(first.estimate.value, 2)}", marks)
    tiles = "".join(
        f"<div><dt>{escape(each.name)}</dt><dd>{percent(each.estimate.value, 2)} %<small>{escape(interval(each.estimate))}</small>"
        f"<small>{escape(each.about)}</small></dd></div>"
        for each in others
    )
    return f"""<div class="headline" id="figures">
<p class="big"><span>{escape(first.name)}</span><b>{percent(first.estimate.value, 2)}<small>%</small></b><i>{escape(about)}</i>
<i>{escape(first.about)}</i></p>
<div>{drawn}</div>
</div>
{f'<dl class="tiles">{tiles}</dl>' if tiles else ""}
"""


def _published(content: RunContent) -> str:
    measure = content.figures[0]
    own = measure.estimate.value
    ends = f"<small>{escape(interval(measure.estimate))}</small>"
    rows: list[Sequence[str]] = [
        (Markup(f"{name(content.method)}<small>this run</small>"), name(content.model), name(content.protocol),
         Markup(f"{percent(own, 2)}{ends}"), "", evaluated(content))
    ]  # fmt: skip
    rows += [
        (name(row.method), name(row.model), _noted(row), percent(row.value, 2), signed(own - row.value, 2), name(row.source))
        for row in content.published
    ]
    heads = (("method", False), ("model", False), ("protocol", False), (f"{measure.name} %", True), ("this run less it", True),
             ("source", False))  # fmt: skip
    reasons = "".join(f"<li>{escape(each)}</li>" for each in content.differences)
    why = f'<h3>Where this run differs from the first published row</h3><ul class="reasons">{reasons}</ul>' if reasons else ""
    about = "Published figures as printed, of the authors' own code; they bear no interval. The first is the nearest to this run."
    return section("published", "Beside published figures", about, table(heads, rows, own=0) + why)


def _noted(row: Published) -> Markup:
    return Markup(f"{name(row.protocol)}<small>{name(row.note)}</small>" if row.note else name(row.protocol))


def _classes(content: RunContent) -> str:
    lines = sorted(content.classes, key=lambda each: worth(each.estimate), reverse=True)
    shown = lines if len(lines) <= MOST_CLASSES else [*lines[: MOST_CLASSES // 2], *lines[-MOST_CLASSES // 2 :]]
    rest = f" The best and the worst {MOST_CLASSES // 2} of {len(lines)} classes; result.json has all." if len(shown) < len(lines) else ""
    rows = "".join(
        f'<li data-value="{worth(each.estimate)}" data-share="{each.share}" data-name="{escape(each.name[:80])}">'
        f'<span class="name" title="{escape(each.name[:400])}, {percent(each.share, 2)} % of what is counted">{name(each.name)}</span>'
        f'{bar(each.estimate)}<span class="number value">{percent(each.estimate.value)}</span>'
        f'<span class="number ends">{escape(interval(each.estimate))}</span></li>\n'
        for each in shown
    )
    buttons = "".join(
        f'<button type="button" data-list="class-list" data-key="{key}" aria-pressed="{"true" if key == "value" else "false"}">'
        f"{escape(words)}</button>"
        for key, words in (("value", f"by {content.per_class}"), ("share", "by frequency"), ("name", "by name"))
    )
    about = f"{content.per_class} of each class in percent, with its 95 % interval over pictures.{rest}"
    columns = "rows two" if len(shown) > FEW else "rows"
    body = f'<div class="order">{buttons}</div><ul class="{columns}" id="class-list">\n{rows}</ul>{_ORDER}'
    return section("classes", "Classes", about, body)


def _confusions(found: Sequence[Confusion]) -> str:
    top = max(each.share for each in found)
    rows = "".join(
        f'<li><span class="name">{name(each.true)} <span class="to">→</span> {name(each.predicted or NO_CLASS)}</span>'
        f'{bar(exact(each.share), max(top, 1e-9))}'
        f'<span class="number value" title="{each.pixels:,} pixels">{percent(each.share)} %</span></li>\n'
        for each in found
    )
    about = "True class → predicted class, by the number of pixels; the bar is the share of the true class's pixels."
    return section("confusions", "Confusions", about, f'<ul class="rows pairs two">\n{rows}</ul>')


def _pictures(shown: Sequence[Shown]) -> str:
    files = iter(fitting([panel.picture for each in sorted(shown, key=lambda each: each.best) for panel in each.panels]))
    parts = []
    for best, title in ((False, "Worst"), (True, "Best")):
        cards = "".join(_card(each, [next(files) for _ in each.panels]) for each in shown if each.best is best)
        parts.append(f'<h3>{title}</h3><div class="cards">{cards}</div>' if cards else "")
    about = "By the picture's own figure. "
    if any(each.legend for each in shown):
        about += "Each class has one colour, what is outside them is grey; pixels that no metric counts are left as they are."
    else:
        about += "Of each picture one question: the worst of a bad one, the best of a good one. A ring marks the map's peak."
    return section("pictures", "Pictures", about, "\n".join(parts))


def _card(shown: Shown, files: Sequence[tuple[bytes, tuple[int, int]]]) -> str:
    figures = "".join(
        f"<figure><figcaption>{escape(panel.caption)}</figcaption>"
        f"{picture_element(content, size, f'{panel.caption} of {shown.key[:200]}', 'WEBP')}</figure>"
        for panel, (content, size) in zip(shown.panels, files, strict=True)
    )
    legend = "".join(f'<li style="--colour: rgb{colour}">{name(text)}</li>' for text, colour in shown.legend)
    notes = f'<p class="note">{escape("; ".join(shown.notes))}</p>' if shown.notes else ""
    return (
        f'<article><h4>{name(shown.key)}<span class="number">{percent(shown.value)} %</span></h4><div class="panels">{figures}</div>'
        f'{f"<ul class=legend>{legend}</ul>" if legend else ""}{notes}</article>\n'
    )


def _failures(content: RunContent) -> str:
    rest = content.failed - len(content.failures)
    more = f" The first {len(content.failures)}; rows.jsonl has all." if rest > 0 else ""
    about = f"{counted(content.failed, 'picture')} could not be used; no figure counts them.{more}"
    rows = [(name(each.key), name(each.reason)) for each in content.failures]
    return section("failures", "Not evaluated", about, table((("picture", False), ("why", False)), rows))
