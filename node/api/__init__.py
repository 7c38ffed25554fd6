"""The gRPC face of a node: validate, propose, wait, answer.

Requests arrive as bytes. `router.py` decides where a call is answered, here or on the leader (`forward.py`), and
translates errors; `queues.py`, `streams.py` and `cluster.py` answer; `validate.py` refuses what must not reach the
log; `server.py` puts them behind a port.
"""
