# ruff: noqa: RUF001 - the characters are meant
"""Texts of many scripts and habits of writing, with the tokens of the rule `words-2` and the text written from them."""

import unicodedata

PROSE = {
    "Hindi": ("हिन्दी विश्व की भाषा है।", ["हिन्दी", "विश्व", "की", "भाषा", "है", "।"]),
    "Tamil": ("தமிழ் மொழி", ["தமிழ்", "மொழி"]),
    "Bengali": ("বাংলা ভাষা", ["বাংলা", "ভাষা"]),
    "Thai": ("อักษรไทยที่ นี้", ["อักษรไทยที่", "นี้"]),
    "pointed Hebrew": ("שָׁלוֹם ארה״ב", ["שָׁלוֹם", "ארה״ב"]),
    "vowelled Arabic": ("ضَمَّة، لِمَ؟", ["ضَمَّة", "،", "لِمَ", "؟"]),
    "Persian": ("می\u200cخواهم", ["می\u200cخواهم"]),
    "accents": ("été à noël, tiếng việt", ["été", "à", "noël", ",", "tiếng", "việt"]),
    "Chinese": ("你好，世界。", ["你好", "，", "世界", "。"]),
    "emoji": ("ok 👩\u200d💻 👍🏽 🇩🇪 1\ufe0f\u20e3", ["ok", "👩\u200d💻", "👍🏽", "🇩🇪", "1\ufe0f\u20e3"]),
    "apostrophes": ("don't, it's the dogs' l'homme", ["don't", ",", "it's", "the", "dogs", "'", "l'homme"]),
    "quotes": ('say "no \'way\' ("x")".', ["say", "“", "no", "‘", "way", "'", "(", "“", "x", '"', ")", '"', "."]),
    "amounts": ("$5, 50%, 3,000.50", ["$", "5", ",", "50", "%", ",", "3,000.50"]),
    "times": ("10:30 to 12:00:05, 1/2 or a/b", ["10:30", "to", "12:00:05", ",", "1/2", "or", "a/b"]),
    "addresses": (
        "mail a.b@c.org or https://d.org/e?f=1#g, /usr/bin.",
        ["mail", "a.b@c.org", "or", "https://d.org/e?f=1#g", ",", "/usr/bin", "."],
    ),
    "options": ("use --dry-run [-h]; -5 #tag", ["use", "--dry-run", "[", "-h", "]", ";", "-5", "#tag"]),
    "names": ("os.path at&t __init__ e-mail", ["os.path", "at&t", "__init__", "e-mail"]),
    "operators": ("x -> y -- a == b", ["x", "->", "y", "--", "a", "==", "b"]),
}
"""Name -> (text in lower case, spaced as people write; its tokens)."""

SAME = {
    "decomposed": (unicodedata.normalize("NFD", "Été à Noël, Tiếng Việt"), "été à noël, tiếng việt"),
    "Turkish": ("\u0130stanbul I\u011fd\u0131r", "istanbul i\u011fd\u0131r"),
    "decomposed Turkish": ("I\u0307stanbul", "istanbul"),
    "a letter that has no composed capital": ("J\u030cH\u0331", "\u01f0\u1e96"),
    "a soft hyphen": ("exam\u00adple", "example"),
    "curly apostrophes": ("they don\u2019t aujourd\u02bchui \u2019tis", "they don't aujourd'hui 'tis"),
    "curly quotes": ("\u201cno \u2018way\u2019\u201d", "\"no 'way'\""),
    "German quotes": ("\u201eja\u201c", '"ja"'),
    "writing direction": ("\u200f\u05e9\u05dc\u05d5\u05dd\u200e", "\u05e9\u05dc\u05d5\u05dd"),
    "a byte-order mark": ("\ufeffthe", "the"),
    "line ends": ("the cat\r\na dog\rthe\n", "the cat\na dog\nthe\n"),
    "a hyphen that keeps a line together": ("e\u2011mail", "e-mail"),
}
"""Name -> (text, another text with the same tokens)."""
