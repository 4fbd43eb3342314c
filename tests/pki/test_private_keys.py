"""Private keys read from files: any octets give an answer or our errors. Forms are tested with the
chip in `tests/cli/test_key_import.py`.
"""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tpmhsm.errors import ParseError, TpmHsmError
from tpmhsm.pki import der
from tpmhsm.pki.private_keys import read_private_file

KEY = ec.generate_private_key(ec.SECP256R1())
PLAIN = KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
SEC1 = KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
QUICK = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(1000).build(b"pass")
P12 = pkcs12.serialize_key_and_certificates(b"x", KEY, None, None, QUICK)
SLOW = KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"pass"))


def read(data: bytes) -> object:
    return read_private_file(data, "the file", lambda _: b"pass")


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([PLAIN, SEC1, P12]), st.data())
def test_a_key_file_with_any_octet_changed(file: bytes, data: st.DataObject) -> None:
    changed = bytearray(file)
    at = data.draw(st.integers(0, len(changed) - 1))
    changed[at] ^= data.draw(st.integers(1, 255))
    try:
        read(bytes(changed))
    except TpmHsmError as error:
        assert b"PRIVATE" not in error.message.encode() or "PEM" in error.message


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=100))
def test_anything(data: bytes) -> None:
    with pytest.raises(TpmHsmError):
        read(data)


def test_a_file_that_asks_for_too_much_work() -> None:
    """Of PBKDF2, a billion rounds: refused before they begin."""
    info = der.children(der.read_whole(SLOW).content)
    scheme = der.children(info[0].content)
    parts = der.children(scheme[1].content)
    kdf = der.children(parts[0].content)
    parameters = der.children(kdf[1].content)
    parameters_der = der.encode(
        der.SEQUENCE, parameters[0].raw, der.encode_integer(10**9), *(p.raw for p in parameters[2:])
    )
    derivation = der.encode(der.SEQUENCE, kdf[0].raw, parameters_der)
    pbes2 = der.encode(der.SEQUENCE, derivation, parts[1].raw)
    algorithm = der.encode(der.SEQUENCE, scheme[0].raw, pbes2)
    with pytest.raises(ParseError) as caught:
        read(der.encode(der.SEQUENCE, algorithm, info[1].raw))
    assert caught.value.code == "too-many-iterations"


def test_the_key_is_in_no_repr() -> None:
    found = read(PLAIN)
    assert "0x" not in repr(found)
    assert "PrivateKey" not in repr(found)
