"""Targets of alerts to staff: the apprise addresses of `MIDAS_NOTIFY_URLS`."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field
from difflib import get_close_matches

from pydantic import SecretStr

from midas_pipelines.mail_address import header_text
from midas_pipelines.settings import SettingsError


class TargetFailed(Exception):
    """A target did not accept a message; the text names the kind of target, never its address."""


@dataclass(frozen=True)
class Target:
    """One address; it may hold a password, so it is never shown.

    Args:
        url: as apprise writes it, such as `mailtos://user:password@example.com`.
    """

    url: str = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """A short digest that identifies the address without revealing it."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:16]

    @property
    def kind(self) -> str:
        """The scheme, for people: `mailtos`, `slack`, `json`."""
        kind, parted, _ = self.url.partition("://")
        return kind if kind and parted else "unknown"

    def send(self, title: str, body: str) -> None:
        """Sends a message and waits until it is accepted. Raises TargetFailed."""
        import apprise  # takes half a second, and most runs have nothing to send

        logging.getLogger("apprise").setLevel(logging.CRITICAL)  # its warnings quote addresses
        service = apprise.Apprise(asset=apprise.AppriseAsset(http_redirects=False))
        if not service.add(self.url):
            raise TargetFailed(
                f"MIDAS_NOTIFY_URLS has a {self.kind}:// address that is not understood: check its spelling."
            )
        try:
            taken = service.notify(body=body, title=header_text(title), body_format=apprise.NotifyFormat.TEXT)
        except Exception as error:  # a plug-in of apprise may raise anything
            raise TargetFailed(f"The {self.kind}:// target failed: {type(error).__name__}.") from None
        if not taken:
            raise TargetFailed(f"The {self.kind}:// target did not accept the message; it will be retried.")


def require_understood(urls: SecretStr | None) -> None:
    """Raises SettingsError, with the nearest kind of address, when apprise does not understand one of MIDAS_NOTIFY_URLS."""
    targets = read_targets(urls)
    if not targets:
        return
    import apprise

    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # its warnings quote addresses
    for target in targets:
        if apprise.Apprise.instantiate(target.url) is not None:
            continue
        services = apprise.Apprise().details()["schemas"]
        kinds = {
            kind for one in services for part in ("protocols", "secure_protocols") for kind in one[part] or ()
        }
        nearest = get_close_matches(target.kind, kinds - {target.kind}, n=1)
        known = target.kind in kinds or not nearest
        advice = "check its spelling." if known else f"did you mean {nearest[0]}://?"
        raise SettingsError(
            f"MIDAS_NOTIFY_URLS has a {target.kind}:// address that is not understood: {advice}"
        )


def read_targets(urls: SecretStr | None) -> list[Target]:
    """The targets of a list of addresses, separated by white space or commas; none where unset."""
    if urls is None:
        return []
    words = urls.get_secret_value().replace(", ", " ").replace(",\n", " ").split()
    parts: list[str] = []
    for word in words:  # a comma may belong to an address: only one before a new scheme separates two
        for piece in word.split(","):
            if "://" in piece or not parts:
                parts.append(piece)
            else:
                parts[-1] += f",{piece}"
    return [Target(part.strip(",")) for part in parts if part.strip(",")]
