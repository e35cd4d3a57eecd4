"""What Dagster sees, by domain; thin: read the config, call the engine, return metadata.

Every Dagster process loads all of this, and most of them run one small thing: what only a run needs of the engine, and
with it SQLAlchemy and the channel's client, is therefore imported where it runs.
"""
