"""What is measured, part by part: each has `run(bench)`."""
