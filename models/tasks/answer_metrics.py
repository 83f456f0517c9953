"""Compares answers with gold ones: SQuAD's two metrics, and MLQA's for other languages."""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Literal

Language = Literal["en", "ar", "de", "es", "hi", "vi", "zh", "ja", "km", "lo", "my", "th"]
QUOTES = "\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\xab\xbb\u2039\u203a"  # single, double, guillemets
# MLQA's, but for the first, SQuAD's. The second takes the syllable wherever it stands, as MLQA's script does.
ARTICLES: dict[str, re.Pattern[str]] = {
    "en": re.compile(r"\b(a|an|the)\b"),
    "ar": re.compile("ال"),
    "de": re.compile(r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b"),
    "es": re.compile(r"\b(un|una|unos|unas|el|la|los|las)\b"),
    "vi": re.compile(r"\b(của|là|cái|chiếc|những)\b"),
}
# Scripts that write no spaces: each character is a word. Chinese as in MLQA's script; the others are ours.
SPACELESS = {
    "zh": "\u4e00-\u9fa5",
    "ja": "\u3005-\u3007\u3041-\u3096\u309d-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uff66-\uff9f",
    "km": "\u1780-\u17ff",
    "lo": "\u0e80-\u0eff",
    "my": "\u1000-\u109f",
    "th": "\u0e00-\u0e7f",
}
MARKS = "".join(  # of those scripts; one that follows a character belongs to it
    chr(code) for code in range(0x0E00, 0x30FF) if unicodedata.category(chr(code)).startswith("M")
)
WORDS = {language: re.compile(f"[{script}][{MARKS}]*") for language, script in SPACELESS.items()}


def normalize_answer(text: str, language: Language = "en") -> str:
    """Reduce a text to lower case without punctuation and articles, with single spaces, in composed characters (NFC).

    English is SQuAD's normalization, whose punctuation is ASCII's, and beyond it typographic quotes, which say no more
    than the straight ones. The other languages are MLQA's: all of Unicode's punctuation, the language's own articles
    if it has any, and in scripts without spaces every character is a word.

    Source: Rajpurkar et al. 2018, arXiv:1806.03822; Lewis et al. 2020, arXiv:1910.07475, section 5.
    """
    text = unicodedata.normalize("NFC", text.lower())
    text = "".join(character for character in text if not _is_punctuation(character, language))
    if language in ARTICLES:
        text = ARTICLES[language].sub(" ", text)
    if language in WORDS:
        text = WORDS[language].sub(r" \g<0> ", text)
    return " ".join(text.split())


def exact_match(prediction: str, gold_answers: Sequence[str], language: Language = "en") -> float:
    """Returns: 1.0 if the prediction equals any gold answer after normalization; no gold answers means "no answer"."""
    return float(normalize_answer(prediction, language) in _normalized(gold_answers, language))


def f1(prediction: str, gold_answers: Sequence[str], language: Language = "en") -> float:
    """Returns: the best token F1 against any gold answer (Rajpurkar et al. 2018, the official SQuAD 2.0 script)."""
    words = normalize_answer(prediction, language).split()
    return max(_word_f1(words, gold.split()) for gold in _normalized(gold_answers, language))


def _normalized(gold_answers: Sequence[str], language: Language) -> list[str]:
    """Normalize, and drop what normalizes to nothing, as the official script does. Never empty."""
    normalized = (normalize_answer(gold, language) for gold in gold_answers)
    return [gold for gold in normalized if gold] or [""]


def _is_punctuation(character: str, language: Language) -> bool:
    if character in string.punctuation:
        return True
    return character in QUOTES if language == "en" else unicodedata.category(character).startswith("P")


def _word_f1(prediction: list[str], gold: list[str]) -> float:
    if not prediction or not gold:
        return float(prediction == gold)
    shared = sum((Counter(prediction) & Counter(gold)).values())
    return 2 * shared / (len(prediction) + len(gold))
