"""Commands about access, privacy and recovery: keys, persons, backups, and what an auditor asks."""
