"""The report: one page on what was done to one data set, and its numbers as JSON."""
