"""Whether a host is this machine itself: one rule for plain http, for proxies and for `lambdiff serve`."""

from __future__ import annotations

import ipaddress
import socket


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a host.

    Args:
        host: a host name or an IP address, without brackets and port. Of the names, only `localhost` is known to be
            this machine.

    Example:
        >>> [is_loopback(host) for host in ("localhost", "127.0.0.2", "::1", "::ffff:127.0.0.1")]
        [True, True, True, True]
        >>> [is_loopback(host) for host in ("0.0.0.0", "127.0.0.1.example.com", "192.168.1.2")]
        [False, False, False]
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower().removesuffix(".") == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def is_this_machine(host: str) -> bool:
    """Return whether what is sent to a host never leaves this machine: loopback, or the address of an interface.

    Args:
        host: as for `is_loopback`. Nothing is sent, and no name is looked up.
    """
    if is_loopback(host):
        return True
    try:
        address = ipaddress.ip_address(host)
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))  # chooses the sender's address: the same one only if it is our own
            return ipaddress.ip_address(probe.getsockname()[0]) == address
    except (ValueError, OSError):
        return False
