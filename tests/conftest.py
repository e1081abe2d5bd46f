"""For all tests."""

import signal

# A shell that starts the tests in the background has them, and all they start, ignore Ctrl-C; some
# of the tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
