"""Artifacts: stages, addresses, files, and the jobs that write them."""
