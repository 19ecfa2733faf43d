"""The engine of CLIP's ResNets: one tower and one recipe on one device, executed by a plan, called like
`fastloc.engine.vit_engine.Engine`.
"""

from torch import Tensor

from fastloc.engine.hierarchical.map_engine import Answer, MapEngine, MapTower
from fastloc.engine.plan import Plan
from fastloc.engine.plan_options import choose_resnet
from fastloc.functional import resnet
from fastloc.functional.similarity import Read

__all__ = ["ResNetEngine", "ResNetTower"]


class ResNetTower(MapTower):
    """A ResNet on a device in a dtype, which the engines of several recipes share."""


class ResNetEngine(MapEngine):
    """Runs one recipe on one ResNet, see `MapEngine`."""

    prepared: resnet.Prepared

    def _plan(self, batch: int, size: tuple[int, int]) -> Plan:
        return choose_resnet(self.device, self.tower.weights.spec, self.recipe, batch, size, self.settings)

    def _check(self, pixels: Tensor) -> None:
        resnet.check_pixels(pixels)

    def _prepare(self) -> resnet.Prepared:
        return resnet.prepare(self.tower.weights, self.recipe)

    def answer(self, size: tuple[int, int]) -> Answer:
        prepared, step = self.prepared, self.prepared.weights.spec.patch
        table = resnet.position_table(prepared.weights, (size[0] // step[0], size[1] // step[1]), self.recipe)

        def answer(pixels: Tensor, texts: Tensor, read: Read, cls: bool, beside: Tensor | None) -> tuple[Tensor, Tensor | None]:
            x = resnet.features(prepared.weights, pixels)
            return resnet.answer(prepared, x, table, texts, read, cls=cls, beside=beside)

        return answer
