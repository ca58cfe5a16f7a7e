"""From results to numbers, figures and sentences. Reads results and nothing else."""
