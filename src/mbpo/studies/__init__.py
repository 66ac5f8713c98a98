"""Questions asked of many runs and systems, each answered by a function of a seed that returns numbers."""
