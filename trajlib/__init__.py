"""The shared code of the course: what more than one notebook or test needs, and nothing else."""
