"""The words that names and docstrings avoid (`python -m deploy.words`)."""

import pytest

from deploy.words import Word, Words, check

WORDS = Words(
    (
        Word.parse("letters?", "dead letter", "the term of Kafka", unless="dead_letters?", **{"in": "names"}),
        Word.parse("told", "published", "facts are published"),
    ),
    ("old", "a/b_*"),
)


@pytest.mark.parametrize(
    ("source", "line", "name"),
    [
        ("\ndef bury_letter():\n    pass\n", 2, "bury_letter"),
        ("class LetterBox:\n    pass\n", 1, "LetterBox"),
        ("def f(a,\n      letter): ...\n", 2, "letter"),
        ("x = 1\nfor letters in x: ...\n", 2, "letters"),
        ("self.letter = 1\n", 1, "letter"),
        ("import a as letter\n", 1, "letter"),
        ("try: ...\nexcept OSError as letter: ...\n", 2, "letter"),
        ("LETTER = 1\nLETTER = 2\n", 1, "LETTER"),
    ],
)
def test_word_in_a_defined_name_is_reported_once_with_line_and_replacement(source, line, name):
    (problem,) = WORDS.problems(source, "m.py")
    assert problem.startswith(f"m.py:{line}: 'letter")
    assert problem.endswith(f"in identifier {name}: say dead letter (the term of Kafka)")


def test_word_in_a_module_name_is_reported():
    assert list(WORDS.problems("", "a/told.py")) == [
        "a/told.py:1: 'told' in identifier told: say published (facts are published)"
    ]


def test_word_in_a_docstring_is_reported_with_its_own_line():
    source = 'class A:\n    """First.\n\n    What is told.\n    """\n\n    a: int\n    """Told."""\n'
    assert [one.split(" in ")[0] for one in WORDS.problems(source, "m.py")] == ["m.py:4: 'told'", "m.py:8: 'told'"]


@pytest.mark.parametrize(
    "source",
    [
        "dead_letter = DeadLetter = dead_letters = 1",  # the right term
        "def newsletter(): ...",  # part of another word
        '"""Write lower-case letters."""',  # names only
        "print(letter)",  # defined elsewhere
        "x = 'told'  # told",  # a text and a comment
    ],
)
def test_right_use_passes(source):
    assert list(WORDS.problems(source, "m.py")) == []


def test_paths_not_clean_yet_are_left_out(tmp_path):
    files = [tmp_path / name for name in ("old/a.py", "a/b_c.py", "older.py")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.write_text("told = 1\n")
    assert check(files, WORDS, tmp_path) == [
        "older.py:1: 'told' in identifier told: say published (facts are published)"
    ]


def test_every_word_of_the_project_names_a_replacement_and_a_reason():
    words = Words.load().words
    assert words
    assert all(one.say and one.reason for one in words)
