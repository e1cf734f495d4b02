"""The edge runtime: threads, child processes, limits, and readings of the machine."""
