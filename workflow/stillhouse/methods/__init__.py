"""Dataset distillation methods, one folder per method."""
