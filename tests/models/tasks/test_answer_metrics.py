"""Answers against gold answers, with figures of the official scripts."""

# ruff: noqa: RUF001 - characters that look like others are what is tested here

import unicodedata

import pytest

from models.tasks.answer_metrics import Language, exact_match, f1, normalize_answer


def test_normalization_drops_case_punctuation_and_articles() -> None:
    assert normalize_answer(" The  Eiffel-Tower, a landmark! ") == "eiffeltower landmark"


def test_metrics_follow_the_official_script() -> None:
    assert exact_match("the cat", ["Cat."]) == 1.0
    assert exact_match("a cat sat", ["cat"]) == 0.0
    assert f1("the black cat", ["cat", "dog"]) == pytest.approx(2 / 3)
    assert f1("", ["cat"]) == 0.0
    assert exact_match("", []) == f1("", []) == 1.0
    assert f1("anything", []) == 0.0


@pytest.mark.parametrize("language", ["en", "de", "zh", "th"])
def test_gold_answers_that_normalize_to_nothing_are_dropped(language: Language) -> None:
    """With them, any article or full stop would be right beside an answer that says something."""
    golds = ["...", "1843"]
    assert exact_match(".", golds, language) == f1(".", golds, language) == 0.0
    assert exact_match("1843", golds, language) == f1("1843", golds, language) == 1.0
    assert exact_match("", ["..."], language) == f1("", ["..."], language) == 1.0
    assert exact_match("1843", ["..."], language) == f1("1843", ["..."], language) == 0.0


@pytest.mark.parametrize("language", ["en", "es", "vi", "hi", "ja"])
@pytest.mark.parametrize("text", ["André", "những năm", "가나", "が"])
def test_composed_and_decomposed_texts_are_the_same(text: str, language: Language) -> None:
    decomposed = unicodedata.normalize("NFD", text)
    assert decomposed != text
    assert exact_match(text, [decomposed], language) == exact_match(decomposed, [text], language) == 1.0
    assert f1(f"{decomposed} x", [f"y {text}"], language) == f1(f"{text} x", [f"y {text}"], language) > 0.0


@pytest.mark.parametrize("quoted", ["“Hamlet”", "‘Hamlet’", "„Hamlet“", "«Hamlet»", "‹Hamlet›", '"Hamlet"', "'Hamlet'"])
@pytest.mark.parametrize("language", ["en", "de"])
def test_typographic_quotes_are_punctuation(quoted: str, language: Language) -> None:
    assert exact_match(quoted, ["Hamlet"], language) == f1(quoted, ["Hamlet"], language) == 1.0


def test_an_apostrophe_is_punctuation_in_either_form() -> None:
    assert exact_match("the king’s speech", ["king's speech"]) == 1.0


def test_english_keeps_all_that_squad_keeps() -> None:
    assert normalize_answer("1914–18, £5 … 5′") == "1914–18 £5 … 5′"


@pytest.mark.parametrize(
    ("language", "text", "normalized"),
    [  # as MLQA's script has them
        ("zh", "北京大学，1898年。", "北 京 大 学 1898 年"),
        ("zh", "the Beatles乐队", "the beatles 乐 队"),
        ("de", "Die Straße, „am Ufer“ – des Rheins!", "straße am ufer rheins"),
        ("es", "¿La casa de los Ángeles?", "casa de ángeles"),
        ("vi", "những người của Hà Nội", "người hà nội"),
        ("ar", "في القاهرة، مصر", "في قاهرة مصر"),
        ("hi", "नई दिल्ली।", "नई दिल्ली"),
        ("de", "The Beatles", "the beatles"),
    ],
)
def test_other_languages_are_normalized_as_mlqa_does(language: Language, text: str, normalized: str) -> None:
    assert normalize_answer(text, language) == normalized


@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        ("ja", "東京タワー、1958年", ["東", "京", "タ", "ワ", "ー", "1958", "年"]),
        ("th", "กรุงเทพฯ 1782", ["ก", "รุ", "ง", "เ", "ท", "พ", "ฯ", "1782"]),
        ("lo", "ວຽງຈັນ", ["ວ", "ຽ", "ງ", "ຈັ", "ນ"]),
        ("my", "ရန်ကုန်", ["ရ", "န်", "ကု", "န်"]),
        ("km", "ភ្នំពេញ", ["ភ្", "នំ", "ពេ", "ញ"]),
    ],
)
def test_other_scripts_without_spaces_are_cut_into_characters_with_their_marks(
    language: Language, text: str, words: list[str]
) -> None:
    assert normalize_answer(text, language).split() == words


def test_part_of_an_answer_without_spaces_counts_in_part() -> None:
    assert f1("北京大学", ["北京"]) == 0.0  # by SQuAD's normalization each is one word
    assert f1("北京大学", ["北京"], "zh") == pytest.approx(2 * 2 / (4 + 2))
    assert exact_match("北京。", ["北京"], "zh") == 1.0
    assert f1("กรุงเทพฯ", ["กรุงเทพ"], "th") == pytest.approx(2 * 6 / (7 + 6))
