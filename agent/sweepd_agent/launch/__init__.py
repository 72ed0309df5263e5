"""Starting attempts: what a job is, and the ways to put a supervisor over it."""
