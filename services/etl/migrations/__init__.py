"""SQL, applied once in the order of the names; an applied file is never changed."""
