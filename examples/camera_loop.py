"""Locate texts in the frames of a camera loop of your own, read and drawn by OpenCV.

    pip install "fastloc[engine]" opencv-python
    python examples/camera_loop.py 0 -t "a person" "a cup"

`fastloc.stream(0, texts)` owns the camera and always takes the newest frame; this loop is for programs that have one already.
"""

import argparse

import cv2

from fastloc import Localizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="a camera's number, a file or an address")
    parser.add_argument("-t", "--texts", nargs="+", required=True, help="the texts to look for")
    args = parser.parse_args()

    localizer = Localizer()
    capture = cv2.VideoCapture(int(args.source) if args.source.isdigit() else args.source)
    while True:
        there, frame = capture.read()
        if not there:
            break
        # OpenCV's channels are blue, green, red
        for box in localizer(frame, args.texts, bgr=True).boxes(score=0.5):
            cv2.rectangle(frame, (box.x0, box.y0), (box.x1, box.y1), (0, 255, 0), 2)
            cv2.putText(frame, box.text, (box.x0, box.y0 - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 255, 0))
        cv2.imshow("fastloc", frame)
        if cv2.waitKey(1) == ord("q"):
            break
    capture.release()


if __name__ == "__main__":
    main()
