"""The attribute types of distinguished names: names, encodings and upper bounds.

RFC 5280 section 4.1.2.4 and appendix A.1, X.520, RFC 4519; the EV attributes of the CA/Browser
Forum; those of the TCG EK Credential Profile. The first name of a row is the one printed; all are
understood, in any case.
"""

from __future__ import annotations

from typing import NamedTuple


class AttributeType(NamedTuple):
    """One attribute type. `limit` is its upper bound in characters, 0 for none."""

    oid: str
    names: tuple[str, ...]
    string: str = "utf8"
    limit: int = 0


TYPES = (
    AttributeType("2.5.4.3", ("CN", "commonName"), limit=64),
    AttributeType("2.5.4.4", ("SN", "surname"), limit=64),
    AttributeType("2.5.4.5", ("serialNumber",), "printable", 64),
    AttributeType("2.5.4.6", ("C", "countryName", "country"), "printable", 2),
    AttributeType("2.5.4.7", ("L", "localityName", "locality"), limit=128),
    AttributeType("2.5.4.8", ("ST", "stateOrProvinceName", "S", "SP", "state"), limit=128),
    AttributeType("2.5.4.9", ("STREET", "streetAddress"), limit=128),
    AttributeType("2.5.4.10", ("O", "organizationName", "organization"), limit=64),
    AttributeType("2.5.4.11", ("OU", "organizationalUnitName", "organizationalUnit"), limit=64),
    AttributeType("2.5.4.12", ("title", "T"), limit=64),
    AttributeType("2.5.4.13", ("description",), limit=1024),
    AttributeType("2.5.4.15", ("businessCategory",), limit=128),
    AttributeType("2.5.4.17", ("postalCode",), limit=40),
    AttributeType("2.5.4.18", ("postOfficeBox",), limit=40),
    AttributeType("2.5.4.20", ("telephoneNumber",), "printable", 32),
    AttributeType("2.5.4.41", ("name",), limit=32768),
    AttributeType("2.5.4.42", ("GN", "givenName", "G"), limit=64),
    AttributeType("2.5.4.43", ("initials",), limit=64),
    AttributeType("2.5.4.44", ("generationQualifier",), limit=64),
    AttributeType("2.5.4.46", ("dnQualifier",), "printable", 64),
    AttributeType("2.5.4.51", ("houseIdentifier",), limit=128),
    AttributeType("2.5.4.65", ("pseudonym",), limit=128),
    AttributeType("2.5.4.97", ("organizationIdentifier",), limit=256),
    AttributeType("0.9.2342.19200300.100.1.1", ("UID", "userId"), limit=256),
    AttributeType("0.9.2342.19200300.100.1.25", ("DC", "domainComponent"), "ia5", 63),
    AttributeType("1.2.840.113549.1.9.1", ("emailAddress", "E", "email"), "ia5", 255),
    AttributeType("1.2.840.113549.1.9.2", ("unstructuredName",), limit=255),
    AttributeType("1.3.6.1.4.1.311.60.2.1.1", ("jurisdictionL", "jurisdictionLocality"), limit=128),
    AttributeType(
        "1.3.6.1.4.1.311.60.2.1.2", ("jurisdictionST", "jurisdictionStateOrProvince"), limit=128
    ),
    AttributeType("2.23.133.2.1", ("tpmManufacturer",)),
    AttributeType("2.23.133.2.2", ("tpmModel",)),
    AttributeType("2.23.133.2.3", ("tpmVersion",)),
    AttributeType(
        "1.3.6.1.4.1.311.60.2.1.3", ("jurisdictionC", "jurisdictionCountry"), "printable", 2
    ),
)

BY_OID = {row.oid: row for row in TYPES}
BY_NAME = {name.lower(): row for row in TYPES for name in row.names}
