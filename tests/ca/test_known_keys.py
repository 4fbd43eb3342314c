"""Keys that this home knows already: a CA's, compromised, revoked, certified for somebody else."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy
from alembic import command
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from tests.ca.doubles import House
from tests.ca.test_authority import csr

from tpmhsm.ca.records import certificate_row
from tpmhsm.ca.revocation import Revocations, Which
from tpmhsm.ca.settings import read_settings
from tpmhsm.errors import ParseError, UsageError
from tpmhsm.pki.csr import CsrContent, build_csr
from tpmhsm.pki.key_checks import usual_digest
from tpmhsm.pki.names import parse_dn
from tpmhsm.pki.sans import parse_sans
from tpmhsm.store.migrate import configuration

DAY = timedelta(days=1)


def revoke(house: House, authority: str, serial: str, reason: str | None) -> None:
    Revocations(house.store, house.authorities, read_settings(house.home)).revoke(
        authority, Which(serial=f"0x{serial}"), reason
    )


def sign(house: House, *args: str, profile: str = "tls-server") -> Any:
    return house.authorities.sign("root-ca", csr(house, *args), profile=profile)


@pytest.fixture
def rooted(house: House) -> House:
    house.authorities.create("root-ca", "root", "CN=Root,O=Example")
    return house


@pytest.mark.parametrize("profile", ["tls-server", "tls-client"])
def test_a_cas_key_serves_nothing_else(rooted: House, profile: str) -> None:
    with pytest.raises(UsageError, match="the key of the authority 'root-ca'") as caught:
        sign(rooted, "root", profile=profile)
    assert caught.value.code == "key-known"
    assert caught.value.details["findings"][0]["code"] == "key-of-ca"


def test_the_key_of_an_authority_that_is_still_being_made(rooted: House) -> None:
    rooted.authorities.remember_external("away", "issuing", "CN=Away")
    with pytest.raises(UsageError, match="the key of the authority 'away'"):
        sign(rooted, "issuing")


def foreign(house: House, label: str, subject: str, *, ca: bool) -> None:
    """A certificate by a CA elsewhere, imported."""
    name = x509.Name.from_rfc4514_string(subject)
    issuer = x509.Name.from_rfc4514_string("CN=Elsewhere")
    now = datetime.now(UTC).replace(microsecond=0)
    made = x509.CertificateBuilder(
        issuer, name, house.signer.public_key(label), x509.random_serial_number(), now, now + DAY
    ).add_extension(x509.BasicConstraints(ca, None), True)
    signed = made.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    with house.store.transaction() as tx:
        tx.certificates.add(certificate_row(signed, source="imported"))


def test_the_key_of_a_ca_elsewhere(rooted: House) -> None:
    foreign(rooted, "leaf", "CN=Other CA", ca=True)
    with pytest.raises(UsageError, match="the key of the CA CN=Other CA"):
        sign(rooted)
    with pytest.raises(UsageError, match="the key of another CA"):
        rooted.authorities.create("x", "leaf", "CN=Mine", issuer="root-ca")
    crossed = rooted.authorities.create("x", "leaf", "CN=Other CA", issuer="root-ca")
    assert any("cross-certificate" in note for note in crossed.notes)


def test_a_root_has_a_key_of_its_own(rooted: House) -> None:
    for subject in ("CN=Second", "CN=Root,O=Example"):
        with pytest.raises(UsageError, match="two roots would be one"):
            rooted.authorities.create("second", "root", subject)


@pytest.mark.parametrize("reason", ["keyCompromise", "cACompromise"])
def test_a_compromised_key_is_certified_never_again(rooted: House, reason: str) -> None:
    if reason == "cACompromise":
        made = rooted.authorities.create("sub", "issuing", "CN=Sub", issuer="root-ca")
        label = "issuing"
    else:
        made, label = sign(rooted), "leaf"
    revoke(rooted, "root-ca", made.facts["serial"], reason)
    for host in ("www.example.com", "other.example.com"):
        with pytest.raises(UsageError, match="is compromised"):
            sign(rooted, label, host)
    with pytest.raises(UsageError, match="is compromised"):
        rooted.authorities.create("again", label, "CN=Sub", issuer="root-ca")
    with rooted.store.transaction() as tx:
        tx.certificates.delete(made.facts["sha256"])
    with pytest.raises(UsageError, match="is compromised"):
        sign(rooted, label)


def test_a_reason_that_becomes_compromise_later(rooted: House) -> None:
    made = sign(rooted)
    revoke(rooted, "root-ca", made.facts["serial"], "superseded")
    again = sign(rooted)
    assert any("was revoked (superseded)" in note for note in again.notes)
    revoke(rooted, "root-ca", made.facts["serial"], "keyCompromise")
    with pytest.raises(UsageError, match="is compromised"):
        sign(rooted)


@pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP384R1, ec.SECP521R1])
def test_a_compromised_point_and_its_negative(rooted: House, curve: type) -> None:
    """Who has d has n - d, and that is the private half of the point with the other y."""
    known = ec.generate_private_key(curve())
    numbers = known.private_numbers()
    twin = ec.derive_private_key(ORDERS[known.curve.name] - numbers.private_value, curve())
    assert twin.public_key().public_numbers().x == numbers.public_numbers.x
    revoked, asked = (csr_of(one) for one in (known, twin))
    assert revoked != asked
    made = rooted.authorities.sign("root-ca", revoked, profile="tls-server")
    revoke(rooted, "root-ca", made.facts["serial"], "keyCompromise")
    for one in (asked, revoked):
        with pytest.raises(UsageError, match="is compromised") as caught:
            rooted.authorities.sign("root-ca", one, profile="tls-server")
        assert caught.value.code == "key-known"


def csr_of(private: ec.EllipticCurvePrivateKey) -> bytes:
    made = build_csr(private, CsrContent(parse_dn(""), parse_sans(("dns:a.example.com",))))
    return made.public_bytes(Encoding.PEM)


ORDERS = {  # SP 800-186, 3.2.1
    "secp256r1": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "secp384r1": (1 << 384) - 0x389CB27E0BC8D220A7E5F24DB74F58851313E695333AD68D,
    "secp521r1": (1 << 521) - 0x5AE79787C40D069948033FEB708F65A2FC44A36477663B851449048E16EC79BF7,
}


def test_the_negative_of_an_edwards_point_counts_as_the_same() -> None:
    head = bytes.fromhex("302a300506032b6570032100")
    point = bytes(range(1, 32)) + b"\x20"
    assert usual_digest(head + point) == usual_digest(head + point[:-1] + b"\xa0")
    assert usual_digest(head + point) != usual_digest(head + point[:-1] + b"\x21")


@given(st.binary(max_size=200))
def test_any_bytes_have_a_usual_digest(data: bytes) -> None:
    assert len(usual_digest(data)) == 64


def test_a_renewal_is_no_news_and_other_names_are(rooted: House) -> None:
    assert sign(rooted).notes == ()
    assert sign(rooted).notes == ()
    notes = sign(rooted, "leaf", "mail.example.com").notes
    assert any("certified already, for www.example.com" in note for note in notes)
    foreign(rooted, "issuing", "CN=Somebody", ca=False)
    notes = sign(rooted, "issuing").notes
    assert any("certified already, for CN=Somebody" in note for note in notes)


def test_many_at_a_time_keep_the_same_rules(rooted: House) -> None:
    made = sign(rooted)
    with rooted.authorities.issuer(workers=0) as issuer:
        own = issuer.sign("root-ca", csr(rooted, "root"), profile="tls-server")
        with pytest.raises(UsageError, match="the key of the CA CN=Root"):
            own.result(10)
        revoke(rooted, "root-ca", made.facts["serial"], "keyCompromise")
        with pytest.raises(UsageError, match="is compromised"):
            issuer.sign("root-ca", csr(rooted), profile="tls-server").result(10)


def test_uses_of_a_key_are_the_newest(rooted: House) -> None:
    for _ in range(3):
        made = sign(rooted)
    with rooted.store.reading() as tx:
        uses = tx.barred_keys.uses(made.facts["key"]["sha256"])
    assert uses[0].serial == made.facts["serial"]
    assert len(uses) == 3 and not any(use.is_ca or use.revoked for use in uses)


def tables_of(revision: str) -> set[str]:
    """What a database of an older version consists of."""
    with sqlalchemy.create_engine("sqlite://").begin() as connection:
        config = configuration()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        return set(sqlalchemy.inspect(connection).get_table_names())


def test_keys_that_were_compromised_before_there_was_a_list(rooted: House) -> None:
    """The migration finds them."""
    made = sign(rooted)
    revoke(rooted, "root-ca", made.facts["serial"], "keyCompromise")
    digest = made.facts["key"]["sha256"]
    later = tables_of("head") - tables_of("0004")
    assert "barred_keys" in later
    with rooted.store.transaction() as tx:
        for table in later:
            tx._connection.exec_driver_sql(f"DROP TABLE IF EXISTS {table}")
        for column in ("parent", "origin", "creation_parent"):
            tx._connection.exec_driver_sql(f"ALTER TABLE keys DROP COLUMN {column}")
        tx._connection.exec_driver_sql("UPDATE tpmhsm_version SET version_num = '0004'")
    from tpmhsm.store import Store

    rooted.store.close()
    with Store.open(rooted.home) as store:
        with store.reading() as tx:
            assert list(tx.barred_keys.among([digest, "x"])) == [digest]
        with store.transaction() as tx:
            tx.barred_keys.bar(digest, "again")
            assert "compromised" in tx.barred_keys.among([digest])[digest]


@pytest.mark.parametrize(("first", "second"), [(65537, 65539), (65539, 65537), (65539, 65543)])
def test_a_compromised_modulus_with_another_exponent(
    rooted: House, first: int, second: int
) -> None:
    """Who has one private exponent has the factors."""
    key = rsa.generate_private_key(65537, 2048)

    def asked(exponent: int) -> bytes:
        numbers = key.private_numbers()
        totient = (numbers.p - 1) * (numbers.q - 1)
        secret = pow(exponent, -1, totient)
        other = rsa.RSAPrivateNumbers(
            numbers.p, numbers.q, secret, secret % (numbers.p - 1), secret % (numbers.q - 1),
            numbers.iqmp, rsa.RSAPublicNumbers(exponent, numbers.public_numbers.n),
        ).private_key()  # fmt: skip
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        names = x509.SubjectAlternativeName([x509.DNSName("www.example.com")])
        made = builder.add_extension(names, critical=True).sign(other, hashes.SHA256())
        return made.public_bytes(Encoding.PEM)

    made = rooted.authorities.sign("root-ca", asked(first), profile="tls-server")
    revoke(rooted, "root-ca", made.facts["serial"], "keyCompromise")
    with pytest.raises(UsageError, match="compromised"):
        rooted.authorities.sign("root-ca", asked(second), profile="tls-server")
    with (
        rooted.authorities.issuer(workers=0) as issuer,
        pytest.raises(UsageError, match="compromised"),
    ):
        issuer.sign("root-ca", asked(second), profile="tls-server").result(10)


def test_lists_of_compromised_keys(rooted: House) -> None:
    spki = rooted.signer.public_key("leaf").public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    settings, listed = rooted.home / "tpmhsm.toml", rooted.home / "keys.txt"
    settings.write_text('[keys]\nblocklists = ["keys.txt"]\n')
    with pytest.raises(UsageError, match="cannot be read"):
        sign(rooted)
    listed.write_text(f"# nobody's\n{'00' * 32}\n")
    sign(rooted)
    listed.write_text(f"# found on a floppy disk\n{hashlib.sha256(spki).hexdigest()}\n")
    with pytest.raises(UsageError, match=r"on the list of compromised keys .*keys\.txt") as caught:
        sign(rooted)
    assert caught.value.code == "key-known"
    with (
        rooted.authorities.issuer(workers=0) as issuer,
        pytest.raises(UsageError, match="on the list"),
    ):
        issuer.sign("root-ca", csr(rooted), profile="tls-server").result(10)
    listed.write_text("hello\n")
    with pytest.raises(ParseError, match="no list of keys"):
        sign(rooted)
    for wrong in ("keys = 3", "[keys]\nblocklists = 3", "[keys]\nblocklists = [3]"):
        settings.write_text(wrong)
        with pytest.raises(UsageError, match="blocklists"):
            sign(rooted)
