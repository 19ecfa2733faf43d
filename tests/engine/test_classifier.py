"""CAM, Grad-CAM, Grad-CAM++ and LayerCAM of classifiers: against the `grad-cam` package's stored answers, autograd, and each other."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from fastloc.checkpoints import classifiers
from fastloc.checkpoints.classifier_split import Split
from fastloc.cli import main
from fastloc.engine.classifier_localizer import METHODS, CnnLocalizer
from fastloc.errors import FastlocError, FastlocWarning, ModelError, RecipeError, TextError
from fastloc.functional.methods import cam
from fastloc.imaging.geometry import fit
from fastloc.imaging.heatmaps import heatmaps
from fastloc.reference.resnet import cam_map
from official_goldens.cnn import CASES, network, pixels
from repo import GOLDENS
from towers import error

CLASSES = ("cat", "dog", "hen", "cow", "Hen house")


class Tiny(nn.Module):
    """Two convolutions with BatchNorm, an activation in place, global average pooling and one linear layer."""

    def __init__(self, head: str = "linear") -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(8)
        self.body = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU(inplace=True))
        self.fc = nn.Linear(12, 5)
        self.hidden = nn.Linear(12, 12) if head == "mlp" else nn.Identity()
        generator = torch.Generator().manual_seed(3)
        for name, tensor in self.state_dict().items():
            if tensor.is_floating_point():
                drawn = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(drawn + 0.5 if name.endswith(("running_var", "norm.weight")) else 2 * drawn - 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)), inplace=True)
        return self.fc(F.relu(self.hidden(self.body(x).mean((2, 3)))))


class Moody(Tiny):
    """One that decides by values, so that it cannot be traced."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * 2 if float(x.detach().mean()) > 100 else x)


