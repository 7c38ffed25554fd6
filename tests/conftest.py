"""What all tests rely on of the process they run in."""

import signal

# A shell starts background jobs with SIGINT ignored, and then Python raises no KeyboardInterrupt, here and in children.
signal.signal(signal.SIGINT, signal.default_int_handler)
