"""SQL files, applied once in the order of their names. Never change an applied file."""
