# SPDX-License-Identifier: Apache-2.0
"""tests/wire/vectors.json against the msgpack package, and against docs/wire.md."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgpack
import pytest

from inventory import errors

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "wire.md").read_text(encoding="utf-8")
VECTORS: list[dict[str, Any]] = json.loads(
    (ROOT / "tests" / "wire" / "vectors.json").read_text(encoding="utf-8")
)["vectors"]


def value_of(words: Any) -> Any:
    """Make a value of the words of a vector: {"bin": hex}, {"ext": ...} and {"map": ...} are none
    of JSON's."""
    if isinstance(words, list):
        return [value_of(word) for word in words]
    if isinstance(words, dict):
        ((kind, value),) = words.items()
        if kind == "bin":
            return bytes.fromhex(value)
        if kind == "ext":
            return msgpack.ExtType(value[0], bytes.fromhex(value[1]))
        return {value_of(key): value_of(word) for key, word in value}
    return words


def unpack_all(data: bytes) -> list[Any]:
    unpacker = msgpack.Unpacker(strict_map_key=False)
    unpacker.feed(data)
    return list(unpacker)


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_words_and_bytes_say_the_same(vector: dict[str, Any]) -> None:
    for words, data in (("request", "request_hex"), ("reply", "reply_hex")):
        if vector.get(words) is None:
            continue
        values = value_of(vector[words])
        assert b"".join(msgpack.packb(value) for value in values).hex() == vector[data]
        assert unpack_all(bytes.fromhex(vector[data])) == values


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_replies_have_the_form_of_the_page(vector: dict[str, Any]) -> None:
    for reply in value_of(vector.get("reply") or []):
        version, correlation, code, lsn, mark = reply[:5]
        assert version == 1
        assert correlation is None or 0 <= correlation < 2**64
        assert code in errors.CODES
        assert lsn >= 0
        assert mark in (2, 3)


def test_names_are_unique() -> None:
    names = [vector["name"] for vector in VECTORS]
    assert len(set(names)) == len(names)


def test_every_operation_of_the_page_has_a_vector() -> None:
    operations = PAGE.split("## Errors")[0]
    ops = {int(number) for number in re.findall(r"^\| (\d+) \| `[A-Z_]+`", operations, re.M)}
    assert len(ops) > 30
    seen = {
        request[2]
        for vector in VECTORS
        if not vector["refused"]
        for request in vector["request"] or []
    }
    assert seen == ops


def test_the_page_knows_the_codes() -> None:
    errors_of_page = PAGE.split("## Errors")[1]
    for number, name in re.findall(r"^\| (\d+) \| `([A-Z_]+)` \|", errors_of_page, re.M):
        assert errors.CODES[int(number)].name == name


def test_example_of_the_page() -> None:
    lines = re.search(r"## Example.*?```text\n(.*?)```", PAGE, re.S)
    assert lines is not None
    request, _, _, reply, words = lines[1].splitlines()[:5]
    assert unpack_all(bytes.fromhex(request.replace(" ", ""))) == [
        [1, 7, 1, None, "cart-1", "TEE", "LON", 2]
    ]
    expected = json.loads(words.replace("nil", "null"))
    assert unpack_all(bytes.fromhex(reply.replace(" ", ""))) == [expected]
