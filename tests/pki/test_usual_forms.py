"""What is read or written in a quicker way, because nearly all of it has one form, is the same."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st

from tpmhsm.errors import UsageError
from tpmhsm.pki import der, facts
from tpmhsm.pki.extensions import _alternative
from tpmhsm.pki.hosts import _PLAIN, normalize_host
from tpmhsm.pki.key_checks import usual_point
from tpmhsm.pki.keys import family, load_spki, spki_der
from tpmhsm.pki.recall import SMALL, recalled
from tpmhsm.pki.sans import parse_san


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()])
def test_a_usual_point_has_one_encoding(curve: ec.EllipticCurve) -> None:
    spki = spki_der(ec.generate_private_key(curve).public_key())
    parts = der.children(der.read_whole(spki).content)
    found = usual_point(spki)
    assert found == (der.children(parts[0].content)[1].raw, parts[1].content[1:])
    assert spki_der(load_spki(spki)) == spki
    at = len(spki) - len(parts[1].content) + 1
    for changed in (
        spki[:-1],
        spki + b"\0",
        b"\x31" + spki[1:],
        spki[:at] + b"\2" + spki[at + 1 :],
    ):
        assert usual_point(changed) is None


def test_the_family_of_a_key() -> None:
    assert family(ec.generate_private_key(ec.SECP256R1()).public_key()) == "EC"
    assert family(ed25519.Ed25519PrivateKey.generate().public_key()) == "EdDSA"
    assert not family(b"no key")


@given(st.text("ab1-.*xn_0", min_size=1, max_size=70))
def test_a_plain_host_is_a_host(text: str) -> None:
    """What is taken without a look at each label passes those looks, too."""
    if "--" in text or not _PLAIN.fullmatch(text):
        return
    labels = text.split(".")
    assert all(0 < len(label) < 64 and label.strip("-") == label for label in labels)
    assert not labels[-1][0].isdigit()
    assert normalize_host(text) == text


def test_names_that_are_no_plain_hosts() -> None:
    for text in ("a.1", "a.0x1", "-a.b", "a-.b", "a..b", "a_b.c", "ab--c.d", "a." + "b" * 64):
        with pytest.raises(UsageError):
            normalize_host(text)


def test_host_names_are_written_as_cryptography_does() -> None:
    hosts = tuple(parse_san(f"dns:{host}") for host in ("a.example", "*.b.example"))
    for names in (hosts, (*hosts, parse_san("ip:192.0.2.1")), ()):
        assert _alternative(names) == x509.SubjectAlternativeName(names).public_bytes()


_SAN = der.encode(der.SEQUENCE, der.encode(0x82, b"a.example"))
_KEY = der.encode(der.OCTET_STRING, bytes(20))
_PIECES = st.sampled_from(
    [
        der.encode_extension("2.5.29.17", _SAN),
        der.encode_extension("2.5.29.17", _SAN, critical=True),
        der.encode_extension("2.5.29.17", b"\x30\x00"),
        der.encode_extension("2.5.29.17", b"broken"),
        der.encode_extension("2.5.29.14", _KEY),
        der.encode_extension("2.5.29.14", b"broken"),
        der.encode_extension("2.5.29.15", bytes.fromhex("03020780"), critical=True),
        der.encode_extension("2.5.29.19", bytes.fromhex("3000"), critical=True),
        der.encode_extension("2.5.29.37", b"broken"),
        der.encode_extension("1.2.3.4", b"", critical=True),
    ]
)


@given(st.lists(_PIECES, max_size=6))
def test_facts_of_extensions(pieces: list[bytes]) -> None:
    """The facts of what is alike in many certificates and of what is not, joined."""
    items = facts.raw_extensions(b"".join(pieces))
    found = facts.extension_facts(items)
    assert found == facts._all_facts(items)
    assert list(found) == list(facts._all_facts(items))
    found["problems"].append("of this one alone")
    assert facts.extension_facts(items) == facts._all_facts(items)


def test_what_is_recalled_is_what_was_worked_out() -> None:
    asked = []

    @recalled
    def size(data: bytes) -> int:
        asked.append(data)
        return len(data)

    every = [bytes([one, two]) for one in range(2) for two in range(256)]
    assert [size(data) for data in every] == [2] * 512
    assert size(b"\1\xff") == 2
    assert asked == every
    assert [size(bytes(SMALL + 1)) for _ in range(2)] == [SMALL + 1] * 2
    assert len(asked) == len(every) + 2
