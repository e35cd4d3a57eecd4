"""Commands about access and recovery: keys, the audit log, backups, incidents, compliance."""
