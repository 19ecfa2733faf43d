"""Best and worst pictures of a run, judged again and drawn: the embedded model on a miniature of PASCAL VOC."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import miniature_sets
from fastloc.engine.localizer import Localizer
from fastloc.evaluation.metrics.summary import Summary
from fastloc.evaluation.protocols.changes import with_changes
from fastloc.evaluation.protocols.names import names_of
from fastloc.evaluation.protocols.table import protocol_of
from fastloc.evaluation.report.gallery import asked_pictures, judged_again, label_gallery
from fastloc.evaluation.running.subjects import subject_of
from fastloc.evaluation.segmentation.judge import SegmentationJudge
from fastloc.evaluation.sets.table import open_set

# whole pictures, windows, two squares, and the middle square
CHANGES = {
    "plain": {},
    "windows": {"resize": "mmcv", "short_side": "140", "crop": "112", "stride": "56"},
    "squares": {"resize": "mmcv", "short_side": "112", "cut": "squares"},
    "centre": {"resize": "centre", "short_side": "112"},
}


@pytest.mark.filterwarnings("ignore:this model never saw")
@pytest.mark.slow("the embedded model judges pictures twice")
@pytest.mark.parametrize("form", CHANGES)
def test_pictures_are_shown_with_the_labels_that_their_rows_count(form: str, tmp_path: Path) -> None:
    miniature_sets.write("voc21", tmp_path, 4)
    dataset, protocol = open_set("voc21", tmp_path), with_changes(protocol_of("gem", "voc21", "plain"), CHANGES[form])
    judge = SegmentationJudge(subject_of(Localizer(size=112)), protocol, dataset, names_of(protocol, dataset))
    samples = [dataset.read(item) for item in dataset.items()]
    rows = {sample.key: judge.judge([judge.prepare(sample)])[0] for sample in samples}
    for sample in samples:
        again, labels = judged_again(judge, sample)
        assert again.labels is not None and again.picture.size == again.labels.shape[::-1]
        counted = again.labels >= 0
        pairs, pixels = np.unique(np.stack([again.labels[counted], labels[counted]]), axis=1, return_counts=True)
        assert rows[sample.key].counts == tuple((*map(int, pair), int(count)) for pair, count in zip(pairs.T, pixels, strict=True))
    asked = asked_pictures(Summary.of(rows.values, dataset.classes, protocol))
    shown = label_gallery(dataset, judge, asked, rows)
    assert [(each.key, each.value) for each in shown] == [(score.key, score.value) for score, _ in asked.values()]
    assert sorted(each.best for each in shown) == [False, False, True, True]
