"""Which addresses reach another host without TLS whose certificate is verified. Pure."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import parse_qs, urlsplit

PLAIN = ("database", "dagster", "mail")
"""The words of MIDAS_PLAIN_CONNECTIONS."""


def is_this_machine(host: str) -> bool:
    """Whether a host is this machine: no name, a socket, localhost, or a loopback address."""
    if host in ("", "localhost") or host.startswith(("/", "@")):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_unverified(postgres_url: str) -> bool:
    """Whether an address of PostgreSQL names another host without `sslmode=verify-full`. Raises ValueError."""
    parts = urlsplit(postgres_url)
    given = parse_qs(parts.query)
    network = parts.netloc.rpartition("@")[2]  # may name several hosts
    named = [*network.split(","), *(one for key in ("host", "hostaddr") for one in given.get(key, []))]
    hosts = [_without_port(one) for name in named for one in name.split(",")]
    return given.get("sslmode") != ["verify-full"] and not all(map(is_this_machine, hosts))


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host if host.count(":") > 1 else host.partition(":")[0]
