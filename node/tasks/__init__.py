"""What only a leader does with tasks: it chooses which task goes to which worker, and proposes that as a fact.

The state machine knows what happened (`node/state`); this package decides what happens next. It does no I/O: sessions
are objects with outboxes, the time comes from a clock, commands are offered to the broker and come back as events of
the state machine. Everything here is forgotten when leadership is lost, and rebuilt from the state by the next leader.

What it owes: a task is assigned after its lease is committed, and to one worker; limits are kept at every index of the
log; a lease ends only by a committed command; no waiting task is forgotten, however many there are.
"""