def noise(batch: int = 2, size: tuple[int, int] = (24, 40), dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


def picture(height: int = 40, width: int = 56) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def maps_of(module: nn.Module, layer: str | None, x: Tensor, classes: list[int], call: Any = cam.grad_cam) -> Tensor:
    cut = Split(module, layer, x[:1]).to(x.device, x.dtype)(x, grad=True)
    return call(cut.features, cut.outputs, classes)


def literal(module: nn.Module, layer: str, x: Tensor, classes: list[int], name: str, eps: float = 0.0) -> Tensor:
    """The reference's maps, a picture and a class at a time. The features must not be negative, as behind a ReLU."""
    cut = Split(module, layer, x[:1])(x, grad=True)
    assert cut.features.min() >= 0
    rows = []
    for picture, index in product(range(len(x)), classes):
        (gradient,) = torch.autograd.grad(cut.outputs[picture, index], cut.features, retain_graph=True)
        rows.append(cam_map(cut.features.detach()[picture], gradient[picture], name, eps))
    return torch.stack(rows).unflatten(0, (len(x), len(classes)))


def by_autograd(module: nn.Module, layer: str, x: Tensor, classes: list[int]) -> Tensor:
    """Grad-CAM a picture and a class at a time, the layer's output caught by a hook, as others do it."""
    rows = []
    for one in x:
        row = []
        for index in classes:
            kept: list[Tensor] = []
            handle = module.get_submodule(layer).register_forward_hook(lambda _m, _i, out, kept=kept: kept.append(out) or out.clone())
            with torch.enable_grad():
                y = module(one[None].clone().requires_grad_())[0, index]
            handle.remove()
            (gradient,) = torch.autograd.grad(y, kept[0])
            row.append(torch.relu((gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1)[0]).detach())
        rows.append(torch.stack(row))
    return torch.stack(rows)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_maps_are_the_package_s(case: Any) -> None:
    with np.load(GOLDENS / f"grad_cam_cnn_{case.name}.npz") as file:
        golden = {key: file[key] for key in file.files}
    assert json.loads(str(golden["meta"]))["layer"] == case.layer
    module, x, classes = network(case.model, case.seed), pixels(case), list(case.classes)
    if case.method == "GradCAMPlusPlus":
        # of the reference: the package's formula has a term more
        found = literal(module, case.layer, x, classes, "grad-cam++", 1e-6)
    else:
        found = maps_of(module, case.layer, x, classes, cam.layer_cam if case.method == "LayerCAM" else cam.grad_cam)
    expected = torch.from_numpy(golden["maps"])
    assert found.dtype == torch.float64
    gap = error(found, expected)
    assert gap < 1e-12, f"{case.name} {tuple(expected.shape)}: {gap:.1e}"
    # the package resizes in float32
    drawn = np.stack([heatmaps(each.numpy(), fit(case.size, case.size, 1), "picture") for each in found])
    worst = np.abs(drawn - golden["heatmaps"]).max()
    assert worst < 1e-6, f"{case.name}: heatmaps differ by {worst:.1e}"


def test_every_golden_is_there() -> None:
    assert {f"grad_cam_cnn_{case.name}" for case in CASES} == {path.stem for path in GOLDENS.glob("grad_cam_cnn_*.npz")}


MODELS = {
    "tiny": lambda: Tiny().double(),
    "torchvision": lambda: network("torchvision:resnet18", 0),
    "timm": lambda: network("timm:resnet18", 0),
}


@pytest.mark.parametrize("name", MODELS)
def test_grad_cam_is_the_positive_part_of_cam_over_the_positions(name: str) -> None:
    """On global average pooling and one linear layer dy_c/df_k is W_ck / (h w) everywhere."""
    x = noise(2, (64, 96))
    split = Split(MODELS[name](), None, x[:1])
    cut, classes = split(x, grad=True), [0, 3, 4]
    of_weights = cam.cam(cut.features, split.head(x[:1]), classes).detach()
    positions = of_weights.shape[2] * of_weights.shape[3]
    assert error(cam.grad_cam(cut.features, cut.outputs, classes), torch.relu(of_weights) / positions) < 1e-13
    # the mean of a map is its class's logit but for the bias
    head = [each for each in split.module.modules() if isinstance(each, nn.Linear)][-1]
    assert error(of_weights.mean((2, 3)) + head.bias[classes], cut.outputs[:, classes].detach()) < 1e-12


@pytest.mark.parametrize("kind", [Tiny, Moody])
@pytest.mark.parametrize(
    ("call", "name"), [(cam.grad_cam, "grad-cam"), (cam.grad_cam_plus_plus, "grad-cam++"), (cam.layer_cam, "layer-cam")]
)
def test_the_maps_of_gradients_are_the_reference_s(call: Any, name: str, kind: type[Tiny]) -> None:
    module, x, classes = kind("mlp").double().eval(), noise(3), [1, 4, 1]
    assert error(maps_of(module, "body", x, classes, call), literal(module, "body", x, classes, name)) < 1e-12


def test_of_a_mean_and_one_layer_layer_cam_leaves_negative_weights_out() -> None:
    """There a channel has one gradient everywhere, w / P: Grad-CAM++ has the weight P r / (2 + S r), r = ReLU(w / P)."""
    features, weight = torch.rand(2, 6, 3, 4, dtype=torch.float64, requires_grad=True), torch.randn(5, 6, dtype=torch.float64)
    outputs, classes = features.mean((2, 3)) @ weight.T, [0, 3]
    rising, stage = torch.relu(weight[classes] / 12), features.detach()
    assert error(cam.layer_cam(features, outputs, classes), torch.einsum("tk,bkhw->bthw", rising, stage)) < 1e-13
    outputs = features.mean((2, 3)) @ weight.T
    shares = 12 * rising / (2 + stage.sum((2, 3))[:, None] * rising)
    assert error(cam.grad_cam_plus_plus(features, outputs, classes), torch.einsum("btk,bkhw->bthw", shares, stage)) < 1e-13


@pytest.mark.parametrize("layer", ["stem", "norm", "body.0", "body.1", "body"])
@pytest.mark.parametrize("kind", [Tiny, Moody])
def test_any_layer_is_autograd_s(kind: type[Tiny], layer: str) -> None:
    module, x = kind("mlp").double().eval(), noise()
    assert Split(module, layer, x[:1]).hooked == (kind is Moody)
    assert error(maps_of(module, layer, x, [1, 4, 1]), by_autograd(module, layer, x, [1, 4, 1])) < 1e-12


@pytest.mark.parametrize("layer", ["layer2.0.conv1", "layer3.1", "maxpool"])
def test_any_layer_of_a_resnet(layer: str) -> None:
    module, x = network("torchvision:resnet18", 0), noise(1, (64, 64))
    assert error(maps_of(module, layer, x, [5, 700]), by_autograd(module, layer, x, [5, 700])) < 1e-11


@pytest.mark.parametrize("kind", [Tiny, Moody])
def test_the_module_given_is_left_as_it_was(kind: type[Tiny]) -> None:
    module = kind()
    module.train()
    module.norm.eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    flags = [each.training for each in module.modules()]
    localizer = CnnLocalizer(module, layer="body", categories=CLASSES, size=(24, 40))
    first = localizer(picture(), "dog")
    assert flags == [each.training for each in module.modules()]
    assert all(parameter.requires_grad and parameter.grad is None for parameter in module.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    for each in (*module.modules(), *localizer.split.module.modules()):
        assert not each._forward_hooks and not each._forward_pre_hooks and not each._backward_hooks
    # a copy is held
    with torch.no_grad():
        module.fc.weight.zero_()
    assert np.array_equal(localizer(picture(), "dog").similarity, first.similarity)


def test_a_hook_is_removed_after_an_error() -> None:
    split = Split(Moody(), "body", noise(1, dtype=torch.float32))
    with pytest.raises(RuntimeError):
        split(torch.zeros(1, 4, 24, 40))
    assert not any(each._forward_hooks for each in split.module.modules())


def test_no_graph_is_kept_before_the_layer() -> None:
    x = noise(1, dtype=torch.float32)
    cut = Split(Tiny(), "body", x)(x.requires_grad_(), grad=True)
    assert cut.features.is_leaf and cut.outputs.requires_grad
    (gradient,) = torch.autograd.grad(cut.outputs.sum(), x, allow_unused=True)
    assert gradient is None


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model", ["torchvision:resnet18", "timm:resnet18", "tiny"])
def test_the_call(model: str, method: str) -> None:
    source: Any = Tiny() if model == "tiny" else model
    names = ("hen", "0", "Cow") if model == "tiny" else ("tabby cat", "281", "Tench")
    kwargs: dict[str, Any] = {"categories": CLASSES} if model == "tiny" else {"weights": "random"}
    localizer = CnnLocalizer(source, method=method, size=(64, 96), batch=2, **kwargs)
    pictures = [picture(), picture(90, 30), picture()]
    results = localizer(pictures, names)
    for result, one in zip(results, pictures, strict=True):
        assert result.texts == names and result.method == method and result.geometry.input == (64, 96)
        assert result.heatmaps.shape == (3, one.height, one.width) and 0 <= result.heatmaps.min() <= result.heatmaps.max() <= 1
        assert result.scores is not None and (result.scores > 0).all() and (result.scores < 1).all()
        if method != "cam":
            assert result.similarity.min() >= 0
        alone = localizer(one, names)
        assert np.allclose(alone.similarity, result.similarity, rtol=0, atol=3e-6 * np.abs(result.similarity).max())
    if model != "tiny":
        assert error(torch.from_numpy(results[0].similarity[0]), torch.from_numpy(results[0].similarity[1])) < 1e-6, "281 is the tabby cat"


def test_a_map_lies_over_the_picture() -> None:
    """A class that looks for one colour is found where that colour is."""

    class Red(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 4, 4, bias=False)
            self.fc = nn.Linear(2, 2, bias=False)
            with torch.no_grad():
                self.conv.weight.zero_()
                self.conv.weight[0, 0], self.conv.weight[1, 2] = 1 / 16, 1 / 16
                self.fc.weight.copy_(torch.eye(2))

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.conv(x).mean((2, 3)))

    pixels = np.zeros((80, 160, 3), np.uint8)
    pixels[50:70, 120:140, 0] = 255
    pixels[10:30, 20:40, 2] = 255
    localizer = CnnLocalizer(Red(), method="cam", categories=("red", "blue"), size=(32, 64), mean=(0.0,) * 3, std=(1.0,) * 3)
    red, blue = localizer(pixels, ["red", "blue"]).points()
    assert (abs(red.x - 130) <= 6 and abs(red.y - 60) <= 6) and (abs(blue.x - 30) <= 6 and abs(blue.y - 20) <= 6)


def test_random_weights_are_seeded_and_leave_the_caller_s_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with pytest.warns(FastlocWarning, match="random weights"):
        one = classifiers.load("timm:resnet10t").module
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(one.fc.weight, classifiers.load("timm:resnet10t", "random").module.fc.weight)


def test_weights_from_a_file(tmp_path: Path) -> None:
    state = network("timm:resnet10t", 4).float().state_dict()
    torch.save(state, tmp_path / "w.pt")
    assert torch.equal(classifiers.load("timm:resnet10t", tmp_path / "w.pt").module.fc.weight, state["fc.weight"])
    with pytest.raises(ModelError, match=r"another architecture: 'conv1.weight' of .* must have shape \[64, 3, 7, 7\], got"):
        classifiers.load("timm:resnet18", str(tmp_path / "w.pt"))


def test_dtypes() -> None:
    every = [str(index) for index in range(5)]
    single, double = (CnnLocalizer(Tiny(), dtype=dtype, size=(24, 40))(picture(), every).similarity for dtype in ("float32", "float64"))
    assert 0 < np.abs(single - double).max() < 1e-5 * np.abs(double).max()


@pytest.mark.parametrize(
    ("message", "kwargs"),
    [
        ("unknown torchvision classifier 'resnet5': did you mean 'resnet50'", {"model": "torchvision:resnet5"}),
        ("unknown classifier library 'tochvision': did you mean 'torchvision'", {"model": "tochvision:resnet18"}),
        ("unknown timm classifier 'resnet19': did you mean 'resnet18'", {"model": "timm:resnet19"}),
        ("unknown resnet18 tag 'V1'", {"model": "torchvision:resnet18", "weights": "V1"}),
        ("unknown resnet10t tag 'c3': did you mean|unknown resnet10t tag 'c3'", {"model": "timm:resnet10t", "weights": "c3"}),
        ("weights file 'nowhere.pt' does not exist", {"model": "timm:resnet10t", "weights": "nowhere.pt"}),
        ("'gem': known classifier methods: cam, grad_cam, grad_cam_plus_plus, layer_cam", {"model": Tiny(), "method": "gem"}),
        ("unknown layer 'bodi': did you mean 'body'", {"model": Tiny(), "layer": "bodi"}),
        (r"layer 'fc' must give a spatial output \[B, K, h, w\], got \[1, 5\]", {"model": Tiny(), "layer": "fc"}),
        ("Moody cannot be traced, so its last stage is not known: give layer, such as 'body.0'", {"model": Moody()}),
        ("Moody has another head: it cannot be traced", {"model": Moody(), "method": "cam", "layer": "body"}),
        ("Tiny has another head: its last linear layer does not read the mean of 'body'; method 'grad_cam' can",
         {"model": Tiny("mlp"), "method": "cam"}),
        ("does not read the mean of 'stem'", {"model": Tiny(), "method": "cam", "layer": "stem"}),
        ("another head", {"model": "torchvision:mobilenet_v3_small", "weights": "random", "method": "cam", "size": 64}),
        ("last convolution of VisionTransformer is not its last stage", {"model": "timm:vit_tiny_patch16_224", "weights": "random"}),
        ("no convolution with a spatial output", {"model": nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 40, 2))}),
        (r"Identity must give logits \[B, C\], got \[1, 3, 24, 40\]", {"model": nn.Sequential(nn.Conv2d(3, 3, 1)), "layer": "0"}),
        ("weights must be left out for a module", {"model": Tiny(), "weights": "random"}),
        ("unknown dtype 'float31'", {"model": Tiny(), "dtype": "float31"}),
        ("unknown fit", {"model": Tiny(), "fit": "squeeze"}),
    ],
)  # fmt: skip
def test_what_cannot_be_built(message: str, kwargs: dict[str, Any]) -> None:
    if isinstance(kwargs["model"], nn.Module):
        kwargs = {"size": (24, 40), **kwargs}
    with pytest.raises((ModelError, RecipeError, FastlocError), match=message.replace("Identity must", "Sequential must")) as caught:
        CnnLocalizer(**kwargs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hem", "unknown Tiny class 'hem': did you mean 'hen'"), ("5", "class must be one of Tiny's 5, 0 to 4, got 5"), ("", "empty"),
        ("-1", "unknown Tiny class '-1'"),
    ],
)  # fmt: skip
def test_texts_that_name_no_class(text: str, message: str) -> None:
    with pytest.raises(TextError, match=message):
        CnnLocalizer(Tiny(), categories=CLASSES, size=(24, 40))(picture(), ["cat", text])


