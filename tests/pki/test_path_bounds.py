"""Hostile bundles cost seconds: exponentially many paths, huge constraints, huge policies."""

from __future__ import annotations

import functools
import random
import time

from cryptography import x509
from cryptography.x509.oid import ExtensionOID as Ext
from tests.pki import forge
from tests.pki.forge import ca, leaf, of
from tests.pki.makers import NOW, key
from tests.pki.test_path_profile import ask, constraints

from tpmhsm.pki import der

LIMIT = 3.0  # seconds of this process; idle machines need a third
DNS = x509.DNSName


def timed(*arguments, **options) -> str:
    begin = time.process_time()
    found = ask(*arguments, **options)
    assert time.process_time() - begin < LIMIT
    return found


@functools.cache
def layers(top):
    """Twelve layers of three CAs; each certified by all three above: 3^12 paths."""
    above, pool = [top], []
    for depth in range(12):
        made = [
            [ca(f"CN=Layer {depth}", issuer, private=key("p256", ("layer", depth, i)))
             for issuer in above]
            for i in range(3)
        ]  # fmt: skip
        pool += [item for row in made for item in row]
        above = [row[0] for row in made]
    return leaf(above[0]), pool


def test_layers():
    top, narrow = (
        ca("CN=Top"),
        ca("CN=Narrow", change={Ext.NAME_CONSTRAINTS: constraints([DNS("nothing.example")])}),
    )
    end, pool = layers(top)
    assert timed(end, [top], pool) == "valid"
    assert timed(end, [ca("CN=Elsewhere")], pool) == "unknown-issuer"
    end, pool = layers(narrow)
    assert timed(end, [narrow], pool) in ("name-constraint", "too-complex")


def test_a_clique():
    """Fourteen CAs that all certify each other."""
    cas = {f"CN=K{i}": ca(f"CN=K{i}", private=key("p256", ("clique", i))) for i in range(14)}
    pool = [
        ca(subject, issuer, private=one.key)
        for issuer in cas.values()
        for subject, one in cas.items()
        if one is not issuer
    ]
    end, anchor = leaf(cas["CN=K0"]), cas["CN=K9"]
    assert timed(end, [anchor], pool) == "valid"
    assert timed(end, [ca("CN=Elsewhere")], pool) == "unknown-issuer"
    old = ca("CN=K9", private=anchor.key, not_after=NOW.replace(day=1))
    assert timed(end, [old], pool) == "expired"


def test_thousands_of_one_name():
    dice = random.Random(1)
    keys = [key("p256", ("many", i)) for i in range(60)]
    named = [forge.Forged(b"", forge.name("CN=Many"), k, forge.key_id(k)) for k in keys]
    pool = []
    for _ in range(1500):
        issuer, private = dice.choice(named), dice.choice(keys)
        if issuer.key is not private:
            pool.append(ca("CN=Many", issuer, private=private))
    lost = leaf(ca("CN=Many", private=key("p256", "of none of them")))
    anchor = ca("CN=Many", private=keys[7])
    assert timed(lost, [anchor], pool) == "bad-signature"
    assert timed(leaf(named[3]), [anchor], pool) in ("valid", "too-complex")


def test_names_times_constraints():
    names = [DNS(f"t{i}.test") for i in range(513)]
    limits = constraints([*names, DNS(".test")], [DNS(f"x{i}.test") for i in range(513)])
    top = ca("CN=Constrained", change={Ext.NAME_CONSTRAINTS: limits})
    san = {Ext.SUBJECT_ALTERNATIVE_NAME: forge.sans(*names, critical=True)}
    end = leaf(top, subject="", change=san)
    assert timed(end, [top], host="t0.test") == "too-complex"
    some = {Ext.SUBJECT_ALTERNATIVE_NAME: forge.sans(*names[:200], critical=True)}
    assert timed(leaf(top, subject="", change=some), [top], host="t0.test") == "valid"


def test_policies_that_multiply():
    """CVE-2023-0464: each of twenty CAs maps every policy to every other."""
    oids = [f"1.2.3.{i}" for i in range(1, 40)]
    every = of(
        x509.CertificatePolicies(
            [x509.PolicyInformation(x509.ObjectIdentifier(oid), None) for oid in oids]
        )
    )
    pairs = [
        der.encode(der.SEQUENCE, der.encode_oid(one), der.encode_oid(two))
        for one in oids
        for two in oids
    ]
    maps = forge.extension("2.5.29.33", der.encode(der.SEQUENCE, *pairs), True)
    top = current = ca("CN=Policies")
    pool = []
    for depth in range(20):
        change = {Ext.CERTIFICATE_POLICIES: every, Ext.POLICY_MAPPINGS: maps}
        current = ca(f"CN=Policies {depth}", current, change=change)
        pool.append(current)
    end = leaf(current, change={Ext.CERTIFICATE_POLICIES: every})
    assert timed(end, [top], pool, explicit_policy=True) == "valid"
    assert timed(end, [top], pool, explicit_policy=True, policies=("1.2.4",)) == "policy"
    assert timed(end, [top], pool, explicit_policy=True, inhibit_mapping=True) == "policy"


def test_long_chains():
    top = current = ca("CN=Long")
    pool = []
    for depth in range(60):
        current = ca(f"CN=Long {depth}", current)
        pool.append(current)
    assert timed(leaf(pool[20]), [top], pool) == "valid"
    assert timed(leaf(current), [top], pool) != "valid"


def test_many_names_below_many_constraints():
    """Each CA within the limit, all of them together not."""
    above = top = ca("CN=Names Root")
    pool = []
    for i in range(12):
        above = ca(f"CN=Names {i}", above, change={Ext.NAME_CONSTRAINTS: constraints([DNS("com")])})
        pool.append(above)
    names = forge.extension(
        "2.5.29.17",
        der.encode(der.SEQUENCE, *(der.encode(0x82, b"%d.com" % i) for i in range(50_000))),
    )
    end = leaf(above, change={Ext.SUBJECT_ALTERNATIVE_NAME: names})
    assert timed(end, [top], pool, purpose="any", host="") == "too-complex"
    few = leaf(above)
    assert timed(few, [top], pool, purpose="any", host="") == "valid"
