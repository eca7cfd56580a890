"""The command line: one module per command, data on stdout, talk on stderr."""
