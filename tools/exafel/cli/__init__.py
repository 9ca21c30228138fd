"""The command line: options in, steps called, errors mapped to exit codes; no logic."""
