"""Data: NATs, topologies, scenarios, results. Standard library only; describes, never executes."""
