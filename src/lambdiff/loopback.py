"""Whether a host is this machine itself: one rule for plain http, for proxies and for `lambdiff serve`."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Return whether what is sent to a host never leaves this machine.

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
