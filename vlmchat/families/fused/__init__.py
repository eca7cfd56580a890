"""One token through a decoder as one call of compiled code, for CPUs."""
