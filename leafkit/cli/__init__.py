"""The command line: one module a command, thin. Parse, call, print."""
