"""Delivering messages, on the leader only: who gets which, and who has which.

Everything here is the leader's memory: a new leader begins anew with what the state machine knows, which is what was
recorded with entries that went into the log anyway. You owe it: tell it what was applied, call it from the event
loop only. It owes you: a live message is with one holder at most; what a holder loses is delivered again; for a
single consumer messages come in the order of the queue, except those that come again.

Read `spans.py` (ranges), `ledger.py` (who has what), `shelf.py` (where the bytes are), then `takers.py`, `queue.py`
(one queue) and `dispatcher.py` (all of them). A consumer group of a stream is a queue too, over another `view.py`; those who
read a stream without a group are in `readers.py`.
"""
