"""How our commands talk to people: options (`options.py`), results and errors (`report.py`), Ctrl-C (`session.py`).

The command line, the benchmarks and the demonstration use it; it knows none of them.
"""
