"""Write tests/goldens/protocols.json: what the authors' configurations say of their evaluations, and digests of their class names.

    python benchmarks/official_goldens/from_checkouts/protocols.py CHECKOUTS [-o FILE] [--names FOLDER]

CHECKOUTS holds the repositories by name, as in `REPOSITORIES`. Nothing of them is run: configurations are read as Python's syntax tree,
settings that they leave out as the defaults of the segmentor's own signature. --names writes the class names too, which are
fastloc/evaluation/protocols/class_names/*.json. What surprises in them:

- ClearCLIP's base configuration runs the untouched encoder, model_type "vanilla";
- SFP says "person" where SCLIP, whose files the others keep, says "people";
- "bed" is among the background words of COCO-Object and a class: the two tie, and the background comes first;
- CLIPtrase's background words hold "beachhill", two strings with a comma forgotten between them.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[3]
SETS = {
    "voc21": "voc21", "voc20": "voc20", "context60": "context60", "context59": "context59", "coco_object": "coco-object",
    "coco_stuff": "coco-stuff", "coco_stuff164k": "coco-stuff", "city_scapes": "cityscapes", "cityscapes": "cityscapes", "ade20k": "ade20k",
}  # fmt: skip
REPOSITORIES = {
    "SCLIP": "wangf3014/SCLIP", "NACLIP": "sinahmr/NACLIP", "ClearCLIP": "mc-lan/ClearCLIP", "ResCLIP": "yvhangyang/ResCLIP",
    "SC-CLIP": "SuleBai/SC-CLIP", "SFP": "Kimsure/SFP", "PEARL": "PGSmall/PEARL", "ITACLIP": "m-arda-aydn/ITACLIP",
    "ProxyCLIP": "mc-lan/ProxyCLIP", "cliper.code": "linsun449/cliper.code", "MaskCLIP": "chongzhou96/MaskCLIP",
    "CLIPtrase": "leaves162/CLIPtrase", "TagCLIP": "linyq2117/TagCLIP",
}  # fmt: skip
# paper -> checkout, folder of the configurations, file and class of the segmentor, what separates the names of a class
MMSEG = {
    "sclip": ("SCLIP", "configs", "clip_segmentor.py", ", "),
    "naclip": ("NACLIP", "configs", "naclip.py", ", "),
    "clearclip": ("ClearCLIP", "configs", "clearclip_segmentor.py", ","),
    "resclip": ("ResCLIP", "configs", "resclip_segmentor.py", ", "),
    "sc_clip": ("SC-CLIP", "configs", "scclip_segmentor.py", ", "),
    "sfp": ("SFP", "SFP_ICCV/configs", "SFP_ICCV/SFP_segmentor.py", ", "),
    "pearl": ("PEARL", "configs", "pearl_ovss.py", ", "),
    "itaclip": ("ITACLIP", "configs", "itaclip_segmentor.py", ", "),
    "proxyclip": ("ProxyCLIP", "configs", "proxyclip_segmentor.py", "; "),
}
# settings of a segmentor that are of the protocol, and not of the method
KEPT = ("prob_thd", "logit_scale", "slide_stride", "slide_crop", "area_thd", "pamr_steps", "pamr_stride", "use_prop", "grid",
        "img_engineering", "img_eng_coefficient", "def_coefficient", "alpha_kk", "attn_rcs_weights")  # fmt: skip
CLIPER = {"voc21": "voc21", "voc20": "voc20", "context": "context60", "context59": "context59", "coco5k": "coco-object",
          "stuff164": "coco-stuff", "city": "cityscapes", "ade150": "ade20k"}  # fmt: skip
MASKCLIP = {"voc20": "512x512_voc12aug_20", "context59": "520x520_pascal_context_59", "coco-stuff": "512x512_coco-stuff164k",
            "cityscapes": "1024x512_cityscapes"}  # fmt: skip
MASKCLIP_SETS = {"voc20": "pascal_voc12_aug_20.py", "context59": "pascal_context_59.py", "coco-stuff": "coco-stuff164k.py"}
Names = list[list[str]]


def value(node: ast.expr, known: dict[str, Any]) -> Any:
    """The value of literals, of dict(...) and of names that were assigned before; None for anything else."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, (ast.List, ast.Tuple)):
        return [value(each, known) for each in node.elts]
    if isinstance(node, ast.Dict):
        return {value(key, known): value(each, known) for key, each in zip(node.keys, node.values, strict=True) if key is not None}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        return {each.arg: value(each.value, known) for each in node.keywords if each.arg is not None}
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -value(node.operand, known)
    return None


def assigned(path: Path) -> dict[str, Any]:
    """The names that a file assigns at its top, with their values."""
    known: dict[str, Any] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            known[node.targets[0].id] = value(node.value, known)
    return known


