"""The command line: its commands, their parser, and the exit status of each run.

Exit status: 0 for success; 1 for an error, also when only some of the pictures failed; 2 for an invalid command line;
130 when interrupted, 143 and 129 when SIGTERM and SIGHUP ended it. Results go to standard output, everything else to standard error.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

from fastloc._version import __version__
from fastloc.utils.argument_types import Parser
from fastloc.utils.exit_status import exit_status

_EXAMPLES = """\
examples:
  fastloc demo
  fastloc locate photo.jpg -t "a dog" --model ViT-B-16 --pretrained laion2b_s34b_b88k
  fastloc locate *.jpg -t cat pizza "red car" --method clip_surgery -o maps
  fastloc locate photo.jpg -t cat --size 480x640 --json > where.json
"""
_LOCATE_EXAMPLES = """\
Pictures come before -t, which takes every word or quoted phrase that follows it as one thing to look for.
Positions are in pixels of the upright picture, x to the right and y down.

""" + _EXAMPLES.replace("  fastloc demo\n", "")

_BATCH_EXAMPLES = """\
Sources come before -t. The same command again goes on where it was ended, and ends with the same rows.

examples:
  fastloc batch photos -t "a dog" "a red car" -o rows --model ViT-B-16 --pretrained laion2b_s34b_b88k
  fastloc batch "shards/*.tar" s3://bucket/more.parquet -t cat -o rows --no-heatmaps
  fastloc batch photos -t cat -o rows --ray --actors 2
"""

_CONVERT_EXAMPLES = """\
examples:
  fastloc batch convert rows --to coco -o labels.json
  fastloc batch convert rows --to yolo -o yolo --images photos --min-score 0.5
  fastloc batch convert rows --to label-studio -o tasks --images https://host/photos
  fastloc batch convert rows --to fiftyone -o dataset --images photos
"""

_EVALUATE_EXAMPLES = """\
The same command again goes on where it was ended, and ends with the same rows.

examples:
  fastloc evaluate voc21 --data VOC --method naclip --model ViT-B-16 --pretrained openai -o naclip-voc21
  fastloc evaluate voc21 --data VOC --method gem clearclip naclip --protocol sclip --model ViT-B-16 --pretrained openai -o three
  fastloc evaluate folder --data mine --model gem-int8.onnx --against gem.onnx --protocol plain
  fastloc evaluate check voc21 --data VOC
"""

_COMPARE_EXAMPLES = """\
examples:
  fastloc evaluate compare three/gem three/naclip
  fastloc evaluate compare before/gem after/gem -o difference.html
"""

_EXPLAIN_EXAMPLES = """\
examples:
  fastloc explain photo.jpg -t cat "red car" --model ViT-B-16 --pretrained laion2b_s34b_b88k -o sheet.png --html sheet.html
  fastloc explain photo.jpg -t cat --methods itsm gem clip_surgery
