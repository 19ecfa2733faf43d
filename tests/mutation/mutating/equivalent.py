"""Mutants that change nothing that can be seen: (target, mutant) -> the reason."""

from __future__ import annotations

__all__ = ["EQUIVALENT"]

_ONE_NUMBER = "`fit` refuses a size of two numbers for the fits of SHORT_SIDE, so both are the same"
_ONE_MORE = "one more is computed, and the first is read"
_FAR_OUT = "the share is 0 or 1 in float32 from 104 on either side, and exp overflows from 709 on"
_ENDS = "an end is 1 at least"
_ANY_NEGATIVE = "numpy takes every negative number as the side that follows from the others"
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
    ("bilinear", "Bilinear.at: text + 1 → text + 2"): _ONE_MORE,
    ("bilinear", "Bilinear.at: row + 1 → row + 2"): _ONE_MORE,
    ("bilinear", "Bilinear.at: column + 1 → column + 2"): _ONE_MORE,
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
    ("runs", "Runs.middle: int((count * (start + end - 1)).sum()) // 2 → int((count * (start + end - 1)).sum()) / 2"): (
        "a run's count times the sum of its ends is twice the sum of its places, so it is even, and exact in floats"
    ),
    ("runs", "Runs.fill: 0 → 1"): "without a run nothing is set, and the row that is set to nothing is nothing already",
    ("runs", "Runs.columns: width + 1 → width + 2"): "lines that are further apart do not touch either",
    ("runs", "Runs.columns: -1 → -2"): _ANY_NEGATIVE,
    ("runs", "Runs.columns: (:, 0) → (:, 1)"): "a run of a column ends in it, so its end divided by the step is that column too",
    ("sam_points", "_prompt: -1 → -2"): _ANY_NEGATIVE,
    ("shares", "peaks: _bounds(corners.astype(np.float64), heat.logit_scale, margin) >= best[:, None, None] → "
     "_bounds(corners.astype(np.float64), heat.logit_scale, margin) > best[:, None, None]"): (
        "a bound is above the share that it bounds, by the factor and the least normal number: of a block with the best it is greater"
    ),
}  # fmt: skip
