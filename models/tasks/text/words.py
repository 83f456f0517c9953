"""Finds where characters, as readers see them, and words of a text begin and end."""

import unicodedata
from functools import partial

ZERO_WIDTH_JOINER = "\u200d"
ZERO_WIDTH_SPACE = "\u200b"  # separates words in scripts that write no spaces
# Beside combining marks, what belongs to the character before it: joiners, skin tones, tags of flags, the voiced marks
# of halfwidth Katakana, a vowel of Thai and of Lao.
EXTENDING = frozenset(
    map(chr, (0x200C, 0x200D, *range(0x1F3FB, 0x1F400), *range(0xE0020, 0xE0080), 0xFF9E, 0xFF9F, 0x0E33, 0x0EB3))
)
MARKS = frozenset({"Mn", "Mc", "Me"})
SYMBOLS = frozenset({"So", "Sm", "Sk", "Cn"})  # emoji; the newest are not yet in Python's tables
REGIONAL_INDICATORS = "".join(map(chr, range(0x1F1E6, 0x1F200)))  # two make a flag
# Signs that join the consonants around them: Devanagari, Bengali, Gujarati, Oriya, Telugu, Malayalam.
VIRAMAS = frozenset("\u094d\u09cd\u0acd\u0b4d\u0c4d\u0d4d")
SYLLABLES = range(0xAC00, 0xD7A4)  # Hangul, composed
LEADS = (range(0x1100, 0x1160), range(0xA960, 0xA97D))
VOWELS = (range(0x1160, 0x11A8), range(0xD7B0, 0xD7C7))
TAILS = (range(0x11A8, 0x1200), range(0xD7CB, 0xD7FC))
NUMBER_SEPARATORS = ".,"
# Scripts without spaces between words; of these, a character is a word here.
WITHOUT_SPACES = (
    range(0x0E00, 0x0F00),  # Thai, Lao
    range(0x0F00, 0x10A0),  # Tibetan, Myanmar
    range(0x1780, 0x1800),  # Khmer
    range(0x1950, 0x19E0),  # Tai Le, New Tai Lue
    range(0x1A20, 0x1AB0),  # Tai Tham
    range(0x2E80, 0x3100),  # radicals, Hiragana, Katakana
    range(0x3100, 0x3130),  # Bopomofo
    range(0x31A0, 0xA4D0),  # Katakana, Han, Yi
    range(0xA980, 0xA9E0),  # Javanese
    range(0xAA60, 0xAA80),  # Myanmar
    range(0xAA80, 0xAAE0),  # Tai Viet
    range(0xF900, 0xFB00),  # Han
    range(0xFF66, 0xFFA0),  # Katakana
    range(0x1B000, 0x1B300),  # Kana
    range(0x20000, 0x34000),  # Han
)


def align(text: str, start: int, end: int, *, to_words: bool) -> tuple[int, int]:
    """Widen a span, which is not empty, until it cuts no character, or no word, in two."""
    is_inside = _Words(text).is_inside if to_words else partial(is_inside_character, text)
    while is_inside(start):
        start -= 1
    while is_inside(end):
        end += 1
    return start, end


def is_inside_character(text: str, position: int) -> bool:
    """Tell whether what stands before and after the position is one character to a reader.

    These are the extended grapheme clusters of UAX #29, but for a mark behind a space, which belongs to nothing, and
    for the few signs that are written before their character (prepended marks of Arabic and Indic scripts).
    """
    if not 0 < position < len(text):
        return False
    before, after = text[position - 1], text[position]
    if before < "\x80" and after < "\x80":
        return before == "\r" and after == "\n"
    if _extends(after):
        return not before.isspace() and (before in EXTENDING or unicodedata.category(before) not in ("Cc", "Cf"))
    if before == ZERO_WIDTH_JOINER and unicodedata.category(after) in SYMBOLS:
        joined = _base_before(text, position)
        return joined >= 0 and unicodedata.category(text[joined]) in SYMBOLS
    if before == ZERO_WIDTH_JOINER or before in VIRAMAS:
        return _joins_consonants(text, position)
    if after in REGIONAL_INDICATORS and before in REGIONAL_INDICATORS:
        preceding = text[:position]
        return (len(preceding) - len(preceding.rstrip(REGIONAL_INDICATORS))) % 2 == 1
    return _is_one_syllable(ord(before), ord(after))


