"""The payload key of the tests, and a vault with it."""

from __future__ import annotations

from midas_pipelines.store.orders.payload_vault import Vault
from midas_pipelines.store.privacy.keys import fixed_ring, new_key

PAYLOAD_KEY = new_key()
VAULT = Vault(fixed_ring(PAYLOAD_KEY))
