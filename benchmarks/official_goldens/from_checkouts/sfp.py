"""Write tests/goldens/sfp_*.npz: answers of SFP's own code for seeded weights and inputs.

    python benchmarks/official_goldens/from_checkouts/sfp.py CHECKOUT/SFP_ICCV [-o folder]

It is a fork of SC-CLIP, and is run and stored the same way; see sc_clip.py. What surprises in it, all of it kept in the answers:

- outliers are found once, in the last block but one, and not in each layer;
- the attention that is accumulated over all blocks is not read, and `sinkhorn_attn` has no Sinkhorn: it reads SC-CLIP's similarity;
- the similarity is thresholded where it lies, so the shared map is one of thresholded cosines, and so is its mean;
- a repaired cell whose neighbours are all outliers is zero; its cosine is NaN, and with it the whole picture.
"""

from sc_clip import modules, write
from seeded_checkout import checkout


def main() -> None:
    source = checkout("Kimsure/SFP", __doc__)
    model, segmentor = modules("SFP_segmentor")
    write(source, "sfp", model, segmentor.SFPForSegmentation, pm="SOM")


if __name__ == "__main__":
    main()
