"""Headers and authorization areas: what is malformed is a ParseError, never anything else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.structures import of
from tests.support.templates import SIGNING

from tpmhsm.errors import ParseError, UsageError
from tpmhsm.wire import commands
from tpmhsm.wire.codec import encode
from tpmhsm.wire.commands import (
    CreatePrimary,
    GetRandom,
    GetRandomResponse,
    PolicyNV,
    ReadPublic,
    Sign,
)
from tpmhsm.wire.constants import ALG, CC, EO, RH
from tpmhsm.wire.framing import (
    Command,
    Reply,
    build,
    encode_command,
    encode_handles,
    encode_parameters,
    handles_of,
    layout_of,
    parse_auth_area,
    parse_header,
    parse_response,
    split_response,
)
from tpmhsm.wire.structures import NULL_HASHCHECK, NULL_SCHEME

COMMANDS = [
    kind for name in commands.__all__ if issubclass(kind := getattr(commands, name), Command)
]
PASSWORD_ANSWER = bytes.fromhex("0000010000")


def answer(body: bytes, tag: int = 0x8001, rc: int = 0) -> bytes:
    return (
        tag.to_bytes(2, "big") + (10 + len(body)).to_bytes(4, "big") + rc.to_bytes(4, "big") + body
    )


def test_a_command_in_full() -> None:
    command = Sign(0x80000001, b"ab", NULL_SCHEME, NULL_HASHCHECK)
    area = bytes.fromhex("400000090000000000")
    assert encode_command(command, area).hex() == (
        "8002" "00000029" "0000015d" "80000001" "00000009" "400000090000000000"
        "00026162" "0010" "8024400000070000"
    )  # fmt: skip
    assert encode_command(GetRandom(8)).hex() == "80010000000c0000017b0008"


def test_layouts() -> None:
    layout = layout_of(PolicyNV)
    assert (layout.auths, layout.handles) == (1, ("auth_handle", "nv_index", "policy_session"))
    assert layout.encryptable
    command = PolicyNV(RH.OWNER, 0x01800000, 0x03000000, b"", 0, EO.EQ)
    assert handles_of(command) == (RH.OWNER, 0x01800000, 0x03000000)
    assert encode_handles(command) == bytes.fromhex("400000010180000003000000")
    primary = layout_of(CreatePrimary)
    assert primary.response_handle
    assert primary.response_encryptable
    assert not layout_of(GetRandom).encryptable
    assert layout_of(GetRandom).response_encryptable
    assert not layout_of(ReadPublic).auths


def test_codes_are_those_of_the_names() -> None:
    for kind in COMMANDS:
        assert kind.CODE is CC[kind.__name__]
        assert layout_of(kind).response is kind.Response
    assert len({kind.CODE for kind in COMMANDS}) == len(COMMANDS)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "0 octets"),
        (b"\x80\x01\0\0\0\x0a\0\0\0", "9 octets"),
        (answer(b"") + b"x", "says it has 10"),
        (answer(b"", 0x8003), "tag 0x8003"),
        (b"\0" * 10, "says it has 0"),
    ],
)
def test_headers_that_are_wrong(data: bytes, words: str) -> None:
    with pytest.raises(ParseError, match=words):
        parse_header(data)


@pytest.mark.parametrize(
    ("data", "handle", "sessions"),
    [
        (answer(b""), False, True),  # no sessions in the answer to some
        (answer(b"\0\0\0\0", 0x8002), False, False),
        (answer(b"\x80\0\0"), True, False),
        (answer(b"\0\0\0", 0x8002), False, True),
        (answer(b"\0\0\0\x05abcd", 0x8002), False, True),
        (answer(b"\xff\xff\xff\xffabcd", 0x8002), False, True),
    ],
)
def test_bodies_that_are_wrong(data: bytes, handle: bool, sessions: bool) -> None:
    with pytest.raises(ParseError):
        split_response(data, handle=handle, sessions=sessions)


def test_a_response_with_sessions_in_its_parts() -> None:
    data = answer(b"\x80\0\0\x01\0\0\0\x02xy" + PASSWORD_ANSWER, 0x8002)
    reply = split_response(data, handle=True, sessions=True)
    assert reply == Reply(0, b"\x80\0\0\x01", b"xy", PASSWORD_ANSWER)
    (auth,) = parse_auth_area(reply.auth_area, 1)
    assert (auth.nonce, auth.attributes, auth.hmac) == (b"", 1, b"")
    for wrong in (b"", PASSWORD_ANSWER[:-1], PASSWORD_ANSWER + b"\0"):
        with pytest.raises(ParseError):
            parse_auth_area(wrong, 1)


def test_a_refusal_has_no_parts() -> None:
    assert split_response(answer(b"", rc=0x922), handle=True, sessions=True).rc == 0x922
    assert split_response(answer(b"", 0x00C4, rc=0x1E), handle=False, sessions=False).rc == 0x1E


@settings(max_examples=300)
@given(st.binary(max_size=64), st.booleans(), st.booleans(), st.integers(0, 3))
def test_any_octets_as_a_response(body: bytes, handle: bool, sessions: bool, count: int) -> None:
    for data in (body, answer(body, 0x8002 if sessions else 0x8001)):
        try:
            reply = split_response(data, handle=handle, sessions=sessions)
            parse_auth_area(reply.auth_area, count)
        except ParseError:
            continue


@pytest.mark.parametrize("kind", COMMANDS, ids=lambda k: k.__name__)
def test_commands_and_answers_fit_their_tables(kind: type[Command]) -> None:  # type: ignore[type-arg]
    @settings(max_examples=15, deadline=None)
    @given(of(kind), of(kind.Response), st.binary(max_size=40))
    def check(command: Command, response: object, noise: bytes) -> None:  # type: ignore[type-arg]
        data = encode_command(command)
        assert len(data) == int.from_bytes(data[2:6], "big")
        assert data == build(kind.CODE, encode_handles(command), encode_parameters(command))
        body = encode(response)  # type: ignore[arg-type]
        split = 4 if layout_of(kind).response_handle else 0
        reply = Reply(0, body[:split], body[split:], b"")
        assert parse_response(kind, reply) == response
        try:
            parsed = parse_response(kind, Reply(0, body[:split], noise, b""))
        except ParseError:
            return
        assert encode(parsed) == body[:split] + noise

    check()


def test_values_that_do_not_fit() -> None:
    with pytest.raises(UsageError):
        encode_command(GetRandom(1 << 16))
    with pytest.raises(UsageError):
        encode_handles(Sign(-1, b"", NULL_SCHEME, NULL_HASHCHECK))
    with pytest.raises(UsageError):
        encode_parameters(Sign(1, "x", NULL_SCHEME, NULL_HASHCHECK))  # type: ignore[arg-type]
    assert encode(GetRandomResponse(b"")) == b"\0\0"
    assert SIGNING.name_alg == ALG.SHA256