def defaults(path: Path) -> dict[str, Any]:
    """The defaults of the `__init__` of a file's one segmentor."""
    [function] = [node for each in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(each, ast.ClassDef)
                  for node in each.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]  # fmt: skip
    arguments = function.args.args[len(function.args.args) - len(function.args.defaults) :]
    return {argument.arg: value(each, {}) for argument, each in zip(arguments, function.args.defaults, strict=True)}


def mmseg(folder: Path, paper: str) -> dict[str, dict[str, Any]]:
    """Settings of an evaluation of each set: the signature's, the base configuration's, then the set's."""
    checkout, configs, segmentor, _ = MMSEG[paper]
    usual = defaults(folder / checkout / segmentor) | assigned(folder / checkout / configs / "base_config.py")["model"]
    found = {}
    for path in sorted((folder / checkout / configs).glob("cfg_*.py")):
        if name := SETS.get(path.stem.removeprefix("cfg_")):
            config = assigned(path)
            model = usual | config["model"]
            [resize] = [step for step in config["test_pipeline"] if step["type"] == "Resize"]
            found[name] = {key: model[key] for key in KEPT if key in model} | {"scale": resize["scale"], "keep_ratio": resize["keep_ratio"]}
    return found


def mmseg_names(folder: Path, paper: str) -> dict[str, Names]:
    checkout, configs, _, separator = MMSEG[paper]
    return {
        SETS[path.stem.removeprefix("cls_")]: lines(path, separator)
        for path in sorted((folder / checkout / configs).glob("cls_*.txt"))
        if path.stem.removeprefix("cls_") in SETS
    }


def lines(path: Path, separator: str) -> Names:
    """The names of each class; blanks around a name, of which there is one, are no token of CLIP's."""
    return [[name.strip() for name in line.split(separator)] for line in path.read_text(encoding="utf-8").splitlines()]


