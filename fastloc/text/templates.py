"""Prompt templates by name: the sentences a prompt is put into before it is encoded; several are averaged."""

from functools import lru_cache

from fastloc.errors import TextError, unknown
from fastloc.text.imagenet_sentences import EIGHTY

# CLIP Surgery adds these to the 80 of OpenAI
_SCENE = (
    "there is a {} in the scene.", "there is the {} in the scene.", "this is a {} in the scene.",
    "this is the {} in the scene.", "this is one {} in the scene.",
)
# CLIPer's template/car_template.txt
_CLIPER = (
    "a clean origami {}.", "a photo of a {}.", "This is a photo of a {}", "There is a {} in the scene", "There is the {} in the scene",
    "a photo of a {} in the scene", "a photo of a small {}.", "a photo of a medium {}.", "a photo of a large {}.",
    "This is a photo of a small {}.", "This is a photo of a medium {}.", "This is a photo of a large {}.",
    "There is a small {} in the scene.", "There is a medium {} in the scene.", "There is a large {} in the scene.",
)
TEMPLATES = {
    "plain": "the prompt as it is",
    "gem": 'GEM\'s single one, "a photo of a {}."',
    "openai80": "OpenAI's 80 for ImageNet (SCLIP and its kin)",
    "surgery85": "those 80 and five about scenes (CLIP Surgery, MaskCLIP)",
    "cliper15": "CLIPer's 15 about sizes and scenes",
}

_SENTENCES = {"plain": ("{}",), "gem": ("a photo of a {}.",), "openai80": EIGHTY, "surgery85": EIGHTY + _SCENE, "cliper15": _CLIPER}


# templates are a user's own
@lru_cache(maxsize=64)
def sentences(template: str) -> tuple[str, ...]:
    """The sentences of a named template, or of a custom one such as "a drawing of a {}", each with one {}.

    Raises:
        TextError: neither a known name nor a text with {}.
    """
    if "{}" in template:
        return (template,)
    if template not in TEMPLATES:
        raise TextError(unknown("template", template, TEMPLATES) + '; or a text of your own with {}, such as "a drawing of a {}"')
    return _SENTENCES[template]
