"""What stands between the broker and a handler.

Outermost first: log context, dead letter, retry; and on the way out the envelope.
"""
