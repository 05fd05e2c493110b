"""`penstock`, the operator's console: a client of buckets, topics and views; stores nothing."""
