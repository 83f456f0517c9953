"""Question answering data in the shapes that it comes in, and what is wrong with it in words."""

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from models.data import DataError
from models.files import Reading
from models.squad import QAExample, read_squad

CONTEXT = "Ada Lovelace wrote the first program in 1843."
ROW = {"id": "a", "context": CONTEXT, "question": "Who?", "answers": {"text": ["Ada"], "answer_start": [0]}}
ADA = {"text": "Ada", "answer_start": 0}


def squad(*qas: object, context: object = CONTEXT) -> dict[str, Any]:
    return {"data": [{"title": "Ada", "paragraphs": [{"context": context, "qas": list(qas)}]}]}


def question(**fields: object) -> dict[str, object]:
    return {"id": "a", "question": "Who?", "answers": [ADA]} | fields


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(content: object, name: str = "squad.json") -> Path:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return write


Write = Callable[..., Path]


def test_squad_is_read_with_its_unanswerable_questions(write: Write) -> None:
    first, second = read_squad(
        write(squad(question(question="Who? "), {"id": "b", "question": "Why?", "answers": [], "is_impossible": True}))
    )
    assert first == QAExample("a", "Ada", "Who?", CONTEXT, ("Ada",), (0,))
    assert not first.is_impossible
    assert second.is_impossible


@pytest.mark.parametrize(
    "fields",
    [
        {"answers": [{"text": "", "answer_start": 0}], "is_impossible": False},
        {"answers": [{"text": " ", "answer_start": -1}]},
        {"answers": [{"text": "", "answer_start": None}]},
        {"answers": [{"text": ""}]},
        {"answers": {"text": [""], "answer_start": [0]}},
        {"answers": {"text": [], "answer_start": []}},
        {"answers": []},
        {"answers": [ADA], "is_impossible": True},
        {"answers": [ADA], "is_impossible": 1},
        {"answers": None, "is_impossible": True},
    ],
    ids=count(),
)
def test_an_answer_without_text_is_no_answer(write: Write, fields: dict[str, object]) -> None:
    (example,) = read_squad(write(squad(question(**fields))))
    assert example.is_impossible
    assert (example.answers, example.answer_starts) == ((), ())


def test_an_answer_without_text_beside_others_is_left_out(write: Write) -> None:
    (example,) = read_squad(write(squad(question(answers=[{"text": "", "answer_start": 0}, ADA]))))
    assert (example.answers, example.answer_starts) == (("Ada",), (0,))


@pytest.mark.parametrize("start", [40, 40.0, "40", "40.0", " 40 "], ids=repr)
def test_offsets_that_a_program_wrote_otherwise_are_taken(write: Write, start: object) -> None:
    (example,) = read_squad(write(squad(question(answers=[{"text": "1843", "answer_start": start}]))))
    assert example.answer_starts == (40,)
    assert isinstance(example.answer_starts[0], int)


@pytest.mark.parametrize("identity", [7, "7"], ids=repr)
def test_an_id_may_be_a_number(write: Write, identity: object) -> None:
    assert read_squad(write(squad(question(id=identity))))[0].id == "7"


def answer(**fields: object) -> dict[str, object]:
    return {"answers": [ADA | fields]}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (answer(answer_start=4), "'Ada' does not stand at answer_start 4"),
        (answer(answer_start=len(CONTEXT)), "'Ada' does not stand at answer_start 45, but at 0"),
        (answer(answer_start=1e300), "the answer_start of 'Ada' is behind the context, which has 45 characters"),
        (answer(text=".", answer_start=-1), "`answer_start` is -1, and must be a whole number from 0 on"),
        (answer(answer_start=None), "`answer_start` is missing or null, and must be a whole number from 0 on"),
        (answer(answer_start="four"), "`answer_start` is 'four', and must be"),
        (answer(answer_start=0.5), "`answer_start` is 0.5, and must be"),
        (answer(answer_start="9" * 5000), "`answer_start` is '9999"),
        (answer(answer_start=True), "`answer_start` is true, and must be"),
        (answer(answer_start=float("nan")), "`answer_start` is NaN, and must be"),
        (answer(answer_start=float("inf")), "`answer_start` is Infinity, and must be"),
        (answer(answer_start=[0]), "`answer_start` is a list, and must be"),
        (answer(text=1843), "`text` is 1843, and must be text"),
        (answer(text=None), "`text` is missing or null, and must be text"),
        (answer(text={"a": 1}), "`text` is an object, and must be text"),
        ({"answers": None}, "`answers` is missing or null, and must be a list of objects"),
        ({"answers": ["Ada"]}, "`answers` lists something other than objects"),
        ({"answers": [[ADA]]}, "`answers` lists something other than objects"),
        ({"answers": "Ada"}, "`answers` is 'Ada', and must be a list of objects"),
        (
            {"answers": {"text": ["Ada"], "answer_start": []}},
            "`text` and `answer_start` of `answers` are not",
        ),
        ({"question": None}, "`question` is missing or null, and must be text"),
        ({"question": " \n"}, "`question` is blank"),
        ({"question": 3}, "`question` is 3, and must be text"),
        ({"question": "\ud83d?"}, "`question` holds half of a surrogate pair"),
        ({"is_impossible": "False"}, "`is_impossible` is 'False', and must be true or false"),
        ({"is_impossible": "true"}, "`is_impossible` is 'true', and must be true or false"),
        ({"is_impossible": 2}, "`is_impossible` is 2, and must be true or false"),
        ({"is_impossible": []}, "`is_impossible` is a list, and must be true or false"),
    ],
    ids=count(),
)
def test_a_field_of_a_wrong_type_is_told_with_file_question_and_field(
    write: Write, fields: dict[str, object], message: str
) -> None:
    for content in (squad(question(**fields)), [ROW | fields]):
        with pytest.raises(DataError) as caught:
            read_squad(write(content))
        assert f"squad.json: question a: {message}" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize("context", [None, 3, ["Ada"]])
