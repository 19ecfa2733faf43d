"""Licences of published weights, by the repository of a tag's file, as its model card states them; no legal advice."""

import re
from dataclasses import dataclass

__all__ = ["LICENCES", "Licence", "licence"]


@dataclass(frozen=True)
class Licence:
    """The licence of one series of repositories.

    repository: a pattern of the hub's names, those of one series of one publisher. name: as its cards state it. source: the card of the
    series, or the file, that states it: the other cards of the series have not been read.
    """

    repository: str
    name: str
    source: str


# the first match counts; a series whose cards have not been read is not listed
LICENCES = (
    Licence(r"timm/.*\.openai", "MIT", "LICENSE of github.com/openai/CLIP; the card of the converted files says Apache-2.0"),
    Licence(r"timm/ViT-.*-SigLIP2.*", "Apache-2.0", "card of google/siglip2-base-patch16-naflex"),
    Licence(r"timm/ViT-.*-SigLIP.*", "Apache-2.0", "card of timm/ViT-B-16-SigLIP"),
    Licence(r"timm/PE-Core-.*", "Apache-2.0", "card of facebook/pe_core_base_patch16_224_timm"),
    Licence(r"timm/.*\.metaclip_.*", "CC-BY-NC-4.0", "card of timm/vit_huge_patch14_clip_224.metaclip_2pt5b"),
    Licence(r"timm/eva02_.*_clip_.*", "MIT", "card of timm/eva02_base_patch16_clip_224.merged2b_s8b_b131k"),
    Licence(r"timm/MobileCLIP2-.*", "apple-amlr, research only", "card of timm/MobileCLIP2-L-14-OpenCLIP"),
    Licence(r"apple/MobileCLIP-.*", "apple-amlr, research only", "card of apple/mobileclip_b_timm"),
    Licence(r"apple/DFN.*", "apple-amlr, research only", "card of apple/DFN2B-CLIP-ViT-B-16"),
    Licence(r"UCSC-VLAA/.*CLIPA.*", "Apache-2.0", "card of UCSC-VLAA/ViT-L-14-CLIPA-datacomp1B"),
    Licence(r"laion/CLIP-convnext_.*", "MIT", "card of laion/CLIP-convnext_base_w-laion2B-s13B-b82K"),
    Licence(r"jienengchen/ViTamin-.*", "MIT", "card of jienengchen/ViTamin-XL-384px"),
    Licence(r"laion/CLIP-ViT-bigG-14-laion2B-39B-b160k", "MIT", "card of laion/CLIP-ViT-bigG-14-laion2B-39B-b160k"),
    Licence(r"visheratin/nllb-clip-.*-oc", "CC-BY-NC-4.0", "card of visheratin/nllb-clip-base-oc"),
)


def licence(repository: str) -> str | None:
    """The licence of the weights in a repository ("owner/name"), or None if it is not known."""
    plain = repository.rstrip("/")
    return next((row.name for row in LICENCES if re.fullmatch(row.repository, plain)), None)