def is_inside_word(text: str, position: int) -> bool:
    """Tell whether the position cuts a word.

    A word is a run of letters and digits with their marks; invisible signs do not end it, and a point or a comma
    between two digits does not either. Apostrophes and hyphens do, as they do for BERT's tokenizer. In scripts that
    write no spaces a character is a word.
    """
    return _Words(text).is_inside(position)


class _Words:
    """Tells of positions in a text whether they cut a word.

    All positions between two characters that are not passed over have the same two as their neighbours. They are kept
    from one position to the next: a text may be a million invisible signs, which are then walked over once.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._run = range(0)  # positions whose neighbours are known
        self._neighbours = "", ""

    def is_inside(self, position: int) -> bool:
        text = self._text
        if not 0 < position < len(text):
            return False
        left, right = text[position - 1], text[position]
        if left < "\x80" and right < "\x80" and left.isalnum() and right.isalnum():
            return True
        if is_inside_character(text, position):
            return True
        if position not in self._run:
            self._find_neighbours(position)
        left, right = self._neighbours
        if not left or not right:
            return False
        if left.isalnum() and right.isalnum():
            return not _is_without_spaces(left) and not _is_without_spaces(right)
        if right in NUMBER_SEPARATORS:
            return left.isdigit() and text[position + 1 : position + 2].isdigit()
        if left in NUMBER_SEPARATORS:
            return right.isdigit() and text[position - 2 : position - 1].isdigit()
        return False

    def _find_neighbours(self, position: int) -> None:
        before, after = _base_before(self._text, position), _base_after(self._text, position)
        self._run = range(before + 1, after + 1)
        self._neighbours = self._text[before : before + 1] if before >= 0 else "", self._text[after : after + 1]


def _extends(character: str) -> bool:
    return character in EXTENDING or unicodedata.category(character) in MARKS


def _is_passed_over(character: str) -> bool:
    """Tell whether a character stands in a word without being a part of it, like a soft hyphen, or a mark."""
    if character < "\x80" or character == ZERO_WIDTH_SPACE:
        return False
    return _extends(character) or unicodedata.category(character) == "Cf"


def _base_before(text: str, position: int) -> int:
    """Find the last character before a position that is not passed over; -1 if there is none."""
    while position and _is_passed_over(text[position - 1]):
        position -= 1
    return position - 1


def _base_after(text: str, position: int) -> int:
    """Find the first character from a position on that is not passed over; the text's length if there is none."""
    while position < len(text) and _is_passed_over(text[position]):
        position += 1
    return position


def _is_without_spaces(character: str) -> bool:
    return character >= "\u0e00" and any(ord(character) in script for script in WITHOUT_SPACES)


def _joins_consonants(text: str, position: int) -> bool:
    """Tell whether a virama, with or without a joiner, stands between two letters (UAX #29, GB9c)."""
    virama = position - 2 if text[position - 1] == ZERO_WIDTH_JOINER else position - 1
    if virama < 1 or text[virama] not in VIRAMAS or unicodedata.category(text[position]) != "Lo":
        return False
    joined = _base_before(text, virama)
    return joined >= 0 and unicodedata.category(text[joined]) == "Lo"


def _is_one_syllable(before: int, after: int) -> bool:
    """Tell whether two signs of Hangul belong to one syllable (UAX #29, GB6 to GB8)."""
    if any(before in block for block in LEADS):
        return after in SYLLABLES or any(after in block for block in (*LEADS, *VOWELS))
    is_open = before in SYLLABLES and (before - SYLLABLES.start) % 28 == 0
    if is_open or any(before in block for block in VOWELS):
        return any(after in block for block in (*VOWELS, *TAILS))
    if before in SYLLABLES or any(before in block for block in TAILS):
        return any(after in block for block in TAILS)
    return False