def test_a_context_that_is_no_text_is_told_for_its_questions(write: Write, context: object) -> None:
    with pytest.raises(DataError, match=r"squad\.json: question a: `context` is .*, and must be text"):
        read_squad(write(squad(question(), context=context)))


@pytest.mark.parametrize("identity", [None, "", True, 1.5, ["a"]])
def test_a_question_without_an_id_is_told_by_its_number(write: Write, identity: object) -> None:
    with pytest.raises(DataError, match=r"squad\.json: question number 2: `id` is "):
        read_squad(write(squad(question(), question(id=identity))))
    with pytest.raises(DataError, match=r"squad\.json: entry 2: `id` is "):
        read_squad(write([ROW, ROW | {"id": identity}]))


@pytest.mark.parametrize("title", [None, 7, ""])
def test_a_title_may_be_missing_or_a_number(write: Write, title: object) -> None:
    assert read_squad(write([ROW | {"title": title}]))[0].title == ("" if title is None else str(title))


def test_a_title_of_another_type_is_refused(write: Write) -> None:
    with pytest.raises(DataError, match="question a: `title` is a list"):
        read_squad(write([ROW | {"title": ["Ada"]}]))


@pytest.mark.parametrize(("start", "units"), [(6, "UTF-16 code units, as JavaScript's"), (8, "bytes"), (5, None)])
def test_offsets_in_other_units_are_told_as_such(write: Write, start: int, units: str | None) -> None:
    content = [ROW | {"context": "\U0001f642 is Ada.", "answers": [ADA | {"answer_start": start}]}]
    if units is None:
        assert read_squad(write(content))[0].answer_starts == (5,)
    else:
        with pytest.raises(DataError, match=f"question a: the answer_start of 'Ada' counts {units}; count code points"):
            read_squad(write(content))


def test_a_blank_context_is_refused(write: Write) -> None:
    with pytest.raises(DataError, match="question a: `context` is blank"):
        read_squad(write(squad(question(answers=[]), context=" ")))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", f"{json.dumps(ROW)}\n\n{json.dumps(ROW | {'id': 'b'})}\n"),
        ("rows.json", f"{json.dumps(ROW)}\n{json.dumps(ROW | {'id': 'b'})}"),
        ("rows.JSONL", json.dumps([ROW, ROW | {"id": "b"}])),
        ("rows.json", json.dumps([ROW, ROW | {"id": "b"}], indent=2)),
        ("rows.json", json.dumps({"version": "1", "data": [ROW, ROW | {"id": "b"}]})),
        ("articles.jsonl", "\n".join(json.dumps(squad(question(id=name))["data"][0]) for name in "ab")),
        ("articles.json", json.dumps(squad(question(), question(id="b"))["data"])),
        ("paragraphs.json", json.dumps(squad(question(), question(id="b"))["data"][0]["paragraphs"])),
        ("columns.json", json.dumps({key: [value] * 2 for key, value in ROW.items()} | {"id": ["a", "b"]})),
        (
            "pandas.json",
            json.dumps({key: {"0": value, "7": value} for key, value in ROW.items()} | {"id": {"0": "a", "7": "b"}}),
        ),
        ("marked.json", "\ufeff" + json.dumps(squad(question(), question(id="b")))),
        ("marked.jsonl", "\ufeff" + "\r\n".join(json.dumps(ROW | {"id": name}) for name in "ab")),
    ],
    ids=count(),
)
def test_other_shapes_of_the_same_data_are_read(write: Write, name: str, content: str) -> None:
    examples = read_squad(write(content, name))
    assert [(example.id, example.answers, example.answer_starts) for example in examples] == [
        ("a", ("Ada",), (0,)),
        ("b", ("Ada",), (0,)),
    ]
    assert {example.context for example in examples} == {CONTEXT}


