"""What the promises of the README measure as, on this machine, against the sandbox. Run with `make bench`."""
