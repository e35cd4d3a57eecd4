"""What Dagster sees, by domain; thin: read the config, call the engine (`lib/engine.py`), return metadata."""