def test_imagenet_names() -> None:
    classifier = classifiers.load("torchvision:resnet18", "random")
    assert classifier.indices(["tabby", "Tabby Cat", "281", "crane bird"], 1000) == [281, 281, 281, 134]
    with pytest.raises(TextError, match=r"'crane', which names several.*134 \(crane bird\), 517 \(crane\)"):
        classifier.indices(["crane"], 1000)
    with pytest.raises(TextError, match="did you mean 'tabby cat'") as caught:
        classifier.indices(["taby cat"], 1000)
    assert len(str(caught.value)) < 300


def test_a_class_without_a_name_is_an_index() -> None:
    localizer = CnnLocalizer(Tiny(), size=(24, 40))
    assert localizer(picture(), "4").texts == ("4",)
    with pytest.raises(TextError, match="class must be an index, 0 to 4"):
        localizer(picture(), "cat")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cam.cam(torch.zeros(1, 2, 3, 3), torch.zeros(4, 3), [0]), r"got \[1, 2, 3, 3\] and \[4, 3\]"),
        (lambda: cam.cam(torch.zeros(1, 2, 3, 3), torch.zeros(4, 2), [4]), "class must be one of the classifier's 4, 0 to 3, got 4"),
        (lambda: cam.cam(torch.zeros(1, 2, 3, 3), torch.zeros(4, 2), []), "classes must be one or more"),
        (lambda: cam.grad_cam(torch.zeros(1, 2, 3, 3), torch.zeros(1, 4), [0]), "carry no gradient"),
        (lambda: cam.grad_cam(torch.zeros(1, 2), torch.zeros(1, 4), [0]), r"must be \[B, K, h, w\] and \[B, C\], got \[1, 2\]"),
        (lambda: cam.grad_cam(torch.zeros(1, 2, 3, 3).requires_grad_(), torch.zeros(1, 4).requires_grad_() * 2, [0]), "do not depend"),
    ],
)
def test_the_functions_refuse(call: Any, message: str) -> None:
    with pytest.raises(FastlocError, match=message):
        call()


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture().save(tmp_path / "a.png")
    base = ["locate", str(tmp_path / "a.png"), "--model", "timm:resnet10t", "--pretrained", "random", "--size", "64"]
    assert main([*base, "-t", "tabby cat", "--method", "cam", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["pictures"]
    assert found["method"] == "cam" and found["model"] == "timm:resnet10t/random" and found["texts"][0]["text"] == "tabby cat"
    assert main([*base, "-t", "tabby cat", "-o", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "a.grad_cam.png").is_file()
    capsys.readouterr()
    for extra, message in (
        (["-t", "taby cat"], "did you mean 'tabby cat'"), (["-t", "1", "--template", "gem"], "--template cannot be given"),
        (["-t", "1", "--blocks", "3"], "--blocks cannot be given"), (["-t", "1", "--method", "gem"], "unknown classifier method 'gem'"),
    ):  # fmt: skip
        assert main([*base, *extra, "-o", str(tmp_path / "none")]) != 0
        output = capsys.readouterr().err
        assert message in output and "Traceback" not in output and not (tmp_path / "none").exists()
    assert main(["plan", "--model", "torchvision:resnet18"]) != 0
    assert "a classifier; `fastloc locate`" in capsys.readouterr().err
