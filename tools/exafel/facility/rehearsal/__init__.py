"""Rehearsals: a real Slurm on this machine, shaped like a facility, and things that go wrong on it."""
