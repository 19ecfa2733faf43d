"""Two results, compared field by field."""

import dataclasses

import numpy as np

from fastloc import Result


def same(found: Result, expected: Result, tolerance: float = 0) -> None:
    """Fail unless every field is equal, arrays within a tolerance."""
    for field in dataclasses.fields(Result):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        assert type(one) is type(other), field.name
        if isinstance(other, np.ndarray):
            assert one.dtype == other.dtype and np.allclose(one, other, rtol=0, atol=tolerance), field.name
        else:
            assert one == other, field.name
