"""The models that the parts run: a small one, whose pictures take longer to decode than to locate in, and one that takes longer itself."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Model:
    """A model as the command line takes it, and its input (height, width) for a picture of 1920 x 1080."""

    name: str
    pretrained: str | None
    input: tuple[int, int]
    # further options of the command line
    options: tuple[str, ...] = ()
    weights: str = "trained"

    @property
    def arguments(self) -> list[str]:
        return ["--model", self.name, *(["--pretrained", self.pretrained] if self.pretrained else []), *self.options]


# ViT-B-16 at the size that it was trained at: at GEM's 448 a picture takes this kind of machine seconds
MODELS = {
    model.name: model
    for model in (
        Model("ViT-B-16", "random", (224, 224), ("--size", "224"), "random"),
        Model("embedded", None, (96, 168)),
    )
}
