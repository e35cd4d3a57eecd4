"""Targets of alerts to staff: the apprise addresses of `MIDAS_NOTIFY_URLS`."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from pydantic import SecretStr

from midas_pipelines.mail_address import header_text
from midas_pipelines.settings import SettingsError

KIND_NAMES = """
46elks amqp amqps apprise apprises aprs atalk azure bark barks betterstack bluesky brevo bsky bulksms bulkvs
burstsms chanify clickatell clicksend cliq cm d7sms dapnet deltachat deltachats dingtalk discord dot
eight00com elks emby embys enigma2 enigma2s evolution evolutions exotel fcm feishu firehydrant flock flowtriq
flowtriqs fluxer fluxers form forms freemobile gchat github goalert goalerts gorush gorushs gotify gotifys
groundmail groupme guilded gupshup hassio hassios httpsms humhub humhubs ifttt ilert incidentio infobip irc
ircs jellyfin jellyfins jira join json jsons kakao kakaotalk kaleyra kavenegar klr kodi kodis kook kudosity
kumulos lametric lametrics lark lauther lfg line mailersend mailgun mailto mailtos mastodon mastodons matrix
matrixs misskey misskeys mmost mmosts mobilemessage mobilemsg msg91 msgbird ncloud nclouds nctalk nctalks
nexmo nostr notica noticas notifiarr notifico notificos notifyre ntfy ntfys o365 octopush onebot onebots
onesignal opsgenie pagerduty pagertree parsep parseps pbul pinglet pinglets pingram pjet pjets plivo postmark
pover prowl psafer psafers push pushdeer pushdeers pushed pushme pushplus pushward pushy qq reddit resend
revolt ringc rocket rockets rsyslog ryver schan sendgrid sendpulse serwersms ses session sessions seven sfr
signal signalgrid signals signl4 simplepush sinch slack smsc smseagle smseagles smsmanager smsmgr smstunnel
smtp2go sns sogs sparkpost spike splunk spugpush spush squadcast stackfield strmlabs synology synologys syslog
telesign telnyx tgram threema toot toots trigv trigvs tweet twilio twist twitter vapid viber victorops voipms
vonage webex wechat wecom wecombot whapi whatsapp workflow workflows wpush wxpusher wxteams x xbmc xbmcs
xmatters xml xmls youlmk zalo zcliq zohocliq zoom zulip
"""
KINDS = frozenset(KIND_NAMES.split())
"""The kinds of addresses that apprise knows, so that it need not be imported to say so: that takes a second."""


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


def require_understood(targets: Sequence[Target], *, thorough: bool = False) -> None:
    """Raises SettingsError, with the nearest kind of address, when apprise does not understand one of them.

    Args:
        targets: what MIDAS_NOTIFY_URLS names.
        thorough: also looks at what follows the kind.
    """
    if not thorough:
        targets = [target for target in targets if target.kind not in KINDS]
    if not targets:
        return
    import apprise

    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # its warnings quote addresses
    for target in targets:
        if apprise.Apprise.instantiate(target.url) is not None:
            continue
        nearest = get_close_matches(target.kind, KINDS, n=1)
        advice = (
            f"did you mean {nearest[0]}://?"
            if nearest and nearest != [target.kind]
            else "check its spelling."
        )
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