def test_a_row_may_stand_alone_and_list_its_answers_as_squad_does(write: Write) -> None:
    (example,) = read_squad(write(ROW | {"answers": [ADA], "title": "T"}, "one.jsonl"))
    assert example == QAExample("a", "T", "Who?", CONTEXT, ("Ada",), (0,))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "no json", "is not SQuAD JSON: what stands at line 1, column 1 is not JSON"),
        ("a.json", '{"data": [{]}', "is not SQuAD JSON: what stands at line 1, column 12 is not JSON"),
        ("a.json", '{"data": [{}]}', "is not SQuAD JSON: entry 1 is neither an article nor a question"),
        ("a.json", '{"data": 3}', "is not SQuAD JSON: entry 1 is neither an article nor a question"),
        ("a.json", "3", "is not SQuAD JSON: it holds no list"),
        ("a.json", "[3]", "is not SQuAD JSON: entry 1 is neither"),
        ("a.json", '[{"paragraphs": 3}]', "is not SQuAD JSON: `paragraphs` of entry 1 is not a list of objects"),
        ("a.json", '[{"paragraphs": [{}]}]', "is not SQuAD JSON: `qas` of entry 1 is not a list of objects"),
        ("a.json", "[" * 100_000, "is not SQuAD JSON: its JSON has a number or a nesting"),
        ("a.json", "[" + "9" * 10_000 + "]", "is not SQuAD JSON: its JSON has a number or a nesting"),
        ("a.json", "[]", "holds no question"),
        ("a.json", '{"data": []}', "holds no question"),
        ("a.json", json.dumps(squad()), "holds no question"),
        ("a.json", "", "is empty"),
        ("a.json", "\ufeff \n", "is empty"),
        ("a.csv", "id,context\n1,Ada\n", "is not SQuAD JSON: it is a table"),
        ("a.json", "id,context,question\n1,Ada,Who?\n", "is not SQuAD JSON: it is a table"),
        ("a.json", '"question"\t"context"\nWho?\tAda\n', "is not SQuAD JSON: it is a table"),
        ("a.json", json.dumps([{"id": 1, "data": {"text": "Ada"}, "annotations": []}]), "an export of Label Studio"),
        ("a.json", json.dumps({"id": 1, "data": {"text": "Ada"}, "annotations": []}), "an export of Label Studio"),
        ("a.json", json.dumps([{"text": "A", "question": "Q", "annotator": 1, "id": 1}]), "an export of Label Studio"),
        ("a.json", json.dumps(ROW | {"id": ["a"]}), "entry 1: `id` is a list"),
    ],
    ids=count(),
)
def test_other_files_are_refused_in_words(write: Write, name: str, content: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_squad(write(content, name))
    assert name in str(caught.value)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.json"):
        read_squad(tmp_path / "absent.json")


def test_another_encoding_is_told_by_its_place_alone(tmp_path: Path) -> None:
    path = tmp_path / "latin.json"
    text = json.dumps(squad(question(), context=CONTEXT + " Zürich" * 1000), ensure_ascii=False)
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError) as caught:
        read_squad(path)
    assert str(caught.value) == f"{path} is not UTF-8 at byte {text.index('ü')} (line 1); save it as UTF-8"


def test_all_wrong_questions_are_counted_and_the_first_five_shown(write: Write) -> None:
    wrong = [question(id=f"q{number}", answers=[ADA | {"answer_start": 1}]) for number in range(500)]
    with pytest.raises(DataError) as caught:
        read_squad(write(squad(question(), *wrong)))
    message = str(caught.value)
    assert (
        "squad.json: 500 questions cannot be used: question q0: 'Ada' does not stand at answer_start 1, but at 0; "
        in message
    )
    assert message.count("does not stand") == 5
    assert message.endswith("and 495 more; correct them, or give --skip-bad to go on without them")


def test_wrong_questions_are_left_out_on_request_and_counted(write: Write) -> None:
    reading = Reading(skip_bad=True)
    content = [ROW, ROW | {"id": "b", "question": None}, ROW | {"id": "c"}]
    path = write(content)
    examples = read_squad(path, reading)
    assert [example.id for example in examples] == ["a", "c"]
    assert reading.skipped == {path: 1}


def test_lines_that_are_no_json_are_counted_among_the_wrong(write: Write) -> None:
    path = write(f"{json.dumps(ROW)}\n{{\n", "rows.jsonl")
    with pytest.raises(DataError, match=r"rows\.jsonl: line 2: it is not JSON; correct it, or give --skip-bad"):
        read_squad(path)
    assert len(read_squad(path, Reading(skip_bad=True))) == 1
