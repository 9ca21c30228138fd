"""Ranks: communicators, work sharing, spools and containers."""
