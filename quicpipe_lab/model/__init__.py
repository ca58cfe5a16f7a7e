"""Data: NATs, topologies, scenarios and results. Standard library only; describes, never executes."""
