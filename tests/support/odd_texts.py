"""Texts that tokenizers differ on: repairs, entities, ligatures, surrogates, words without end."""

# texts that need no repair: the definition alone must do, in any language that has `tokenizers`
PLAIN = (
    "", "  ", "a\tb\nc", "don't we'll they've I'm she'd it's you're 'tis", "O'Reilly's", "naïve café Ünïcödé", "e\u0301",
    "日本語のテキスト", "中文 and 한국어", "😀🎉 party", "👨‍👩‍👧 family", "“curly” ‘quotes’ don’t", "1234 12.5% #5 3rd 10³ ½",
    "hello...!!! ??? @#$%", "a_b-c/d\\e", "supercalifragilisticexpialidocious", "word " * 100, "x" * 300, "<end_of_text>",
    "a <start_of_text> b", "<END_OF_TEXT>cat", "İstanbul", "'S 'LL", "\u00a0a\u3000b", "𝔘𝔫𝔦", "١٢٣", "Ⅷ", "नमस्ते", "สวัสดี",
    "a\u200bb", "a\u00adb", "it's'll'", "CAT", "ÀÉÎ", "  two   spaces  ",
)  # fmt: skip
# texts that open_clip repairs first
REPAIRED = (
    "&lt;b&gt; &amp;amp; caf&eacute; &copy 2020 &rsquo;", "a\r\nb\u2028d\u3000e", "ﬁne ﬂowers Ĳssel ŉ", "ＬＯＵＤ　ｱ",
    "\ufeffx\x07y\x1b[31mred\x1b[0m", "\ud83d\udca9 \udca9\ud83d", "ΣΊΣΥΦΟΣ", "x\x85y z\xa0w", "&notit; &#39;s &#x1F600;",
    "café\x00x", "&amp;amp;amp;amp;lt;", "a\x93b\x94 c\x92s", "<b>&amp;</b>", "1\nx < 2\n&amp;3 &eacute;",
)  # fmt: skip
# from a "<" on, ftfy leaves entities to html, and straightens no quotes that come of them
TAGS = ("<b>&rsquo;x</b>", "1\nx < 2\n&amp;3 &rsquo;")
