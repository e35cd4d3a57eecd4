"""Mail addresses as servers take them: the part before the @ in ASCII, the domain as DNS has it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from email.headerregistry import Address

LONGEST = 254
"""Characters of an address (RFC 5321), and of a sender's name, which is to fit on one line of a header."""


def in_ascii(address: str) -> str:
    """The address with its domain as DNS has it. Raises ValueError for one that no server takes."""
    address = address.strip()
    local, at, domain = address.rpartition("@")
    if "=?" in address:  # an encoded word, which the standard library would decode into the header
        raise ValueError("no address")
    if not (at and local and domain) or not local.isascii() or len(address) > LONGEST:
        raise ValueError("no address")
    written = f"{local}@{domain if domain.isascii() else domain.encode('idna').decode()}"
    if not written.isprintable() or " " in written:
        raise ValueError("no address")
    return written


def header_text(text: str) -> str:
    """A text as one header may hold it: one line, without control characters, in which nothing is read as an encoded
    word (RFC 2047), which some versions of Python decode, line ends and all, when a header is set."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(shown.replace("=?", "= ?").split())


def read_sender(text: str) -> Address:
    """The sender that a text such as `Midas Technical <orders@example.com>` names.

    Raises ValueError, without any part of the text, when it names none that a letter can have.
    """
    from email.headerregistry import Address  # read for all settings, and few have a sender
    from email.utils import parseaddr

    name, address = parseaddr(text)
    written = f"{name} <{address}>" if name else address
    try:
        if not text.isprintable() or len(name) > LONGEST:
            raise ValueError("no name that a header can hold")
        if text.count("@") != written.count("@"):  # something of it was not read
            raise ValueError("more than one address")
        return Address(name, addr_spec=in_ascii(address))
    except Exception:  # the parser of addresses fails in many ways, and its words quote the address
        raise ValueError("no sender") from None
