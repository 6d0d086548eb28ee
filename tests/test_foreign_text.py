"""What cannot be seen is spelled out, what lays out our own texts stays."""

from __future__ import annotations

import json

import pytest

from voco_cli.foreign_text import blanked, one_line, quoted, sentence_lines, shortened, visible, visible_json


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ä 肝 ± é", "plain ä 肝 ± é"),
        ("a\nb\tc", "a\nb\tc"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\x9b31m\x85", "\\x9b31m\\x85"),
        ("\x00\x07\r\x7f", "\\x00\\x07\\r\\x7f"),
        ("\u202egpj.exe\u2066", "\\u202egpj.exe\\u2066"),
        ("a\u200b\u200d\ufeff\u00adb", "a\\u200b\\u200d\\ufeff\\xadb"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("\U000e0041", "\\U000e0041"),
        ("\udcff", "\\udcff"),
        ("\u3164", "\\u3164"),
    ],
)
def test_unseen_characters_are_spelled_out(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_a_name_is_no_line_of_ours() -> None:
    assert one_line("x\nerror: y\tz") == "x\\nerror: y\\tz"
    assert sentence_lines("2 settings:\n  a: 1\n  b: 2") == "2 settings:\n  a: 1\n  b: 2"
    assert sentence_lines("scan\nerror: all is well") == "scan\\nerror: all is well"


def test_lines_have_an_end() -> None:
    assert len(sentence_lines("x" * 5000 + "\n  " + "y" * 5000)) == 2001
    assert sentence_lines("see " + "x" * 900) == "see " + "x" * 900
    assert shortened("abcdefghij", 5) == "ab…ij"
    assert shortened("abcde", 5) == "abcde"
    assert quoted("a'b\x1b") == '"a\'b\\x1b"'
    assert len(quoted("x" * 5000)) == 100


def test_json_keeps_its_meaning() -> None:
    names = {"a\u202e\x1b\x7f\U000e0041\udcff": "肝\u2028"}
    text = visible_json(json.dumps(names, ensure_ascii=False))
    assert visible(text) == text
    assert "肝" in text
    assert json.loads(text) == names


def test_secrets_in_texts_are_blanked() -> None:
    text = "GET 'https://me:pw@host/x?sig=1&b=2' and s3:/me:pw@bucket, not a@b: or why? because"
    assert blanked(text) == "GET 'https://***@host/x?***' and s3:/***@bucket, not a@b: or why? because"
