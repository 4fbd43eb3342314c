"""Authorities over keys in memory: what they issue, what they refuse, what a failure leaves."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID
from tests.ca.doubles import House

from tpmhsm.ca import issuance
from tpmhsm.ca.issuance import complete_certificate, same_wish
from tpmhsm.ca.records import certificate_row
from tpmhsm.errors import (
    ChipRefusedError,
    DeviceError,
    ExistsError,
    NotFoundError,
    ParseError,
    UsageError,
    VerificationError,
    WaitingError,
)
from tpmhsm.pki.options import IssueOptions
from tpmhsm.store.authorities import AuthorityRow

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


def csr(house: House, label: str = "leaf", host: str = "www.example.com") -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    san = x509.SubjectAlternativeName([x509.DNSName(host)])
    made = builder.add_extension(san, critical=True).sign(house.signer.keys[label], hashes.SHA256())
    return made.public_bytes(Encoding.PEM)


def certificate(issued: issuance.Issued) -> x509.Certificate:
    return x509.load_pem_x509_certificate(issued.facts["pem"].encode())


def two_levels(house: House) -> None:
    house.authorities.create("root-ca", "root", "CN=Root,O=Example")
    house.authorities.create("sub-ca", "issuing", "CN=Sub,O=Example", issuer="root-ca")


def serials(house: House, authority: str) -> list[str]:
    with house.store.reading() as tx:
        return [row.state for row in tx.serials.all(authority=authority)]


def test_a_chain_that_openssl_accepts(house: House) -> None:
    two_levels(house)
    issued = house.authorities.sign("sub-ca", csr(house), profile="tls-server")
    with house.store.reading() as tx:
        rows = {row.name if row.is_ca else "leaf": row for row in tx.certificates.all()}
    assert rows["leaf"].authority == "sub-ca"
    assert rows["leaf"].source == "issued"
    for name, row in rows.items():
        pem = x509.load_der_x509_certificate(row.der).public_bytes(Encoding.PEM)
        (house.home / f"{name}.pem").write_bytes(pem)
    verify = ["openssl", "verify", "-x509_strict", "-CAfile", "root-ca.pem", "-untrusted",
              "sub-ca.pem", "-verify_hostname", "www.example.com", "leaf.pem"]  # fmt: skip
    done = subprocess.run(verify, cwd=house.home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert issued.facts["sha256"] == rows["leaf"].sha256


def test_serials_are_long_and_never_the_same(house: House) -> None:
    house.authorities.create("root-ca", "root", "CN=Root")
    numbers = {
        certificate(
            house.authorities.sign("root-ca", csr(house), profile="tls-server")
        ).serial_number
        for _ in range(5)
    }
    assert len(numbers) == 5
    assert all(number.bit_length() > 64 for number in numbers)
    assert serials(house, "root-ca") == ["issued"] * 6


def test_settings_stand_in_the_certificate(house: House) -> None:
    (house.home / "tpmhsm.toml").write_text('[ca.root-ca]\nbase_url = "http://pki.example.com/"\n')
    house.authorities.create("root-ca", "root", "CN=Root")
    made = certificate(house.authorities.sign("root-ca", csr(house), profile="tls-server"))
    access = made.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    urls = {a.access_method: a.access_location.value for a in access}
    assert urls[AuthorityInformationAccessOID.CA_ISSUERS] == "http://pki.example.com/ca/root-ca.cer"
    points = made.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert points[0].full_name[0].value == "http://pki.example.com/crl/root-ca.crl"


@pytest.mark.parametrize(
    "text",
    ["nonsense", "ca = 3", "[ca]\nx = 1", '[ca.x]\nlint = "no"', '[ca.x]\nbase_url = 3',
     '[ca.x]\nbase_url = "ftp://x"', '[ca.x]\nbase_url = "http://[x"',
     '[ca.x]\nbase_url = "http://"', '[ca.x]\nlint = []', "\udcff"],
)  # fmt: skip
def test_settings_that_are_wrong(house: House, text: str) -> None:
    (house.home / "tpmhsm.toml").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UsageError, match=r"tpmhsm\.toml"):
        _ = house.authorities


# ── refusals ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("attempt", "error"),
    [
        (lambda a: a.create("root-ca", "root", "CN=Again"), ExistsError),
        (lambda a: a.create("x", "nobody", "CN=x"), NotFoundError),
        (lambda a: a.create("x", "root", "nonsense"), UsageError),
        (lambda a: a.create("x", "root", ""), UsageError),
        (lambda a: a.create("../x", "root", "CN=x"), UsageError),
        (lambda a: a.create("x", "root", "CN=x", profile="tls-server"), UsageError),
        (lambda a: a.create("x", "root", "CN=x", profile="intermediate"), UsageError),
        (lambda a: a.create("x", "root", "CN=x", issuer="root-ca", profile="root"), UsageError),
        (lambda a: a.create("x", "root", "CN=x", issuer="nobody"), NotFoundError),
        (lambda a: a.sign("nobody", b"", profile="tls-server"), (ParseError, NotFoundError)),
        (lambda a: a.sign("root-ca", b"nonsense", profile="tls-server"), ParseError),
        (lambda a: a.certificate("nobody"), NotFoundError),
        (lambda a: a.install("root-ca", []), UsageError),
        (lambda a: a.remember_external("root-ca", "root", "CN=x"), ExistsError),
    ],
)
def test_what_is_refused_leaves_nothing(
    house: House, attempt: Callable[[Any], object], error: type[Exception]
) -> None:
    house.authorities.create("root-ca", "root", "CN=Root")
    with pytest.raises(error):
        attempt(house.authorities)
    assert [row.name for row in house.authorities.all()] == ["root-ca"]
    assert serials(house, "root-ca") == ["issued"]


def test_a_root_signs_no_csr(house: House) -> None:
    house.authorities.create("root-ca", "root", "CN=Root")
    with pytest.raises(UsageError) as caught:
        house.authorities.sign("root-ca", csr(house), profile="root")
    assert "ca create" in caught.value.hint


def own_certificate(
    house: House, key: str = "issuing", *, start: datetime = NOW - DAY, end: datetime = NOW + DAY,
    ca: bool = True, issuer: str = "CN=Away", signer: ec.EllipticCurvePrivateKey | None = None,
) -> x509.Certificate:  # fmt: skip
    """A certificate by a CA elsewhere for a key here."""
    private = signer or ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(
        **dict.fromkeys(
            ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
             "key_agreement", "crl_sign", "encipher_only", "decipher_only"), False),
        key_cert_sign=ca,
    )  # fmt: skip
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name.from_rfc4514_string("CN=Here"))
        .issuer_name(x509.Name.from_rfc4514_string(issuer))
        .public_key(house.signer.public_key(key))
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(house.signer.public_key(key)), critical=False
        )
    )
    return builder.sign(private, hashes.SHA256())


def force(house: House, made: x509.Certificate) -> None:
    """An authority with this certificate, as time may have left it."""
    with house.store.transaction() as tx:
        kept = tx.certificates.add(certificate_row(made, source="external", name="away"))
        tx.authorities.add(
            AuthorityRow("away", "issuing", "intermediate", "CN=Here", certificate=kept.sha256,
                         state="active", settings={"external": True})
        )  # fmt: skip


@pytest.mark.parametrize(
    ("start", "end", "code"),
    [
        (NOW - 2 * DAY, NOW - DAY, "issuer-expired"),
        (NOW + DAY, NOW + 2 * DAY, "issuer-not-yet-valid"),
    ],
)
def test_issuers_out_of_their_time(house: House, start: datetime, end: datetime, code: str) -> None:
    force(house, own_certificate(house, start=start, end=end))
    for attempt in (
        lambda: house.authorities.sign("away", csr(house), profile="tls-server"),
        lambda: house.authorities.create("sub", "leaf", "CN=Sub", issuer="away"),
    ):
        with pytest.raises(UsageError) as caught:
            attempt()
        assert caught.value.code == code
        assert caught.value.hint
    assert serials(house, "away") == []
    assert [row.name for row in house.authorities.all()] == ["away"]


def test_nothing_outlives_its_issuer(house: House) -> None:
    force(house, own_certificate(house, end=NOW + 10 * DAY))
    issued = house.authorities.sign("away", csr(house), profile="tls-server")
    assert certificate(issued).not_valid_after_utc == NOW + 10 * DAY
    assert any("shortened" in note for note in issued.notes)
    with pytest.raises(UsageError, match="outlive"):
        house.authorities.sign(
            "away", csr(house), profile="tls-server", options=IssueOptions(days=20)
        )


# ── external authorities ─────────────────────────────────────────────────────


def test_an_external_authority_is_installed(house: House) -> None:
    authorities = house.authorities
    authorities.remember_external("away", "issuing", "CN=Here")
    authorities.remember_external("away", "issuing", "CN=Here")
    with pytest.raises(UsageError, match="no certificate yet"):
        authorities.certificate("away")
    with pytest.raises(ExistsError):
        authorities.remember_external("away", "issuing", "CN=Elsewhere")
    with pytest.raises(ExistsError):
        authorities.create("away", "issuing", "CN=Here")
    issued = authorities.install("away", [own_certificate(house)])
    assert any("issuer is not among" in note for note in issued.notes)
    assert house.authorities.sign("away", csr(house), profile="tls-server")


def test_certificates_that_do_not_fit_are_not_installed(house: House) -> None:
    authorities = house.authorities
    authorities.remember_external("away", "issuing", "CN=Here")
    key = ec.generate_private_key(ec.SECP256R1())
    top = root_of(key)
    cases: list[tuple[list[x509.Certificate], type[Exception], str]] = [
        ([], UsageError, "none of these 0"),
        ([own_certificate(house, "leaf")], UsageError, "for the key of 'away'"),
        ([own_certificate(house, ca=False)], UsageError, "CA:TRUE"),
        ([own_certificate(house, end=NOW - timedelta(hours=1))], UsageError, "expired"),
        ([own_certificate(house), top], VerificationError, "not signed by"),
    ]
    for given, error, words in cases:
        with pytest.raises(error, match=words):
            authorities.install("away", given)
    with house.store.reading() as tx:
        assert tx.certificates.all() == []
    issued = authorities.install("away", [top, own_certificate(house, signer=key)])
    assert issued.notes == ()
    with house.store.reading() as tx:
        assert len(tx.certificates.all()) == 2


def root_of(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Away")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .sign(key, hashes.SHA256())
    )


# ── failures ─────────────────────────────────────────────────────────────────


def failing(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "left"),
    [
        (DeviceError("locked out", code="device-lockout"), "abandoned"),
        (ChipRefusedError("no", rc=0x99D, command="Sign"), "abandoned"),
        (DeviceError("gone", code="device-vanished"), "reserved"),
        (KeyboardInterrupt(), "reserved"),
    ],
    ids=["lockout", "refused", "vanished", "ctrl-c"],
)
def test_a_signature_that_fails(house: House, error: Any, left: str) -> None:
    house.signer.after = failing(error)
    with pytest.raises(type(error)):
        house.authorities.create("root-ca", "root", "CN=Root")
    assert serials(house, "root-ca") == [left]
    assert [row.state for row in house.authorities.all()] == (
        ["pending"] if left == "reserved" else []
    )
    house.signer.after = lambda: None
    house.authorities.create("root-ca", "root", "CN=Root")
    expected = ["issued"] if left == "reserved" else ["abandoned", "issued"]
    assert serials(house, "root-ca") == expected


def test_an_interrupted_authority_that_is_now_wanted_otherwise(house: House) -> None:
    house.signer.before = failing(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        house.authorities.create("root-ca", "root", "CN=Root")
    house.signer.before = lambda: None
    house.authorities.create("root-ca", "root", "CN=Another Root")
    assert serials(house, "root-ca") == ["abandoned", "issued"]
    assert house.authorities.get("root-ca").subject == "CN=Another Root"


def test_two_processes_resume_the_same_authority(house: House) -> None:
    """While one signs, another finishes: there is one certificate, and both give it."""
    house.signer.before = failing(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        house.authorities.create("root-ca", "root", "CN=Root")
    other: list[issuance.Issued] = []

    def meanwhile() -> None:
        house.signer.before = lambda: None
        other.append(house.authorities.create("root-ca", "root", "CN=Root"))

    house.signer.before = meanwhile
    mine = house.authorities.create("root-ca", "root", "CN=Root")
    assert mine.facts["pem"] == other[0].facts["pem"]
    assert serials(house, "root-ca") == ["issued"]


def test_what_a_dead_process_reserved_is_abandoned_in_time(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.authorities.create("root-ca", "root", "CN=Root")
    house.signer.before = failing(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        house.authorities.sign("root-ca", csr(house), profile="tls-server")
    house.signer.before = lambda: None
    house.authorities.sign("root-ca", csr(house), profile="tls-server")
    assert serials(house, "root-ca") == ["issued", "reserved", "issued"]  # may yet be alive
    monkeypatch.setattr(issuance, "STALE", timedelta(seconds=-5))
    house.authorities.sign("root-ca", csr(house), profile="tls-server")
    assert serials(house, "root-ca") == ["issued", "abandoned", "issued", "issued"]


# ── people ───────────────────────────────────────────────────────────────────


def test_a_guarded_key_asks_people_once(house: House) -> None:
    with pytest.raises(WaitingError) as first:
        house.authorities.create("root-ca", "guarded", "CN=Root")
    with pytest.raises(WaitingError) as second:
        house.authorities.create("root-ca", "guarded", "CN=Root")
    assert first.value.request == second.value.request == 1
    with pytest.raises(ExistsError, match="being made") as other:
        house.authorities.create("root-ca", "guarded", "CN=Another")
    assert "request cancel 1" in other.value.hint
    with pytest.raises(UsageError, match="no certificate yet"):
        house.authorities.sign("root-ca", csr(house), profile="tls-server")
    assert serials(house, "root-ca") == ["reserved"]


def test_people_are_asked_once_for_the_same(house: House) -> None:
    with pytest.raises(WaitingError):
        house.authorities.create("root-ca", "guarded", "CN=Root")
    with house.store.reading() as tx:
        tbs = tx.serials.of_request(1).tbs
    with house.store.transaction() as tx:
        complete_certificate(tx, 1, tbs, house.signer.sign("guarded", tbs))

    def ask(host: str = "www.example.com", *, repeat: bool = False, days: int = 30) -> WaitingError:
        with pytest.raises(WaitingError) as caught:
            house.authorities.sign(
                "root-ca", csr(house, "leaf", host), profile="tls-server",
                options=IssueOptions(days=days), repeat=repeat,
            )  # fmt: skip
        return caught.value

    assert ask().request == 2
    again = ask()
    assert again.request == 2 and again.details["repeated"]
    assert "made before" in again.message
    assert ask("mail.example.com").request == 3
    assert ask(days=31).request == 4
    assert ask(repeat=True).request == 5
    assert serials(house, "root-ca") == ["issued", *["reserved"] * 4]


def test_an_approved_signature_becomes_the_certificate(house: House) -> None:
    with pytest.raises(WaitingError):
        house.authorities.create("root-ca", "guarded", "CN=Root")
    with house.store.reading() as tx:
        tbs = tx.serials.of_request(1).tbs
    signature = house.signer.sign("guarded", tbs)
    with (
        pytest.raises(ParseError, match="not for the bytes"),
        house.store.transaction() as tx,
    ):
        complete_certificate(tx, 1, tbs + b"x", signature)
    with pytest.raises(VerificationError), house.store.transaction() as tx:
        complete_certificate(tx, 1, tbs, house.signer.sign("root", tbs))
    with house.store.transaction() as tx:
        facts = complete_certificate(tx, 1, tbs, signature)
    assert house.authorities.get("root-ca").certificate == facts["sha256"]
    with house.store.transaction() as tx:  # again, after a power failure
        assert complete_certificate(tx, 1, tbs, signature) == facts
    assert serials(house, "root-ca") == ["issued"]


def test_what_counts_as_the_same_wish(house: House) -> None:
    from tpmhsm.pki.applicant import Applicant
    from tpmhsm.pki.issue import prepare
    from tpmhsm.pki.names import parse_dn
    from tpmhsm.pki.profiles import get_profile

    def tbs(subject: str = "CN=x", key: str = "root", when: datetime = NOW, **chosen: Any) -> bytes:
        applicant = Applicant(house.signer.public_key(key), parse_dn(subject).public_bytes())
        options = replace(IssueOptions(hash_name="sha256"), **chosen)
        return prepare(get_profile("root"), applicant, None, options, when).tbs

    one, later = tbs(), NOW + timedelta(minutes=5)
    assert same_wish(one, tbs())
    assert same_wish(one, tbs(when=later))
    assert same_wish(tbs(not_after=NOW + DAY), tbs(not_after=NOW + DAY, when=later))
    for other in (
        tbs("CN=y"),
        tbs(key="issuing"),
        tbs(days=3),
        tbs(path_length=1),
        tbs(not_after=NOW + DAY),
    ):
        assert not same_wish(one, other)
