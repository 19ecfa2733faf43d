"""The tables of the model for devices: its quality beside the first embedded model's, and its training."""

import json
from typing import Any

from doc_tables.markdown_table import markdown
from fastloc.embedded import CONFIG, DEVICE, MODEL, QUALITY

MEASURES = ("pointing", "miou", "auc", "msc")
QUALITY_COMMAND = "python benchmarks/quality.py --model embedded-device --record"
TRAINING_COMMAND = (
    "python benchmarks/embedded_model/train.py --tower device --batch 16 --rate 1.5e-3 --minutes 54 --seed 7 --out runs/device && "
    "python benchmarks/embedded_model/pack.py runs/device"
)
Record = dict[str, Any]


def _configuration() -> Record:
    content: Record = json.loads((DEVICE / CONFIG.name).read_text(encoding="utf-8"))
    return content


def quality_table(record: Record) -> str:
    """Scores of the methods that the model for devices has; beside each what the first model reaches with its own parameters."""
    first = json.loads(QUALITY.read_text(encoding="utf-8"))["methods"]
    recommended = _configuration()["fastloc"]["recommended"]["recipes"]
    best = {key: max(scores[key] for scores in record["methods"].values()) for key in MEASURES}
    rows: list[tuple[str, ...]] = [("chance", "", f"{record['chance']:.3f}", "", "0.500", "0.000", f"{record['chance']:.3f}")]
    for name, scores in record["methods"].items():
        method, _, variant = name.partition(" ")
        changes = ", ".join(f"`{field}={value}`" for field, value in recommended[method].items()) if variant else ""
        cells = (f"**{scores[key]:.3f}**" if scores[key] == best[key] else f"{scores[key]:.3f}" for key in MEASURES)
        other = max(scores["pointing"] for each, scores in first.items() if each.partition(" ")[0] == method)
        rows.append((f"`{method}`", f"recommended: {changes}" if variant else "official", *cells, f"{other:.3f}"))
    head = ("method", "parameters", "pointing", "mIoU", "AUC", "mSC", "pointing of `embedded`")
    words = f"{record['scenes']} scenes, {record['questions']} questions; fastloc {record['fastloc']}, torch {record['torch']}, "
    words += f"{record['dtype']} on {record['machine']}. The last column is the higher of the first model's rows of the method.\n"
    return markdown(head, rows, right=5) + "\n" + words


def training_table(record: Record) -> str:
    """The training of the model for devices."""
    content = _configuration()["model_cfg"]
    tower, text = content["vision_cfg"]["fastvit"], content["text_cfg"]
    minutes = round(record["seconds"] / 60)
    stages = " and ".join(f"{depth} blocks of width {width}" for depth, width in zip(tower["depths"], tower["dims"], strict=True))
    rows = [
        ("image tower", f"FastViT: {stages}, the last ones with attention; cells of 8 px, {content['vision_cfg']['image_size']} px"),
        ("text tower", f"that of `embedded`, as it is: {text['layers']} blocks of width {text['width']}, {text['context_length']} tokens"),
        ("parameters", f"{record['parameters']:,}, of which {record['trained']:,} are trained"),
        ("file", f"{(DEVICE / MODEL.name).stat().st_size / 1e6:.2f} MB, float16"),
        ("teacher", f"{record['teacher']}: features of patches and the image embedding"),
        ("trained on", f"{record['scenes']:,} composed scenes, each {record['images'] / record['scenes']:.0f} times on average"),
        ("steps", f"{record['steps']:,} of {record['batch']} pictures, {record['images']:,} in all"),
        ("time", f"{minutes // 60} h {minutes % 60:02} min on {record['device']}"),
        *([("mind", record["note"])] if "note" in record else []),
        ("seed", record["seed"]),
        ("versions", f"torch {record['torch']}, open_clip {record['open_clip']}"),
    ]  # fmt: skip
    return markdown(("`embedded-device`", ""), rows)
