"""Delivering messages, on the leader only: who gets which, and who has which.

Everything here is the leader's memory: a new leader begins anew with what the state machine knows, which is what was
recorded with entries that went into the log anyway. You owe it: tell it what was applied, call it from the event
loop only. It owes you: a live message is with one holder at most; what a holder loses is delivered again, unless that
was as often as the queue allows; no message goes while one of a higher priority can; for a single consumer messages of one
priority come in the order of the queue, except those that come again, and those that wait for their key.

Read `spans.py` (ranges), `ledger.py` (who has what), `shelf.py` (where the bytes are), `keys.py` (whose turn it is),
`level.py` (one priority), `ledgers.py` (all of them), then `takers.py`, `outbox.py` (what goes into the log), `queue.py` (one
queue; a consumer group of a stream is one too, over another `view.py`), `readers.py` (those who read a stream without a
group), `upkeep.py` (what time brings) and `dispatcher.py` (all of them).
"""
