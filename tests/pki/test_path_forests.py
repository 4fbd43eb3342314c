"""Paths through forests of cross-certificates, and names in every combination.

The forests and combinations are those of Netflix's BetterTLS, made anew: what is right is computed
(reachability; the rules of names), not recorded.
"""

from __future__ import annotations

import functools
import itertools
import random
from ipaddress import ip_address, ip_network

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtensionOID as Ext
from tests.pki import forge
from tests.pki.forge import EMAIL, ca, dns, ekus, leaf, of
from tests.pki.makers import NOW, key
from tests.pki.test_path_profile import ask, constraints

DNS = x509.DNSName
FORESTS = {
    "line": "TA>I I>EE",
    "two roots": "TA>I R2>I I>EE",
    "figure seven": "B>EE C>B A>B C>A A>C TA>C TA>A",
    "bridge": "F>H F>G G>F H>I I>H G>I W>F W>G J>K N>EE L>N L>M TA>J TA>L B>E B>D A>B C>B A>C C>A"
    " Y>A Y>C R>S O>R O>Q P>S Z>O Z>P W>X X>W TA>X X>TA Y>X X>Y Z>X X>Z",
    "through the bridge": "W>EE TA>X X>W X>TA W>X Y>X X>Y Z>X X>Z Y>A A>Y",
}
FLAWS = {
    "expired": {"not_after": NOW.replace(year=2026, month=11, day=1)},
    "constrained": {"change": {Ext.NAME_CONSTRAINTS: constraints([DNS("bad.example.com")])}},
    "wrong usage": {"change": {Ext.EXTENDED_KEY_USAGE: ekus(EMAIL)}},
    "no basicConstraints": {"change": {Ext.BASIC_CONSTRAINTS: None}},
    "no CA": {"change": {Ext.BASIC_CONSTRAINTS: of(x509.BasicConstraints(False, None), True)}},
    "weak": {"oid": "1.2.840.10045.4.1", "digest": hashes.SHA1()},
}


def edges(text: str) -> list[tuple[str, str]]:
    return [tuple(pair.split(">")) for pair in text.split()]


@functools.cache
def self_signed(node: str):
    return ca(f"CN={node}", private=key("p256", ("forest", node)))


def certificate(source: str, target: str, flaw: str):
    issuer = self_signed(source)
    if target == "EE":
        return leaf(issuer)
    flaws = FLAWS.get(flaw, {})
    return ca(f"CN={target}", issuer, private=key("p256", ("forest", target)), **flaws)


def reachable(pairs, source: str) -> bool:
    seen, wanted = set(), [source]
    while wanted:
        node = wanted.pop()
        if node not in seen:
            seen.add(node)
            wanted += [t for s, t in pairs if s == node]
    return "EE" in seen


@pytest.mark.parametrize("forest", FORESTS)
@pytest.mark.parametrize("flaw", FLAWS)
def test_forests(forest, flaw):
    """Some edges are flawed: the path around them is found exactly when there is one."""
    dice = random.Random(f"{forest} {flaw}")
    pairs = edges(FORESTS[forest])
    inner = [pair for pair in pairs if pair[1] != "EE"]
    for _ in range(4):
        bad = {pair for pair in inner if dice.random() < 0.3}
        sound = [pair for pair in pairs if pair not in bad]
        pool = [certificate(s, t, flaw if (s, t) in bad else "") for s, t in pairs]
        dice.shuffle(pool)
        (end,) = (item for item in pool if item.name == forge.name("CN=example.com"))
        pool = [item for item in pool if item is not end and item.name != forge.name("CN=TA")]
        found = ask(end, [self_signed("TA")], pool)
        assert (found == "valid") == reachable(sound, "TA"), (found, sorted(bad))


GOOD, WRONG = 1, 2
STATES = (0, GOOD, WRONG)
HOSTS = {GOOD: "test.localhost", WRONG: "bad.example.com"}
TREES = {GOOD: "localhost", WRONG: "example.com"}
ADDRESSES = {GOOD: "127.0.0.1", WRONG: "1.1.1.1"}
NETWORKS = {GOOD: "127.0.0.0/24", WRONG: "1.1.1.0/24"}


@functools.cache
def constrained(limits: tuple[int, int, int, int]):
    """An intermediate with constraints: hosts and addresses permitted, hosts and addresses not."""
    top = self_signed("TA")
    hosts, addresses, no_hosts, no_addresses = limits
    permitted = [DNS(TREES[hosts])] if hosts else []
    permitted += [x509.IPAddress(ip_network(NETWORKS[addresses]))] if addresses else []
    excluded = [DNS(TREES[no_hosts])] if no_hosts else []
    excluded += [x509.IPAddress(ip_network(NETWORKS[no_addresses]))] if no_addresses else []
    change = {Ext.NAME_CONSTRAINTS: constraints(permitted, excluded)} if any(limits) else {}
    return ca("CN=local ica,O=test", top, private=key("p256", "grid"), change=change)


