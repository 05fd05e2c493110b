"""What stands between the broker and a handler, outermost first: log context, dead letter, retry; and the envelope on the way out."""
