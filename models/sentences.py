"""Cuts files of any kind into sentences, for training without labels."""

import re
from pathlib import Path

from models.files import Reading, kind_of, read_lines, read_table, texts_of
from models.squad import read_squad

# A full stop before a capital, or, in tokenized text, which is often lower-case, one that stands between spaces.
SENTENCE_END = re.compile(r"""(?:(?<=[.!?])|(?<=[.!?]["')]))\s+(?=["'(]*[A-Z0-9])|(?<=\s[.!?])\s+(?=\w)""")


def read_sentences(path: Path, reading: Reading | None = None) -> list[str]:
    """Read the distinct sentences of a file in their order: question answering data (contexts and questions), a table
    separated by tabs (every text column) or plain text, one paragraph a line. The suffix says which it is.

    Raises: DataError.
    """
    reading = reading or Reading()
    kind = kind_of(path)
    if kind == "json":
        paragraphs = [text for example in read_squad(path, reading) for text in (example.context, example.question)]
    elif kind == "table":
        table = read_table(path, reading)
        paragraphs = texts_of(table)
        table.settle(reading, len(table.rows))
    else:
        paragraphs = list(read_lines(path))
    sentences = [sentence for paragraph in dict.fromkeys(paragraphs) for sentence in SENTENCE_END.split(paragraph)]
    return list(dict.fromkeys(sentence.strip() for sentence in sentences if sentence.strip()))
