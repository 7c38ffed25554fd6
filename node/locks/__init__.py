"""What the leader does for locks beside applying commands: leases, waiting calls, keepalives.

The log knows who holds a lock and who waits (`node/state/lock_transitions.py`). How long a holder was silent is known here
only, in the leader's memory and on its monotonic clock: a keepalive costs no entry. When a holder was silent for its TTL the
leader says so in the log, by lock and claim, and the state machine grants the lock to the next. A new leader has heard
nobody: it gives every holder one full TTL.

Why a keepalive is answered only after a read barrier. A leader that was cut off does not know that another one was elected,
which gives each holder one TTL from then on and no more. If the old one answered a keepalive by itself, its holder would
count another TTL from a moment after that election, and still hold the lock when the new leader grants it to the next.
A barrier passes only if a majority follows this node after the request has arrived: whoever leads later begins later, and its
full TTL ends after the one that the holder counts, from the moment of sending.

`keeper.py` knows when what ends, `calls.py` who waits, `keepalive.py` who keeps alive.
"""
