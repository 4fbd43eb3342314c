"""What stands above an issuer limits what it certifies."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.pki.makers import NOW, Authority, applicant, issue, key, root

from tpmhsm.errors import UsageError
from tpmhsm.pki.issue import prepare
from tpmhsm.pki.limits import limits_what_is_below
from tpmhsm.pki.options import IssueOptions
from tpmhsm.pki.profiles import get_profile


def der(authority: Authority) -> bytes:
    return authority.certificate.public_bytes(Encoding.DER)


def below(authority: Authority, above: Authority, profile: str, subject: str, *sans: str):
    asking = applicant(key("p256", hash(subject)), subject, *sans)
    options = IssueOptions(above=(der(above),))
    return prepare(get_profile(profile), asking, authority.certificate, options, NOW)


def test_constraints_reach_down_two_levels():
    top = issue(root(), "intermediate", "CN=Upper 1", path_length=1, permitted=("dns:example.com",))
    issuing = issue(top, "intermediate", "CN=Lower 1")
    assert limits_what_is_below(der(top))
    assert not limits_what_is_below(der(issuing))
    below(issuing, top, "tls-server", "", "dns:www.example.com")
    with pytest.raises(UsageError, match=r"of CN=Upper 1, above the issuer, forbid") as caught:
        below(issuing, top, "tls-server", "", "dns:www.example.org")
    assert caught.value.code == "constraint"


def test_usages_reach_down_two_levels():
    top = issue(root(), "intermediate", "CN=Upper 2", path_length=1,
                extended_key_usage=("serverAuth",))  # fmt: skip
    issuing = issue(top, "intermediate", "CN=Lower 2", extended_key_usage=("serverAuth",))
    below(issuing, top, "tls-server", "", "dns:www.example.com")
    with pytest.raises(UsageError, match="extended key usages of the issuer do not cover"):
        below(issuing, top, "tls-client", "CN=Alice")
    with pytest.raises(UsageError, match="of CN=Upper 2, above the issuer, do not cover") as caught:
        below(issue(root(), "intermediate", "CN=Free"), top, "tls-client", "CN=Alice")
    assert caught.value.code == "issuer-usage"


@pytest.mark.parametrize(
    ("subject", "sans", "outcome"),
    [
        ("CN=alice.org", ("email:alice@example.com",), "refused"),
        ("CN=192.0.2.7", ("ip:192.0.2.7",), "refused"),
        ("CN=a.secret.example.com", (), "refused"),
        ("CN=Alice", ("email:alice@example.com",), "noted"),
        ("CN=alice.example.com", (), "fine"),
        ("CN=Alice Example", (), "fine"),
        ("CN=alice@example.org", (), "fine"),
        ("CN=alice.org", ("dns:alice.example.com",), "fine"),
        ("O=Example", (), "fine"),
    ],
)
def test_common_names_that_clients_read_as_hosts(subject, sans, outcome):
    issuer = issue(root(), "intermediate", "CN=Issuing 3", permitted=("dns:example.com",),
                   excluded=("dns:secret.example.com",))  # fmt: skip

    def attempt():
        asking = applicant(key("p256", 7), subject, *sans)
        return prepare(get_profile("tls-client"), asking, issuer.certificate, None, NOW)

    if outcome == "refused":
        with pytest.raises(UsageError, match="reads as a host") as caught:
            attempt()
        assert caught.value.code == "constraint"
    else:
        assert any("reads as a host" in note for note in attempt().notes) is (outcome == "noted")
