"""Locate texts in a video, follow each box from frame to frame and draw it, through supervision.

    pip install "fastloc[engine,video,supervision]"
    python examples/video_to_tracks.py clip.mp4 -t cat pizza -o tracks
"""

import argparse
from pathlib import Path

import numpy as np
import supervision as sv
from PIL import Image

import fastloc
from fastloc.adapters import to_supervision


class Tracker:
    """Numbers for boxes: a box goes on under the number of the earlier box of its text that it overlaps most.

    It forgets a box after one frame without it. supervision's sister package `trackers` has trackers for crowded scenes.
    """

    def __init__(self, overlap: float = 0.3) -> None:
        self.overlap = overlap
        self.before = sv.Detections.empty()
        self.count = 0

    def update(self, found: sv.Detections) -> sv.Detections:
        """The detections with `tracker_id`, int [N]."""
        numbers = np.full(len(found), -1)
        if len(found) and len(self.before):
            overlaps = sv.box_iou_batch(found.xyxy, self.before.xyxy)
            overlaps[found.class_id[:, None] != self.before.class_id[None]] = 0
            for _ in range(min(overlaps.shape)):
                row, column = np.unravel_index(overlaps.argmax(), overlaps.shape)
                if overlaps[row, column] < self.overlap:
                    break
                numbers[row] = self.before.tracker_id[column]
                overlaps[row], overlaps[:, column] = 0, 0
        for row in np.flatnonzero(numbers < 0):
            numbers[row] = self.count = self.count + 1
        found.tracker_id = numbers
        self.before = found
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", help="a file, an address or a camera's number")
    parser.add_argument("-t", "--texts", nargs="+", required=True, help="the texts to look for")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a folder for the drawn frames")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)

    tracker, draw_boxes, draw_labels = Tracker(), sv.BoxAnnotator(), sv.LabelAnnotator()
    # smooth: a heatmap that follows its object calmly gives boxes that overlap from frame to frame
    with fastloc.stream(args.video, args.texts, smooth=0.2) as stream:
        for frame in stream:
            found = tracker.update(to_supervision(frame.result, threshold=0.6, masks=False))
            labels = [f"{name} {number}" for name, number in zip(found.data.get("class_name", ()), found.tracker_id, strict=True)]
            print(f"{frame.time:.2f} s:", ", ".join(labels))
            # supervision's channels are blue, green, red
            scene = np.ascontiguousarray(np.asarray(frame.result.picture)[..., ::-1])
            scene = draw_labels.annotate(draw_boxes.annotate(scene, found), found, labels)
            Image.fromarray(np.ascontiguousarray(scene[..., ::-1])).save(args.output / f"{frame.index:06}.jpg")


if __name__ == "__main__":
    main()
