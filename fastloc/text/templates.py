"""Prompt templates by name: the sentences a prompt is put into before it is encoded; several are averaged."""

from functools import cache

from fastloc.errors import TextError, unknown
from fastloc.text.imagenet_sentences import EIGHTY

# CLIP Surgery adds these to the 80 of OpenAI
_SCENE = (
    "there is a {} in the scene.", "there is the {} in the scene.", "this is a {} in the scene.",
    "this is the {} in the scene.", "this is one {} in the scene.",
)
TEMPLATES = {
    "plain": "the prompt as it is",
    "gem": 'GEM\'s single one, "a photo of a {}."',
    "openai80": "OpenAI's 80 for ImageNet (SCLIP and its kin)",
    "surgery85": "those 80 and five about scenes (CLIP Surgery, MaskCLIP)",
}


@cache
def sentences(template: str) -> tuple[str, ...]:
    """The sentences of a named template, or of a custom one such as "a drawing of a {}", each with one {}.

    Raises:
        TextError: neither a known name nor a text with {}.
    """
    if "{}" in template:
        return (template,)
    if template not in TEMPLATES:
        raise TextError(unknown("template", template, TEMPLATES) + '; or a text of your own with {}, such as "a drawing of a {}"')
    if template == "plain":
        return ("{}",)
    if template == "gem":
        return ("a photo of a {}.",)
    return EIGHTY if template == "openai80" else EIGHTY + _SCENE
