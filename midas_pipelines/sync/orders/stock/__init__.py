"""Stock of orders: allocated, released, restocked, backordered."""
