"""Properties of what is read and written: a round trip gives the same, and other input is one clear FastlocError or a valid answer.

Hypothesis draws structured inputs, `tests/fuzz` damages bytes. Examples are the same in every run, and a failure prints the smallest one.
"""

import argparse
import json
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastloc.errors import FastlocError, ModelError, TextError
from fastloc.imaging.axis_sampling import bilinear, sample
from fastloc.imaging.geometry import FITS, fit
from fastloc.live.limits import MOMENT, Limits, Violation
from fastloc.live.messages import Asked, Ping, Refused, Seen, read_words, written
from fastloc.live.protocol import Answer, Sent, read_answer, read_frame, write_answer, write_frame
from fastloc.live.settings import Settings, changed
from fastloc.onnx_file.manifest import Manifest
from fastloc.recipes import RECIPES, recipe
from fastloc.results.result import Result
from fastloc.results.wire import Located, to_wire
from fastloc.text.cleaning import CLEANERS, clean
from fastloc.text.prompts import checked
from fastloc.utils import argument_types
from fastloc.utils.schema import decode
from structured import CHANGES, JSON, NAMES, SIDES, TEXT, manifests, results, some

FEW, MANY = 15, 200
Property = tuple[Callable[..., None], Mapping[str, st.SearchStrategy[Any]]]
PROPERTIES: dict[str, Property] = {}


