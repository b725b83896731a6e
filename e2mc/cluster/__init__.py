"""Runs a task here or as a SLURM job. Nothing here needs PyTorch, but for the job itself."""
