"""Backups, restores and drills, incidents, and the report on what a marketplace asks for."""
