"""Chooses and loads the register neurons of a model."""

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fastloc.checkpoints.digests import digest
from fastloc.checkpoints.loading import Source
from fastloc.errors import ModelError
from fastloc.recipes import Recipe
from fastloc.recipes.measured import OfModel
from fastloc.recipes.register_neurons import RegisterNeurons

# the reason why registers are for ViTs
NO_TOKENS = "registers are tokens beside the patches, and other towers have the cells of a map alone"
Given = str | os.PathLike[str] | RegisterNeurons | None


class MeasuredRegisters(OfModel[RegisterNeurons]):
    """The register neurons of one model. With given neurons every method has registers, else only methods that ask; see `OfModel`."""

    def __init__(self, model: str, given: Given) -> None:
        super().__init__(RegisterNeurons, model, given)

    def applied(self, row: Recipe, changes: Mapping[str, Any], source: Source) -> Recipe:
        """The recipe with the model's neurons, and with the number of registers that it asks for, or else the number stored with them.

        Raises:
            ModelError: the recipe asks for registers and there are no neurons, or another model's.
        """
        given = self.is_given and "registers" not in changes
        if row.neurons or not (row.registers or given):
            return row
        weights = source.transformer("for test-time registers", NO_TOKENS)
        found = self.get(source.name, lambda: digest(weights))
        if found is None:
            raise ModelError(
                f"method {row.name!r} needs register neurons of {source.name}, and there are none: `fastloc registers` finds them; "
                "then give registers=FILE (--registers FILE)"
            )
        return replace(row, registers=row.registers or found.registers, neurons=found.neurons)