def cliper(folder: Path, model: str) -> dict[str, dict[str, Any]]:
    found = {}
    for stem, name in CLIPER.items():
        path = folder / "cliper.code" / "scripts" / "config" / model / f"ovs_{stem}.yaml"
        rows = re.findall(r"^(\w+):\s*([^#\n]+?)\s*(?:#.*)?$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        read = {key: ast.literal_eval(text) for key, text in rows}
        kept = ("semantic_templates", "attention_thr", "size", "select_layer", "logit_scale", "score_threshold", "bkg_thre", "is_normalize",
                "ignore_labels", "sliding_crop_size")  # fmt: skip
        found[name] = {key: read[key] for key in kept}
    return found


def cliper_names(folder: Path) -> dict[str, Names]:
    """The background's words, which its code splits at blanks and commas, then one text a class, whole."""
    data, found = folder / "cliper.code" / "data", {}
    files = {
        "voc21": "voc/cls_voc21.txt", "context60": "voc/cls_context60.txt", "coco-object": "coco14/cls_coco81.txt",
        "coco-stuff": "coco14/cls_coco_stuff172.txt", "cityscapes": "cityscapes/cls_city.txt", "ade20k": "ade/cls_ade20k.txt",
    }  # fmt: skip
    for name, file in files.items():
        background, *classes = (data / file).read_text(encoding="utf-8").splitlines()
        found[name] = [re.split(r"[\s,]+", background), *([each] for each in classes)]
    return found | {"voc20": found["voc21"], "context59": found["context60"]}


def maskclip(folder: Path) -> dict[str, dict[str, Any]]:
    base, found = folder / "MaskCLIP" / "configs", {}
    for name, stem in MASKCLIP.items():
        config = assigned(base / "maskclip" / f"maskclip_vit16_{stem}.py")
        pipeline = config.get("test_pipeline") or assigned(base / "_base_" / "datasets" / MASKCLIP_SETS[name])["test_pipeline"]
        # of most sets the scale is written out, of Context it is a name
        [scaled] = [step for step in pipeline if "img_scale" in step]
        mode = assigned(base / "_base_" / "models" / "maskclip_vit16.py")["model"]["test_cfg"]["mode"]
        found[name] = {"scale": scaled["img_scale"], "keep_ratio": True, "mode": mode}
    return found


def maskclip_names(folder: Path) -> dict[str, Names]:
    read = assigned(folder / "MaskCLIP" / "tools" / "maskclip_utils" / "prompt_engineering.py")
    lists = {"voc20": "voc_classes", "context59": "pascal_context_classes", "coco-stuff": "coco_stuff_classes",
             "cityscapes": "cityscapes_classes"}  # fmt: skip
    return {name: [[each.strip()] for each in read[key]] for name, key in lists.items()}


def cliptrase_names(folder: Path) -> dict[str, Names]:
    """CLIPtrase's class names. Its background classes come last, in one class behind the others; here they come first, as in data sets."""
    read = assigned(folder / "CLIPtrase" / "configs" / "dataset_cfg.py")["dataset_info"]
    keys = {"voc21": "VOC21", "voc20": "VOC20", "context60": "PC60", "context59": "PC59", "coco-object": "COCO80_val",
            "coco-stuff": "COCO171_val", "ade20k": "ADE150"}  # fmt: skip
    found = {}
    for name, key in keys.items():
        background = read[key].get("background")
        found[name] = [*([background] if background else []), *([each] for each in read[key]["labels"])]
    return found


def tagclip_names(folder: Path) -> dict[str, Names]:
    read = assigned(folder / "TagCLIP" / "clip_text.py")
    pairs = {"voc21": ("BACKGROUND_CATEGORY_VOC", "class_names_voc"), "coco-object": ("BACKGROUND_CATEGORY_COCO", "class_names_coco")}
    return {name: [read[background], *([each] for each in read[classes])] for name, (background, classes) in pairs.items()}


def templates(folder: Path) -> dict[str, list[str]]:
    """The sentences that CLIPer and MaskCLIP put names into, by fastloc's names."""
    files = {"cliper15": "car_template.txt", "openai80": "openai_template.txt"}
    found = {name: (folder / "cliper.code" / "template" / file).read_text(encoding="utf-8").splitlines() for name, file in files.items()}
    return found | {"surgery85": assigned(folder / "MaskCLIP" / "tools" / "maskclip_utils" / "prompt_engineering.py")["prompt_templates"]}


def source(folder: Path, checkout: str) -> str:
    command = ["git", "-C", str(folder / checkout), "rev-parse", "--short=7", "HEAD"]
    commit = subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8").stdout.strip()
    return f"{REPOSITORIES[checkout]}@{commit}"


def digest(names: object) -> str:
    return hashlib.sha256(json.dumps(names, ensure_ascii=False).encode()).hexdigest()[:16]


NAMES: dict[str, tuple[str, Callable[[Path], dict[str, Names]], str]] = {
    **{paper: (row[0], lambda folder, paper=paper: mmseg_names(folder, paper), f"{row[1]}/cls_*.txt") for paper, row in MMSEG.items()},
    "cliper": ("cliper.code", cliper_names, "data/*/cls_*.txt"),
    "maskclip": ("MaskCLIP", maskclip_names, "tools/maskclip_utils/prompt_engineering.py"),
    "cliptrase": ("CLIPtrase", cliptrase_names, "configs/dataset_cfg.py"),
    "tagclip": ("TagCLIP", tagclip_names, "clip_text.py"),
}
# whose files are those of another paper where they are the same
OTHERWISE = dict.fromkeys(("naclip", "resclip", "sc_clip", "sfp", "pearl", "clearclip", "proxyclip"), "sclip")


def facts(folder: Path) -> dict[str, Any]:
    """The golden: of each paper its source, the settings of each set, of its names how many there are and their digest, and of templates
    the digest."""
    settings: dict[str, tuple[str, dict[str, dict[str, Any]]]] = {paper: (row[0], mmseg(folder, paper)) for paper, row in MMSEG.items()}
    settings |= {"cliper": ("cliper.code", cliper(folder, "vit-b-16")), "cliper-large": ("cliper.code", cliper(folder, "vit-l-14"))}
    settings |= {"maskclip": ("MaskCLIP", maskclip(folder))}
    names = {
        paper: {name: {"classes": len(each), "names": sum(map(len, each)), "digest": digest(each)} for name, each in read(folder).items()}
        for paper, (_, read, _) in NAMES.items()
    }
    return {
        "settings": {paper: {"source": source(folder, checkout), "sets": sets} for paper, (checkout, sets) in settings.items()},
        "names": names,
        "templates": {name: digest(sorted(sentences)) for name, sentences in templates(folder).items()},
    }


def write_names(folder: Path, out: Path) -> None:
    """One file a paper, one line a class; of a paper that keeps another's file for a set the set is left out."""
    found = {paper: read(folder) for paper, (_, read, _) in NAMES.items()}
    for paper, (checkout, _, files) in NAMES.items():
        other = OTHERWISE.get(paper, "")
        own = {name: names for name, names in found[paper].items() if found.get(other, {}).get(name) != names}
        if not own:
            continue
        sets = ",\n".join(
            f"  {json.dumps(name)}: [\n" + ",\n".join(f"   {json.dumps(each, ensure_ascii=False)}" for each in names) + "\n  ]"
            for name, names in own.items()
        )
        head = f'{{\n "source": {json.dumps(f"{source(folder, checkout)} {files}")},\n "otherwise": {json.dumps(other)},\n "sets": {{\n'
        (out / f"{paper}.json").write_text(f"{head}{sets}\n }}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkouts", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=REPO / "tests" / "goldens" / "protocols.json")
    parser.add_argument("--names", type=Path, help="the folder of class names to write too")
    args = parser.parse_args()
    args.output.write_text(json.dumps(facts(args.checkouts), indent=1) + "\n", encoding="utf-8")
    if args.names:
        args.names.mkdir(parents=True, exist_ok=True)
        write_names(args.checkouts, args.names)
