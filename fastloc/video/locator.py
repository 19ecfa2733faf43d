"""A common interface of pipelines to every localizer: texts encoded beforehand, and similarities of one frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from fastloc.auto import load
from fastloc.errors import FastlocError, heard
from fastloc.imaging.reduced_picture import ScaledPicture, check_decode
from fastloc.recipes.readout import LOGIT_SCALE
from fastloc.results.batch_choice import BatchChoice, find_batch, fixed_batch
from fastloc.results.prediction import Prediction
from fastloc.text.prompts import checked
from fastloc.video.sources.frame import Frame

__all__ = ["Locator", "Prediction", "Prompts"]

# DLPack's number of the CPU
CPU = 1
# the search for a batch, in which a stream has no result yet
SECONDS = 4.0


@dataclass(frozen=True, eq=False)
class Prompts:
    """Encoded texts: the prompts, the background they are compared with, and the localizer's own form of both, in this order."""

    texts: tuple[str, ...]
    background: tuple[str, ...]
    ready: Any

    @property
    def every(self) -> tuple[str, ...]:
        """All texts, in the order of the similarities."""
        return self.texts + self.background


class Locator:
    """One way to call every localizer.

    Args:
        localizer: `fastloc.Localizer`, `fastloc.OnnxLocalizer`, or anything that is called with (PIL picture, texts) and returns a
            `fastloc.Result`; by default the embedded model, in PyTorch where there is one.
        decode: "full", or "reduced": the input is made of a decoder's planes (`Frame.picture`) where a frame has some, without RGB pixels
            of the frame's size. A function, and a device that resizes frames itself, get the full ones.
    """

    def __init__(self, localizer: Any = None, decode: str = "full") -> None:
        check_decode(decode)
        self.decode = decode
        self.localizer: Any = load() if localizer is None else localizer
        if not callable(self.localizer):
            kind = type(self.localizer).__name__
            raise FastlocError(f"localizer must be a Localizer, an OnnxLocalizer, or a function of (picture, texts), got a {kind}")
        self.prepares = hasattr(self.localizer, "encode_texts") and hasattr(self.localizer, "predict_frame")

    @property
    def logit_scale(self) -> float | None:
        """Factor of cosines with texts before a softmax, as the model was trained; None for a classifier, which has no such scale.

        A function of (picture, texts) cannot state its own, so it gets CLIP's.
        """
        scale = getattr(self.localizer, "logit_scale", LOGIT_SCALE)
        return None if scale is None else float(scale)

    def prepare(self, texts: str | Sequence[str] | None, background: Sequence[str] = ()) -> Prompts:
        """Encode texts and background now, in this thread; None for all the texts that an exported file has.

        Raises TextError for what cannot be encoded.
        """
        if texts is None and self.prepares:
            ready = self.localizer.encode_texts(None)
            return Prompts(tuple(ready.names), (), ready)
        located = tuple(checked(() if texts is None else texts, examples=True))
        # a text that is located is no background
        others = tuple(text for text in dict.fromkeys(checked(background) if background else ()) if text not in located)
        every = [*located, *others]
        return Prompts(located, others, self.localizer.encode_texts(every) if self.prepares else every)

    def acquaint(self, texts: Sequence[str]) -> None:
        """Encode texts that no user typed, without the warnings of words that a small model never saw: later calls find them encoded."""
        with heard():
            self.prepare(texts)

    def locate(self, frame: Frame, prompts: Prompts) -> Prediction:
        """Similarities [T, h, w] of one frame with all prompts. A frame on a device is not copied to the host."""
        if not self.prepares:
            return Prediction.of(self.localizer(Image.fromarray(frame.rgb), prompts.ready))
        found: Prediction
        if on_device(frame.native):
            found = self.localizer.predict_frame(frame.native, prompts.ready, frame.bgr)
        else:
            found = self.localizer.predict_frame(self._given(frame), prompts.ready)
        return found

    def locate_all(self, frames: Sequence[Frame], prompts: Prompts) -> list[Prediction]:
        """`locate` of each of several frames of one size: in one pass where the localizer has `predict_frames`."""
        if len(frames) == 1 or not hasattr(self.localizer, "predict_frames"):
            return [self.locate(frame, prompts) for frame in frames]
        found: list[Prediction]
        if on_device(frames[0].native):
            found = self.localizer.predict_frames([frame.native for frame in frames], prompts.ready, frames[0].bgr)
        else:
            found = self.localizer.predict_frames([self._given(frame) for frame in frames], prompts.ready)
        return found

    def reads_pixels(self, frame: Frame) -> bool:
        """True where locating reads the frame's RGB pixels on the host."""
        return not on_device(frame.native) and (self._picture(frame) is None)

    def _given(self, frame: Frame) -> Any:
        """A frame as `predict_frame` takes it."""
        picture = self._picture(frame)
        return frame.rgb if picture is None else picture

    def _picture(self, frame: Frame) -> ScaledPicture | None:
        return frame.picture if self.decode == "reduced" and self.prepares else None

    def check_batch(self, batch: int) -> None:
        """Raise FastlocError for more frames a call than the localizer takes."""
        if batch > 1 and not hasattr(self.localizer, "predict_frames"):
            kind = type(self.localizer).__name__
            raise FastlocError(f"batch must be 1 for a localizer that takes one frame a call, got {batch} for a {kind}")
        if (fixed := fixed_batch(self.localizer)) is not None and batch > fixed.batch:
            raise FastlocError(f"batch must be at most {fixed.batch}, got {batch}: {fixed.why}")

    def choose_batch(self, frame: Frame, prompts: Prompts) -> BatchChoice:
        """The number of frames a call, measured on copies of a frame; as its file says for a file of a fixed batch."""
        if not hasattr(self.localizer, "predict_frames"):
            return BatchChoice(1, {}, "the localizer takes one frame a call")
        return fixed_batch(self.localizer) or find_batch(lambda size: len(self.locate_all([frame] * size, prompts)), seconds=SECONDS)


def on_device(native: Any) -> bool:
    """True for an array of a source that lies in the memory of a device."""
    return hasattr(native, "__dlpack_device__") and native.__dlpack_device__()[0] != CPU