"""

_CALIBRATE_EXAMPLES = """\
examples:
  fastloc calibrate holiday/*.jpg --model ViT-B-16 --pretrained laion2b_s34b_b88k -o vit-b-16.json
  fastloc calibrate --from scenes -o embedded.json
  fastloc locate photo.jpg -t cat --method gem_calibrated --model ViT-B-16 --pretrained laion2b_s34b_b88k --temperatures vit-b-16.json
"""

_REGISTERS_EXAMPLES = """\
The authors' own rule for ViT-B/16 of OpenAI and LAION is --threshold 30.

examples:
  fastloc registers "holiday/*.jpg" --model ViT-B-16 --pretrained openai -o registers.json
  fastloc locate photo.jpg -t cat --model ViT-B-16 --pretrained openai --registers registers.json
"""

_EXPORT_EXAMPLES = """\
examples:
  fastloc export -o gem.onnx --model ViT-B-16 --pretrained laion2b_s34b_b88k --size 448
  fastloc export -o camera.onnx --input frames --frame 720x1280 --size 448 --outputs similarity labels --texts cat dog
  fastloc export -o half.onnx --spelling onnx --dtype fp16 --size 448 && fastloc build half.onnx --sm 86 89 --texts 1:4:16
  fastloc export -o any.onnx --size dynamic --batch dynamic
  fastloc export -o street.onnx --for gstreamer --size 448 --texts "a cyclist" "a bus"
  fastloc export -o street.onnx --for deepstream --input bytes --spelling decomposed --size 448 --texts "a cyclist" "a bus"
"""

_SERVE_EXAMPLES = """\
examples:
  fastloc serve --model ViT-B-16 --pretrained laion2b_s34b_b88k
  fastloc serve --methods clearclip naclip --host 0.0.0.0 --token "$TOKEN"
  curl -F image=@photo.jpg -F texts=cat -F "texts=red car" http://127.0.0.1:8020/v1/locate
"""

_VIDEO_EXAMPLES = """\
IN comes before -t, which takes every word or quoted phrase that follows it as one thing to look for.
The output has the input's frames, each at its own time, and its sound. Until it is complete it lies beside its name as
OUT.partial-….mp4, which can be played at any moment. Ctrl-C ends a file there, and a camera or stream properly; SIGTERM and SIGHUP do so
too. Several videos go to a folder, each under its own name; one that cannot be used does not stop the others.

examples:
  fastloc video clip.mp4 -t "a dog" --model ViT-B-16 --pretrained laion2b_s34b_b88k
  fastloc video clip.mp4 -t cat pizza -o found.mp4 --style boxes --maps background --smooth 0.2
  fastloc video clip.mp4 -t cat --json where.jsonl --start 10 --seconds 5
  fastloc video "holiday/*.mp4" more.mkv -t dog -o found
  fastloc video rtsp://camera.local/stream -t person --every 3 --seconds 60 -o minute.mp4
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. An invalid command line raises SystemExit(2), as argparse does."""
    given = words(sys.argv[1:] if argv is None else argv)

    def run() -> int:
        # here, because importing what a command needs can be interrupted, and fail, too
        args = build_parser(given).parse_args(given)
        return int(args.run(args))

    return exit_status("fastloc", run)


def words(argv: Sequence[str]) -> list[str]:
    """The arguments, with a command of two words as one."""
    first = " ".join(argv[:2])
    return [first, *argv[2:]] if first in {row.name for row in COMMANDS} else list(argv)


@dataclass(frozen=True)
class Command:
    """One command: the module of fastloc that holds its code, and the names there of the functions that add its arguments and run it."""

    name: str
    summary: str
    module: str
    add: str = "add"
    run: str = "run"
    epilog: str | None = None


GROUPS = {
    "find texts": (
        Command("demo", "find three things in a sample picture", "cli.demo", run="demo"),
        Command("locate", "find texts in pictures", "cli.locate", run="locate", epilog=_LOCATE_EXAMPLES),
        Command("video", "find texts in the frames of a video, a camera or a stream", "cli.video", epilog=_VIDEO_EXAMPLES),
        Command("batch", "find texts in many pictures, as rows in Parquet", "cli.scale.batch", epilog=_BATCH_EXAMPLES),
        Command("batch convert", "convert the rows of a batch to labels of other tools", "cli.scale.convert", epilog=_CONVERT_EXAMPLES),
    ),
    "serve": (
        Command("live", "serve a page that shows texts in a camera's picture", "cli.live"),
        Command("serve", "serve localisation to other programs over HTTP", "cli.scale.serve", epilog=_SERVE_EXAMPLES),
        Command("web", "write a page that runs a model in the browser", "cli.web"),
    ),
    "choose a method": (
        Command("methods", "list the localisation methods", "cli.listings", "add_list", "methods"),
        Command("methods best", "print the recommended method for each kind of model, and why", "cli.listings", "add_list", "best"),
        Command("models", "list the supported models", "cli.listings", "add_models", "models"),
        Command("explain", "show every method on one picture, side by side", "cli.explain", run="explain", epilog=_EXPLAIN_EXAMPLES),
        Command("analyze", "measure a model block by block, and find maps that are inside out", "cli.analyze", run="analyze"),
        Command("calibrate", "measure a model's inverse temperatures", "cli.measure.calibrate", epilog=_CALIBRATE_EXAMPLES),
        Command("registers", "find the neurons behind a model's outlier patches", "cli.measure.registers", epilog=_REGISTERS_EXAMPLES),
        Command("plan", "show how a method would run on this machine, and why", "cli.listings", "add_plan", "plan"),
    ),
    "evaluate": (
        Command("evaluate", "evaluate methods on a data set by papers' protocols", "cli.evaluate.run", epilog=_EVALUATE_EXAMPLES),
        Command("evaluate check", "check a data set's folder for missing files", "cli.evaluate.check"),
        Command("evaluate list", "list data sets, protocols and published figures", "cli.evaluate.list_sets"),
        Command("evaluate compare", "compare two runs picture by picture", "cli.evaluate.compare", epilog=_COMPARE_EXAMPLES),
    ),
    "export and deploy": (
        Command("export", "write a model with a method as one ONNX file", "cli.export", epilog=_EXPORT_EXAMPLES),
        Command("export-text", "write a model's text tower and tokenizer as one ONNX file", "cli.text", "add_export", "run_export"),
        Command("embed", "encode texts into a file for an exported model", "cli.text", "add_embed", "run_embed"),
        Command("verify", "check an exported model's numbers on this device", "cli.verify"),
        Command("inspect", "show the contents of an exported model", "cli.inspect_file"),
        Command("build", "compile an exported model into a TensorRT engine", "cli.build"),
        Command("pipeline", "write an exported model's configuration for GStreamer, DeepStream or Triton", "cli.pipeline"),
    ),
    "installation": (Command("doctor", "check the installation, and show how to repair it", "cli.doctor"),),
}
COMMANDS = tuple(row for rows in GROUPS.values() for row in rows)


def build_parser(argv: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """The parser of all commands; `args.run(args)` on its result runs the command.

    With `argv`, only the command that stands in it gets its arguments: the others' modules need not be imported.
    """
    parser = Parser(
        prog="fastloc", description="Where in this picture is that, in words?", epilog=_EXAMPLES, formatter_class=_Help
    )
    parser.add_argument("--version", action="version", version=f"fastloc {__version__}")
    commands = parser.add_subparsers(title=argparse.SUPPRESS, metavar="COMMAND", required=True)
    for row in COMMANDS:
        sentence = f"{row.summary[0].upper()}{row.summary[1:]}."
        made = commands.add_parser(row.name, help=row.summary, description=sentence, epilog=row.epilog, formatter_class=_Help)
        if argv is None or row.name in argv:
            module = import_module(f"fastloc.{row.module}")
            getattr(module, row.add)(made)
            made.set_defaults(run=getattr(module, row.run), usage_error=made.error)
    return parser


class _Help(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)

    def _format_action(self, action: argparse.Action) -> str:
        """The commands in their groups, each under its title; every other argument as argparse formats it."""
        if not isinstance(action, argparse._SubParsersAction):
            return super()._format_action(action)
        lines = {each.metavar or each.dest: super(_Help, self)._format_action(each) for each in action._get_subactions()}
        return "\n".join(f"{title}:\n{''.join(lines[row.name] for row in rows)}" for title, rows in GROUPS.items())
