"""What takes several steps: trainings, runs, simulated doses."""