@functools.cache
def named(cn: tuple[str, int], host: int, address: int):
    names = [DNS(HOSTS[host])] if host else []
    names += [x509.IPAddress(ip_address(ADDRESSES[address]))] if address else []
    common = {"dns": HOSTS, "ip": ADDRESSES}[cn[0]].get(cn[1])
    subject = f"CN={common},O=test" if common else "O=test"
    change = {Ext.SUBJECT_ALTERNATIVE_NAME: forge.sans(*names) if names else None}
    return leaf(constrained((0, 0, 0, 0)), subject=subject, change=change)


def right(wanted: str, host: int, address: int, limits) -> bool:
    """The name is among the alternative names, and none of them breaks a constraint."""
    hosts, addresses, no_hosts, no_addresses = limits
    if (host if wanted == "dns" else address) != GOOD:
        return False
    for state, permitted, excluded in (
        (host, hosts, no_hosts),
        (address, addresses, no_addresses),
    ):
        if state and ((permitted and permitted != state) or excluded == state):
            return False
    return True


GRID = list(
    itertools.product(
        ("dns", "ip"),
        itertools.product(("dns", "ip"), STATES),
        STATES,
        STATES,
        itertools.product(STATES, repeat=4),
    )
)


def check_grid(cases) -> None:
    for wanted, cn, host, address, limits in cases:
        text = {"dns": HOSTS, "ip": ADDRESSES}[wanted][GOOD]
        found = ask(named(cn, host, address), [self_signed("TA")], [constrained(limits)], host=text)
        assert (found == "valid") == right(wanted, host, address, limits), (
            found, wanted, cn, host, address, limits,
        )  # fmt: skip


def test_some_combinations_of_names():
    check_grid(random.Random(8748).sample(GRID, 400))


@pytest.mark.long
def test_all_combinations_of_names():
    assert len(GRID) == 8748
    check_grid(GRID)


def test_roots_that_are_not_self_signed_and_roots_among_the_untrusted():
    top = self_signed("TA")
    middle = ca("CN=Forged Issuing", top)
    assert ask(leaf(middle), [middle], [top]) == "valid"
    assert ask(leaf(middle), [self_signed("Other")], [top, middle]) == "untrusted-root"
    crossed = ca("CN=Crossed", top, change={Ext.AUTHORITY_KEY_IDENTIFIER: None})
    assert ask(leaf(crossed), [crossed]) == "profile"


def test_the_same_name_with_another_key():
    top, other = self_signed("TA"), ca("CN=TA", private=key("p256", "same name"))
    end = leaf(top)
    assert ask(end, [other, top]) == "valid"
    assert ask(end, [other]) == "bad-signature"
    assert ask(end, [top], [other]) == "valid"


def test_an_expired_cross_certificate_beside_a_root():
    top, second = self_signed("TA"), self_signed("R2")
    old = ca("CN=TA", second, private=top.key, not_after=NOW.replace(year=2026, month=11, day=1))
    assert ask(leaf(top), [top, second], [old]) == "valid"
    assert ask(leaf(top), [second], [old]) == "expired"


def test_cycles_end():
    one, two = self_signed("A"), self_signed("C")
    pool = [ca("CN=A", two, private=one.key), ca("CN=C", one, private=two.key)]
    assert ask(leaf(one), [self_signed("TA")], pool) == "unknown-issuer"
    same_1 = ca("CN=Same", private=key("p256", "same 1"))
    same_2 = ca("CN=Same", private=key("p256", "same 2"))
    pool = [ca("CN=Same", same_2, private=same_1.key), ca("CN=Same", same_1, private=same_2.key)]
    assert ask(leaf(same_1), [self_signed("TA")], pool) != "valid"


def test_depth():
    top = self_signed("TA")
    one = ca("CN=1", top)
    rolled = ca("CN=1", one, private=key("p256", "rolled once more"))
    two = ca("CN=2", one)
    assert ask(leaf(top), [top], max_depth=0) == "valid"
    assert ask(leaf(one), [top], [one], max_depth=0) == "path-length"
    assert ask(leaf(one), [top], [one], max_depth=1) == "valid"
    assert ask(leaf(two), [top], [one, two], max_depth=1) == "path-length"
    assert ask(leaf(rolled), [top], [one, rolled], max_depth=1) == "valid"
    short = ca("CN=Short", top, path_length=0)
    below = ca("CN=Below", short, path_length=5)
    assert ask(leaf(below), [top], [short, below]) == "path-length"
    assert ask(dns_leaf(short), [top], [short]) == "valid"


def dns_leaf(issuer):
    return leaf(issuer, change={Ext.SUBJECT_ALTERNATIVE_NAME: dns("example.com")})
