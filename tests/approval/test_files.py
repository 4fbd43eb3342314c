"""JSON from elsewhere: what cannot be written again is refused, however it is found out."""

from __future__ import annotations

import pytest

from tpmhsm.approval.files import read_json
from tpmhsm.errors import ParseError


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":"\\ud800"}',
        b'{"a":"\\uDfff"}',
        b'{"\\ud800":1}',
        b'{"a":"' + "\ud800".encode("utf-8", "surrogatepass") + b'"}',
        b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b'{"a":1.5}',
        b'{"a":NaN}',
        b'{"a":1,"a":1}',
        b'\xef\xbb\xbf{"a":1}',
        b"[]",
        b"",
    ],
)
def test_what_is_refused(text: bytes) -> None:
    with pytest.raises(ParseError):
        read_json(text, "file", 1 << 20)


@pytest.mark.parametrize("many", [1, 150, 400])
def test_what_is_read(many: int) -> None:
    text = b'{"a":[' + b",".join([b'{"b":"\xc3\xa9\\u00e9"}'] * many) + b"]}"
    assert read_json(text, "file", 1 << 20) == {"a": [{"b": "éé"}] * many}
    with pytest.raises(ParseError, match="larger"):
        read_json(text, "file", len(text) - 1)
