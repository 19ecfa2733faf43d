"""Output of `fastloc evaluate`: figures with intervals, the nearest published one beside each, and the differences between the two."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from fastloc.utils import console

if TYPE_CHECKING:
    from fastloc.evaluation.metrics.summary import Estimate
    from fastloc.evaluation.running.evaluate import Evaluated

# columns of a terminal from which on more figures than the first fit into a line
WIDE = 120


def show(found: "list[Evaluated]") -> None:
    """Print a table over the methods, the differences from the published runs, pictures that failed, and the folders."""
    from fastloc.evaluation.metrics.measures import MEASURES

    out = console.console()
    first = found[0].settings
    more = ("picture_miou", "pixel_accuracy") if first.task == "labels" else ("auc", "ap", "hit", "hit_near")
    # where there is little room, one figure, and protocols in lines of their own
    wide = out.width >= WIDE
    known = [name for name in more if wide and all(name in each.summary.figures and name != each.summary.measure for each in found)]
    main = MEASURES[found[0].summary.measure].title if found[0].summary.measure else "figure"
    # of the difference from the first
    beside = (f"less {found[0].name}" if wide else "less first", "95 % ") if len(found) > 1 else ()
    about = f", {first.pictures:,} pictures, {first.model} {first.pretrained}".rstrip()
    out.print(Text.assemble((first.data, "bold"), about if wide else f"{about}: {main}"), soft_wrap=True)
    columns = (main if wide else "%", "95 %", *(MEASURES[name].title for name in known), *beside, "published")
    rows = console.table("method", *(("protocol",) if wide else ()), *columns, right=columns)
    for each in found:
        figures = each.summary.figures
        value = figures.get(each.summary.measure)
        own = ("-", "") if value is None else (f"{value.percent:.2f}", _ends(value))
        less = change(each.difference) if each.difference else ("",) * len(beside)
        others = (f"{figures[name].percent:.2f}" for name in known)
        protocol = (_protocol(each),) if wide else ()
        rows.add_row(Text(each.name, "bold"), *protocol, *own, *others, *less, _published(each))
    out.print(rows)
    for each in () if wide else found:
        out.print(Text.assemble((each.name, "bold"), f": protocol {_protocol(each)}"), soft_wrap=True)
    for each in found:
        _tell(out, each)


def as_json(each: "Evaluated") -> dict[str, Any]:
    """Settings, figures and published figures as plain JSON values."""
    from fastloc.evaluation.protocols.differences import differences
    from fastloc.evaluation.running.published import published, ran

    run = ran(each.settings, each.summary.failed)
    others = [{**asdict(figure), "differences": differences(run, figure)} for figure in published(run, each.summary.measure)]
    difference = None if each.difference is None else asdict(each.difference)
    own = {"name": each.name, "settings": asdict(each.settings), "summary": asdict(each.summary), "difference": difference}
    return {**own, "published": others}


def change(difference: "Estimate") -> tuple[str, str]:
    """A difference in percent points with its sign, and its interval."""
    return f"{100 * difference.value:+.2f}", f"{100 * difference.low:+.2f} to {100 * difference.high:+.2f}"


def _ends(value: "Estimate") -> str:
    return f"{100 * value.low:.2f} to {100 * value.high:.2f}"


def _protocol(each: "Evaluated") -> str:
    """The paper, and fields that are not the paper's."""
    row, changed = each.settings.protocol, each.settings.changed
    return f"{row.paper} with {', '.join(f'{name}={getattr(row, name)}' for name in changed)}" if changed else row.paper


def _published(each: "Evaluated") -> str:
    from fastloc.evaluation.running.published import published, ran

    nearest = next(iter(published(ran(each.settings, each.summary.failed), each.summary.measure)), None)
    return "none" if nearest is None else f"{nearest.value:.2f}"


def _tell(out: Console, each: "Evaluated") -> None:
    """Print the source of a method's published figure, the differences from it, the method's failures, and its folder."""
    from fastloc.evaluation.protocols.differences import differences
    from fastloc.evaluation.running.published import published, ran

    run = ran(each.settings, each.summary.failed)
    for nearest in published(run, each.summary.measure)[:1]:
        out.print(Text.assemble((each.name, "bold"), f": {nearest.metric} {nearest.value:g} is of {nearest.source}, where"), soft_wrap=True)
        for line in differences(run, nearest) or ("nothing that is known differs",):
            out.print(Text(f"  {line}"), soft_wrap=True)
    for failure in each.summary.failures:
        out.print(Text.assemble((each.name, "bold"), f": failed: {failure.key}: {failure.reason}"), soft_wrap=True)
    if each.folder is not None:
        out.print(f"written: {console.shown(each.folder)}", soft_wrap=True)
