"""The doctor's page: the same lines as `midas doctor`, for admins."""

from __future__ import annotations

from midas_pipelines_tests.gateway.console.visitor import Visitor


def test_an_admin_sees_each_line(admin: Visitor) -> None:
    page = admin.see("/doctor")
    for check in ("key and seller id", "triggers", "our tables", "encryption key", "webhooks"):
        assert check in page
    assert "next step" in page.lower()


def test_others_do_not(operator: Visitor) -> None:
    operator.see("/doctor", 403)
