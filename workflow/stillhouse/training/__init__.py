"""The training loop, its optimisers and schedules, and teachers."""
