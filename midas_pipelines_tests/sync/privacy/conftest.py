"""A shop that writes to its customers."""

from midas_pipelines_tests.sync.orders.conftest import box, shop_with_mail  # noqa: F401 - fixtures
