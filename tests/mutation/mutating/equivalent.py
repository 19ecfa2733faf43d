"""Mutants that change nothing that can be seen: (target, mutant) -> the reason."""

from __future__ import annotations

__all__ = ["EQUIVALENT"]

_ONE_NUMBER = "`fit` refuses a size of two numbers for the fits of SHORT_SIDE, so both are the same"
_FAR_OUT = "the share is 0 or 1 in float32 from 104 on either side, and exp overflows from 709 on"
_ENDS = "an end is 1 at least"
_TWO_AXES = "of two axes, the last is axis 1"

EQUIVALENT: dict[tuple[str, str], str] = {
    ("geometry", "_aspect: size[0] → size[1]"): _ONE_NUMBER,
    ("geometry", "_own: size[0] → size[1]"): _ONE_NUMBER,
    ("geometry", "_crop: h * width < w * height → h * width <= w * height"): (
        "of equal ratios w * height / width is h and h * width / height is w, exact in floats: both branches give the input's own size"
    ),
    ("geometry", "_naflex: math.prod(size) // math.prod(patch) → math.prod(size) / math.prod(patch)"): (
        "`fit` refuses a size that the patch does not divide, so the quotient is whole"
    ),
    ("geometry", "_naflex: high - low >= NAFLEX_EPS → high - low > NAFLEX_EPS"): (
        "the widths are halves of 100 - 1e-6 again and again, 1.19e-5 and then 5.96e-6, whatever the picture: none is 1e-5"
    ),
    ("attention", "_local: count > 1 → count >= 1"): "the sum of one stream is that stream",
    ("attention", "_local: len(recipe.terms) > 1 → len(recipe.terms) >= 1"): "divided by one, every number stays",
    ("readout", "image_scores: -1 → +1"): _TWO_AXES,
    ("readout", "_surgery: -1 → +1"): _TWO_AXES,
    ("readout", "surgery_texts: -1 → +1"): _TWO_AXES,
    ("presence", "presence: (calibration.slope * logits + calibration.offset).clip(-700, 700) → (calibration.slope * logits + "
     "calibration.offset).clip(-700, 701)"): _FAR_OUT,
    ("presence", "presence: -700 → -701"): _FAR_OUT,
    ("regions", "of_runs: _each(np.maximum, belongs, runs.end if runs.down else runs.line + 1, 0) → _each(np.maximum, belongs, runs.end "
     "if runs.down else runs.line + 1, 1)"): _ENDS,
    ("regions", "of_runs: _each(np.maximum, belongs, runs.line + 1 if runs.down else runs.end, 0) → _each(np.maximum, belongs, runs.line "
     "+ 1 if runs.down else runs.end, 1)"): _ENDS,
    ("regions", "_step: runs.size[0 if runs.down else 1] + 2 → runs.size[0 if runs.down else 1] + 3"): (
        "lines that are further apart do not touch either"
    ),
    ("sam_points", "_prompt: -1 → -2"): "numpy takes every negative number as the side that follows from the others",
}  # fmt: skip
