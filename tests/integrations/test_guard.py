"""Which hosts and addresses are connected to: the tricks by which private ones are written, and what excepts them."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.guard import METADATA, Guard, exception

PUBLIC = ["8.8.8.8", "198.41.0.4", "172.32.0.1", "2606:4700::1", "2001:500:2::c", "64:ff9b::808:808", "::ffff:8.8.8.8"]

# For each network of IANA's special-purpose registries its first and its last address.
SPECIAL = """
0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 127.0.0.0 127.255.255.255 169.254.0.0
169.254.255.255 172.16.0.0 172.31.255.255 192.0.0.0 192.0.0.255 192.0.2.0 192.0.2.255 192.88.99.0 192.88.99.255
192.168.0.0 192.168.255.255 198.18.0.0 198.19.255.255 198.51.100.0 198.51.100.255 203.0.113.0 203.0.113.255 224.0.0.0
239.255.255.255 240.0.0.0 255.255.255.254 255.255.255.255
:: ::1 ::2 ::ffff:0:0 ::ffff:10.0.0.1 ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::ffff:100.64.0.1 ::127.0.0.1
64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b::a00:1 64:ff9b:1:: 64:ff9b:1:ffff:ffff:ffff:ffff:ffff 100:: 100::1
2001:: 2001::1 2001:0:ffff:: 2001:2:: 2001:1ff:ffff:: 2001:db8:: 2001:db8:ffff:: 2002:: 2002:7f00:1:: 2002:ffff::
3fff:: 3fff:fff:: 5f00:: 5f00:ffff:: fc00:: fd00:ec2::254 fdff:: fe80:: fe80::1 febf:: fec0:: fec0::1 feff:: ff00::
ff02::1 ffff::
"""

ODD = """
2130706433 0x7f.1 0x7f000001 0x7f.0.0.1 127.1 127.0.1 0177.0.0.1 017700000001 127.0.0.1. 127.000.000.001 127.0.0.01
134744072 8.8.2056 010.8.8.8 1.2.3.4.5 8.8.8.8. 0x 0X7F.1 fe80::1%eth0 fe80::1%25eth0 127%2e0.0.1 receiver.0x7f
"""


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public_is_connected_to(address: str) -> None:
    assert Guard().why_not_host(address, 443) is None
    assert Guard().why_not("receiver.example", ipaddress.ip_address(address)) is None


@pytest.mark.parametrize("address", SPECIAL.split())
def test_what_has_a_special_purpose_is_not_connected_to_as_a_host_or_as_the_address_of_a_name(address: str) -> None:
    assert Guard().why_not_host(address, 443)
    assert Guard().why_not("receiver.example", ipaddress.ip_address(address))


@given(st.ip_addresses())
def test_nothing_passes_that_python_knows_to_be_special(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if not address.is_global:
        assert Guard().why_not("receiver.example", address)


@pytest.mark.parametrize("host", ODD.split())
def test_an_odd_way_to_write_an_address_is_refused_even_for_a_public_one(host: str) -> None:
    assert "odd way" in str(Guard(["0.0.0.0/0", "::/0"]).why_not_host(host, 443))


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "localhost.", "api.localhost", "api.localhost."])
def test_the_names_of_this_machine_are_refused_without_being_looked_up(host: str) -> None:
    assert "this machine" in str(Guard().why_not_host(host, 443))
    assert Guard([host]).why_not_host(host, 443) is None


@pytest.mark.parametrize("port", [1, 22, 25, 53, 79, 81, 442, 444, 587, 1023])
def test_a_port_of_another_service_is_refused(port: int) -> None:
    assert f"port {port} is not for HTTP" in str(Guard().why_not_host("receiver.example", port))
    assert Guard().why_not_host("8.8.8.8", port)
    assert Guard(["receiver.example"]).why_not_host("receiver.example", port) is None


@pytest.mark.parametrize("port", [80, 443, 1024, 8080, 65535])
def test_the_ports_of_http_and_those_of_nobody_are_not(port: int) -> None:
    assert Guard().why_not_host("receiver.example", port) is None


def test_a_refusal_says_what_is_wrong_and_how_to_except_it() -> None:
    named = Guard().why_not("receiver.example", ipaddress.ip_address("10.0.0.5"))
    assert named == (
        "receiver.example has the address 10.0.0.5, which is not public (private); "
        'where it is meant, except it: `allow_private: ["10.0.0.5"]`'
    )
    assert str(Guard().why_not_host("::1", 443)).startswith("::1 is not public (loopback)")


def test_a_network_an_address_or_a_name_is_excepted_and_nothing_beside_it() -> None:
    guard = Guard(["10.20.0.0/16", "fd12::/32", "Receiver.Internal."])
    inside, outside = ipaddress.ip_address("10.20.3.4"), ipaddress.ip_address("10.21.3.4")
    assert guard.why_not("a.example", inside) is None
    assert guard.why_not_host("10.20.3.4", 25) is None
    assert guard.why_not("a.example", ipaddress.ip_address("::ffff:10.20.3.4")) is None
    assert guard.why_not("a.example", ipaddress.ip_address("fd12::1")) is None
    assert guard.why_not("a.example", outside)
    assert guard.why_not("receiver.INTERNAL", outside) is None
    assert guard.why_not("other.receiver.internal", outside)


@pytest.mark.parametrize("address", sorted(map(str, METADATA)))
def test_what_hands_out_a_clouds_credentials_is_excepted_only_by_itself(address: str) -> None:
    found = ipaddress.ip_address(address)
    assert "credentials" in str(Guard(["0.0.0.0/0", "::/0", "metadata.example"]).why_not("metadata.example", found))
    assert Guard([address]).why_not("metadata.example", found) is None


@pytest.mark.parametrize("text", ["", "10.0.0.5/8", "10.0.0.0/33", "a b", "-a", "a..b", "*.example.com", "0x7f.1", "é"])
def test_an_exception_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no network"):
        exception(text)
