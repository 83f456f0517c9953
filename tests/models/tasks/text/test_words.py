"""Where characters and words end. A bar stands at every position that cuts none."""

# ruff: noqa: RUF001 (letters of other scripts are what is tested)

import time
import unicodedata

import pytest

from models.tasks.text.words import align, is_inside_character, is_inside_word

CHARACTERS = [
    "A|n|d|r|e\u0301|,",
    "n\u0303|o",
    "e\u0301\u0323\u0302|x",
    "❤\ufe0f|!",
    "1\ufe0f\u20e3|2",
    "👍🏽|👍",
    "👩\u200d💻|x",
    "👩🏽\u200d❤\ufe0f\u200d👨🏻|👩",
    "🏳\ufe0f\u200d⚧\ufe0f|x",
    "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f|a",
    "🇩🇪|🇫🇷|🇪|a",
    "한|국",
    unicodedata.normalize("NFD", "한") + "|" + unicodedata.normalize("NFD", "국"),
    "각|가",
    "개\u1161|가",
    "객\u11a8|\u1161",
    "क्षि|क|त",
    "क्\u200dष|a",
    "கா|க",
    "ก็|กำ",
    "か\u3099|は",
    "ﾊﾞ|ﾊ",
    "م|ی\u200c|خ",
    "\r\n|\n",
    "a| |\u0301|b",  # a mark behind a space belongs to nothing
    "a|\u200b|b",
    "a|\u00ad|b",
]
WORDS = [
    "The| |firmware|.",
    "Andre\u0301e|,",
    "in| |1871|,| |then",
    "1,000.5| |x",
    "10.0.0.1|.",
    "1|,| |2",
    "end|.|Next",
    "Ada|'|s",
    "well|-|known",
    "iPhone15|手|机",
    "東|京|都",
    "カ|タ|カ|ナ",
    "か\u3099|い",
    "กำ|ลั|ง",
    "서울에| |가",
    "क्षिति|।",
    "می\u200cخواهم| |x",
    "fire\u00adware|.",
    "fire\u200dware",
    "ware\u200d|.",
    "a|\u200b|b",
    "a|\u00ad",
    "x\u0301y\u0302z|!",
    "naïve|,",
    "٣|٫|٥",
    "٣.٥x",
    "𝒳𝒴|.",
    "👩\u200d💻|word",
]


def cuts(text: str, *, words: bool) -> str:
    """The text with a bar wherever it is not cut in two."""
    is_inside = is_inside_word if words else is_inside_character
    positions = range(1, len(text))
    return text[:1] + "".join(("" if is_inside(text, at) else "|") + text[at] for at in positions)


@pytest.mark.parametrize("marked", CHARACTERS)
def test_a_character_is_what_a_reader_sees_as_one(marked: str) -> None:
    assert cuts(marked.replace("|", ""), words=False) == marked


@pytest.mark.parametrize("marked", WORDS)
def test_a_word_is_a_run_of_letters_and_digits_or_one_character_of_scripts_without_spaces(marked: str) -> None:
    assert cuts(marked.replace("|", ""), words=True) == marked


@pytest.mark.parametrize("marked", sorted({*CHARACTERS, *WORDS}))
def test_no_word_ends_within_a_character(marked: str) -> None:
    text = marked.replace("|", "")
    inside = [at for at in range(1, len(text)) if is_inside_character(text, at)]
    assert all(is_inside_word(text, at) for at in inside)


def test_a_span_is_widened_on_both_sides_and_never_narrowed() -> None:
    text = "The firmware, e\u0301te\u0301"
    assert align(text, 6, 8, to_words=True) == (4, 12)
    assert align(text, 6, 8, to_words=False) == (6, 8)
    assert align(text, 0, 8, to_words=True) == (0, 12)
    assert align(text, 15, 16, to_words=False) == (14, 16)
    assert align(text, 14, 15, to_words=True) == (14, len(text))
    assert align(text, 0, len(text), to_words=True) == (0, len(text))


def test_text_made_to_be_slow_takes_no_longer_than_its_length() -> None:
    begun = time.process_time()
    invisible = ("a" + "\u00ad" * 20_000 + "b", "a" + "\u2060\u0301" * 10_000 + "b")
    for text in ("a" * 20_000, "🇩" * 20_000, "a" + "\u0301" * 20_000, "क्" * 10_000, "1," * 10_000, *invisible):
        align(text, len(text) // 2, len(text) // 2 + 1, to_words=True)
    assert time.process_time() - begun < 5  # quadratic would be minutes
