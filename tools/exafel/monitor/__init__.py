"""What people see: event log, statistics, report."""