def holds(**drawn: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Put a property into the table, with what is drawn for its arguments."""

    def kept(function: Callable[..., None]) -> Callable[..., None]:
        PROPERTIES[function.__name__] = function, drawn
        return function

    return kept


def check(name: str, examples: int) -> None:
    function, drawn = PROPERTIES[name]
    how = settings(derandomize=True, database=None, deadline=None, max_examples=examples, suppress_health_check=list(HealthCheck))
    how(given(**drawn)(function))()


def one_line(error: BaseException) -> None:
    """The message of an error on purpose: there is one, and it is one line that can be printed."""
    text = str(error)
    assert text.strip() and "\n" not in text and "Traceback" not in text
    text.encode()


# geometry


@holds(
    picture=st.tuples(st.integers(-1, 300), SIDES), cells=st.tuples(st.integers(0, 6), st.integers(1, 6)), patch=st.integers(1, 9),
    name=some(*FITS), data=st.data(),
)  # fmt: skip
def a_fit_is_a_geometry_or_an_error(picture: Any, cells: Any, patch: int, name: str, data: Any) -> None:
    odd = data.draw(st.sampled_from([0, 0, 0, 1]))
    try:
        geometry = fit(picture, (cells[0] * patch + odd, cells[data.draw(st.integers(0, 1))] * patch), patch, name)
    except FastlocError as error:
        one_line(error)
        return
    rows, columns = geometry.grid(patch)
    assert (rows * patch, columns * patch) == geometry.input
    points = np.array([[0, 0], [picture[1], picture[0]], [0.5, 0.5]])
    np.testing.assert_allclose(geometry.to_picture(geometry.to_input(points)), points, rtol=0, atol=1e-9)
    grid = rows, columns
    for axis, matrix, inside, seen in zip(
        geometry.sampling(grid), geometry.resampling(grid), geometry.covered(), geometry.seen(grid), strict=True
    ):
        assert matrix.shape == (len(axis.lower), axis.cells) and inside.start < inside.stop and seen.start < seen.stop
        whole = np.zeros(len(matrix))
        whole[inside] = 1
        np.testing.assert_allclose(matrix.sum(1), whole, rtol=0, atol=1e-12)
        assert matrix.min() >= 0 and not np.delete(matrix, np.arange(axis.cells)[seen], 1).any()


@holds(at=st.lists(st.floats(-20, 20), min_size=1, max_size=20), cells=st.integers(1, 9), pixels=st.integers(1, 40), values=st.data())
def an_axis_is_its_matrix(at: list[float], cells: int, pixels: int, values: Any) -> None:
    axis = sample(np.sort(np.array(at)), cells, slice(0, len(at)), slice(0, cells))
    cell = np.array(values.draw(st.lists(st.floats(-1, 1), min_size=cells, max_size=cells)))
    mixed = (1 - axis.weight) * cell[axis.lower] + axis.weight * cell[axis.upper]
    np.testing.assert_allclose(axis.matrix() @ cell, mixed, rtol=0, atol=1e-12)
    # between the values of its cells, and monotone where these are
    assert cell.min() - 1e-12 <= mixed.min() and mixed.max() <= cell.max() + 1e-12
    assert (np.diff(axis.matrix() @ np.sort(cell)) >= -1e-12).all()
    np.testing.assert_allclose(bilinear(cells, pixels), bilinear(cells, pixels)[::-1, ::-1], rtol=0, atol=1e-12)


# recipes, manifests, results


@holds(name=some(*sorted(RECIPES)), changes=CHANGES, official=st.booleans())
def a_recipe_is_valid_or_refused(name: str, changes: dict[str, Any], official: bool) -> None:
    try:
        row = recipe(name, official=official, **changes)
    except FastlocError as error:
        one_line(error)
        return
    # a valid row is hashable, and the same once more
    assert recipe(name, official=official, **changes) == row and hash(row.at_scale(50.0)) == hash(row.at_scale(50.0))
    assert row.depth and row.score_scale(20.0) > 0


@holds(manifest=manifests())
def a_manifest_is_read_as_it_was_written(manifest: Manifest) -> None:
    text = manifest.dumps()
    json.loads(text, parse_constant=pytest.fail)
    # a whole number may come back as 1.0
    assert Manifest.loads(text) == manifest


@holds(manifest=manifests(), key=st.data(), value=JSON)
def a_changed_manifest_is_valid_or_refused(manifest: Manifest, key: Any, value: Any) -> None:
    content = json.loads(manifest.dumps())
    part = content if key.draw(st.booleans()) else content[key.draw(st.sampled_from(("model", "recipe", "input", "texts")))]
    part[key.draw(st.sampled_from(sorted(part)))] = value
    try:
        found = Manifest.loads(json.dumps(content))
    except ModelError as error:
        one_line(error)
        return
    assert Manifest.loads(found.dumps()) == found


@holds(result=results(), threshold=st.floats(0, 1))
def a_result_is_the_same_at_the_other_end(result: Result, threshold: float) -> None:
    text = json.dumps(to_wire(result, threshold), allow_nan=False)
    found = decode(text, Located, "the answer").result(result.picture, result.name)
    assert found.to_dict(threshold) == result.to_dict(threshold) and found.similarity.tobytes() == result.similarity.tobytes()
    assert found.points() == result.points() and found.geometry == result.geometry
    np.testing.assert_array_equal(found.heatmaps, result.heatmaps)


@holds(result=results(), key=st.data(), value=JSON)
def a_changed_answer_is_a_result_or_an_error(result: Result, key: Any, value: Any) -> None:
    content = json.loads(json.dumps(to_wire(result)))
    part = content if key.draw(st.booleans()) else content[key.draw(st.sampled_from(("geometry", "readout", "similarity")))]
    part[key.draw(st.sampled_from(sorted(part)))] = value
    try:
        found = decode(json.dumps(content), Located, "the answer").result(result.picture)
    except FastlocError as error:
        one_line(error)
        return
    assert len(found.texts) == len(found.similarity)


# messages of the live page


FIELDS = some("time", "texts", "methods", "maps", "smooth", "boxes", "background", "threshold")


@holds(kind=some("ping", "seen", "settings"), fields=st.dictionaries(FIELDS, JSON | st.lists(some("gem", "a cat"), max_size=2), max_size=3))
def a_message_is_read_or_refused(kind: str, fields: dict[str, Any]) -> None:
    try:
        found = read_words(json.dumps({**fields, "type": kind}))
        assert isinstance(found, (Ping, Seen, Asked))
        now = Settings(("a cat",), ("gem",))
        after = changed(now, found.requested, Limits(), ("gem", "naclip")) if isinstance(found, Asked) else now
    except (Violation, Refused) as error:
        one_line(error)
        return
    # what is taken over is JSON, and is taken again
    asked = json.loads(written({"type": "settings", **after.to_dict()}))
    again = read_words(json.dumps(asked))
    assert isinstance(again, Asked) and changed(now, again.requested, Limits(), ("gem", "naclip")) == after


@holds(value=JSON)
def whatever_is_written_is_json(value: Any) -> None:
    json.loads(written({"value": value}).decode(), parse_constant=pytest.fail)


@holds(number=st.integers(0, 2**32 - 1), time=st.floats(-MOMENT, MOMENT), side=st.integers(0, 2**16 - 1), picture=st.binary(max_size=20))
def a_frame_is_read_as_it_was_sent(number: int, time: float, side: int, picture: bytes) -> None:
    assert read_frame(write_frame(Sent(number, time, side, picture))) == Sent(number, time, side, picture)


@holds(
    shape=st.tuples(*[st.integers(0, 3)] * 4), facts=st.dictionaries(NAMES, NAMES), picture=st.binary(max_size=9), cut=st.integers(0, 40)
)  # fmt: skip
def an_answer_is_read_as_it_was_sent(shape: tuple[int, ...], facts: dict[str, Any], picture: bytes, cut: int) -> None:
    heat = np.arange(np.prod(shape)).astype(np.uint8).reshape(shape)
    message = write_answer(Answer(facts, heat, picture))
    found = read_answer(message)
    assert found.facts == {**facts, "shape": list(shape)} and found.picture == picture
    np.testing.assert_array_equal(found.heat, heat)
    if cut:
        with pytest.raises(Violation) as raised:
            read_answer(message[:-cut])
        one_line(raised.value)


@holds(message=st.binary(max_size=40))
def bytes_are_a_message_or_refused(message: bytes) -> None:
    for read in (read_frame, read_answer):
        try:
            read(message)
        except Violation as error:
            one_line(error)


# texts and arguments


@holds(texts=TEXT | st.lists(TEXT | st.text(st.characters(categories=("Cs", "Ll")), max_size=4), max_size=3))
def texts_are_prompts_or_refused(texts: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = checked(texts)
        except TextError as error:
            one_line(error)
            return
    assert len(found) == (1 if isinstance(texts, str) else len(texts)) and all(text and text == text.strip() for text in found)
    "".join(found).encode()
    assert checked(found) == found


@holds(text=st.text(max_size=30) | st.text("&;<>#x3a \n\t\ud83d\ude00’ﬁ", max_size=20), kind=st.sampled_from(sorted(CLEANERS)))
def a_cleaned_text_has_single_spaces(text: str, kind: str) -> None:
    found = clean(text, kind)
    assert found == " ".join(found.split()) and not any(letter in found for letter in "\n\t\r")


ARGUMENTS = (
    argument_types.size, argument_types.count, argument_types.setting, argument_types.inv_temp, argument_types.pair, argument_types.prompt,
    argument_types.sides, argument_types.count_or_auto, argument_types.count_or_dynamic, argument_types.span(argument_types.size),
)  # fmt: skip


@holds(text=TEXT | st.text("0123456789x×:=.e-autodynamic²٣", max_size=9) | st.just("9" * 5000), read=st.sampled_from(ARGUMENTS))
def an_argument_is_a_value_or_one_line(text: str, read: Callable[[str], Any]) -> None:
    try:
        found = read(text)
    except argparse.ArgumentTypeError as error:
        one_line(error)
        return
    assert found is None or found


@holds(height=SIDES, width=SIDES)
def a_size_is_read_as_it_is_written(height: int, width: int) -> None:
    assert argument_types.size(f"{height}x{width}") == argument_types.pair(f"{height}×{width}") == (height, width)
    assert argument_types.size(str(height)) == height and argument_types.sides(str(width)) == (width, width)


@pytest.mark.parametrize("read", [argument_types.size, argument_types.pair, argument_types.count, argument_types.count_or_auto])
def test_thousands_of_digits_are_no_number(read: Callable[[str], Any]) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="must be") as raised:
        read("9" * 5000)
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize("name", PROPERTIES)
def test_it_holds(name: str) -> None:
    check(name, FEW)


@pytest.mark.slow("many examples of each property")
@pytest.mark.parametrize("name", PROPERTIES)
def test_it_holds_for_many(name: str) -> None:
    check(name, MANY)
