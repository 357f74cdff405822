"""The machine the lab runs on: files, caches, processes, text that leaves the process, IEEE arithmetic."""
