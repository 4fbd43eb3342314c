"""Files of a malicious host: JSON and DER that two readers read differently, and too much of it."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import asn1crypto.x509
import pytest
from cryptography import x509
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.approval.doubles import World, leaf_tbs, root_tbs
from tests.approval.looking import approve, founded, look
from tests.attacks.root import declined
from tests.support.cli import Home

from tpmhsm.approval.memory import InMemory
from tpmhsm.approval.request import parse_request
from tpmhsm.approval.screen import readable
from tpmhsm.approval.votes import is_approval, parse_approval
from tpmhsm.errors import ApprovalRefusedError, ParseError
from tpmhsm.pki import der
from tpmhsm.pki.tbs import tbs_facts
from tpmhsm.policy.documents import canonical
from tpmhsm.policy.visible import escape

# ── JSON ─────────────────────────────────────────────────────────────────────────────────────────

ID, REASON = b'"id":7', b'"reason":"because"'
JSON = {
    "a key twice": (ID, b'"id":7,"id":7'),
    "a key twice, the second escaped": (ID, b'"id":7,"\\u0069d":8'),
    "a key twice, inside": (b'"label":"root"', b'"label":"root","label":"web"'),
    "a key twice, in the group": (b'"name":"officers"', b'"name":"officers","name":"others"'),
    "an unknown field": (ID, b'"id":7,"ID":8'),
    "ten thousand of them": (ID, b'"id":7,' + b",".join(b'"x%d":1' % i for i in range(10_000))),
    "a name of a megabyte": (ID, b'"id":7,"' + b"y" * 900_000 + b'":1'),
    "a fraction": (ID, b'"id":7.0'),
    "an exponent": (ID, b'"id":7e0'),
    "infinity": (ID, b'"id":1e999'),
    "NaN": (ID, b'"id":NaN'),
    "4,000 digits": (ID, b'"id":' + b"9" * 4000),
    "a million digits": (ID, b'"id":' + b"9" * 1_000_000),
    "a fraction of a million digits": (ID, b'"id":0.' + b"9" * 1_000_000),
    "beyond 64 bits": (ID, b'"id":18446744073709551616'),
    "less than nothing": (ID, b'"id":-1'),
    "true for a number": (ID, b'"id":true'),
    "a number as text": (ID, b'"id":"7"'),
    "nested lists": (REASON, b'"reason":' + b"[" * 400_000 + b"]" * 400_000),
    "nested objects": (REASON, b'"reason":' + b'{"a":' * 900 + b"1" + b"}" * 900),
    "half a surrogate pair": (REASON, b'"reason":"\\ud800"'),
    "half a pair in a name": (REASON, b'"reason":"","\\udfff":""'),
    "a raw control character": (REASON, b'"reason":"a\x1b[2J"'),
    "a raw NUL": (REASON, b'"reason":"a\0b"'),
    "no UTF-8": (REASON, b'"reason":"\xff"'),
    "UTF-8 longer than need be": (REASON, b'"reason":"\xc0\xaf"'),
    "surrogates in UTF-8": (REASON, b'"reason":"\xed\xa0\x80"'),
    "another normalisation": (b'"name":"officers"', '"name":"office\u0301rs"'.encode()),
    "hex in capitals": (b'"nonce":"', b'"nonce":"AB'),
    "base64 with line ends": (b'"content":"', b'"content":"\\n'),
    "base64 for the web": (b'"content":"', b'"content":"-_'),
    "a comment": (ID, b'"id":7/*8*/'),
    "a comma too many": (ID, b'"id":7,,'),
    "another format": (b"tpmhsm/request/1", b"tpmhsm/request/2"),
}


@pytest.mark.parametrize("what", JSON)
def test_json_that_two_readers_read_differently(world: World, what: str) -> None:
    """A parse error in a second, in few words."""
    data = world.certificate(root_tbs(world.key)).data
    old, new = JSON[what]
    assert data.count(old) >= 1 and parse_request(data)
    began = time.process_time()
    with pytest.raises(ParseError) as caught:
        parse_request(data.replace(old, new, 1))
    assert time.process_time() - began < 1
    assert caught.value.code == "parse" and len(caught.value.message) < 400


def test_other_files_in_a_requests_place(world: World) -> None:
    """Approvals as requests and the other way round, two in one file, archives: no file is unpacked
    or read as something else.
    """
    request = approve(world.certificate(), founded(world, "bob"), "bob")
    approval, data = request.approvals[0].data, request.data
    assert parse_request(data).id == parse_approval(approval).request == 7
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("7.req", data)
    others = [approval, data + data, b"\xef\xbb\xbf" + data, data.decode().encode("utf-16")]
    others += [gzip.compress(data), packed.getvalue(), b"[" + data + b"]", b"", b"null", b'"7"']
    for other in others:
        with pytest.raises(ParseError):
            parse_request(other)
    with pytest.raises(ParseError):
        is_approval(data)
    with pytest.raises(ParseError):
        parse_approval(data)


# ── size ─────────────────────────────────────────────────────────────────────────────────────────

BIG = 50 << 20
HUGE = {
    "content": lambda data: data.replace(b'"content":"', b'"content":"' + b"A" * BIG),
    "a reason": lambda data: data.replace(b"because", b"x" * BIG),
    "brackets": lambda data: b"[" * BIG,
    "zeros": lambda data: bytes(BIG),
    "beginnings": lambda data: b'"content":"' * (BIG // 11),
    "a CRL's in name": lambda data: b'{"kind":"crl"' + data.replace(b"because", b"x" * BIG),
    "a CRL": lambda data: data.replace(b'"kind":"certificate"', b'"kind":"crl"').replace(
        b'"content":"', b'"content":"' + b"A" * BIG
    ),
}
LIMITED = """
import resource, sys
from tpmhsm.cli.main import run
resource.setrlimit(resource.RLIMIT_AS, (700 << 20, 700 << 20))
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.parametrize("what", HUGE)
def test_a_file_of_fifty_megabytes(world: World, tmp_path: Path, what: str) -> None:
    """Refused in seconds, in a process that may have 700 MB and no more."""
    (tmp_path / "big.req").write_bytes(HUGE[what](world.certificate().data))
    words = ("approve", "big.req", "--as", "alice", "-i", "alice.key", "--json")
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *words],
        **Home(tmp_path).surroundings(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert time.monotonic() - began < 20
    error = json.loads(done.stdout)["error"]
    assert done.returncode == 2, error
    assert len(done.stdout) + len(done.stderr) < 2000
    assert error["code"] == ("not-found" if what == "a CRL" else "parse"), error


def test_a_crl_of_ten_megabytes_of_nothing(world: World, memory: InMemory) -> None:
    """A CRL alone may be long: what is none is refused (content-refused) in seconds."""
    for content in (bytes(10 << 20), b"\x30" * (10 << 20), b"\x30\x84\x00\x9f\xff\xfa" * (1 << 20)):
        began = time.process_time()
        with declined("content-refused"):
            look(world.request("crl", content), memory)
        assert time.process_time() - began < 5


# ── DER ──────────────────────────────────────────────────────────────────────────────────────────


def elements(data: bytes, start: int = 0) -> Iterator[tuple[tuple[int, ...], int]]:
    """Every element in DER: the places of those around it and of itself, and its tag."""
    at = 0
    while at < len(data):
        element, end = der.read(data, at)
        yield (start + at,), element.tag
        if element.tag & 0x20:
            inside = end - len(element.content)
            for path, tag in elements(element.content, start + inside):
                yield (start + at, *path), tag
        at = end


def rewritten(data: bytes, path: tuple[int, ...], change: str, start: int = 0) -> bytes:
    """The same with one element's length written otherwise, and those around it made to fit."""
    found = b""
    at = 0
    while at < len(data):
        element, end = der.read(data, at)
        content, raw = element.content, data[at:end]
        if start + at == path[0]:
            if len(path) > 1:
                inside = rewritten(content, path[1:], change, start + end - len(content))
                raw = der.encode(element.tag, inside)
            elif change == "indefinite":
                raw = bytes([element.tag, 0x80]) + content + b"\0\0"
            elif change == "long":
                raw = bytes([element.tag, 0x84]) + len(content).to_bytes(4, "big") + content
            else:
                raw = raw + bytes.fromhex(change)
        found += raw
        at = end
    return found


@pytest.mark.parametrize("change", ["long", "indefinite", "0500", "00", "0000"])
def test_der_that_is_none(world: World, memory: InMemory, change: str) -> None:
    """A length in another form, or something more, at every element of a TBSCertificate: refused
    (content-refused), or said to be odd or not shown (in the key's own parameters: weak).
    """
    honest = leaf_tbs(world.key, [x509.DNSName("www.example.com"), x509.DNSName("a.example")])
    plain = look(world.certificate(honest), memory)
    assert not {"ODD", "NOT SHOWN ABOVE", "WEAK KEY"} & {flag.head for flag in plain.content.flags}
    count = 0
    for path, tag in elements(honest):
        if change == "indefinite" and not tag & 0x20:
            continue
        count += 1
        changed = rewritten(honest, path, change)
        assert changed != honest
        try:
            found = look(world.certificate(changed), memory)
        except ApprovalRefusedError as error:
            assert error.code == "content-refused"
            continue
        heads = {flag.head for flag in found.content.flags}
        assert {"ODD", "NOT SHOWN ABOVE", "WEAK KEY"} & heads, (path, hex(tag), change)
    assert count > 15


def as_certificate(tbs: bytes) -> bytes:
    algorithm = der.encode(der.SEQUENCE, der.encode_oid("1.2.840.10045.4.3.2"))
    signature = der.encode(der.BIT_STRING, b"\0" + bytes.fromhex("3006020101020101"))
    return der.encode(der.SEQUENCE, tbs, algorithm, signature)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_two_decoders(data: st.DataObject) -> None:
    """Whatever octets are changed: what the tool shows, two other decoders read as well."""
    honest = bytearray(TBS)
    for _ in range(data.draw(st.integers(1, 3))):
        honest[data.draw(st.integers(0, len(honest) - 1))] = data.draw(st.integers(0, 255))
    try:
        facts = tbs_facts(bytes(honest))
    except ParseError:
        return
    if facts["problems"]:
        return  # refused: content-refused
    other = asn1crypto.x509.Certificate.load(as_certificate(bytes(honest)))["tbs_certificate"]
    serial = int(facts["serial"], 16)
    assert other["serial_number"].native == serial
    for name in ("not_before", "not_after"):
        moment = other["validity"][name].native.astimezone(UTC)
        assert f"{moment:%Y-%m-%dT%H:%M:%SZ}" == facts[name]
    assert [e["extn_id"].dotted for e in other["extensions"]] == [
        e["oid"] for e in facts["extensions"]
    ]
    try:
        third = x509.load_der_x509_certificate(as_certificate(bytes(honest)))
        assert third.serial_number == serial
        names = third.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound, x509.InvalidVersion):
        return
    shown = [readable(one.removeprefix("dns:")) for one in facts["sans"] if one[:4] == "dns:"]
    for short, number in ((r"\t", "9"), (r"\n", "a"), (r"\r", "d")):  # these are shown by letters
        shown = [one.replace(short, f"\\u{{{number}}}") for one in shown]
    assert [escape(name) for name in names.get_values_for_type(x509.DNSName)] == shown


TBS = leaf_tbs(World().key, [x509.DNSName("www.example.com"), x509.DNSName("a.example")])


def test_a_file_written_again(world: World) -> None:
    """A request in another spelling of the same JSON is the same request: nothing of the spelling
    is signed, shown or kept.
    """
    data = world.certificate().data
    spaced = json.dumps(json.loads(data), indent=3).encode()
    backwards = json.dumps(dict(reversed(json.loads(data).items()))).encode()
    for other in (spaced, backwards):
        assert other != data and parse_request(other).data == data
    assert canonical(json.loads(spaced)) + b"\n" == data
