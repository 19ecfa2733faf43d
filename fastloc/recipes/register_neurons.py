"""Register neurons found in one model, in a file: made once by `fastloc registers`, refused by another model's image tower."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fastloc.errors import ModelError
from fastloc.recipes.measured import Measured
from fastloc.recipes.schema import NeuronTable
from fastloc.recipes.validation import NEURONS, is_neuron_table
from fastloc.utils.schema import count, one_line

__all__ = ["RegisterNeurons"]

# tokens that a file may ask for
MOST = 64


@dataclass(frozen=True)
class RegisterNeurons(Measured):
    """The neurons that write outliers into patches; the fields of `Measured` name the model and the pictures that they were found in.

    Attributes:
        neurons: see `fastloc.recipes.Recipe`
        registers: the number of tokens that take them over
        outliers: the rule by which tokens were taken for outliers, in words
        tokens: the number of these outliers, in all pictures together
    """

    WHAT: ClassVar[str] = "register neurons"
    NAME: ClassVar[str] = "registers"
    COMMAND: ClassVar[str] = "registers"

    neurons: NeuronTable
    registers: int
    outliers: str
    tokens: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.neurons or not is_neuron_table(self.neurons):
            raise ModelError(f"neurons must be {NEURONS}, at least one")
        count("registers", self.registers, MOST)
        count("tokens", self.tokens, 1 << 40)
        one_line("outliers", self.outliers)
