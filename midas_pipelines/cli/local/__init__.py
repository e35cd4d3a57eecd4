"""Commands for this machine: demo, dev, sandbox, sample shop."""
